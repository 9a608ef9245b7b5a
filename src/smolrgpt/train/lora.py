"""Low-rank adapters on the language model, by peft: a small share of it learns, and is merged into an ordinary checkpoint afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from peft import PeftModel

    from smolrgpt.model import SmolRGPTForConditionalGeneration

#: Parameters of adapters, as a pattern for a stage's rates.
ADAPTERS = r"\.lora_|\.trainable_tokens_delta\."

#: Every linear layer of a Llama block.
_LINEARS = r".*language_model\..*\.(q|k|v|o|gate|up|down)_proj"


def add_adapters(model: SmolRGPTForConditionalGeneration, options: Mapping[str, Any], seed: int = 0) -> PeftModel:
    """Add adapters to the language model, in place, and return the ``PeftModel`` around it, for ``merge``.

    options: fields of ``peft.LoraConfig``; by default all linear layers are adapted, and the region names of the vocabulary learn too, as
    no pretraining has taught them. The stage's rates decide what else learns. The adapters' first weights depend on ``seed`` alone, so a
    stage that starts again starts alike. Raises ImportError, naming the packages to install, without peft.
    """
    import torch

    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ImportError("low-rank adapters need peft: pip install 'smolrgpt[train]'") from error
    names = list(model.config.region_name_token_ids)
    defaults: dict[str, Any] = {"target_modules": _LINEARS, "trainable_token_indices": {"embed_tokens": names} if names else None}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted = get_peft_model(cast("Any", model), LoraConfig(**{**defaults, **options}))
    # Of two tied tensors, saving leaves out the one whose name this table finds; the class lists only the names without adapters.
    cast("Any", model)._tied_weights_keys = {"lm_head": "model.language_model.embed_tokens"}
    return cast("PeftModel", adapted)


def merge(adapted: PeftModel) -> SmolRGPTForConditionalGeneration:
    """Return the model with its adapters added to its own weights, and nothing left of them."""
    model = cast("Any", adapted)
    del model.get_base_model()._tied_weights_keys
    return cast("SmolRGPTForConditionalGeneration", model.merge_and_unload())
