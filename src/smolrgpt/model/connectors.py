"""From patches of the vision tower to image tokens and the maps that regions are pooled from.

Legend: I images, P image tokens, G side of the refined map, C vision width, D text width.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from .configuration_smolrgpt import SmolRGPTConfig
from .region_embedding import FanInLinear, embedding_scale

#: Epsilon of the refiners' layer norms in the released program.
REFINER_NORM_EPSILON = 1e-6


class SmolRGPTConnector(nn.Module):
    """Pixel shuffle by `factor` (channel order: row offset, column offset, channel) and one bias-free linear layer."""

    def __init__(self, config: SmolRGPTConfig, factor: int):
        super().__init__()
        self.factor = factor
        width = config.vision_config.hidden_size * factor**2
        self.proj = FanInLinear(width, config.text_config.hidden_size, bias=False, gain=embedding_scale(config))

    def forward(self, patches: Tensor) -> Tensor:
        """Map (I, patches, C) to (I, P, D), both row-major."""
        count, length, width = patches.shape
        side, f = int(length**0.5) // self.factor, self.factor
        cells = patches.view(count, side, f, side, f, width).transpose(2, 3)  # (I, side, side, f, f, C)
        tokens: Tensor = self.proj(cells.reshape(count, side * side, f * f * width))
        return tokens


class SmolRGPTUpsample(nn.ConvTranspose2d):
    """Stride-2, kernel-2 transposed convolution, computed as a matrix product with channels last."""

    def __init__(self, width: int):
        super().__init__(width, width, kernel_size=2, stride=2)
        self.initial_std = width**-0.5  # every output pixel reads D inputs once: keeps the variance at any width

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Upsample (I, H, W, D) to (I, 2H, 2W, D)."""
        count, height, width, channels = x.shape
        weight = self.weight.permute(2, 3, 1, 0).reshape(4 * channels, channels)  # rows: row offset, column offset, channel out
        x = functional.linear(x, weight).view(count, height, width, 2, 2, channels)
        x = x.transpose(2, 3).reshape(count, 2 * height, 2 * width, channels)
        return x if self.bias is None else x + self.bias.to(x.dtype)


class SmolRGPTRefiner(nn.Module):
    """Doubles the grid's side `refiner_stages` times; layer norm and GELU between, GELU at the end."""

    def __init__(self, config: SmolRGPTConfig):
        super().__init__()
        width, stages = config.text_config.hidden_size, config.refiner_stages
        self.upsamples = nn.ModuleList(SmolRGPTUpsample(width) for _ in range(stages))
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=REFINER_NORM_EPSILON) for _ in range(stages - 1))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (I, P, D) to (I, G*G, D), both row-major."""
        side = int(tokens.shape[1] ** 0.5)
        x = tokens.unflatten(1, (side, side))
        for i, upsample in enumerate(self.upsamples):
            x = upsample(x)
            if i < len(self.norms):
                x = self.norms[i](x)
            x = functional.gelu(x)
        cells: Tensor = x.flatten(1, 2)
        return cells
