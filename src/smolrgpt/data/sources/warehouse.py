"""NVIDIA PhysicalAI-Spatial-Intelligence-Warehouse in its official layout, and our synthetic sets, which extend it.

    <root>/<split>.json                      rows: id, image, conversations, rle, category, normalized_answer, freeform_answer;
                                             ours also have steps, centers_m and sizes_m (see ``Truth``), wording and layout
    <root>/<split>_captions.json             rows of the same form about the same images (ours)
    <root>/<split>/images/<name>.png
    <root>/<split>/depths/<name>_depth.png   8-bit, min-max per image, near = dark; shipped, like images, as chunk_*.tar.gz: ``unpack``
    <root>/<split>/depths_metric/...         uint16 millimetres, or .tiff with float metres (ours)
    <root>/<split>/cameras.json              {image file name: {fx, fy, cx, cy, width, height}} (ours)

The published sample nests its file as <root>/train_sample/train_sample.json; that is found too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast, get_args

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.conversations import first_question
from smolrgpt.data.sources.folders import ImageFiles, archives_in, names_in, unpack_hint
from smolrgpt.data.sources.rows import MissingFileError, iter_samples, optional, read_all_deduplicated, rle_regions, scalar
from smolrgpt.schema import Camera, DataError, DepthFile, Sample, Truth, Wording

DepthChoice = Literal["auto", "metric", "relative", "none"]

#: Which depth is read -> the folders it may be in, in the order in which they are tried.
_DEPTH_FOLDERS: dict[DepthChoice, tuple[str, ...]] = {
    "auto": ("depths_metric", "depths"),
    "metric": ("depths_metric",),
    "relative": ("depths",),
    "none": (),
}
_TRUTH_KEYS = ("steps", "centers_m", "sizes_m")
_ROW_KEYS = {"id", "image", "conversations", "rle", "category", "normalized_answer", "freeform_answer", "wording", "template", *_TRUTH_KEYS}
_CAPTIONS = "_captions"


def read_warehouse(
    root: Path | str, split: str, *, depth: DepthChoice = "auto", folder: str | None = None, skips: SkipLog | None = None
) -> list[Sample]:
    """Return all usable questions of a split, in file order; opens no image. Arguments and errors are those of ``iter_warehouse``.

    Rows that cannot be used are counted in ``skips``, and logged when it is None. Raises DataError also when no row is usable.
    """
    name = str(_split_file(Path(root), split))
    return read_all_deduplicated(name, lambda log: iter_warehouse(root, split, skips=log, depth=depth, folder=folder), skips)


def iter_warehouse(
    root: Path | str, split: str, *, skips: SkipLog, depth: DepthChoice = "auto", folder: str | None = None
) -> Iterator[Sample]:
    """Yield the usable questions of a split, in file order; opens no image.

    Args:
        root: The folder of the data set.
        split: The name of a rows file, see ``available_splits``.
        skips: Counts rows that cannot be used.
        depth: "auto" is the metric map where there is one, else the relative one, else none.
        folder: The folder with the images, where it is not ``<root>/<split>/``; captions find theirs by themselves.

    Raises:
        DataError: When the split, its images or the requested kind of depth do not exist, or the JSON is damaged.
    """
    path = _split_file(Path(root), split)
    files = _SplitFolder(Path(root) / (folder or _folder_of(Path(root), split)), depth)
    return iter_samples([path], lambda row: [_sample(row, files)], skips)


def available_splits(root: Path | str) -> list[str]:
    """Return the names that ``read_warehouse`` accepts for this root, sorted; empty when there are none."""
    root = Path(root)
    if not root.is_dir():
        return []
    names = {path.stem for path in root.glob("*.json") if (root / _folder_of(root, path.stem) / "images").is_dir()}
    names |= {path.stem for path in root.glob("*/*.json") if path.stem == path.parent.name and (path.parent / "images").is_dir()}
    return sorted(names)


class _SplitFolder:
    """The files in one split's folder, listed once: half a million rows would mean a million questions to the file system."""

    def __init__(self, folder: Path, depth: DepthChoice):
        self.folder = folder
        if depth not in _DEPTH_FOLDERS:
            raise DataError(f"depth is {depth!r}; expected 'auto', 'metric', 'relative' or 'none'")
        self.images = names_in(folder / "images")
        if not self.images:
            packed = archives_in(folder / "images")
            hint = unpack_hint(folder) if packed else "expected the split's images (folder=NAME when they are in another split's folder)"
            raise DataError(f"{folder / 'images'} holds no image; {hint}")
        self.depth_maps = [(folder / name, names_in(folder / name)) for name in _DEPTH_FOLDERS[depth]]
        if self.depth_maps and depth != "auto" and not self.depth_maps[0][1]:
            raise DataError(f"{self.depth_maps[0][0]} holds no depth map, and depth={depth!r} was requested; use depth='auto' or 'none'")
        if self.depth_maps and not any(names for _, names in self.depth_maps) and archives_in(folder / "depths"):
            raise DataError(f"{folder / 'depths'} holds no depth map; {unpack_hint(folder)} (or use depth='none')")
        self.cameras = _read_cameras(folder / "cameras.json")
        self._found: dict[str, ImageFiles] = {}

    def find(self, image: str) -> ImageFiles:
        """Return the files of an image, the same object for every question about it. Raises MissingFileError."""
        if image not in self._found:
            if image not in self.images:
                raise MissingFileError("image", f"image {image!r} is not in {self.folder / 'images'}")
            maps = (f"{Path(image).stem}_depth.png", f"{Path(image).stem}_depth.tiff")
            depth = next((DepthFile(folder / name) for folder, names in self.depth_maps for name in maps if name in names), None)
            self._found[image] = ImageFiles(self.folder / "images" / image, depth)
        return self._found[image]


def _sample(row: dict[str, Any], files: _SplitFolder) -> Sample:
    """Build a row's sample. Raises DataError, with the row's id where it has one, if the row is unusable."""
    name, image = row.get("id"), row.get("image")
    if not isinstance(name, (str, int)) or not isinstance(image, str):
        raise DataError(f"id {name!r} and image {image!r}; expected both as strings")
    try:
        question, answer = first_question(row.get("conversations"))
        found = files.find(image)
        return Sample(
            id=str(name),
            image=found.image,
            question=question,
            regions=rle_regions(row.get("rle")),
            depth=found.depth,
            camera=files.cameras.get(image),
            answer=answer or optional(row, "freeform_answer") or None,
            normalized_answer=scalar(row, "normalized_answer"),
            category=optional(row, "category"),
            truth=_truth(row),
            wording=_wording(row),
            official_template=optional(row, "template"),
            metadata={key: value for key, value in row.items() if key not in _ROW_KEYS},
        )
    except DataError as error:
        if isinstance(error, MissingFileError) or "sample" in str(error):
            raise
        raise DataError(f"sample {name!r}: {error}") from error


def _truth(row: dict[str, Any]) -> Truth | None:
    if all(row.get(name) is None for name in _TRUTH_KEYS):
        return None
    try:
        centers = tuple((_metres(x), _metres(y), _metres(above)) for x, y, above in row.get("centers_m") or ())
        sizes = tuple((_metres(width), None if height is None else _metres(height)) for width, height in row.get("sizes_m") or ())
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{error}; expected centers_m as [x, y, height] and sizes_m as [width, height or null], in metres") from error
    return Truth(optional(row, "steps"), centers, sizes)


def _metres(value: Any) -> float:
    metres = float(value)
    if not math.isfinite(metres):
        raise ValueError(f"a length is {metres}")
    return metres


def _wording(row: dict[str, Any]) -> Wording | None:
    found = optional(row, "wording")
    if found is None or found in get_args(Wording):
        return cast(Wording | None, found)
    raise DataError(f"wording is {found!r}; expected 'known' or 'reserved'")


def _read_cameras(path: Path) -> dict[str, Camera]:
    if not path.is_file():
        return {}
    try:
        return {name: Camera.from_any(camera) for name, camera in json.loads(path.read_text(encoding="utf-8-sig")).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: {error}; expected {{image file name: {{fx, fy, cx, cy, width, height}}}}") from error


def _split_file(root: Path, split: str) -> Path:
    for path in (root / f"{split}.json", root / split / f"{split}.json"):
        if path.is_file():
            return path
    found = ", ".join(available_splits(root)) or "none"
    raise DataError(f"{root / f'{split}.json'}: no such file; splits found in {root}: {found}")


def _folder_of(root: Path, split: str) -> str:
    return split if (root / split).is_dir() else split.removesuffix(_CAPTIONS)
