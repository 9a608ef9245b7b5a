"""One optimisation step of the real model on fake tensors: FLOPs and memory, without weights and without data.

Fake tensors have shapes and no storage. torch counts the FLOPs of the operations on them, and the storages that would be alive give the
step's memory. Token ids, indices and masks are real, because the model decides by their values where features go.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from transformers.initialization import no_init_weights

from smolrgpt.model import SmolRGPTConfig, SmolRGPTForConditionalGeneration
from smolrgpt.train.config import LossWeights
from smolrgpt.train.losses import total_loss

#: Tokens of the turns around a question: ``<|im_start|>user\n ... <|im_end|>\n<|im_start|>assistant\n ... <|im_end|>\n``.
TURN_TOKENS = 10
#: Of them, after the answer; they are labels, too.
END_TOKENS = 2


@dataclass(frozen=True)
class StepShape:
    """Sizes of a step.

    Attributes:
        images: images.
        questions_per_image: questions about each.
        question_tokens: text tokens of a mean question.
        answer_tokens: tokens of its answer.
        regions: regions it mentions.
    """

    images: int
    questions_per_image: int
    question_tokens: int
    answer_tokens: int
    regions: int


def step_batch(config: SmolRGPTConfig, shape: StepShape, blind: bool = False) -> dict[str, Tensor]:
    """Return a batch of this shape as the collator would: every question as long as the mean one, random images and regions.

    Regions are named one after the other, so that each but the first also forms a pair with the one before.
    """
    count, side = shape.images * shape.questions_per_image, config.vision_config.image_size
    num_regions = 0 if blind or not config.region_tokens else shape.regions
    special = {*config.placeholder_token_ids.values(), *config.region_name_token_ids, *config.ordered_size_word_ids}
    word = next(i for i in range(config.text_config.vocab_size) if i not in special)
    if config.region_fusion == "name":
        written = list(config.region_name_token_ids[:num_regions])
    else:
        written = [config.placeholder_token_ids[kind] for _ in range(num_regions) for kind in config.region_tokens]
    image = [] if blind else [config.image_token_id] * config.num_image_tokens
    words = [word] * (TURN_TOKENS + shape.question_tokens + shape.answer_tokens)
    row = torch.tensor([*image, *written, *words])
    ids = row.repeat(count, 1)  # (Q, T)
    labels = torch.full_like(ids, -100)
    labels[:, -(shape.answer_tokens + END_TOKENS) :] = word
    text = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    if blind:
        return text
    total = count * num_regions
    return {
        **text,
        "pixel_values": torch.rand(shape.images, 3, side, side),
        "depth_values": torch.rand(shape.images, 3, side, side),
        "region_masks": torch.rand(total, config.grid_size, config.grid_size),
        "region_geometry": torch.rand(total, config.geometry_dim),
        "region_image_index": torch.arange(shape.images).repeat_interleave(total // shape.images),
        "image_index": torch.arange(shape.images).repeat_interleave(shape.questions_per_image),
        "region_index": torch.arange(total).view(count, num_regions),
    }


class RealIntegers(TorchDispatchMode):
    """Inside ``FakeTensorMode``: integers and booleans are computed with, floats have shapes only."""

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Mapping[str, Any] | None = None) -> Any:
        """Compute an operation for real when all its tensors are real, or when it makes a tensor of integers."""
        keywords = keywords or {}
        tensors = [leaf for leaf in tree_leaves((arguments, keywords)) if isinstance(leaf, Tensor)]
        if any(isinstance(tensor, FakeTensor) for tensor in tensors):
            if function in _INDEXING:  # a real mask determines how many elements it selects, a fake one does not
                arguments = (arguments[0], _positions(arguments[1]), *arguments[2:])
            return function(*arguments, **keywords)
        if tensors or _makes_integers(function, arguments, keywords):
            with no_dispatch():
                return function(*arguments, **keywords)
        return function(*arguments, **keywords)


_INDEXING = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default)
#: Operations that make integers by default, when their arguments are.
_INTEGER_FACTORIES = (torch.ops.aten.arange, torch.ops.aten.full)


def _positions(indices: Iterable[Tensor | None]) -> list[Tensor | None]:
    """Return the indices of ``tensor[...]`` with masks replaced by the positions of their true elements."""
    positions: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype == torch.bool:
            with no_dispatch():
                positions += index.nonzero().unbind(1)
        else:
            positions.append(index)
    return positions


def _makes_integers(function: Any, arguments: Any, keywords: Mapping[str, Any]) -> bool:
    dtype = keywords.get("dtype")
    if dtype is None:
        return function.overloadpacket in _INTEGER_FACTORIES and not any(isinstance(leaf, float) for leaf in tree_leaves(arguments))
    return not dtype.is_floating_point


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Make models and batches inside the block of fake floats and real integers."""
    with FakeTensorMode(allow_non_fake_inputs=True), RealIntegers():
        yield


def fake_model(config: SmolRGPTConfig) -> SmolRGPTForConditionalGeneration:
    """Return the model with shapes and no storage, in training mode. Call it inside ``fake_tensors``."""
    with no_init_weights():  # initial values would be computed from values
        model = SmolRGPTForConditionalGeneration._from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    model.tie_weights()
    model.train()
    return cast(SmolRGPTForConditionalGeneration, model)


class LiveMemory(TorchDispatchMode):
    """Bytes of the storages made inside that are alive at once: now, and at most. Storages of ``known`` tensors do not count."""

    def __init__(self, known: Iterable[Tensor]):
        super().__init__()
        self.now = self.peak = 0
        self._counted = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Mapping[str, Any] | None = None) -> Any:
        """Run an operation and count the storages of its results."""
        result = function(*arguments, **(keywords or {}))
        for storage in (leaf.untyped_storage() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)):
            if storage not in self._counted:
                self._counted.add(storage)
                self._add(storage.nbytes())
                weakref.finalize(storage, self._add, -storage.nbytes())
        return result

    def _add(self, num_bytes: int) -> None:
        self.now += num_bytes
        self.peak = max(self.peak, self.now)


def measure_step(model: SmolRGPTForConditionalGeneration, shape: StepShape, blind: bool, bf16: bool = True) -> tuple[int, int]:
    """Return the FLOPs of a step, forward and backward, and its peak memory in bytes without weights and their gradients.

    Call it inside ``fake_tensors``.
    """
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    counted = {
        attention: lambda query, key, value, *_, out_shape=None, **__: sdpa_flop_count(query, key, value),
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, query, key, value, *_, out_shape=None, **__: (
            sdpa_backward_flop_count(grad, query, key, value)
        ),
    }
    batch = step_batch(model.config, shape, blind)
    hooks = [p.register_post_accumulate_grad_hook(_drop_gradient) for p in model.parameters() if p.requires_grad]
    known = [*model.parameters(), *model.buffers(), *batch.values()]
    flops, memory = FlopCounterMode(display=False, custom_mapping=counted), LiveMemory(known)
    with flops, memory:  # in this order: the counter decomposes operations, which would keep their parts alive
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = total_loss(model(**batch), batch["labels"], LossWeights())
        loss.backward()
    for hook in hooks:
        hook.remove()
    return flops.get_total_flops(), memory.peak


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None  # gradients are counted apart
