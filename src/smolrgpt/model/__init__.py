"""The model: transformers classes for SmolRGPT, known to the library's ``Auto*`` classes once this is imported."""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageTextToText, AutoProcessor

from .configuration_smolrgpt import SmolRGPTConfig
from .image_processing_smolrgpt import SmolRGPTImageProcessor
from .modeling_smolrgpt import SmolRGPTForConditionalGeneration, SmolRGPTModel
from .outputs import SmolRGPTFeatures
from .processing_smolrgpt import SmolRGPTProcessor
from .region_embedding import RegionFeatures
from .region_geometry import REGION_GEOMETRY_FEATURES


def register() -> None:
    """Register SmolRGPT with the ``Auto*`` classes, and let saved models contain their code for ``trust_remote_code`` elsewhere."""
    AutoConfig.register(SmolRGPTConfig.model_type, SmolRGPTConfig, exist_ok=True)
    AutoModel.register(SmolRGPTConfig, SmolRGPTModel, exist_ok=True)
    AutoModelForImageTextToText.register(SmolRGPTConfig, SmolRGPTForConditionalGeneration, exist_ok=True)
    AutoImageProcessor.register(SmolRGPTConfig, image_processor_classes={"pil": SmolRGPTImageProcessor}, exist_ok=True)
    AutoProcessor.register(SmolRGPTConfig, SmolRGPTProcessor, exist_ok=True)
    SmolRGPTConfig.register_for_auto_class()
    SmolRGPTModel.register_for_auto_class("AutoModel")
    SmolRGPTForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
    SmolRGPTImageProcessor.register_for_auto_class("AutoImageProcessor")
    SmolRGPTProcessor.register_for_auto_class("AutoProcessor")


register()

__all__ = [
    "REGION_GEOMETRY_FEATURES",
    "RegionFeatures",
    "SmolRGPTConfig",
    "SmolRGPTFeatures",
    "SmolRGPTForConditionalGeneration",
    "SmolRGPTImageProcessor",
    "SmolRGPTModel",
    "SmolRGPTProcessor",
    "register",
]
