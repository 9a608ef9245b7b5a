"""Predictions of another time, or of another program, as a predictor: read, scored and reported anew without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolrgpt.data.io import read_rows
from smolrgpt.schema import DataError, Sample
from smolrgpt.tasks import recognise, task_named


@dataclass(frozen=True)
class ReplayedAnswer:
    """What evaluation wants of an answer, as far as the file says it."""

    answer: str
    normalized_answer: Any
    category: str
    seconds: float
    confidence: float | None


class ReplayPredictor:
    """Rows {id, answer or normalized_answer or both, confidence?, seconds?} of a JSON list or JSON lines.

    A text without a short form is read by the rules. Raises DataError for a file that cannot be read.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._rows = {str(row.get("id")): row for row in read_rows(path)}

    def predict_samples(self, samples: Sequence[Sample], batch_size: int = 64) -> list[ReplayedAnswer]:
        """Raises DataError naming the first sample that the file says nothing about."""
        for sample in samples:
            if sample.id not in self._rows:
                raise DataError(f"{self.path}: no prediction for the question {sample.id!r}")
        return [_answer(sample, self._rows[sample.id]) for sample in samples]


def _answer(sample: Sample, row: Mapping[str, Any]) -> ReplayedAnswer:
    task = task_named(sample.category) if sample.category else recognise(sample.question)
    text = row.get("answer") if isinstance(row.get("answer"), str) else ""
    short = row["normalized_answer"] if "normalized_answer" in row else task.read(sample.question, str(text))
    sure, seconds = row.get("confidence"), row.get("seconds")
    return ReplayedAnswer(
        str(text),
        short,
        sample.category or task.name,
        float(seconds) if isinstance(seconds, int | float) else 0.0,
        min(1.0, max(0.0, float(sure))) if isinstance(sure, int | float) else None,
    )
