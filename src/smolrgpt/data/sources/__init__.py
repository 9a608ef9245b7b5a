"""One file per data set; a source is a function (root, split, *, skips, ...) -> Iterator[Sample], streaming, in file order."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.archives import unpack
from smolrgpt.data.sources.coco import iter_coco
from smolrgpt.data.sources.cvat import iter_cvat
from smolrgpt.data.sources.folders import state_depth
from smolrgpt.data.sources.frames import iter_frames
from smolrgpt.data.sources.label_studio import iter_label_studio
from smolrgpt.data.sources.labelme import iter_labelme
from smolrgpt.data.sources.llava_cc3m import iter_llava_cc3m
from smolrgpt.data.sources.osd import iter_osd
from smolrgpt.data.sources.released import iter_released
from smolrgpt.data.sources.rows import read_all_deduplicated
from smolrgpt.data.sources.samples import iter_sample_rows
from smolrgpt.data.sources.spatial_bench import iter_spatial_bench
from smolrgpt.data.sources.supervisely import iter_supervisely
from smolrgpt.data.sources.voc import iter_voc
from smolrgpt.data.sources.warehouse import iter_warehouse
from smolrgpt.data.sources.yolo import iter_yolo
from smolrgpt.schema import DataError, DepthMeaning, Sample
from smolrgpt.schema.depth_meaning import DEPTH_OPTIONS

__all__ = ["SOURCES", "iter_source", "read_source", "unpack"]

#: Name of a data set -> its reader, called as (root, split, *, skips=SkipLog(), **options of that reader).
SOURCES: dict[str, Callable[..., Iterator[Sample]]] = {
    "warehouse": iter_warehouse,
    "llava_cc3m": iter_llava_cc3m,
    "osd": iter_osd,
    "spatial_bench": iter_spatial_bench,
    "released": iter_released,
    "coco": iter_coco,
    "yolo": iter_yolo,
    "labelme": iter_labelme,
    "cvat": iter_cvat,
    "supervisely": iter_supervisely,
    "voc": iter_voc,
    "label_studio": iter_label_studio,
    "samples": iter_sample_rows,
    "frames": iter_frames,
}


def iter_source(name: str, root: Path | str, split: str, *, skips: SkipLog, **options: Any) -> Iterator[Sample]:
    """Yield the usable questions of a split of the data set ``name`` (of ``SOURCES``), in file order; decodes no image.

    Rows are read as they are needed; those that cannot be used are counted in ``skips``. ``options`` are the reader's own, and those of
    ``DepthOptions``, which state what the values of all depth maps of the set mean.
    Raises DataError for an unknown name or option and for a split that does not exist.
    """
    if name not in SOURCES:
        raise DataError(f"there is no data set {name!r}; expected one of {', '.join(SOURCES)}")
    known = [option for option in inspect.signature(SOURCES[name]).parameters if option not in ("root", "split", "skips")]
    depth_options = {option: options.pop(option) for option in DEPTH_OPTIONS if option in options}
    for option in options:
        if option not in known:
            raise DataError(f"{name} has no option {option!r}; expected one of {', '.join((*known, *DEPTH_OPTIONS))}")
    return state_depth(SOURCES[name](root, split, skips=skips, **options), DepthMeaning.from_options(**depth_options))


def read_source(name: str, root: Path | str, split: str, *, skips: SkipLog | None = None, **options: Any) -> list[Sample]:
    """Return all samples of ``iter_source`` as a list.

    Rows that were left out are logged when ``skips`` is None. Raises DataError also when no row is usable.
    """
    samples = read_all_deduplicated(f"{name} {root} {split}", lambda log: iter_source(name, root, split, skips=log, **options), skips)
    if not samples:
        raise DataError(f"{name} {root} {split}: the split has no rows; expected at least one question")
    return samples
