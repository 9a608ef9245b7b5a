"""A user's own images with YOLO labels, as Ultralytics, Roboflow, CVAT and Label Studio write them.

    <root>/images/<split>/ and labels/<split>/, or <split>/images/ and <split>/labels/, or both in <split>/ or obj_<split>_data/, or without
    <root>/data.yaml         names of the classes, and of each split the folder or the list of images (.txt); or classes.txt, a name a line
    <root>/questions_<split>.jsonl   see ``annotated``; an object's annotation id is the number of its line, from 0

``a.txt`` has a line for each object of ``a.jpg``: the class, then a box (centre x, centre y, width, height) or a polygon (x, y, ...), in
shares of the image's sides. Oriented boxes are polygons of four points. With keypoints (``kpt_shape``) the boxes are read.

Shares do not tell whether a turned phone photo was annotated upright or as it was stored, so images with an EXIF orientation need
``annotated="upright"`` (Ultralytics and browsers turn images) or ``"stored"``.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import numpy as np
import yaml

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.annotated import UNNAMED, AnnotatedImage, AnnotatedObject, iter_annotated, warn_of_no_splits
from smolrgpt.data.sources.folders import ImageSet
from smolrgpt.data.sources.rows import UNUSABLE_ROW, MissingFileError, skip_reason
from smolrgpt.schema import DataError, Region, Sample, brief
from smolrgpt.schema.image_file import QUARTER_TURNS

logger = logging.getLogger(__name__)

#: Which pixels of an image with an EXIF orientation were annotated.
AnnotatedPixels = Literal["upright", "stored"]

_ANY_YAML = "*.y*ml"
_CLASS_FILES = (
    "data.yaml", "data.yml", "dataset.yaml", "classes.txt", "labels/classes.txt", "*/classes.txt", "labels/*/classes.txt", "obj.names",
    _ANY_YAML,
)  # fmt: skip
#: Annotators draw a little over the edge; more than this is no share of the sides.
_LARGEST_SHARE = 1.05


def iter_yolo(
    root: Path | str,
    split: str,
    *,
    skips: SkipLog,
    images: str | None = None,
    depths: str | None = None,
    annotated: AnnotatedPixels | None = None,
    max_pairs: int = 16,
) -> Iterator[Sample]:
    """Yield samples as of ``iter_annotated``, in order of the label files' names.

    Args:
        root: The folder of the data set.
        split: The name in the paths above.
        skips: Counts lines and label files that cannot be used.
        images: The folder of images relative to root, where it is none of those above. Labels lie in the folder of the same name with
            "labels" instead of "images", or with the images.
        depths: The folder of depth maps relative to root, where it is none of depths/<split>, <split>/depths and depths.
        annotated: Which pixels of images with an EXIF orientation were annotated.
        max_pairs: Questions per image without a questions file; a random draw by the image's name where there are more pairs.

    Raises:
        DataError: When images or labels do not exist, the names of classes cannot be read, or ``annotated`` is another value.
    """
    if annotated not in (None, *get_args(AnnotatedPixels)):
        raise DataError(f"annotated is {brief(annotated)!r}; expected upright or stored")
    root = Path(root)
    classes = _Classes.read(root)
    defaults = [*classes.split_folders(root, split), f"images/{split}", f"{split}/images", split, f"obj_{split}_data"]
    listed = classes.listed_images(root, split)
    if not images and not any((root / name).is_dir() for name in defaults) and any(path.is_file() for path in root.glob("images/*")):
        if listed is None:
            warn_of_no_splits(root / "images", split)
        images = "images"
    files = ImageSet.first_existing(
        root, [images] if images else defaults, [depths] if depths else [f"depths/{split}", f"{split}/depths", "depths"]
    )
    labels = _label_folder(files.images.folder)
    table = list(_read_labels(labels, files.images.folder, listed, classes, annotated, skips))
    return iter_annotated(table, files, root / f"questions_{split}.jsonl", skips, max_pairs)


@dataclass(frozen=True)
class _Classes:
    """The names of classes, None where no file states them; the numbers of keypoint values behind a box; the file's splits."""

    names: dict[int, str] | None
    num_keypoint_values: int
    splits: dict[str, Any]

    @classmethod
    def read(cls, root: Path) -> _Classes:
        """Read the first file of class names. Raises DataError when it cannot be read."""
        path = next((path for name in _CLASS_FILES for path in sorted(root.glob(name)) if _may_name_classes(path, name)), None)
        if path is None:
            logger.warning("%s: no file names the classes (data.yaml or classes.txt), so every object is called %r", root, UNNAMED)
            return cls(None, 0, {})
        try:
            text = path.read_text(encoding="utf-8-sig")
            found = yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else {"names": text.splitlines()}
            names = found["names"]
            pairs = names.items() if isinstance(names, dict) else enumerate(names)
            shape = found.get("kpt_shape") or (0, 0)
            splits = {str(key): value for key, value in found.items()}
            return cls({int(key): str(name) for key, name in pairs}, int(shape[0]) * int(shape[1]), splits)
        except (yaml.YAMLError, UnicodeError, TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
            reason = brief(f"{type(error).__name__}: {error}", 200)
            raise DataError(f"{path}: no names of classes ({reason}); expected names: a list, or a name for each number") from error

    def split_folders(self, root: Path, split: str) -> list[str]:
        """Return the folder of a split's images that the file names, relative to root, if it is there. Raises DataError for several."""
        value = self.splits.get(split)
        if isinstance(value, list) and len(value) > 1:
            raise DataError(f"{root}: {split} is {len(value)} entries ({brief(value)}); read each of them with images=FOLDER")
        written = value[0] if isinstance(value, list) and value else value
        folders = _below(written, str(self.splits.get("path") or "")) if isinstance(written, str) else []
        return [name for name in folders if (root / name).is_dir()]

    def listed_images(self, root: Path, split: str) -> set[str] | None:
        """Return the names, without suffix, of a split's list of images below any of their folders; None where no file lists them.

        Raises DataError when the list cannot be read.
        """
        value = self.splits.get(split)
        names = _below(value, str(self.splits.get("path") or "")) if isinstance(value, str) else [f"{split}.txt"]
        path = next((root / name for name in names if name.endswith(".txt") and (root / name).is_file()), None)
        if path is None:
            return None
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
            parts = [PurePosixPath(line.replace("\\", "/")).with_suffix("").parts for line in lines]
        except ValueError as error:  # also of bytes that are no text
            raise DataError(f"{path}: it is no list of images ({error})") from error
        return {"/".join(names[start:]) for names in parts for start in range(len(names))}


def _may_name_classes(path: Path, pattern: str) -> bool:
    return path.is_file() and (pattern != _ANY_YAML or "names:" in path.read_text(encoding="utf-8", errors="ignore"))


def _below(written: str, base: str) -> list[str]:
    """Return where a path of the file may lie, relative to the root of the set: below ``path``, or without it."""
    name = "/".join(part for part in PurePosixPath(written.replace("\\", "/")).parts if part not in ("..", "/", "."))
    return [f"{folder}/{name}".lstrip("/") for folder in (base, "")]


def _label_folder(images: Path) -> Path:
    """Return the folder of labels that belongs to a folder of images: "labels" instead of the last "images", or the same folder."""
    parts = list(images.parts)
    for index in range(len(parts) - 1, -1, -1):
        if parts[index] == "images" and (found := Path(*parts[:index], "labels", *parts[index + 1 :])).is_dir():
            return found
    if any(images.rglob("*.txt")):
        return images
    raise DataError(f"{images}: no labels of these images; expected a folder labels in place of images, or .txt files with the images")


def _read_labels(
    labels: Path, images: Path, listed: set[str] | None, classes: _Classes, annotated: AnnotatedPixels | None, skips: SkipLog
) -> Iterator[AnnotatedImage]:
    """Yield an entry for each label file, of ``listed`` images alone; what cannot be used is counted."""
    names: dict[str, list[str]] = {}
    for path in sorted(images.rglob("*")):
        if path.suffix not in ("", ".txt", ".json", ".yaml", ".jsonl") and not path.name.startswith("."):
            names.setdefault(path.relative_to(images).with_suffix("").as_posix(), []).append(path.relative_to(images).as_posix())
    for path in sorted(labels.rglob("*.txt")):
        if path.name in ("classes.txt", "obj.names", "train.txt"):
            continue
        stem = path.relative_to(labels).with_suffix("").as_posix()
        found = names.get(stem, [])
        if listed is not None and stem not in listed:
            continue  # of another split, or of none
        try:
            if not found:
                raise MissingFileError("image", f"{images} has no image {stem}")
            if len(found) > 1:
                raise DataError(f"it is of {' or '.join(found)}; expected one image of that name")
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (DataError, UnicodeError, OSError) as error:
            reason = skip_reason(error) if isinstance(error, DataError) else UNUSABLE_ROW
            skips.add(reason, f"{path.name}: {error}")
            continue
        image = AnnotatedImage(found[0], path.name)
        for number, line in enumerate(lines):
            try:
                image.objects += [_object(line.split(), number, classes, annotated)] if line.strip() else []
            except DataError as error:
                skips.add(UNUSABLE_ROW, f"{path.name} line {number}: {error}")
        yield image


def _object(words: list[str], number: int, classes: _Classes, annotated: AnnotatedPixels | None) -> AnnotatedObject:
    """Return the object of one line. Raises DataError."""
    try:
        kind, shares = float(words[0]), np.array(words[1:], dtype=np.float64)
    except ValueError:
        raise DataError(f"{brief(' '.join(words))!r} holds something that is no number") from None
    if not kind.is_integer() or (classes.names is not None and int(kind) not in classes.names):
        raise DataError(f"class {words[0]} is none of the {len(classes.names or {})} named classes")
    if classes.num_keypoint_values and len(shares) == 4 + classes.num_keypoint_values:
        shares = shares[:4]
    if len(shares) != 4 and (len(shares) < 6 or len(shares) % 2):
        raise DataError(f"{len(shares)} numbers follow the class; expected 4 of a box, or x,y pairs of at least three points")
    if not np.isfinite(shares).all() or shares.min() < 1 - _LARGEST_SHARE or shares.max() > _LARGEST_SHARE:
        raise DataError(f"{brief(' '.join(words[1:]))} are no shares of the image's sides; expected numbers from 0 to 1")
    name = UNNAMED if classes.names is None else classes.names[int(kind)]
    return AnnotatedObject(number, name, functools.partial(_region, shares, annotated))


def _region(shares: np.ndarray, annotated: AnnotatedPixels | None, size: tuple[int, int], orientation: int) -> Region:
    """Return the region on the upright image of ``size`` (height, width). Raises DataError where it is not known which pixels are meant."""
    if orientation != 1 and annotated is None:
        raise DataError(
            f"the image is stored turned (EXIF orientation {orientation}), and shares of its sides do not tell which pixels were "
            "annotated; state annotated=upright or annotated=stored"
        )
    is_stored = annotated == "stored" and orientation != 1
    height, width = size[::-1] if is_stored and orientation in QUARTER_TURNS else size
    if len(shares) == 4:
        x, y, w, h = shares * (width, height, width, height)
        box = np.round((x - w / 2, y - h / 2, x + w / 2, y + h / 2), 2)  # shares with six decimals do not end exactly at a pixel
        region = Region.from_box(box, height, width)
    else:
        region = Region.from_polygon(shares * np.tile((width, height), len(shares) // 2), height, width)
    return region.turned(orientation) if is_stored else region
