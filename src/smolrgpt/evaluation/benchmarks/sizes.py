"""The sizes benchmark: widths, heights and vertical distances on synthetic scenes, by the rule of SpatialRGPT-Bench. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smolrgpt.data.sources.warehouse import DepthChoice
from smolrgpt.evaluation.benchmarks import spatial_bench
from smolrgpt.evaluation.extractors import stored_value
from smolrgpt.evaluation.predict import Row
from smolrgpt.evaluation.samples import read_companion
from smolrgpt.schema import DataError, Sample
from smolrgpt.tasks import task_named
from smolrgpt.tasks.size import HEIGHT, VERTICAL, WIDTH

#: Kind of question in ``<split>_extra.json`` -> the category of SpatialRGPT-Bench.
CATEGORIES = {WIDTH.name: "width_data", HEIGHT.name: "height_data", VERTICAL.name: "vertical_distance_data"}


class SizesBenchmark(spatial_bench.SpatialBenchmark):
    """The questions about lengths of ``<split>_extra.json``: an answer within 25 % of the truth is correct."""

    name = "sizes"
    description = "widths, heights and vertical distances, on a set of 'smolrgpt synth'"

    def load(self, root: Path, split: str | None, depth: DepthChoice) -> list[Sample]:
        """Return the extra questions about the images of a split, by default ``val``."""
        return read_companion(root, "extra", split, depth)

    def can_score(self, sample: Sample) -> bool:
        """Return whether the sample asks for one of ``CATEGORIES`` and has a normalised answer."""
        return sample.category in CATEGORIES and sample.normalized_answer is not None

    def score(self, samples: Sequence[Sample], predictions: Sequence[Row]) -> dict[str, Any]:
        """Return ``spatial_bench.score`` of the questions about sizes. Raises DataError when there is none."""
        asked = {sample.id: str(sample.category) for sample in samples if self.can_score(sample)}
        truth = [
            {"id": sample.id, "category": CATEGORIES[asked[sample.id]], "answer": f"{sample.normalized_answer} meters"}
            for sample in samples
            if sample.id in asked
        ]
        if not truth:
            raise DataError(f"no question about {', '.join(CATEGORIES)}; they are in the splits SPLIT_extra of 'smolrgpt synth'")
        rows = [_with_length_as_text(row, asked[row["id"]]) for row in predictions if row["id"] in asked]
        return spatial_bench.score(truth, rows)


def _with_length_as_text(row: Mapping[str, Any], category: str) -> dict[str, Any]:
    task = task_named(category)
    metres = task.parse_or_none(stored_value(row, task))
    return {**row, "answer": None if metres is None else f"{metres} meters"}
