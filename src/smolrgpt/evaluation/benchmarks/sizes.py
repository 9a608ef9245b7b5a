"""How wide, how tall, how far up: the lengths that SpatialRGPT-Bench asks for, on synthetic scenes, by its rule. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smolrgpt.evaluation.benchmarks import spatial_bench
from smolrgpt.schema import DataError, Sample
from smolrgpt.tasks.distance import DISTANCE
from smolrgpt.tasks.size import HEIGHT, VERTICAL, WIDTH

#: Category of the extra questions of a synthetic set -> the benchmark's.
CATEGORIES = {WIDTH.name: "width_data", HEIGHT.name: "height_data", VERTICAL.name: "vertical_distance_data"}


def is_size(sample: Sample) -> bool:
    """Whether it asks for one of ``CATEGORIES`` and the answer is there."""
    return sample.category in CATEGORIES and sample.normalized_answer is not None


def summarise(samples: Sequence[Sample], predictions: Sequence[Mapping[str, Any]], strict: bool = False) -> dict[str, Any]:
    """``spatial_bench.score`` of the questions about sizes: right within 25 %. Raises DataError when there is none."""
    truth = [
        {"id": one.id, "category": CATEGORIES[str(one.category)], "answer": f"{one.normalized_answer} meters"}
        for one in samples
        if is_size(one)
    ]
    if not truth:
        raise DataError(f"no question about {', '.join(CATEGORIES)}; they are in the splits SPLIT_extra of 'smolrgpt synth'")
    asked = {row["id"] for row in truth}
    return spatial_bench.score(truth, [_in_metres(row) for row in predictions if row["id"] in asked], strict)


def _in_metres(row: Mapping[str, Any]) -> dict[str, Any]:
    metres = DISTANCE.parse_or_none(row.get("normalized_answer"))
    return {**row, "answer": None if metres is None else f"{metres} meters"}
