"""Samples -> prediction rows, image by image; an interrupted run goes on where it stopped."""

from __future__ import annotations

import functools
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from tqdm import tqdm

from smolrgpt.data.io import write_rows
from smolrgpt.data.loading import SkipLog
from smolrgpt.schema import DataError, Sample
from smolrgpt.tasks import OFFICIAL, task_named

logger = logging.getLogger(__name__)

Row = dict[str, Any]


class AnswerLike(Protocol):
    """What a predictor returns for a sample; ``seconds`` is the time this answer took, ``confidence`` is 0 to 1, or None."""

    answer: str
    normalized_answer: str | int | float | None
    category: str
    seconds: float
    confidence: float | None


class SamplePredictor(Protocol):
    """The one thing evaluation asks of a predictor."""

    def predict_samples(self, samples: list[Sample], batch_size: int) -> Sequence[Any]: ...


#: Batches of samples to their rows, batch by batch, in any order.
Spread = Callable[[Iterator[list[Sample]]], Iterator[list[tuple[Sample, Row]]]]


def predict(
    predictor: SamplePredictor | None,
    samples: Sequence[Sample],
    out_path: str | Path | None = None,
    batch_size: int = 64,
    progress: bool = True,
    resume: bool = True,
    run_id: str = "",
    spread: Spread | None = None,
) -> list[Row]:
    """Answer every sample; rows {id, question, category, answer, normalized_answer, confidence, seconds} in the order of ``samples``.

    Questions about the same image go together, about ``batch_size`` at a time. A sample that cannot be loaded gets an empty answer and
    an ``error`` and is counted in a warning. With ``out_path`` every batch is written to ``<out_path>.partial`` as it is done; ``resume``
    goes on with that file when it was left by the same ``run_id`` (anything that names model and data). When complete it becomes
    ``out_path``: a JSON list for ``.json``, else JSON lines. spread: what answers the batches instead of ``predictor``, such as
    ``apps.spread.over_actors``.
    """
    skips = SkipLog()
    if spread is None:
        assert predictor is not None, "neither a predictor nor something to spread over"
        spread = functools.partial(map, functools.partial(answer_batch, predictor, batch_size=batch_size))
    with _Partial(out_path, run_id, resume) as partial:
        todo = [sample for sample in samples if _key(sample) not in partial.rows]
        with tqdm(total=len(samples), initial=len(samples) - len(todo), unit="question", disable=not progress) as bar:
            for answered in spread(_batches(todo, batch_size)):
                partial.add((_key(sample), row) for sample, row in answered)
                bar.update(len(answered))
    for row in partial.rows.values():
        if "error" in row:
            skips.add("cannot be loaded", row["error"])
    if skips.total:
        logger.warning("counted as wrong: %s", skips.summary())
    rows = [partial.rows[_key(sample)] for sample in samples]
    if out_path is not None:
        write_rows(out_path, rows)
        partial.remove()
    return rows


def _key(sample: Sample) -> tuple[str, str]:
    return sample.id, sample.question


def _batches(samples: Sequence[Sample], batch_size: int) -> Iterator[list[Sample]]:
    """Whole images until there are ``batch_size`` questions; an image with more than that makes a batch of its own."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.image_key, []).append(sample)
    batch: list[Sample] = []
    for group in groups.values():
        if batch and len(batch) + len(group) > batch_size:
            yield batch
            batch = []
        batch = batch + group
    if batch:
        yield batch


def answer_batch(predictor: SamplePredictor, samples: list[Sample], batch_size: int) -> list[tuple[Sample, Row]]:
    """Rows for a batch. When something in it cannot be loaded the batch is halved until the culprit stands alone."""
    try:
        answers = predictor.predict_samples(samples, batch_size)
    except DataError as error:
        if len(samples) > 1:
            middle = len(samples) // 2
            return [row for half in (samples[:middle], samples[middle:]) for row in answer_batch(predictor, half, batch_size)]
        failed = {"category": samples[0].category, "answer": "", "normalized_answer": None, "confidence": None, "seconds": 0.0}
        return [(samples[0], {"id": samples[0].id, "question": samples[0].question, **failed, "error": str(error)})]
    return [(sample, _row(sample, answer)) for sample, answer in zip(samples, answers, strict=True)]


def _row(sample: Sample, answer: AnswerLike) -> Row:
    return {
        "id": sample.id,
        "question": sample.question,
        "category": answer.category,
        "answer": answer.answer,
        "normalized_answer": answer.normalized_answer,
        "confidence": None if answer.confidence is None else round(answer.confidence, 4),
        "seconds": round(answer.seconds, 4),
    }


def write_submission(path: str | Path, samples: Sequence[Sample], rows: Sequence[Row]) -> list[str]:
    """The rows as the warehouse challenge takes them: a JSON list with ``id`` and ``normalized_answer`` of every question, once.

    Returns the ids whose answer was none of the category's kind ("left" or "right", a count, a region of the question, metres) and stands
    as a guess. Raises DataError when two questions have one id: nobody could tell their answers apart.
    """
    ids = Counter(sample.id for sample in samples)
    twice = [name for name, count in ids.items() if count > 1]
    if twice:
        raise DataError(f"{len(twice)} ids name more than one question, such as {twice[0]!r}; a submission needs one id for each")
    guessed, entries = [], []
    for sample, row in zip(samples, rows, strict=True):
        task = task_named(row["category"])
        value = task.parse_or_none(row["normalized_answer"]) if task in OFFICIAL else row["normalized_answer"]
        if value is None or (task.names_region and int(value) >= len(sample.regions)):
            guessed.append(sample.id)
            value = task.guess
        entries.append({"id": sample.id, "normalized_answer": value})
    write_rows(path, entries)
    return guessed


class _Partial:
    """The rows done so far, mirrored in ``<path>.partial``: a line {"run_id"} and one row a line, flushed batch by batch."""

    def __init__(self, path: str | Path | None, run_id: str, resume: bool) -> None:
        self.rows: dict[tuple[str, str], Row] = {}
        self._path = None if path is None else Path(path).with_name(Path(path).name + ".partial")
        self._run_id, self._resume = run_id, resume

    def __enter__(self) -> _Partial:
        self._file: TextIO | None = None
        if self._path is not None:
            if self._resume and self._path.exists():
                self._read()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8")  # rewritten, so that a line cut off by the interruption is gone
            self._file.write(json.dumps({"run_id": self._run_id}) + "\n")
            self._write(self.rows.values())
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, keyed_rows: Iterable[tuple[tuple[str, str], Row]]) -> None:
        new = dict(keyed_rows)
        self.rows |= new
        self._write(new.values())

    def remove(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _write(self, rows: Iterable[Row]) -> None:
        if self._file is not None:
            self._file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            self._file.flush()

    def _read(self) -> None:
        assert self._path is not None
        lines = self._path.read_text(encoding="utf-8", errors="replace").split("\n")
        rows = [row for line in lines if isinstance(row := _loads(line), dict)]
        if not rows or rows[0].get("run_id") != self._run_id:
            logger.warning("%s was left by another run: starting over", self._path)
            return
        self.rows = {(row["id"], row["question"]): row for row in rows[1:] if "error" not in row}
        logger.info("going on after %d questions found in %s", len(self.rows), self._path)


def _loads(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None  # the line being written when the run was interrupted
