"""Plots are written in full, with a panel for each thing that was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from smolrgpt.viz.plots import plot_curve, plot_factors, plot_intervals

ROWS: list[dict[str, Any]] = [
    {"minutes": 1.0, "S1": 30.0, "accuracy": {"count": 20.0}},
    {"minutes": 2.0, "stage": "align", "event": "stage ends"},
    {"minutes": 3.0, "S1": 40},
]


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_a_curve_with_ratios_has_one_panel_more(tmp_path: Path) -> None:
    plain = _size(plot_curve(ROWS, tmp_path / "curve.png"))
    with_ratios = [*ROWS, {"minutes": 3.0, "health": {"depth_permuted": 1.3, "text_loss": 4.0}}]
    taller = _size(plot_curve(with_ratios, tmp_path / "ratios.png"))
    assert min(plain) > 300 and taller[1] > plain[1] and taller[0] == plain[0]
    assert {path.name for path in tmp_path.iterdir()} == {"curve.png", "ratios.png"}


def test_a_curve_without_a_score_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has an S1"):
        plot_curve(ROWS[1:2], tmp_path / "curve.png")


def test_factors_that_were_not_measured_take_no_space(tmp_path: Path) -> None:
    points = [{"level": level, "S1": 50.0, "accuracy": {"count": 50.0}, "interval": [40.0, 60.0]} for level in (0.0, 1.0)]
    names = {str(number): "level" for number in range(5)}
    one = _size(plot_factors({"0": points, "1": []}, names, tmp_path / "one.png"))
    five = _size(plot_factors(dict.fromkeys(names, points), names, tmp_path / "five.png"))
    assert five[0] == pytest.approx(4 * one[0], abs=4) and five[1] == pytest.approx(2 * one[1], abs=2)


def test_every_name_of_an_ablation_takes_a_row(tmp_path: Path) -> None:
    sizes = [
        _size(plot_intervals({str(row): (1.0 * row, None if row else 2.0) for row in range(number)}, "S1", tmp_path / f"{number}.svg.png"))
        for number in (1, 4)
    ]
    assert sizes[1][1] > sizes[0][1]
