"""Overlays keep every region visible and numbered, and captions wrap."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFont

from smolrgpt.schema import DepthMap, Region
from smolrgpt.viz.drawing import _wrap, depth_image, draw_regions, mask_border, region_colour

pytestmark = pytest.mark.slow  # many cases, each short


def _mask(top: int, left: int, side: int = 30, shape: tuple[int, int] = (90, 160)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


@pytest.mark.parametrize("background", [(0, 0, 0), (255, 255, 255), (128, 128, 128), region_colour(0)])
def test_a_region_is_tinted_numbered_and_nothing_else_changes(background: tuple[int, int, int]) -> None:
    drawn = draw_regions(Image.new("RGB", (1280, 720), background), [_mask(200, 300, 200, (720, 1280))])
    assert drawn.size == (1280, 720)
    pixels = np.asarray(drawn).astype(int)
    assert (pixels[:190] == background).all()
    assert (pixels[200, 310] == region_colour(0)).all()  # the outline has the full colour
    tag = pixels[280:320, 380:420].reshape(-1, 3)
    assert {(0, 0, 0), (255, 255, 255)} <= set(map(tuple, tag.tolist()))  # its rim stands out on any background


def test_run_lengths_and_masks_draw_the_same_and_the_input_stays() -> None:
    image = Image.new("RGB", (160, 90), (90, 90, 90))
    masks = [_mask(10, 10), _mask(20, 25), _mask(40, 100)]
    first, second = draw_regions(image, masks), draw_regions(image, [Region.from_mask(mask) for mask in masks])
    assert first.size == (640, 360)  # small images are enlarged so that the numbers can be read
    assert np.array_equal(np.asarray(first), np.asarray(second))
    assert (np.asarray(image) == 90).all()


def test_depth_is_on_the_right_and_the_caption_below() -> None:
    image, depth = Image.new("RGB", (640, 360)), DepthMap(np.linspace(1, 9, 640 * 360, dtype=np.float32).reshape(360, 640), "metric")
    rows = [
        {"question": "<image>\nIs <mask> left?", "answer": "left", "truth": "left", "right": True},
        {"question": "How far?", "answer": "2"},
    ]
    drawn = draw_regions(image, [_mask(0, 0)], depth=depth, answer=rows)
    assert drawn.width == 1280
    assert drawn.height > 360
    assert draw_regions(image, [], answer="first\nsecond").height > 360


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 400), (400, 3)])
def test_an_image_of_a_few_pixels_is_enlarged_tinted_and_captioned(width: int, height: int) -> None:
    whole = np.ones((height, width), dtype=bool)
    drawn = draw_regions(Image.new("L", (width, height)), [whole, np.zeros_like(whole)], answer="x" * 500)
    scale = 640 / max(width, height)
    size = round(width * scale), round(height * scale)
    assert drawn.mode == "RGB" and drawn.width == max(size[0], 320)
    assert drawn.height > size[1], "the caption is below the image"
    pixels = np.asarray(drawn)[: size[1], : size[0]].reshape(-1, 3)
    tint = np.round(0.38 * np.array(region_colour(0)))
    assert (np.abs(pixels - tint).max(axis=1) <= 1).any(), "the region that covers the image tints it"
    caption = np.asarray(drawn)[size[1] :]
    assert (caption < 128).any() and (caption[:, -1] == 255).all(), "500 letters without a space are wrapped inside the margin"


def test_an_empty_region_is_not_drawn() -> None:
    image = Image.new("RGB", (640, 360), (90, 90, 90))
    assert np.array_equal(np.asarray(draw_regions(image, [np.zeros((360, 640), dtype=bool)])), np.asarray(image))


def test_the_first_32_colours_differ() -> None:
    colours = np.array([region_colour(index) for index in range(32)])
    distances = np.abs(colours[:, None] - colours[None]).sum(-1) + 999 * np.eye(32)
    assert distances.min() >= 20


def test_near_is_bright_and_missing_depth_is_grey() -> None:
    values = np.tile(np.linspace(1, 9, 50, dtype=np.float32), (20, 1))
    values[:5] = np.nan
    pixels = np.asarray(depth_image(DepthMap(values, "metric"))).astype(int)
    assert pixels[10, 2].sum() > pixels[10, 25].sum() > pixels[10, 47].sum()
    assert (pixels[:5] == pixels[0, 0]).all()


@pytest.mark.parametrize(("value", "colour"), [(np.nan, (120, 120, 120)), (1.0, (252, 253, 191))])
def test_a_depth_map_without_a_range_has_one_colour(value: float, colour: tuple[int, int, int]) -> None:
    drawn = np.asarray(depth_image(DepthMap(np.full((4, 4), value, dtype=np.float32), "relative")))
    assert drawn.shape == (4, 4, 3) and (drawn == colour).all()


def test_an_outline_lies_inside_its_mask_and_leaves_the_rest() -> None:
    mask = _mask(20, 20, 10)
    border = mask_border(mask, 2)
    assert not (border & ~mask).any()
    assert (mask & ~border).sum() == 6 * 6


def test_wrapped_lines_fit_and_keep_every_letter() -> None:
    font = ImageFont.load_default(14)
    text = "How far is " + "verylongword" * 20 + " from the pallet?"
    lines = _wrap(text, font, 200)
    assert all(font.getlength(line) <= 200 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
