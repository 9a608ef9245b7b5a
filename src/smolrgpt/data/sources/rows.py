"""From rows of a data set's files to samples: typed fields, and the count of rows that cannot be used."""

from __future__ import annotations

import difflib
import glob
import json
import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from smolrgpt.data.io import iter_rows
from smolrgpt.data.loading import SkipLog
from smolrgpt.schema import DataError, Region, Sample, brief

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Reason under which unusable rows are counted.
UNUSABLE_ROW = "unusable row"


class MissingFileError(DataError):
    """A row is in order, but a file that it names does not exist. ``kind``: "image", "depth" or "segment"."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


def skip_reason(error: DataError) -> str:
    """Return the reason under which a row with this error is counted."""
    return f"missing {error.kind}" if isinstance(error, MissingFileError) else UNUSABLE_ROW


def split_files(root: Path, split: str, published: Mapping[str, str] | None = None) -> list[Path]:
    """Return the files that hold a split's rows, in order.

    They are ``<root>/<split>.json`` (.jsonl, .parquet), or the shards ``[data/]<split>-*.parquet``, or what matches the pattern
    ``published[split]``, under which the data set's owners ship the split. Raises DataError when there is none.
    """
    name = glob.escape(split)
    patterns = [f"{name}.json", f"{name}.jsonl", f"{name}.parquet", f"{name}-*.parquet", f"data/{name}-*.parquet"]
    patterns += [published[split]] if published and split in published else []
    for pattern in patterns:
        if files := sorted(path for path in root.glob(pattern) if path.is_file()):
            return files
    existing = ", ".join(sorted(path.name for path in root.iterdir())[:8]) if root.is_dir() else "no such folder"
    known = f" (published splits: {', '.join(published)})" if published else ""
    raise DataError(f"{root}: no rows of the split {split!r}{known}; expected {', '.join(patterns)}; found: {existing or 'nothing'}")


def iter_samples(files: Iterable[Path], make: Callable[[dict[str, Any]], Iterable[Sample]], skips: SkipLog) -> Iterator[Sample]:
    """Yield the samples that ``make`` returns for every row, in file order.

    A row for which it raises DataError is counted in ``skips`` with its file and number, and so is a line of a .jsonl file that is not
    JSON. Damage inside a JSON list raises DataError, because the start of the next row cannot be found.
    """
    for path in files:
        for index, row in _numbered_rows(path, skips):
            try:
                if not isinstance(row, dict):
                    raise DataError(f"it is a {type(row).__name__}; expected an object")
                samples = list(make(row))
            except DataError as error:
                skips.add(skip_reason(error), f"{path.name} row {index}: {error}")
            else:
                yield from samples


def read_all_deduplicated(name: str, read: Callable[[SkipLog], Iterable[Sample]], skips: SkipLog | None) -> list[Sample]:
    """Return all samples of ``read(log)`` as a list in which equal regions are one object.

    Questions share masks, and masks are nearly all of the memory. Rows that were left out are counted in ``skips``, and logged when that
    is None. Raises DataError when rows were left out and none was usable.
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
    if without := sum(sample.depth is None for sample in samples):
        logger.info("%s: %d of %d questions have no depth map", name, without, len(samples))
    return samples


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
    """Return whether a file with the suffix of JSON lines holds a JSON list, as some do."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return file.read(64).lstrip().startswith("[")


# ----------------------------------------------------------------------------------------------------------------------- fields
def field(row: Any, name: str, kind: type[T]) -> T:
    """Return ``row[name]``, which must be a ``kind``.

    A string is decoded as JSON where another kind is expected, because parquet and JSON lines ship nested fields as strings.
    Raises DataError for another type and for a row that is not an object.
    """
    if not isinstance(row, dict):
        raise DataError(f"{brief(row)!r} is a {type(row).__name__}; expected an object with {name}")
    value = row.get(name)
    if isinstance(value, str) and kind not in (str, object):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise DataError(f"{name} is {brief(value)!r}, which is not JSON ({error}); expected a {kind.__name__}") from None
    if not isinstance(value, kind):
        raise DataError(f"{name} is {brief(value)!r} ({type(value).__name__}); expected a {kind.__name__}")
    return value


def check_fields(row: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise DataError for a field of ``row`` that is not ``known``, with the nearest name: a field that nobody reads means something."""
    for name in row:
        if name not in known:
            nearest = difflib.get_close_matches(str(name).casefold(), known, n=1)
            advice = f"did you mean {nearest[0]}? " if nearest else ""
            raise DataError(f"unknown field {brief(name)!r}; {advice}expected {', '.join(known)}")


def optional(row: dict[str, Any], name: str) -> str | None:
    """Return ``row[name]``, which may be absent. Raises DataError for anything but a string."""
    return None if row.get(name) is None else field(row, name, str)


def scalar(row: dict[str, Any], name: str) -> str | int | float | None:
    """Return ``row[name]``, which may be absent. Raises DataError for anything but a string or a number."""
    value = row.get(name)
    if not (value is None or isinstance(value, (str, int, float))):
        raise DataError(f"{name} is a {type(value).__name__}; expected a string or a number")
    return value


def image_shape(row: Any, height: str, width: str) -> tuple[int, int]:
    """Return the image size (H, W) of the two named fields. Raises DataError for a size that ``read_image`` would not open."""
    size = field(row, height, int), field(row, width, int)
    limit = Image.MAX_IMAGE_PIXELS or math.inf
    if min(size) < 1 or size[0] * size[1] > limit:
        raise DataError(f"{height} x {width} is {size[0]} x {size[1]}; expected positive numbers, at most {limit} pixels in all")
    return size


def rle_regions(rles: Any) -> list[Region]:
    """Return run-length masks as regions, in order and with duplicates, because an answer names a region by its index.

    None is a question without regions. Raises DataError for anything but a list of run lengths.
    """
    if not isinstance(rles, (list, type(None))):
        raise DataError(f"rle is a {type(rles).__name__}; expected a list of run-length masks")
    return [Region.from_rle(rle, check=False) for rle in rles or []]
