"""The plain benchmark: the four official kinds of question in everyday words, on sets of 'smolrgpt synth'."""

from __future__ import annotations

from pathlib import Path

from smolrgpt.data.sources.warehouse import DepthChoice
from smolrgpt.evaluation.benchmarks.warehouse import WarehouseBenchmark
from smolrgpt.evaluation.samples import read_companion
from smolrgpt.evaluation.score import CATEGORIES
from smolrgpt.schema import Sample


class PlainBenchmark(WarehouseBenchmark):
    """The questions of ``<split>_plain.json``, scored by the warehouse rules."""

    name = "plain"
    description = "S1 on questions in everyday words, on a set of 'smolrgpt synth'"

    def load(self, root: Path, split: str | None, depth: DepthChoice) -> list[Sample]:
        """Return the plain questions about the images of a split, by default ``val``."""
        return read_companion(root, "plain", split, depth)

    def can_score(self, sample: Sample) -> bool:
        """Return whether the sample is of an official category and has a normalised answer."""
        return sample.category in CATEGORIES and super().can_score(sample)
