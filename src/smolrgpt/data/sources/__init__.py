"""One file per data set; a source is a function (root, split, *, skips, ...) -> Iterator[Sample], streaming, in file order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.schema import DataError, Sample
from smolrgpt.data.sources.archives import unpack as unpack
from smolrgpt.data.sources.coco import iter_coco
from smolrgpt.data.sources.label_studio import iter_label_studio
from smolrgpt.data.sources.llava_cc3m import iter_llava_cc3m
from smolrgpt.data.sources.osd import iter_osd
from smolrgpt.data.sources.released import iter_released
from smolrgpt.data.sources.rows import gather
from smolrgpt.data.sources.spatial_bench import iter_spatial_bench
from smolrgpt.data.sources.warehouse import iter_warehouse

#: Name of a data set -> its reader, called as (root, split, *, skips=SkipLog(), **options of that reader).
SOURCES: dict[str, Callable[..., Iterator[Sample]]] = {
    "warehouse": iter_warehouse,
    "llava_cc3m": iter_llava_cc3m,
    "osd": iter_osd,
    "spatial_bench": iter_spatial_bench,
    "released": iter_released,
    "coco": iter_coco,
    "label_studio": iter_label_studio,
}


def read_source(name: str, root: Path | str, split: str, *, skips: SkipLog | None = None, **options: Any) -> list[Sample]:
    """All usable questions of a split of the data set ``name`` (of ``SOURCES``), in file order; opens no image.

    Rows that cannot be used are counted in ``skips`` (logged when it is None). Raises DataError for an unknown name, a split that is not
    there, and when no row is usable.
    """
    if name not in SOURCES:
        raise DataError(f"there is no reader {name!r}; available: {', '.join(SOURCES)}")
    samples = gather(f"{name} {root} {split}", lambda log: SOURCES[name](root, split, skips=log, **options), skips)
    if not samples:
        raise DataError(f"{name} {root} {split}: the split has no rows; expected at least one question")
    return samples
