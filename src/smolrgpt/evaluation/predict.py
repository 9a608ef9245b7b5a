"""Samples to prediction rows, image by image; an interrupted run continues where it stopped."""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO, runtime_checkable

from tqdm import tqdm

from smolrgpt.data.io import write_rows
from smolrgpt.data.loading import DoubtLog, SkipLog, group_by_image
from smolrgpt.schema import Answer, DataError, Sample

logger = logging.getLogger(__name__)

#: A prediction: {id, question, category, answer, normalized_answer, unit, confidence, seconds, reason?, warnings?, error?}.
Row = dict[str, Any]
#: The samples of a batch, each with its row.
AnsweredBatch = list[tuple[Sample, Row]]


class SamplePredictor(Protocol):
    """The interface that evaluation uses of a predictor."""

    def predict_samples(self, samples: Sequence[Sample], batch_size: int) -> Sequence[Answer]:
        """Return one answer per sample, in order. Raises DataError when a sample cannot be loaded."""
        ...


@runtime_checkable
class BatchPredictor(Protocol):
    """A predictor that takes all batches at once, such as ``distributed.RayPredictor``."""

    def predict_batches(self, batches: Iterator[list[Sample]]) -> Iterator[AnsweredBatch]:
        """Yield the batches with their rows, in any order."""
        ...


def predict(
    predictor: SamplePredictor | BatchPredictor,
    samples: Sequence[Sample],
    out_path: str | Path | None = None,
    batch_size: int = 64,
    *,
    progress: bool = True,
    run_id: str = "",
) -> list[Row]:
    """Answer every sample.

    Args:
        predictor: What answers.
        samples: The questions. Those about the same image go together, about ``batch_size`` at a time.
        out_path: Where the rows are written when they are complete: a JSON list for ``.json``, else JSON lines. Until then every batch is
            appended to ``<out_path>.partial``.
        batch_size: Questions answered together.
        progress: Whether to show a progress bar.
        run_id: Names the model and the data. The run continues with the partial file of an interrupted run that has the same one.

    Returns:
        Rows {id, question, category, answer, normalized_answer, unit, confidence, seconds} in the order of ``samples``, ``warnings`` where
        the inputs are doubtful. A sample that cannot be loaded has an empty answer and an ``error``, and is counted in a warning.
    """
    with _PartialFile(out_path, run_id) as partial:
        todo = [sample for sample in samples if _key(sample) not in partial.rows]
        with tqdm(total=len(samples), initial=len(samples) - len(todo), unit="question", disable=not progress) as bar:
            for answered in _answer_batches(predictor, _batches(todo, batch_size), batch_size):
                partial.add((_key(sample), row) for sample, row in answered)
                bar.update(len(answered))
    rows = [partial.rows[_key(sample)] for sample in samples]
    skips = SkipLog()
    for row in partial.rows.values():
        if "error" in row:
            skips.add("cannot be loaded", row["error"])
    if skips.total:
        logger.warning("counted as wrong: %s", skips.summary())
    _report_doubts(samples, rows)
    if out_path is not None:
        write_rows(out_path, rows)
        partial.remove()
    return rows


def _key(sample: Sample) -> tuple[str, str]:
    return sample.id, sample.question


def _batches(samples: Sequence[Sample], batch_size: int) -> Iterator[list[Sample]]:
    """Yield the questions of whole images, ``batch_size`` at most together; an image with more questions is a batch of its own."""
    batch: list[Sample] = []
    for group in group_by_image(samples).values():
        if batch and len(batch) + len(group) > batch_size:
            yield batch
            batch = []
        batch = batch + group
    if batch:
        yield batch


def _answer_batches(
    predictor: SamplePredictor | BatchPredictor, batches: Iterator[list[Sample]], batch_size: int
) -> Iterator[AnsweredBatch]:
    if isinstance(predictor, BatchPredictor):
        return predictor.predict_batches(batches)
    return (answer_batch(predictor, batch, batch_size) for batch in batches)


def answer_batch(predictor: SamplePredictor, samples: list[Sample], batch_size: int) -> AnsweredBatch:
    """Return (sample, row) of a batch. A batch that cannot be loaded is split until the bad sample is alone."""
    try:
        answers = predictor.predict_samples(samples, batch_size)
    except DataError as error:
        if len(samples) > 1:
            middle = len(samples) // 2
            return [row for half in (samples[:middle], samples[middle:]) for row in answer_batch(predictor, half, batch_size)]
        failed = {
            "category": samples[0].category,
            "answer": "",
            "normalized_answer": None,
            "unit": None,
            "confidence": None,
            "seconds": 0.0,
        }
        return [(samples[0], {"id": samples[0].id, "question": samples[0].question, **failed, "error": str(error)})]
    return [(sample, _row(sample, answer)) for sample, answer in zip(samples, answers, strict=True)]


def _row(sample: Sample, answer: Answer) -> Row:
    row = {
        "id": sample.id,
        "question": sample.question,
        "category": answer.category,
        "answer": answer.answer,
        "normalized_answer": answer.normalized_answer,
        "unit": answer.unit,
        "confidence": None if answer.confidence is None else round(answer.confidence, 4),
        "seconds": round(answer.seconds, 4),
    }
    if answer.reason is not None:
        row["reason"] = answer.reason
    return {**row, "warnings": list(answer.inputs.warnings)} if answer.inputs.warnings else row


def _report_doubts(samples: Sequence[Sample], rows: Sequence[Row]) -> None:
    """Log the kinds of doubts about the inputs, each counted once per image."""
    doubts: dict[Hashable, dict[str, None]] = {}
    names: dict[Hashable, str] = {}
    for sample, row in zip(samples, rows, strict=True):
        if warnings := row.get("warnings"):
            doubts.setdefault(sample.image_key, {}).update(dict.fromkeys(warnings))
            names.setdefault(sample.image_key, sample.image_name)
    log = DoubtLog()
    for key, warnings in doubts.items():
        log.add_warnings(names[key], warnings)
    if log.total:
        logger.warning("%s", log.summary())


class _PartialFile:
    """The rows of a run so far, which are also in ``<path>.partial``.

    The file has a line {"run_id"}, then one row per line; it is flushed after each batch.
    """

    def __init__(self, path: str | Path | None, run_id: str) -> None:
        self.rows: dict[tuple[str, str], Row] = {}
        self._path = None if path is None else Path(path).with_name(Path(path).name + ".partial")
        self._run_id = run_id

    def __enter__(self) -> _PartialFile:
        self._file: TextIO | None = None
        if self._path is not None:
            if self._path.exists():
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
        """Store and write rows by the key of their samples."""
        new = dict(keyed_rows)
        self.rows |= new
        self._write(new.values())

    def remove(self) -> None:
        """Remove the file."""
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
        logger.info("continuing after %d questions found in %s", len(self.rows), self._path)


def _loads(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None  # the line being written when the run was interrupted
