"""Models whose heavy parts run outside of torch, in OpenVINO or ONNX Runtime: written by ``export``, read by ``Predictor.from_pretrained``.

A folder holds the configuration, the processor, three graphs and the remaining weights. Legend as in ``model/modeling_smolrgpt.py``;
T0: tokens in the cache.

    vision      pixel_values (I, 3, S, S), and depth_values where the model uses depth -> image_embeds (I, P, D), then a map
                (I, G*G, D) for every pooled kind
    language    inputs_embeds (Q, T, D), mask (Q, 1, T, T0 + T) added to the scores of attention, position_ids (Q, T), then layer by layer
                keys and values (Q, heads, T0, width) -> hidden states (Q, T, D), then layer by layer keys and values of the T new tokens
    head        hidden states (Q, T, D) -> logits (Q, T, vocabulary)
    torch.safetensors   weights that stay in torch: token embeddings, and the embedders of regions and pairs

Inputs and outputs of graphs are float32, whatever precision they compute in. One graph reads prompts (T0 = 0) and writes answers (T = 1);
everything else, from the cache to constrained decoding, is the same as with torch.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import DynamicCache, GenerationConfig
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast

from smolrgpt.data.io import atomic_path
from smolrgpt.inference.checkpoints import EXPORT_RECORD
from smolrgpt.model import SmolRGPTConfig, SmolRGPTForConditionalGeneration, SmolRGPTProcessor
from smolrgpt.model.modeling_smolrgpt import SmolRGPTModel
from smolrgpt.model.outputs import SmolRGPTFeatures

logger = logging.getLogger(__name__)

#: Version of the folder's layout; raised when older folders can no longer be read.
VERSION = 1
#: File of the weights that stay in torch. Its name differs from the library's, so that the folder is not mistaken for an incomplete torch
#: model.
REMAINING_WEIGHTS = "torch.safetensors"
#: Names of the graphs' files, without suffix.
GRAPHS = ("vision", "language", "head")
#: Number formats that weights can be stored in. float32: answers are those of torch in float32; float16: half the size; int8: a quarter,
#: with a scale and a zero point for every row of a matrix (OpenVINO, by NNCF) or every 64 weights of one (ONNX Runtime).
WEIGHTS = ("float32", "float16", "int8")
#: A loaded graph: tensors in, tensors out, in the graph's order.
Graph = Callable[..., list[Tensor]]


# -------------------------------------------------------------------------------------------------------------------------- formats
@dataclass(frozen=True)
class Format:
    """A format of graphs.

    Attributes:
        suffix: of the graphs' files.
        weights: names of ``WEIGHTS`` that the format can store.
        write: (program, path, names of inputs, names of outputs, weights) writes a graph.
        read: (path, exact) loads a graph; exact: compute in float32 even where the hardware has a faster format.
        extra: extra of this package that ``read`` needs.
    """

    suffix: str
    weights: tuple[str, ...]
    write: Callable[[Any, Path, Sequence[str], Sequence[str], str], None]
    read: Callable[[Path, bool], Graph]
    extra: str


def _write_openvino(program: Any, path: Path, inputs: Sequence[str], outputs: Sequence[str], weights: str) -> None:
    import nncf
    import openvino

    logging.getLogger("nncf").setLevel(logging.ERROR)  # its own set_log_level lowers the level of all root handlers
    graph = openvino.convert_model(program)
    for ports, names in ((graph.inputs, inputs), (graph.outputs, outputs)):
        for port, name in zip(ports, names, strict=True):
            port.get_tensor().set_names({name})
    if weights == "int8":
        graph = nncf.compress_weights(graph)
    openvino.save_model(graph, path, compress_to_fp16=weights != "float32")


def _read_openvino(path: Path, exact: bool) -> Graph:
    import openvino

    hints = {
        "PERFORMANCE_HINT": "LATENCY",
        "EXECUTION_MODE_HINT": "ACCURACY" if exact else "PERFORMANCE",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = openvino.Core().compile_model(path, "CPU", hints)

    def run(*tensors: Tensor) -> list[Tensor]:
        results = compiled([tensor.contiguous().numpy() for tensor in tensors], share_inputs=True)
        return [torch.from_numpy(results[port]) for port in compiled.outputs]

    return run


def _write_onnx(program: Any, path: Path, inputs: Sequence[str], outputs: Sequence[str], weights: str) -> None:
    whole = torch.onnx.export(program, dynamo=True, input_names=list(inputs), output_names=list(outputs), verbose=False)
    if whole is None:
        raise RuntimeError("torch.onnx.export gave nothing back")
    if weights == "float32":
        whole.save(path, external_data=True)
        return
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(whole.model_proto, bits=8, block_size=64, accuracy_level=4)  # 4: products of int8, summed in float32
    quantizer.process()
    onnx.save(quantizer.model.model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=path.name + ".data")


def _read_onnx(path: Path, exact: bool) -> Graph:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # busy-waiting threads take the cores from torch's: 3x
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]

    def run(*tensors: Tensor) -> list[Tensor]:
        arrays = (tensor.contiguous().numpy() for tensor in tensors)
        return [torch.from_numpy(array) for array in session.run(None, dict(zip(names, arrays, strict=True)))]

    return run


FORMATS: dict[str, Format] = {
    "openvino": Format(".xml", WEIGHTS, _write_openvino, _read_openvino, "openvino"),
    "onnx": Format(".onnx", ("float32", "int8"), _write_onnx, _read_onnx, "onnx"),  # ONNX Runtime has no float16 on CPUs
}


# --------------------------------------------------------------------------------------------------------------- what is exported
class _Vision(nn.Module):
    def __init__(self, model: SmolRGPTModel):
        super().__init__()
        self.model = model

    def forward(self, images: Sequence[Tensor]) -> tuple[Tensor, ...]:
        features = self.model.encode_images(images[0], images[1] if len(images) > 1 else None)
        return (features.image_embeds, *(features.region_maps[kind] for kind in self.model.config.pooled_tokens))


class _GivenCache:
    """A cache of given tensors, layer by layer keys and values (Q, heads, T0, width), that collects the new tokens' separately."""

    def __init__(self, past: Sequence[Tensor]):
        self.past = past
        self.new: list[Tensor] = []

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.new += [keys, values]
        return torch.cat([self.past[2 * layer], keys], 2), torch.cat([self.past[2 * layer + 1], values], 2)


class _Language(nn.Module):
    def __init__(self, language_model: nn.Module):
        super().__init__()
        self.language_model = language_model

    def forward(self, inputs_embeds: Tensor, mask: Tensor, position_ids: Tensor, past: Sequence[Tensor]) -> tuple[Tensor, ...]:
        cache = _GivenCache(past)
        read = self.language_model(
            inputs_embeds=inputs_embeds, attention_mask=mask, position_ids=position_ids, past_key_values=cache, use_cache=True
        )
        return (read.last_hidden_state, *cache.new)


def export(model: SmolRGPTForConditionalGeneration, processor: SmolRGPTProcessor, out: Path, format: str, weights: str) -> None:
    """Write a model as graphs of a format into a new folder.

    Args:
        model: in any precision; it is converted to float32.
        processor: of the model.
        out: folder that does not exist or is empty.
        format: a name of ``FORMATS``.
        weights: a name of ``WEIGHTS`` that the format can store.

    Raises:
        ValueError: for an unknown format or kind of weights, or an ``out`` that is not empty.
        ImportError: naming the extra to install.
    """
    if format not in FORMATS:
        raise ValueError(f"there is no format {format!r}; expected one of {', '.join(FORMATS)}")
    if weights not in FORMATS[format].weights:
        raise ValueError(f"{format} stores no {weights!r} weights; expected one of {', '.join(FORMATS[format].weights)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists already; remove it or choose another folder")
    with atomic_path(out) as temporary:
        temporary.mkdir()
        _write_graphs(model.float().eval(), temporary, format, weights)
        _write_rest(model, temporary, weights)
        processor.save_pretrained(temporary)
        record = {"version": VERSION, "format": format, "weights": weights}
        (temporary / EXPORT_RECORD).write_text(json.dumps(record, indent=1) + "\n")


def _write_graphs(model: SmolRGPTForConditionalGeneration, folder: Path, format: str, weights: str) -> None:
    model.set_attn_implementation("sdpa")  # one operation in the graph, which the runtime supports
    try:
        with _quiet():
            for name, program, inputs, outputs in _programs(model):
                logger.info("writing %s", name)
                FORMATS[format].write(program, folder / f"{name}{FORMATS[format].suffix}", inputs, outputs, weights)
    except ImportError as error:
        raise ImportError(f"{error.name or error} is missing; pip install 'smolrgpt[export]'") from error


def _write_rest(model: SmolRGPTForConditionalGeneration, folder: Path, weights: str) -> None:
    """Write the weights that are not in the graphs (those of ``ExportedSmolRGPT.skeleton``), and the configurations."""
    remaining, state = ExportedSmolRGPT.skeleton(model.config), model.state_dict()
    tensors = {name: state[name].clone() for name in remaining.state_dict()}
    if weights != "float32":
        tensors = {name: tensor.half() if "embed_tokens" in name else tensor for name, tensor in tensors.items()}
    save_file(tensors, folder / REMAINING_WEIGHTS, metadata={"format": "pt"})
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' messages and progress, and switch off their telemetry."""
    loggers = [logging.getLogger(name) for name in ("onnxruntime.quantization", "onnx_ir", "onnxscript", "torch.onnx")]
    levels, root, silent = [library.level for library in loggers], logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)  # with a handler present, none of them installs its own on the root logger
    unreported = {"CI": "true", "NNCF_CI": "1"}  # OpenVINO's converter and NNCF both respect these
    before = {name: os.environ.get(name) for name in unreported}
    os.environ.update(unreported)
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):  # progress bars
        warnings.simplefilter("ignore")
        for library in loggers:
            library.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for library, level in zip(loggers, levels, strict=True):
                library.setLevel(level)
            root.removeHandler(silent)
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


@torch.no_grad()
def _programs(model: SmolRGPTForConditionalGeneration) -> Iterator[tuple[str, Any, list[str], list[str]]]:
    """Yield name, program, names of inputs and names of outputs of each graph.

    Example sizes differ from one another and from 1, so that the exporter takes none as constant.
    """
    inner, config = model.model, model.config
    text, side = config.text_config, config.vision_config.image_size
    layers, heads, width = text.num_hidden_layers, text.num_key_value_heads, text.head_dim or text.hidden_size // text.num_attention_heads
    free = torch.export.Dim.AUTO
    rows, new, before = 2, 3, 5

    image_inputs = ["pixel_values", "depth_values"][: 1 + inner.uses_depth]
    images = ([torch.rand(rows, 3, side, side) for _ in image_inputs],)
    count = torch.export.Dim("images")
    program = torch.export.export(_Vision(inner).eval(), images, dynamic_shapes=([{0: count} for _ in image_inputs],), strict=False)
    yield "vision", program, image_inputs, ["image_embeds", *(f"{kind}_map" for kind in config.pooled_tokens)]

    kept = [f"{kind}_{layer}" for layer in range(layers) for kind in ("keys", "values")]
    example = (
        torch.rand(rows, new, text.hidden_size),
        torch.zeros(rows, 1, new, before + new),
        torch.arange(before, before + new).repeat(rows, 1),
        [torch.rand(rows, heads, before, width) for _ in kept],
    )
    shapes = ({0: free, 1: free}, {0: free, 2: free, 3: free}, {0: free, 1: free}, [{0: free, 2: free} for _ in kept])
    program = torch.export.export(_Language(inner.language_model).eval(), example, dynamic_shapes=shapes, strict=False)
    yield (
        "language",
        program,
        ["inputs_embeds", "mask", "position_ids", *(f"past_{name}" for name in kept)],
        ["hidden_states", *(f"new_{name}" for name in kept)],
    )

    hidden = (torch.rand(rows, new, text.hidden_size),)
    program = torch.export.export(model.lm_head, hidden, dynamic_shapes=({0: free, 1: free},), strict=False)
    yield "head", program, ["hidden_states"], ["logits"]


# ------------------------------------------------------------------------------------------------------------------- what is loaded
class _GraphLanguage(nn.Module):
    """Replaces the language model: token embeddings in torch, the rest in the graph."""

    def __init__(self, config: Any):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.graph: Graph | None = None

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def forward(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        **_: Any,
    ) -> BaseModelOutputWithPast:
        assert self.graph is not None
        config = self.config
        heads, width = config.num_key_value_heads, config.head_dim or config.hidden_size // config.num_attention_heads
        cache: Any = DynamicCache(config=config) if past_key_values is None else past_key_values
        rows, count = inputs_embeds.shape[:2]
        before = cache.get_seq_length()
        if position_ids is None:
            position_ids = torch.arange(before, before + count).expand(rows, -1)
        embeds = inputs_embeds.float()
        mask = create_causal_mask(config, embeds, attention_mask, cache, position_ids)
        past = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)] if before else []
        past = past or [embeds.new_zeros(rows, heads, 0, width)] * (2 * config.num_hidden_layers)
        hidden, *new = self.graph(embeds, mask, position_ids.expand(rows, -1), *past)
        for layer in range(config.num_hidden_layers):
            cache.update(new[2 * layer], new[2 * layer + 1], layer)
        return BaseModelOutputWithPast(last_hidden_state=hidden, past_key_values=cache)


class _GraphHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.graph: Graph | None = None

    def forward(self, hidden: Tensor) -> Tensor:
        assert self.graph is not None
        return self.graph(hidden)[0]


class _GraphModel(SmolRGPTModel):
    """``SmolRGPTModel`` without weights for what a graph does."""

    graph: Graph | None = None

    def __init__(self, config: SmolRGPTConfig):
        super().__init__(config)
        for name in ("vision_tower", "rgb_connector", "depth_connector", "rgb_refiner", "depth_refiner"):
            if hasattr(self, name):
                delattr(self, name)
        self.language_model = _GraphLanguage(config.text_config)

    def encode_images(self, pixel_values: Tensor, depth_values: Tensor | None = None, with_maps: bool = True) -> SmolRGPTFeatures:
        """Encode images as ``SmolRGPTModel.encode_images`` does; maps are computed in any case."""
        assert self.graph is not None
        if self.uses_depth and depth_values is None:
            depth_values = torch.zeros_like(pixel_values)  # only image tokens are returned, which do not depend on it
        image_embeds, *maps = self.graph(
            *(image.float() for image in (pixel_values, depth_values)[: 1 + self.uses_depth] if image is not None)
        )
        return SmolRGPTFeatures(image_embeds, dict(zip(self.config.pooled_tokens, maps, strict=True)) if with_maps else {})


class ExportedSmolRGPT(SmolRGPTForConditionalGeneration):
    """A model to ask, not to train: ``encode_images``, ``pool_regions`` and ``generate`` are those of the model it was exported from."""

    model: _GraphModel
    lm_head: _GraphHead
    model_class = _GraphModel
    #: Questions that the language model is best given at once. Of 16 or 32, the published shapes in OpenVINO answer as many or fewer,
    #: and hold 0.7 or 2.1 GB more.
    most_rows = 8

    def __init__(self, config: SmolRGPTConfig):
        super().__init__(config)
        self.lm_head = _GraphHead()
        if hasattr(self, "geometry_heads"):
            del self.geometry_heads

    @classmethod
    def skeleton(cls, config: SmolRGPTConfig) -> ExportedSmolRGPT:
        """Return a model that has no graphs yet and whose tensors have no storage."""
        with torch.device("meta"):
            model: ExportedSmolRGPT = cls._from_config(config, dtype=torch.float32, attn_implementation="eager")
        return model

    @classmethod
    def load(cls, folder: Path) -> ExportedSmolRGPT:
        """Load what ``export`` wrote. Raises ValueError for a folder of another version, ImportError naming the extra to install."""
        record = json.loads((folder / EXPORT_RECORD).read_text(encoding="utf-8"))
        if record.get("version") != VERSION or record.get("format") not in FORMATS:
            raise ValueError(
                f"{folder / EXPORT_RECORD} says {record}; expected version {VERSION} and a format of {', '.join(FORMATS)}; export again"
            )
        graph_format = FORMATS[record["format"]]
        model = cls.skeleton(SmolRGPTConfig.from_pretrained(folder))
        model.load_state_dict(load_file(folder / REMAINING_WEIGHTS), assign=True)
        try:
            parts = {name: graph_format.read(folder / f"{name}{graph_format.suffix}", record["weights"] == "float32") for name in GRAPHS}
        except ImportError as error:
            raise ImportError(f"{error.name or error} is missing; pip install 'smolrgpt[{graph_format.extra}]'") from error
        model.model.graph, model.model.language_model.graph, model.lm_head.graph = (parts[name] for name in GRAPHS)
        model.generation_config = GenerationConfig.from_pretrained(folder)
        model.eval()
        return model
