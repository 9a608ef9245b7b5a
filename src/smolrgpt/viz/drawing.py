"""Images for display: numbered regions drawn on an image, its depth map on the right, questions and answers below."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from smolrgpt.schema import DepthMap, Region
from smolrgpt.tasks.mentions import write_mentions
from smolrgpt.tasks.region_text import REGION_TAG

#: Difference of hue (0 to 1) between consecutive regions: the golden angle, with which any run of hues is well separated.
_HUE_STEP = 0.381966
#: Opacity of the colour of a region, 0 to 1.
_TINT = 0.38
#: Colours of depth from near to far (yellow, orange, purple, dark blue); lightness falls monotonically, so the map also reads in grey.
_DEPTH_COLOURS = ((252, 253, 191), (254, 159, 109), (222, 73, 104), (140, 41, 129), (59, 15, 112), (10, 8, 40))
_NO_DEPTH = (120, 120, 120)
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_PAPER, _INK, _RIGHT, _WRONG = (255, 255, 255), (25, 25, 25), (20, 130, 60), (200, 40, 40)
#: A narrower image gets a white margin on the right, so that several words of its caption fit on a line.
_MIN_CAPTION_WIDTH = 320
#: A smaller image is enlarged to this long side, so that the labels can be read.
_MIN_SIDE = 640


def region_colour(index: int) -> tuple[int, int, int]:
    """Return the RGB colour (0 to 255) of region ``index``."""
    lightness = (0.55, 0.45, 0.65)[index // 8 % 3]
    red, green, blue = colorsys.hls_to_rgb(0.02 + index * _HUE_STEP % 1.0, lightness, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def contrast_colour(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return black or white, whichever has the higher contrast on ``colour``."""
    return (0, 0, 0) if np.dot(colour, (0.299, 0.587, 0.114)) > 125 else (255, 255, 255)


def draw_regions(
    image: Image.Image,
    regions: Sequence[Region | np.ndarray],
    depth: DepthMap | None = None,
    answer: str | Sequence[Mapping[str, Any]] | None = None,
    tag_scale: float = 1.0,
) -> Image.Image:
    """Draw numbered, coloured regions on an image.

    Args:
        image: An image of any mode; it is not changed.
        regions: Run lengths or bool (H, W) masks, of any size with the proportions of the image; others are stretched onto it.
        depth: A depth map to show on the right, near is bright.
        answer: Text below the image, or rows {question, answer, truth?, right?}; ``right`` True or False colours the answer.
        tag_scale: Size of the labels; above 1 for an image that will be shown small.

    Returns:
        An RGB image of at least 640 pixels on its long side.
    """
    image = _enlarged(image.convert("RGB"))
    masks = [scaled_mask(region, image.size) for region in regions]
    panels = [_overlay(image, masks, tag_scale)]
    if depth is not None:
        panels.append(_outlined(depth_image(depth).resize(image.size, Image.Resampling.NEAREST), masks))
    width = sum(panel.width for panel in panels)
    width = max(width, _MIN_CAPTION_WIDTH) if answer else width
    caption = _caption(answer, width) if answer else None
    canvas = Image.new("RGB", (width, image.height + (caption.height if caption else 0)), _PAPER)
    for index, panel in enumerate(panels):
        canvas.paste(panel, (index * image.width, 0))
    if caption:
        canvas.paste(caption, (0, image.height))
    return canvas


def depth_image(depth: DepthMap) -> Image.Image:
    """Return a depth map in colours: near bright, far dark, over its own range without outliers; grey where nothing was measured."""
    valid = np.isfinite(depth.values)
    if not valid.any():
        return Image.new("RGB", depth.values.shape[::-1], _NO_DEPTH)
    near, far = np.percentile(depth.values[valid], (0.5, 99.5))
    share = np.clip((np.where(valid, depth.values, near) - near) / max(far - near, 1e-6), 0, 1)  # (H, W)
    stops = np.linspace(0, 1, len(_DEPTH_COLOURS))
    colours = np.stack([np.interp(share, stops, channel) for channel in np.transpose(_DEPTH_COLOURS)], axis=-1)  # (H, W, 3)
    return Image.fromarray(np.where(valid[..., None], colours, _NO_DEPTH).astype(np.uint8))


def _enlarged(image: Image.Image) -> Image.Image:
    scale = _MIN_SIDE / max(image.size)
    return image if scale <= 1 else image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def scaled_mask(region: Region | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a mask resized to ``size`` = (width, height), as bool (H, W)."""
    mask = region.to_mask() if isinstance(region, Region) else np.asarray(region, dtype=bool)
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST), dtype=bool)


def mask_border(mask: np.ndarray, thickness: int) -> np.ndarray:
    """Return the pixels of a mask within ``thickness`` of its edge, as bool (H, W); the edge of the image is no edge of the mask."""
    inner: np.ndarray = mask.copy()
    for _ in range(thickness):
        padded = np.pad(inner, 1, mode="edge")
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    border: np.ndarray = mask & ~inner
    return border


def _thickness(image: Image.Image) -> int:
    return max(1, round(max(image.size) / 640))


def _outlined(image: Image.Image, masks: Sequence[np.ndarray]) -> Image.Image:
    pixels = np.array(image)
    for index, mask in enumerate(masks):
        pixels[mask_border(mask, _thickness(image))] = region_colour(index)
    return Image.fromarray(pixels)


def _overlay(image: Image.Image, masks: Sequence[np.ndarray], tag_scale: float) -> Image.Image:
    pixels = np.array(image, dtype=np.float32)
    for index, mask in enumerate(masks):
        pixels[mask] += _TINT * (np.array(region_colour(index), dtype=np.float32) - pixels[mask])
    tinted = _outlined(Image.fromarray(pixels.astype(np.uint8)), masks)
    _draw_tags(tinted, masks, tag_scale)
    return tinted


def _draw_tags(image: Image.Image, masks: Sequence[np.ndarray], scale: float) -> None:
    """Draw its number on every region, in its colour with a black and a white rim, so that it is legible on any background."""
    draw = ImageDraw.Draw(image)
    size = round(scale * max(13, round(max(image.size) / 55)))
    font, pad = ImageFont.load_default(size), size * 0.25
    taken: list[tuple[float, float, float, float]] = []
    for index, mask in enumerate(masks):
        if not mask.any():
            continue
        label = str(index)
        width, height = draw.textlength(label, font=font) + 2 * pad + 2, size + 2 * pad
        x, y = _free_position(mask_anchor(mask), (width, height), image.size, taken)
        taken.append((x, y, x + width, y + height))
        colour = region_colour(index)
        draw.rounded_rectangle((x - 2, y - 2, x + width + 2, y + height + 2), pad + 2, fill=(255, 255, 255))
        draw.rounded_rectangle((x - 1, y - 1, x + width + 1, y + height + 1), pad + 1, fill=(0, 0, 0))
        draw.rounded_rectangle((x, y, x + width, y + height), pad, fill=colour)
        draw.text((x + width / 2, y + height / 2), label, fill=contrast_colour(colour), font=font, anchor="mm")


def mask_anchor(mask: np.ndarray) -> tuple[float, float]:
    """Return (x, y) of the mask's pixel nearest to its centroid, which is inside also when the mask is a ring or in pieces."""
    rows, columns = np.nonzero(mask)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return float(columns[nearest]), float(rows[nearest])


def _free_position(
    centre: tuple[float, float], size: tuple[float, float], bounds: tuple[int, int], taken: Sequence[tuple[float, float, float, float]]
) -> tuple[float, float]:
    """Return an upper left corner near ``centre``, inside the image and, if one exists within three tag sizes, clear of other tags."""
    width, height = size
    offsets = sorted(((dx, dy) for dx in range(-3, 4) for dy in range(-3, 4)), key=lambda step: step[0] ** 2 + step[1] ** 2)
    positions = [
        (
            min(max(centre[0] - width / 2 + dx * (width + 6) / 2, 3), bounds[0] - width - 3),
            min(max(centre[1] - height / 2 + dy * (height + 6) / 2, 3), bounds[1] - height - 3),
        )
        for dx, dy in offsets
    ]
    free = (p for p in positions if not any(_overlap((p[0], p[1], p[0] + width, p[1] + height), box) for box in taken))
    return next(free, positions[0])


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] + 4 and b[0] < a[2] + 4 and a[1] < b[3] + 4 and b[1] < a[3] + 4


def _caption(answer: str | Sequence[Mapping[str, Any]], width: int) -> Image.Image:
    """Draw wrapped lines of text on white, ``width`` pixels wide."""
    size = max(14, round(width / 75))
    font = ImageFont.load_default(size)
    margin = size
    lines: list[tuple[str, tuple[int, int, int], int]] = []  # text, colour, indent
    for text, colour, indent in _caption_texts(answer, size):
        lines += [(line, colour, indent) for line in _wrap(text, font, width - 2 * margin - indent)]
    pitch = round(size * 1.4)
    image = Image.new("RGB", (width, 2 * margin + pitch * len(lines)), _PAPER)
    draw = ImageDraw.Draw(image)
    for number, (line, colour, indent) in enumerate(lines):
        draw.text((margin + indent, margin + number * pitch), line, fill=colour, font=font)
    return image


def _caption_texts(answer: str | Sequence[Mapping[str, Any]], size: int) -> list[tuple[str, tuple[int, int, int], int]]:
    if isinstance(answer, str):
        return [(line, _INK, 0) for line in answer.splitlines()]
    texts: list[tuple[str, tuple[int, int, int], int]] = []
    for number, row in enumerate(answer, 1):
        verdict, colour = ("", _INK) if row.get("right") is None else ("correct: ", _RIGHT) if row["right"] else ("wrong: ", _WRONG)
        truth = f"   (truth: {row['truth']})" if row.get("truth") is not None else ""
        question = write_mentions(row["question"], form=REGION_TAG)
        texts += [(f"{number}. {question}", _INK, 0), (f"{verdict}{row['answer']}{truth}", colour, 2 * size)]
    return texts


def _wrap(text: str, font: _Font, width: float) -> list[str]:
    """Break a line at spaces, and inside a word only where the word alone is wider than ``width`` pixels."""
    lines, line = [], ""
    for word in text.split():
        while font.getlength(word) > width and len(word) > 1:
            cut = next((n for n in range(len(word) - 1, 1, -1) if font.getlength(word[:n]) <= width), 1)
            lines += [line] if line else []
            lines.append(word[:cut])
            line, word = "", word[cut:]
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]
