"""Submissions to the warehouse challenge: one normalised answer per question, none missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smolrgpt.data.io import write_rows
from smolrgpt.evaluation.extractors import stored_value
from smolrgpt.schema import DataError, Sample
from smolrgpt.tasks import OFFICIAL, task_named


def write_submission(path: str | Path, samples: Sequence[Sample], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write a JSON list with ``id`` and ``normalized_answer`` of every question, as the challenge takes it.

    Lengths are in metres. An answer that is not of its category's kind ("left" or "right", a count, a region of the question, metres) is
    replaced by a guess.

    Returns:
        The ids of the questions whose answer is a guess.

    Raises:
        DataError: Two questions have the same id, so that their answers could not be distinguished.
    """
    counts = Counter(sample.id for sample in samples)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise DataError(f"{len(repeated)} ids name more than one question, such as {repeated[0]!r}; a submission needs one id for each")
    guessed, entries = [], []
    for sample, row in zip(samples, rows, strict=True):
        task = task_named(row["category"])
        value = stored_value(row, task)
        value = task.parse_or_none(value) if task in OFFICIAL else value
        if value is None or (task.names_region and int(value) >= len(sample.regions)):
            guessed.append(sample.id)
            value = task.guess
        entries.append({"id": sample.id, "normalized_answer": value})
    write_rows(path, entries)
    return guessed
