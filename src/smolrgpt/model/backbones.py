"""Pretrained backbones: load a vision tower and a language model, and fit them to a SmolRGPT.

Legend: V rows of a vocabulary, C vision width, D text width.
"""

from __future__ import annotations

import re
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from .configuration_smolrgpt import SmolRGPTConfig
from .processing_smolrgpt import extend_vocabulary

#: Weights of a vision checkpoint that are not used: its pooling head and mask token, and the text side of a SigLIP pair.
DROPPED_VISION_WEIGHTS = re.compile(r"^(head|text_model)\.|^logit_(scale|bias)$|^embeddings\.mask_token$")
#: Weights of a language checkpoint that are not used: buffers that older releases of transformers saved.
DROPPED_TEXT_WEIGHTS = re.compile(r"rotary_emb\.inv_freq$")


@torch.no_grad()
def join_backbones(
    model_class: type[PreTrainedModel], vision: str, text: str, attn_implementation: str | None, fields: dict[str, Any]
) -> PreTrainedModel:
    """Build a `model_class` with pretrained backbones; see `SmolRGPTForConditionalGeneration.from_backbones`."""
    if "image_token_id" not in fields:
        fields = extend_vocabulary(AutoTokenizer.from_pretrained(text), fields)
    tower, language = load_tower(model_class, vision), load_language(model_class, text)
    config = SmolRGPTConfig(**join_configs(tower, language, fields))
    model = cast(Any, model_class._from_config(config, dtype=torch.float32, attn_implementation=attn_implementation))
    model.model.vision_tower.load_state_dict(fit_tower(tower, model.model.vision_tower))
    rows = {"embed_tokens.weight": append_rows(_input_rows(language), config.text_config.vocab_size)}
    model.model.language_model.load_state_dict({**language.base_model.state_dict(), **rows})
    if not config.tie_word_embeddings:
        model.lm_head.weight.copy_(append_rows(cast(Any, language).lm_head.weight, config.text_config.vocab_size))
    return cast(PreTrainedModel, model)


def load_backbone(auto_class: Any, source: str, config: Any, dropped: re.Pattern[str]) -> PreTrainedModel:
    """Load a pretrained backbone in float32.

    Raises:
        ValueError: naming every weight that is missing, of another shape, or neither used nor `dropped`.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # the library would list dropped weights; faults are raised below
    try:
        model, found = auto_class.from_pretrained(source, config=config, dtype=torch.float32, output_loading_info=True)
    finally:
        logging.set_verbosity(verbosity)
    faults = {kind: sorted(map(str, found[f"{kind}_keys"])) for kind in ("missing", "mismatched", "unexpected")}
    faults["unexpected"] = [key for key in faults["unexpected"] if not dropped.search(key)]
    if any(faults.values()):
        listed = "; ".join(f"{kind}: {', '.join(keys)}" for kind, keys in faults.items() if keys)
        raise ValueError(f"{source} does not fit a {type(model).__name__}: {listed}; give a checkpoint that holds the whole model")
    return cast(PreTrainedModel, model)


def load_tower(model_class: type[PreTrainedModel], source: str) -> PreTrainedModel:
    """Load the vision tower of a checkpoint in float32; of a SmolRGPT, which `model_class` loads, its own."""
    found = AutoConfig.from_pretrained(source)
    if isinstance(found, SmolRGPTConfig):
        return cast(PreTrainedModel, _load_whole(model_class, source).model.vision_tower)
    found = getattr(found, "vision_config", found)
    if hasattr(found, "vision_use_head"):
        found.vision_use_head = False
    return load_backbone(AutoModel, source, found, DROPPED_VISION_WEIGHTS)


def load_language(model_class: type[PreTrainedModel], source: str) -> PreTrainedModel:
    """Load the language model of a checkpoint with its head, in float32; of a SmolRGPT, which `model_class` loads, its own."""
    found = AutoConfig.from_pretrained(source)
    if not isinstance(found, SmolRGPTConfig):
        return load_backbone(AutoModelForCausalLM, source, found, DROPPED_TEXT_WEIGHTS)
    whole = _load_whole(model_class, source)
    language = AutoModelForCausalLM.from_config(whole.config.text_config, dtype=torch.float32)
    language.base_model.load_state_dict(whole.model.language_model.state_dict())
    language.lm_head.load_state_dict(whole.lm_head.state_dict())
    return cast(PreTrainedModel, language)


def _load_whole(model_class: type[PreTrainedModel], source: str) -> Any:
    return model_class.from_pretrained(source, dtype=torch.float32)


def _input_rows(language: PreTrainedModel) -> Tensor:
    """Return the token embeddings (V, D)."""
    return cast(Tensor, language.get_input_embeddings().weight)


def join_configs(tower: PreTrainedModel, language: PreTrainedModel, changes: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the `SmolRGPTConfig` of two backbones; `changes` may change the backbones' own fields, too."""
    vision = {**tower.config.to_dict(), **changes.get("vision_config", {})}
    text = {**language.config.to_dict(), **changes.get("text_config", {})}
    text["vocab_size"] = max(len(_input_rows(language)), text["vocab_size"])
    text["initializer_range"] = float(_input_rows(language).std())  # new vectors among tokens start at this scale
    tied = {"tie_word_embeddings": language.config.tie_word_embeddings}
    return {**tied, **changes, "vision_config": vision, "text_config": text}


def fit_tower(tower: PreTrainedModel, target: PreTrainedModel) -> dict[str, Tensor]:
    """Return the tower's weights for `target`, a tower of the same kind whose image size may differ.

    Weights without a use are dropped; position embeddings are resampled by the tower's own method.
    """
    like, side = target.state_dict(), target.config.image_size
    state = {name: value for name, value in tower.state_dict().items() if name in like or not DROPPED_VISION_WEIGHTS.search(name)}
    for name, value in state.items():
        if "position_embedding" in name and value.shape != like[name].shape:
            patches = value.new_empty(1, *like[name].shape[-2:])  # only its shape matters
            resampled = cast(Any, tower).embeddings.interpolate_pos_encoding(patches, side, side)
            state[name] = resampled.view_as(like[name])
    return state


def append_rows(old: Tensor, count: int) -> Tensor:
    """Extend (V, D) to (count, D): the old rows, then new ones from the normal distribution with the old rows' mean and covariance.

    The global random state stays untouched, so that other initial weights do not depend on the vocabulary.
    """
    if count == len(old):
        return old
    centred = old - old.mean(0)
    mixing = torch.randn(count - len(old), len(old), generator=torch.Generator().manual_seed(0)) / len(old) ** 0.5
    return torch.cat([old, old.mean(0) + mixing.to(old) @ centred])  # a normal mixture of centred rows has their covariance
