"""NVIDIA PhysicalAI-Spatial-Intelligence-Warehouse in its official layout, and our synthetic sets, which extend it.

    <root>/<split>.json                      rows: id, image, conversations, rle, category, normalized_answer, freeform_answer
    <root>/<split>_captions.json             rows of the same form about the same images (ours)
    <root>/<split>/images/<name>.png
    <root>/<split>/depths/<name>_depth.png   8-bit, min-max per image, near = dark; shipped, like images, as chunk_*.tar.gz: ``unpack``
    <root>/<split>/depths_metric/...         uint16 millimetres (ours)
    <root>/<split>/cameras.json              {image file name: {fx, fy, cx, cy, width, height}} (ours)

The published sample nests its file as <root>/train_sample/train_sample.json; that is found too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.conversations import first_question
from smolrgpt.data.sources.folders import names_in, packed_in, unpack_hint
from smolrgpt.data.sources.rows import Missing, gather, iter_samples, optional, rle_regions, scalar
from smolrgpt.schema import Camera, DataError, Sample

DepthChoice = Literal["auto", "metric", "relative", "none"]

_ROW_KEYS = frozenset(("id", "image", "conversations", "rle", "category", "normalized_answer", "freeform_answer"))
_CAPTIONS = "_captions"


def read_warehouse(
    root: Path | str, split: str, *, depth: DepthChoice = "auto", folder: str | None = None, skips: SkipLog | None = None
) -> list[Sample]:
    """All usable questions of a split, in file order; opens no image. Arguments and errors as in ``iter_warehouse``.

    Rows that cannot be used are counted in ``skips`` (logged when it is None). Raises DataError, too, when no row is usable.
    """
    name = str(_split_file(Path(root), split))
    return gather(name, lambda log: iter_warehouse(root, split, skips=log, depth=depth, folder=folder), skips)


def iter_warehouse(
    root: Path | str, split: str, *, skips: SkipLog, depth: DepthChoice = "auto", folder: str | None = None
) -> Iterator[Sample]:
    """The usable questions of a split, in file order, one at a time; opens no image.

    depth: "auto" takes the metric map where there is one, else the relative one, else none. folder: where the images are, when not in
    ``<root>/<split>/`` (captions are found by themselves). Rows that cannot be used are counted in ``skips``.
    ``image_key`` is root, folder and image name, so that neither splits nor several sets in one mixture can be mistaken for one another.
    Raises DataError when the split, its images or the asked kind of depth do not exist, or when the JSON is damaged.
    """
    path = _split_file(Path(root), split)
    files = _SplitFolder(Path(root) / (folder or _folder_of(Path(root), split)), depth)
    return iter_samples([path], lambda row: [_sample(row, files)], skips)


def available_splits(root: Path | str) -> list[str]:
    """Names ``read_warehouse`` accepts for this root, sorted; empty when there are none."""
    root = Path(root)
    if not root.is_dir():
        return []
    names = {path.stem for path in root.glob("*.json") if (root / _folder_of(root, path.stem) / "images").is_dir()}
    names |= {path.stem for path in root.glob("*/*.json") if path.stem == path.parent.name and (path.parent / "images").is_dir()}
    return sorted(names)


class _SplitFolder:
    """What lies in one split's folder, listed once: half a million rows would mean a million questions to the file system."""

    def __init__(self, folder: Path, depth: DepthChoice):
        self.folder, self.depth = folder, depth
        if depth not in ("auto", "metric", "relative", "none"):
            raise DataError(f"depth is {depth!r}; expected 'auto', 'metric', 'relative' or 'none'")
        self.images = names_in(folder / "images")
        if not self.images:
            packed = packed_in(folder / "images")
            hint = unpack_hint(folder) if packed else "expected the split's pictures (folder=NAME when they lie with another split)"
            raise DataError(f"{folder / 'images'} holds no picture; {hint}")
        self.maps = [(folder / name, names_in(folder / name)) for name in _depth_folders(depth)]
        if self.maps and depth != "auto" and not self.maps[0][1]:
            raise DataError(f"{self.maps[0][0]} holds no depth map, and depth={depth!r} was asked for; use depth='auto' or 'none'")
        if self.maps and not any(names for _, names in self.maps) and packed_in(folder / "depths"):
            raise DataError(f"{folder / 'depths'} holds no depth map; {unpack_hint(folder)} (or use depth='none')")
        self.cameras = _read_cameras(folder / "cameras.json")
        self._found: dict[str, tuple[Path, Path | None]] = {}

    def paths(self, image: str) -> tuple[Path, Path | None]:
        """The picture and its depth map, the same objects for every question about it. Raises DataError when the picture is absent."""
        if image not in self._found:
            if image not in self.images:
                raise Missing("image", f"image {image!r} is not in {self.folder / 'images'}")
            name = f"{Path(image).stem}_depth.png"
            depth = next((folder / name for folder, names in self.maps if name in names), None)
            self._found[image] = (self.folder / "images" / image, depth)
        return self._found[image]

    def key(self, image: str) -> str:
        return f"{self.folder}/{image}" + ("" if self.depth == "auto" else f"#{self.depth}")


def _sample(row: dict[str, Any], files: _SplitFolder) -> Sample:
    """Raises DataError, naming the row's id where it has one, for whatever makes the row unusable."""
    name, image = row.get("id"), row.get("image")
    if not isinstance(name, (str, int)) or not isinstance(image, str):
        raise DataError(f"id {name!r} and image {image!r}; expected both as strings")
    try:
        question, answer = first_question(row.get("conversations"))
        picture, depth = files.paths(image)
        return Sample(
            id=str(name),
            image=picture,
            question=question,
            regions=rle_regions(row.get("rle")),
            depth=depth,
            camera=files.cameras.get(image),
            answer=answer or optional(row, "freeform_answer") or None,
            normalized_answer=scalar(row, "normalized_answer"),
            category=optional(row, "category"),
            image_key=files.key(image),
            metadata={key: value for key, value in row.items() if key not in _ROW_KEYS},
        )
    except DataError as error:
        if isinstance(error, Missing) or "sample" in str(error):
            raise
        raise DataError(f"sample {name!r}: {error}") from error


def _read_cameras(path: Path) -> dict[str, Camera]:
    if not path.is_file():
        return {}
    try:
        return {name: Camera(**camera) for name, camera in json.loads(path.read_text(encoding="utf-8")).items()}
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


def _depth_folders(depth: DepthChoice) -> tuple[str, ...]:
    return {"auto": ("depths_metric", "depths"), "metric": ("depths_metric",), "relative": ("depths",), "none": ()}[depth]
