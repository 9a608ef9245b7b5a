"""Benchmark: the questions it asks, the scoring of their answers, and the report of the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from smolrgpt.data.sources.warehouse import DepthChoice
from smolrgpt.evaluation.predict import Row
from smolrgpt.evaluation.report.document import Report
from smolrgpt.schema import Sample


class Benchmark(Protocol):
    """A kind of evaluation: which questions of a data set are asked, how answers are scored, and the report.

    Attributes:
        name: Its name on the command line.
        description: The measured ability, in one line.
    """

    name: str
    description: str

    def load(self, root: Path, split: str | None, depth: DepthChoice) -> list[Sample]:
        """Return the questions of a data set; ``split`` None: the default one, ``depth``: as in ``read_warehouse``."""
        ...

    def can_score(self, sample: Sample) -> bool:
        """Return whether the sample is a question of this benchmark whose true answer is known."""
        ...

    def score(self, samples: Sequence[Sample], predictions: Sequence[Row]) -> dict[str, Any]:
        """Return the result as JSON data.

        It has at least ``accuracy`` {group: %}, ``by_category`` {group: {num_questions, num_correct}}, ``num_questions``,
        ``num_correct``, ``problem_counts`` and ``problems``.
        """
        ...

    def report(self, result: Mapping[str, Any], samples: Sequence[Sample], predictions: Sequence[Row]) -> Report:
        """Return the report of a result of ``score``."""
        ...
