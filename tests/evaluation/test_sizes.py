"""Sizes: the benchmark's rule for lengths on the synthetic sets' extra questions."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Path2D

from smolrgpt.evaluation.benchmarks.sizes import CATEGORIES, SizesBenchmark
from smolrgpt.evaluation.report.html import to_html
from smolrgpt.schema import DataError, Sample
from smolrgpt.tasks import task_named
from smolrgpt.tasks.distance import DISTANCE

SIZES = SizesBenchmark()


def _sample(row_id: str, category: str, truth: float | str) -> Sample:
    return Sample(row_id, Path("a.png"), "?", normalized_answer=truth, category=category)


def test_a_quarter_off_is_right_and_more_is_wrong() -> None:
    samples = [_sample(f"{c}-{v}", c, 2.0) for c in CATEGORIES for v in (1.5, 2.5, 1.49, 2.51, None)] + [_sample("b", "behind", "behind")]
    rows = [{"id": s.id, "normalized_answer": None if s.id.endswith("None") else s.id.rpartition("-")[2]} for s in samples]
    result = SIZES.score(samples, rows)
    assert result["accuracy"] == {"vertical distance": 40.0, "width": 40.0, "height": 40.0}
    assert result["problem_counts"] == {"unparsable": 3}
    assert result["abs_rel"]["width"] == pytest.approx((0.25 + 0.25 + 0.255 + 0.255) / 4, abs=1e-3)


def test_without_such_questions_it_says_where_they_are() -> None:
    with pytest.raises(DataError, match="_extra"):
        SIZES.score([_sample("a", "distance", 2.0)], [])


@pytest.mark.parametrize("category", CATEGORIES)
def test_sizes_are_read_and_written_like_distances(category: str) -> None:
    task = task_named(category)
    assert task.read("How wide is it?", "[Region 0]: 0.9") == 0.9
    assert task.read("How wide is it?", "[Region 0][Region 1] up: 0.45") == 0.45
    assert task.read("How wide is it?", "The width of the pallet [Region 0] is 0.36 meters.") == 0.36
    assert task.field_pattern(1) == DISTANCE.field_pattern(1)


def test_the_page_draws_right_answers_inside_the_band_and_wrong_ones_outside() -> None:
    rng = np.random.default_rng(0)
    truths = np.exp(rng.uniform(-1, 2, 80))
    answers = truths * np.exp(rng.uniform(-0.6, 0.6, 80))
    answers = answers[(answers > truths.min()) & (answers < truths.max())]  # all on the axes, none moved to their edge
    samples = [_sample(str(i), "width", round(truth, 3)) for i, truth in enumerate(truths[: len(answers)])]
    rows = [{"id": str(i), "normalized_answer": round(answer, 3)} for i, answer in enumerate(answers)]
    result = {"model": "<m>", "data": "d", "environment": {"torch": "2"}, **SIZES.score(samples, rows)}
    page = to_html(SIZES.report(result, samples, rows))
    assert "&lt;m&gt;" in page and "<m>" not in page and "Width" in page and "Height" not in page and "<script" not in page
    band = Path2D(_numbers(re.search('class="band" points="([^"]*)"', page)[1]))
    drawn = re.findall('<circle class="(right|wrong)" cx="([^"]*)" cy="([^"]*)"', page)
    assert len(drawn) == result["num_questions"] == len(answers) and {name for name, *_ in drawn} == {"right", "wrong"}
    shifts = [(dx, dy) for dx in (-0.6, 0, 0.6) for dy in (-0.6, 0, 0.6)]  # pixels, of rounding
    for name, x, y in drawn:
        inside = [band.contains_point((float(x) + dx, float(y) + dy)) for dx, dy in shifts]
        assert any(inside) if name == "right" else not all(inside)


def _numbers(points: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, _, y in (point.partition(",") for point in points.split())]
