"""The warehouse benchmark: four accuracies and their mean, S1, on a split in the official layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smolrgpt.data.sources.warehouse import DepthChoice, read_warehouse
from smolrgpt.evaluation.predict import Row
from smolrgpt.evaluation.report.document import Report
from smolrgpt.evaluation.report.warehouse import warehouse_report
from smolrgpt.evaluation.samples import default_split
from smolrgpt.evaluation.summary import score_samples, summarise
from smolrgpt.schema import Sample


class WarehouseBenchmark:
    """The official questions of a split."""

    name = "warehouse"
    description = "four accuracies and S1"

    def load(self, root: Path, split: str | None, depth: DepthChoice) -> list[Sample]:
        """Return the split with this name, by default ``val``, else the only one. Raises DataError when the choice is unclear."""
        return read_warehouse(root, split or default_split(root), depth=depth)

    def can_score(self, sample: Sample) -> bool:
        """Return whether the sample has a normalised answer."""
        return sample.normalized_answer is not None

    def score(self, samples: Sequence[Sample], predictions: Sequence[Row]) -> dict[str, Any]:
        """Return the result of ``summary.summarise``."""
        return summarise(samples, predictions)

    def report(self, result: Mapping[str, Any], samples: Sequence[Sample], predictions: Sequence[Row]) -> Report:
        """Return the report with plots and the images of the worst answers."""
        return warehouse_report(result, score_samples(samples, predictions))
