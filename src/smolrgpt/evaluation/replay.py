"""Stored predictions, also of other programs, as a predictor: they are read, scored and reported again without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smolrgpt.data.io import read_rows
from smolrgpt.evaluation.extractors import stored_value
from smolrgpt.schema import Answer, DataError, Sample
from smolrgpt.tasks import recognise, task_named
from smolrgpt.tasks.units import METRE


class ReplayPredictor:
    """Returns the answers of a file.

    Args:
        path: A JSON list or JSON lines of rows {id, answer or normalized_answer or both, unit?, confidence?, seconds?}. A text without a
            short answer is read by the rules.

    Raises:
        DataError: The file cannot be read.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._rows = {str(row.get("id")): row for row in read_rows(path)}

    def predict_samples(self, samples: Sequence[Sample], batch_size: int = 64) -> list[Answer]:
        """Return the answers of the file to these samples. Raises DataError naming the first sample that has no row."""
        for sample in samples:
            if sample.id not in self._rows:
                raise DataError(f"{self.path}: no prediction for the question {sample.id!r}")
        return [_answer(sample, self._rows[sample.id]) for sample in samples]


def _answer(sample: Sample, row: Mapping[str, Any]) -> Answer:
    task = task_named(sample.category) if sample.category else recognise(sample.question)
    text = row["answer"] if isinstance(row.get("answer"), str) else ""
    confidence, seconds = row.get("confidence"), row.get("seconds")
    return Answer(
        answer=text,
        normalized_answer=stored_value(row, task) if "normalized_answer" in row else task.read(sample.question, text),
        unit=METRE if task.is_length else None,
        category=sample.category or task.name,
        seconds=float(seconds) if isinstance(seconds, int | float) else 0.0,
        confidence=min(1.0, max(0.0, float(confidence))) if isinstance(confidence, int | float) else None,
    )
