"""Low-rank adapters on the language model, through peft: a small share of it learns, and is merged into an ordinary checkpoint after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smolrgpt.model import SmolRGPTForConditionalGeneration

#: Parameters that adapters bring, as a pattern for a stage's rates.
ADAPTERS = r"\.lora_|\.trainable_tokens_delta\."

#: Every linear layer of a Llama block.
_LINEARS = r".*language_model\..*\.(q|k|v|o|gate|up|down)_proj"


def add_adapters(model: SmolRGPTForConditionalGeneration, options: Mapping[str, Any], seed: int = 0) -> Any:
    """Put adapters into the model's language part, in place, and return the ``PeftModel`` around it, which ``merge`` wants.

    options: fields of ``peft.LoraConfig``; by default all linear layers are adapted, and of the vocabulary the region names learn too, as
    nothing else has taught them. What else learns is the business of the stage's rates. They start from ``seed`` alone: a stage that is
    begun again begins alike. Raises ImportError, saying what to install.
    """
    import torch

    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ImportError("low-rank adapters need peft: pip install 'smolrgpt[train]'") from error
    names = list(model.config.region_name_token_ids)
    defaults = {"target_modules": _LINEARS, "trainable_token_indices": {"embed_tokens": names} if names else None}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted = get_peft_model(model, LoraConfig(**{**defaults, **options}))  # type: ignore[arg-type]
    # of two tensors that are one, saving leaves out that whose name this pattern finds; the class knows names without adapters only
    model._tied_weights_keys = {"lm_head": "model.language_model.embed_tokens"}
    return adapted


def merge(adapted: Any) -> SmolRGPTForConditionalGeneration:
    """The model with its adapters added into its own weights, as if it had never had any."""
    del adapted.get_base_model()._tied_weights_keys
    return adapted.merge_and_unload()
