"""The folders that hold a data set's images and depth maps, and how to unpack them where they are still archives."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from smolrgpt.data.sources.rows import MissingFileError
from smolrgpt.schema import DataError, DepthFile, DepthMeaning, Sample
from smolrgpt.schema.image_file import is_file

logger = logging.getLogger(__name__)

ARCHIVES = (".tar", ".tar.gz", ".tgz")
#: Suffixes after an image's stem that make the name of its depth map, in the order in which they are tried.
_DEPTH_SUFFIXES = (".png", "_depth.png", ".npy", ".npz", ".tiff", ".tif", ".pgm", ".exr")


def names_in(folder: Path) -> frozenset[str]:
    """Return the names in a folder without archives, records (.json) and hidden files; empty when there is no such folder."""
    try:
        return frozenset(name for name in os.listdir(folder) if not name.startswith(".") and not name.endswith((*ARCHIVES, ".json")))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def archives_in(folder: Path) -> list[Path]:
    """Return the archives in a folder, sorted by name."""
    return sorted(path for path in folder.glob("*") if path.name.endswith(ARCHIVES)) if folder.is_dir() else []


def unpack_hint(folder: Path) -> str:
    """Return the advice of how to unpack the archives of ``folder`` (that of a split, or a whole root)."""
    return f"unpack the archives first: smolrgpt data unpack '{folder}'"


class FileFolder:
    """The files in a folder, listed once: half a million rows would mean as many questions to the file system.

    ``kind`` is what messages call them ("image", "depth", "segment"). Raises DataError when there are none, with the command to unpack them
    when they are still archives.
    """

    def __init__(self, folder: Path, kind: str = "image"):
        self.folder, self.names, self.kind = folder, names_in(folder), kind
        archives = archives_in(folder) or archives_in(folder.parent)
        expected = "expected the set's files there (images=FOLDER and depths=FOLDER name other folders)"
        self.hint = unpack_hint(archives[0].parent) if archives else expected
        if not self.names:
            raise DataError(f"{folder} holds no {kind}; {self.hint}")

    def find(self, name: str) -> Path:
        """Return the file of that name, which may lie in folders below. Raises MissingFileError when there is none."""
        path = PurePosixPath(name)
        is_below = not path.is_absolute() and ".." not in path.parts
        exists = name in self.names if len(path.parts) == 1 else is_below and is_file(self.folder / path)
        if not exists:
            raise MissingFileError(self.kind, f"{self.kind} {name!r} is not in {self.folder}; {self.hint}")
        return self.folder / path


class DepthFolder:
    """The depth maps in a folder, named after their images: ``x.jpg`` has ``x.png``, ``x_depth.png``, ``x.npy``, ``x.tiff``, ...

    Near is bright in relative maps, as monocular models write them, where no depth.json records it. Raises DataError as
    ``FileFolder`` does, and for a depth.json that cannot be read.
    """

    def __init__(self, folder: Path):
        self._files = FileFolder(folder, "depth")
        DepthMeaning.recorded_for(folder)  # one error, before a million rows

    def find_for(self, image: str) -> DepthFile:
        """Return the map of an image, given by the image's file name. Raises MissingFileError when there is none."""
        stem = str(PurePosixPath(image).with_suffix(""))
        for suffix in _DEPTH_SUFFIXES:
            try:
                return DepthFile(self._files.find(f"{stem}{suffix}"), relative_near="bright")
            except MissingFileError:
                continue
        raise MissingFileError("depth", f"no map {stem}.png for image {image!r} in {self._files.folder}")


@dataclass(frozen=True)
class ImageFiles:
    """An image file and its depth map."""

    image: Path
    depth: DepthFile | None


class ImageSet:
    """Images, each with a depth map or all without: turns the image name of a row into files.

    A depth folder that does not exist is logged, and the set is read without depth; where it exists, an image without a map is a
    MissingFileError.

    Args:
        root: The folder to which the others are relative.
        images: The folder of images.
        depths: The folder of depth maps; None reads the set without depth.
    """

    def __init__(self, root: Path, images: str | Path, depths: str | Path | None):
        self.images = FileFolder(root / images)
        folder = None if depths is None else root / depths
        self._depths = DepthFolder(folder) if folder and folder.is_dir() else None
        if folder and not self._depths:
            logger.warning("%s: no such folder, so the samples have no depth (depths=FOLDER names another, depths=None omits it)", folder)

    @classmethod
    def first_existing(cls, root: Path, images: Sequence[str], depths: Sequence[str]) -> ImageSet:
        """Return the set in the first folder of ``images`` and the first of ``depths`` that exist, or without depth where none does.

        Both are relative to root, in order of preference. A single name is what the caller asked for and is used in any case.
        """
        found = next((name for name in images if (root / name).is_dir()), images[0])
        maps = next((name for name in depths if (root / name).is_dir()), depths[0] if len(depths) == 1 else None)
        return cls(root, found, maps)

    @classmethod
    def of_split(cls, root: Path, split: str, images: str | None, depths: str | None, defaults: Sequence[str]) -> ImageSet:
        """Return a split's set in the folders that the caller names, else in the first that exists.

        Those are ``defaults`` for images, and ``<split>/depths`` and ``depths`` for depth maps.
        """
        return cls.first_existing(root, [images] if images else defaults, [depths] if depths else [f"{split}/depths", "depths"])

    def find(self, name: str) -> ImageFiles:
        """Return the files of the image of that name. Raises MissingFileError."""
        return ImageFiles(self.images.find(name), self._depths.find_for(name) if self._depths else None)


def state_depth(samples: Iterable[Sample], meaning: DepthMeaning) -> Iterator[Sample]:
    """Yield samples whose depth files have this meaning, where it states one; it counts above what a reader or a depth.json states."""
    for sample in samples:
        if meaning != DepthMeaning() and isinstance(sample.depth, DepthFile):
            stated = replace(sample.depth, meaning=meaning.over(sample.depth.meaning))
            sample = replace(sample, depth=stated, image_key=None)
        yield sample
