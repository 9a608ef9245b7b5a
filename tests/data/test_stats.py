"""Counts add up, and what is counted is what the samples hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smolrgpt.data.stats import AREA_EDGES_PERCENT, format_statistics, statistics
from smolrgpt.schema import DataError, Region, Sample
from smolrgpt.viz.plots import plot_statistics

H, W = 20, 50  # 1,000 pixels: ten are one percent


def sample(number: int, category: str | None, answer: object, question: str, *boxes: tuple[int, int, int, int]) -> Sample:
    regions = [Region.from_box(box, H, W) for box in boxes]
    return Sample(
        str(number),
        Path(f"{number % 3}.png"),
        question,
        regions,
        answer=None if answer is None else "text",
        normalized_answer=answer,
        category=category,
    )


def some() -> list[Sample]:
    box = (0, 0, 10, 1)
    return [
        sample(0, "left_right", "left", "Is the pallet <mask> left of the pallet <mask>?", box, (0, 0, 50, 2)),
        sample(1, "left_right", "left", "Is the shelf <mask> left of the transporter <mask>?", box, box),
        sample(2, "left_right", "right", "Is <mask> to the right of <mask>?", box, box),
        sample(3, "count", 10, "How many pallets are in <mask>?", box),
        sample(4, "count", 2, "How many pallets are in <mask>?", box),
        sample(5, "distance", 0, "How far is <mask> from <mask>?", box, box),
        sample(6, "distance", "6.5", "How far is <mask> from <mask>?", box, box),
        sample(7, "distance", "unknown", "How far is <mask> from <mask>?", box, box),
        sample(8, None, None, "What is there?"),
    ]


def test_everything_is_counted_once() -> None:
    found = statistics(some())
    assert (found["questions"], found["images"], found["with_depth"], found["with_answer"]) == (9, 3, 0, 8)
    assert found["categories"] == {"left_right": 3, "distance": 3, "count": 2, "none": 1}
    assert found["regions_per_question"] == {"0": 1, "1": 2, "2": 6}
    assert found["answers"] == {"left_right": {"left": 2, "right": 1}, "count": {"2": 1, "10": 1}}
    assert list(found["answers"]["count"]) == ["2", "10"]  # in order of number, not of letters
    distance = found["distance"]
    assert (distance["number"], distance["zero"], distance["mean_m"], distance["max_m"]) == (2, 1, 3.25, 6.5)
    assert distance["counts"][0] == distance["counts"][6] == 1 and sum(distance["counts"]) == 2
    assert json.loads(json.dumps(found)) == found


def test_wordings_are_counted_without_what_they_are_about() -> None:
    wordings = statistics(some())["templates"]
    assert wordings["distinct"] == 5
    assert sum(row["questions"] for row in wordings["top"]) == 9
    assert {"questions": 3, "share": 0.3333, "category": "distance"}.items() <= wordings["top"][0].items()
    assert wordings["top"][1]["questions"] == 2  # pallet and shelf, both left of something


def test_mask_areas_are_shares_of_the_image() -> None:
    masks = statistics(some())["mask_area"]
    assert masks["number"] == 14 and masks["empty"] == masks["corrupt"] == 0
    assert masks["quantiles_percent"]["50"] == 1.0 and masks["quantiles_percent"]["95"] > 1
    by_bin = dict(zip(AREA_EDGES_PERCENT, masks["counts"], strict=False))
    assert (by_bin[1], by_bin[10]) == (13, 1)


def test_a_corrupt_mask_is_counted_and_stops_nothing() -> None:
    broken = Sample("x", Path("x.png"), "Where is <mask>?", [Region((H, W), "~broken")])
    assert statistics([broken, *some()])["mask_area"]["corrupt"] == 1


def test_an_area_is_the_masks_number_of_pixels() -> None:
    rng = np.random.default_rng(0)
    for density in (0.02, 0.5, 0.98):
        region = Region.from_mask(rng.random((37, 53)) < density)
        assert region.area == region.to_mask().sum()
    with pytest.raises(DataError, match="corrupt run lengths"):
        _ = Region((4, 4), "~").area


def test_it_prints_and_draws(tmp_path: Path) -> None:
    splits = {"train": statistics(some()), "val": statistics(some()[:4]), "test": statistics(some()[8:])}
    text = format_statistics(splits, "set")
    assert "set train: 9 questions, 3 images" in text and "left: 2 (67 %), right: 1 (33 %)" in text and "1 of 2 are 0" in text
    pytest.importorskip("matplotlib")
    with Image.open(plot_statistics(splits, tmp_path / "stats.png")) as picture:
        assert min(picture.size) > 1000
    with pytest.raises(ValueError, match="no split"):
        plot_statistics({}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
