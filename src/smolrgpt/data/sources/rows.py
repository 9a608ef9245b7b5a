"""Rows of a data set's file, one at a time, and what becomes of the ones that cannot be used.

JSON lists, JSON lines and parquet give the same rows. Nothing here keeps more than a row and a window of the file.
"""

from __future__ import annotations

import glob
import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from smolrgpt.data.io import iter_rows
from smolrgpt.data.loading import SkipLog
from smolrgpt.schema import DataError, Region, Sample

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Missing(DataError):
    """The row is fine, a file it names is not there. ``kind``: "image", "depth" or "segment"."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


def split_files(root: Path, split: str, published: Mapping[str, str] | None = None) -> list[Path]:
    """The files a split's rows are in, in order.

    ``<root>/<split>.json`` (.jsonl, .parquet) or the shards ``[data/]<split>-*.parquet``, else what ``published[split]`` matches, the name
    under which the data set's owners ship it. Raises DataError when there is none.
    """
    name = glob.escape(split)
    patterns = [f"{name}.json", f"{name}.jsonl", f"{name}.parquet", f"{name}-*.parquet", f"data/{name}-*.parquet"]
    patterns += [published[split]] if published and split in published else []
    for pattern in patterns:
        if files := sorted(path for path in root.glob(pattern) if path.is_file()):
            return files
    there = ", ".join(sorted(path.name for path in root.iterdir())[:8]) if root.is_dir() else "no such folder"
    known = f" (published splits: {', '.join(published)})" if published else ""
    raise DataError(f"{root}: no rows of the split {split!r}{known}; expected {', '.join(patterns)}; found: {there or 'nothing'}")


def iter_samples(files: Iterable[Path], make: Callable[[dict[str, Any]], Iterable[Sample]], skips: SkipLog) -> Iterator[Sample]:
    """What ``make`` makes of every row, in file order. A row it raises DataError for is counted in ``skips`` with its file and number.

    So is a line of a .jsonl file that is no JSON; damage inside a list is a DataError, for nobody knows where the next row begins.
    """
    for path in files:
        for index, row in _numbered_rows(path, skips):
            try:
                if not isinstance(row, dict):
                    raise DataError(f"it is a {type(row).__name__}; expected an object")
                samples = list(make(row))
            except DataError as error:
                reason = f"missing {error.kind}" if isinstance(error, Missing) else "unusable row"
                skips.add(reason, f"{path.name} row {index}: {error}")
            else:
                yield from samples


def gather(name: str, read: Callable[[SkipLog], Iterable[Sample]], skips: SkipLog | None) -> list[Sample]:
    """All samples of ``read(log)``; equal regions become one object, for questions share masks, which are nearly all of the memory.

    What was left out is counted in ``skips``, logged when that is None. Raises DataError when rows were left out and none was usable.
    """
    log = SkipLog() if skips is None else skips
    before = log.total
    samples: list[Sample] = []
    masks: dict[Region, Region] = {}
    for sample in read(log):
        sample.regions = [masks.setdefault(region, region) for region in sample.regions]
        samples.append(sample)
    skipped = log.total - before
    if skipped and not samples:
        raise DataError(f"{name}: none of its {skipped} rows is usable: {log.summary()}")
    if skipped and skips is None:
        logger.warning("%s: %d questions read, %s", name, len(samples), log.summary())
    without = sum(sample.depth is None for sample in samples)
    if without:
        logger.info("%s: %d of %d questions have no depth map", name, without, len(samples))
    return samples


def field(row: Any, name: str, kind: type[T]) -> T:
    """``row[name]`` when it is a ``kind``; a JSON string of one is decoded, for parquet and JSON lines ship nested fields so."""
    if not isinstance(row, dict):
        raise DataError(f"{str(row)[:60]!r} is a {type(row).__name__}; expected an object with {name}")
    value = row.get(name)
    if isinstance(value, str) and kind not in (str, object):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise DataError(f"{name} is {value[:60]!r}, which is no JSON ({error}); expected a {kind.__name__}") from None
    if not isinstance(value, kind):
        raise DataError(f"{name} is {str(value)[:60]!r} ({type(value).__name__}); expected a {kind.__name__}")
    return value


def optional(row: dict[str, Any], name: str) -> str | None:
    """``row[name]``, absent or a text. Raises DataError for anything else."""
    return None if row.get(name) is None else field(row, name, str)


def frame(row: Any, height: str, width: str) -> tuple[int, int]:
    """The picture size (H, W) in the two named fields. Raises DataError unless it is one that ``read_image`` would open."""
    size = field(row, height, int), field(row, width, int)
    limit = Image.MAX_IMAGE_PIXELS or math.inf
    if min(size) < 1 or size[0] * size[1] > limit:
        raise DataError(f"{height} x {width} is {size[0]} x {size[1]}; expected positive numbers, at most {limit} pixels in all")
    return size


def scalar(row: dict[str, Any], name: str) -> str | int | float | None:
    """``row[name]``, absent or a text or a number. Raises DataError for anything else."""
    value = row.get(name)
    if not (value is None or isinstance(value, (str, int, float))):
        raise DataError(f"{name} is a {type(value).__name__}; expected a string or a number")
    return value


def rle_regions(rles: Any) -> list[Region]:
    """Run-length masks in order, with duplicates: an answer names a region by its place. None is no region. Raises DataError."""
    if not isinstance(rles, (list, type(None))):
        raise DataError(f"rle is a {type(rles).__name__}; expected a list of run-length masks")
    return [Region.from_rle(rle, check=False) for rle in rles or []]


def _numbered_rows(path: Path, skips: SkipLog) -> Iterator[tuple[int, Any]]:
    if path.suffix != ".jsonl" or _holds_list(path):
        yield from enumerate(iter_rows(path))
        return
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for index, line in enumerate(file):
            try:
                rows = [json.loads(line)] if line.strip() else []
            except ValueError as error:
                skips.add("damaged row", f"{path.name} row {index}: {error}")
            else:
                yield from ((index, row) for row in rows)


def _holds_list(path: Path) -> bool:
    """Whether a file called JSON lines is a JSON list, as some are."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return file.read(64).lstrip().startswith("[")
