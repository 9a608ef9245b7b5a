"""The model: transformers classes for SmolRGPT, known to the library's ``Auto*`` classes once this is imported."""

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText

from .configuration_smolrgpt import REGION_GEOMETRY_FEATURES, SmolRGPTConfig
from .modeling_smolrgpt import SmolRGPTFeatures, SmolRGPTForConditionalGeneration, SmolRGPTModel


def register() -> None:
    """Make ``AutoConfig``, ``AutoModel`` and ``AutoModelForImageTextToText`` know SmolRGPT."""
    AutoConfig.register(SmolRGPTConfig.model_type, SmolRGPTConfig, exist_ok=True)
    AutoModel.register(SmolRGPTConfig, SmolRGPTModel, exist_ok=True)
    AutoModelForImageTextToText.register(SmolRGPTConfig, SmolRGPTForConditionalGeneration, exist_ok=True)


register()

__all__ = [
    "REGION_GEOMETRY_FEATURES",
    "SmolRGPTConfig",
    "SmolRGPTFeatures",
    "SmolRGPTForConditionalGeneration",
    "SmolRGPTModel",
    "register",
]
