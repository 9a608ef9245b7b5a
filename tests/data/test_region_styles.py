"""Laws of region styles: what a style keeps of a region, and that a region and a seed decide the draw."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from smolrgpt.data.region_styles import LOOSE_SHARE, RIM_PX, STYLE_WEIGHTS, STYLES, draw_style, region_generator, restyle
from smolrgpt.schema import Region

HEIGHT, WIDTH = 120, 160
SEEDS = range(20)


def _disc(radius: float, row: float = 60, column: float = 80) -> Region:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return Region.from_mask(np.hypot(rows - row, columns - column) <= radius)


def _ends(region: Region) -> np.ndarray:
    rows, columns = np.nonzero(region.to_mask())
    return np.array([rows.min(), rows.max(), columns.min(), columns.max()])


def _overlap(a: Region, b: Region) -> float:
    first, second = a.to_mask(), b.to_mask()
    return np.count_nonzero(first & second) / np.count_nonzero(first | second)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "region", [_disc(30), _disc(6), _disc(20, 2, 3), _disc(0.5), _disc(200)], ids=["large", "small", "corner", "dot", "all"]
)
def test_a_style_gives_a_region_of_the_image_that_depends_on_seed_and_region(style: str, region: Region) -> None:
    for seed in SEEDS:
        found = restyle(region, style, region_generator(region, seed))
        assert found.size == region.size and found.area > 0
        assert found == restyle(region, style, region_generator(region, seed))
        assert (found == region) >= (style == "exact")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("radius", [8, 30])
def test_a_style_stays_near_the_region(style: str, radius: int) -> None:
    region = _disc(radius)
    overlaps = [_overlap(region, restyle(region, style, region_generator(region, seed))) for seed in SEEDS]
    least = {"loose_box": np.pi / 4 / (1 + 2 * LOOSE_SHARE) ** 2 * 0.9, "tight_box": 0.65}.get(style, 0.4)
    assert min(overlaps) > least
    assert style == "exact" or max(overlaps) < 1 or len(set(overlaps)) > 1


def test_boxes_are_tight_or_loose_by_their_share() -> None:
    region = _disc(30)
    for seed in SEEDS:
        tight, loose = (restyle(region, style, region_generator(region, seed)) for style in ("tight_box", "loose_box"))
        assert (_ends(tight) == _ends(region)).all()
        margins = (_ends(loose) - _ends(region)) * [-1, 1, -1, 1]
        assert (
            margins.min() >= 0
            and margins.max() <= round(LOOSE_SHARE * 61)
            and loose.area == np.prod(np.ptp(_ends(loose).reshape(2, 2), 1) + 1)
        )


@pytest.mark.parametrize(("style", "sign"), [("grown", 1), ("shrunk", -1)])
def test_a_rim_is_as_wide_on_all_sides(style: str, sign: int) -> None:
    region = Region.from_box((50, 30, 110, 90), HEIGHT, WIDTH)
    for seed in SEEDS:
        margins = (_ends(restyle(region, style, region_generator(region, seed))) - _ends(region)) * [-1, 1, -1, 1] * sign
        assert len(set(margins.tolist())) == 1 and 1 <= margins[0] <= RIM_PX


def test_every_style_with_a_weight_is_drawn_as_often_as_that() -> None:
    rng = np.random.default_rng(0)
    drawn = Counter(draw_style(rng) for _ in range(4000))
    for name, weight in STYLE_WEIGHTS.items():
        assert drawn[name] / 4000 == pytest.approx(weight / sum(STYLE_WEIGHTS.values()), abs=0.03)
