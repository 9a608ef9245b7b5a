"""Variants of the model that only ablations train: depth that shares RGB's modules, and regions pooled from the tower's own grid."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from smolrgpt.model import SmolRGPTConfig, SmolRGPTForConditionalGeneration
from smolrgpt.model.connectors import SmolRGPTConnector
from smolrgpt.model.modeling_smolrgpt import SmolRGPTModel
from smolrgpt.model.outputs import SmolRGPTFeatures


class SharedDepthModel(SmolRGPTModel):
    """Encodes depth with RGB's own connector, refiner or both."""

    shared: ClassVar[frozenset[str]] = frozenset({"connector", "refiner"})

    def __init__(self, config: SmolRGPTConfig):
        super().__init__(config)
        for part in self.shared & {name.removeprefix("depth_") for name, _ in self.named_children() if name.startswith("depth_")}:
            delattr(self, f"depth_{part}")

    def connector_of(self, kind: str) -> nn.Module:
        """Return RGB's connector where it is shared, else the connector of ``kind``."""
        return super().connector_of("rgb" if "connector" in self.shared else kind)

    def refiner_of(self, kind: str) -> nn.Module:
        """Return RGB's refiner where it is shared, else the refiner of ``kind``."""
        return super().refiner_of("rgb" if "refiner" in self.shared else kind)


class SharedConnectorModel(SharedDepthModel):
    """Shares the connector only."""

    shared = frozenset({"connector"})


class SharedRefinerModel(SharedDepthModel):
    """Shares the refiner only."""

    shared = frozenset({"refiner"})


class PatchPoolingModel(SmolRGPTModel):
    """Pools regions from the vision tower's grid, through linear layers of their own."""

    def __init__(self, config: SmolRGPTConfig):
        super().__init__(config)
        if "rgb" in config.pooled_tokens:
            self.rgb_patch_connector = SmolRGPTConnector(config, 1)
        if self.uses_depth:
            self.depth_connector = SmolRGPTConnector(config, 1)
        self.post_init()

    def connect_patches(self, patch_features: Tensor, with_maps: bool = True) -> SmolRGPTFeatures:
        """Return image tokens as the published design does, and region maps (I, patches, D) on the tower's own grid."""
        features = super().connect_patches(patch_features[:1], with_maps=False)
        if with_maps and "rgb" in self.config.pooled_tokens:
            features.region_maps["rgb"] = self.rgb_patch_connector(patch_features[0])
        if with_maps and self.uses_depth:
            features.region_maps["depth"] = self.depth_connector(patch_features[1])
        return features


class PatchPoolingConfig(SmolRGPTConfig):
    """Configuration of ``PatchPooling``; ``refiner_stages`` is 0."""

    @property
    def grid_size(self) -> int:
        """G: side of the tower's grid."""
        return self.patches_per_side


class SharedDepth(SmolRGPTForConditionalGeneration):
    """``SharedDepthModel`` with its language model head."""

    model_class = SharedDepthModel


class SharedConnector(SmolRGPTForConditionalGeneration):
    """``SharedConnectorModel`` with its language model head."""

    model_class = SharedConnectorModel


class SharedRefiner(SmolRGPTForConditionalGeneration):
    """``SharedRefinerModel`` with its language model head."""

    model_class = SharedRefinerModel


class PatchPooling(SmolRGPTForConditionalGeneration):
    """``PatchPoolingModel`` with its language model head."""

    config_class = PatchPoolingConfig
    model_class = PatchPoolingModel
