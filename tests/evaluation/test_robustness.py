"""Robustness: the same questions at every level, nothing predicted twice, a level that cannot be made is reported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_report import Parrot

from smolrgpt.data.perturb import FACTORS
from smolrgpt.evaluation.robustness import measure_robustness
from smolrgpt.schema import DepthMap, Region, Sample


def _samples(folder: Path) -> list[Sample]:
    Image.fromarray(np.full((16, 24, 3), 90, dtype=np.uint8)).save(folder / "a.png")
    depth = DepthMap(np.full((16, 24), 3.0, dtype=np.float32), "metric")
    regions = [Region.from_box((2, 2, 9, 9), 16, 24), Region.from_box((12, 3, 20, 12), 16, 24)]
    truths = {"left_right": "left", "distance": 2.5}
    return [
        Sample(c, folder / "a.png", "<mask> <mask>?", regions, depth, answer=str(t), normalized_answer=t, category=c)
        for c, t in truths.items()
    ]


@pytest.mark.slow
def test_every_level_is_scored_once(tmp_path: Path) -> None:
    parrot, out = Parrot(), tmp_path / "out"
    result = measure_robustness(parrot, _samples(tmp_path), out, run_id="a")
    assert {name: [point["level"] for point in curve] for name, curve in result["curves"].items()} == {
        name: list(factor.levels) for name, factor in FACTORS.items()
    }
    assert all(point["S1"] == 100 and point["interval"] == [100, 100] for curve in result["curves"].values() for point in curve)
    assert len(parrot.calls) == 1 + sum(len(factor.levels) - 1 for factor in FACTORS.values()), "what is unchanged is asked once"
    assert {path.name for path in out.iterdir()} == {"predictions", "results.json", "report.md", "report.png"}
    before = len(parrot.calls)
    again = measure_robustness(parrot, _samples(tmp_path), out, run_id="a")
    assert again == result == json.loads((out / "results.json").read_text())
    assert len(parrot.calls) == before
    measure_robustness(parrot, _samples(tmp_path), out, factors=["blur"], run_id="b")
    assert len(parrot.calls) == before + len(FACTORS["blur"].levels), "another model's predictions are not taken for this one's"


def test_a_level_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    samples = _samples(tmp_path)
    (tmp_path / "a.png").write_bytes(b"not an image")
    result = measure_robustness(Parrot(), samples, tmp_path / "out", factors=["blur", "depth scale"])
    assert [one["level"] for one in result["problems"]] == list(FACTORS["blur"].levels[1:])
    assert "a.png" in result["problems"][0]["reason"] and "left out" in (tmp_path / "out" / "report.md").read_text()
    assert len(result["curves"]["depth scale"]) == len(FACTORS["depth scale"].levels)
    with pytest.raises(ValueError, match="'fog'"):
        measure_robustness(Parrot(), samples, tmp_path, factors=["fog"])
