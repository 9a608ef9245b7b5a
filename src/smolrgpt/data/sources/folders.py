"""The folders pictures and depth maps lie in: what is there, and how to put there what came packed."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path, PurePosixPath
from typing import Any

from smolrgpt.data.loading import DEPTH_NEAR
from smolrgpt.data.sources.rows import Missing
from smolrgpt.schema import DataError

logger = logging.getLogger(__name__)

ARCHIVES = (".tar", ".tar.gz", ".tgz")
#: Beside depth maps that were estimated: which model, which kind, whether near is bright or dark.
DEPTH_RECORD = "depth.json"


def names_in(folder: Path) -> frozenset[str]:
    """Names in a folder, without archives, records (.json) and half-written files (.name); empty when there is no such folder."""
    try:
        return frozenset(name for name in os.listdir(folder) if not name.startswith(".") and not name.endswith((*ARCHIVES, ".json")))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def packed_in(folder: Path) -> list[Path]:
    """The archives in a folder, sorted by name."""
    return sorted(path for path in folder.glob("*") if path.name.endswith(ARCHIVES)) if folder.is_dir() else []


def unpack_hint(folder: Path) -> str:
    """How to unpack what lies in ``folder`` (that of a split, or a whole root)."""
    return f"unpack the archives first: smolrgpt data unpack '{folder}'"


class Pictures:
    """The picture files in a folder, listed once: half a million rows would mean as many questions to the file system.

    kind: what messages call them ("image", "depth", "segment"). Raises DataError when there are none, with the way to unpack them when
    they are still packed.
    """

    def __init__(self, folder: Path, kind: str = "image"):
        self.folder, self.names, self.kind = folder, names_in(folder), kind
        packed = packed_in(folder) or packed_in(folder.parent)
        self.hint = (
            unpack_hint(packed[0].parent) if packed else "expected the set's files there (images=FOLDER, depths=FOLDER say where else)"
        )
        if not self.names:
            raise DataError(f"{folder} holds no {kind}; {self.hint}")

    def find(self, name: str) -> Path:
        """The file of that name, which may lie in folders below. Raises Missing when there is none."""
        path = PurePosixPath(name)
        inside = not path.is_absolute() and ".." not in path.parts
        there = name in self.names if len(path.parts) == 1 else inside and (self.folder / path).is_file()
        if not there:
            raise Missing(self.kind, f"{self.kind} {name!r} is not in {self.folder}; {self.hint}")
        return self.folder / path


class DepthMaps(Pictures):
    """The depth maps in a folder, named after their pictures: ``x.jpg`` has ``x.png``, ``x_depth.png``, ``x.npy`` or ``x.tiff``.

    ``metadata`` is what a Sample has to say about them: which end is near, by the folder's depth.json, else ``near``.
    """

    def __init__(self, folder: Path, near: str):
        super().__init__(folder, "depth")
        self.metadata = {DEPTH_NEAR: _recorded_near(folder / DEPTH_RECORD) or near}

    def find_for(self, picture: str) -> Path:
        """The map of a picture, given by its file name. Raises Missing when there is none."""
        stem = str(PurePosixPath(picture).with_suffix(""))
        for suffix in (".png", "_depth.png", ".npy", ".tiff"):
            try:
                return self.find(f"{stem}{suffix}")
            except Missing:
                continue
        raise Missing(self.kind, f"no map {stem}.png for image {picture!r} in {self.folder}")


class ImageSet:
    """Pictures, with a depth map each or without any: what a source turns a row's file name into.

    images, depths: folders, relative to root or absolute. Where the depth folder is absent the set is read without depth, which is
    logged; where it is there, a picture without a map is Missing. ``depths=None`` asks for no depth. near: the maps' near end.
    """

    def __init__(self, root: Path, images: str | Path, depths: str | Path | None, near: str):
        self.pictures = Pictures(root / images)
        folder = None if depths is None else root / depths
        self.maps = DepthMaps(folder, near) if folder and folder.is_dir() else None
        if folder and not self.maps:
            logger.warning(
                "%s: no such folder, so the samples have no depth (depths=FOLDER says where it is, None that it is not wanted)", folder
            )

    @property
    def metadata(self) -> dict[str, Any]:
        """What every Sample of the set says about its depth; a new dict each time."""
        return dict(self.maps.metadata) if self.maps else {}

    def files(self, name: str) -> dict[str, Any]:
        """``image``, ``depth`` and ``image_key`` of a Sample about this picture. Raises Missing."""
        image = self.pictures.find(name)
        if self.maps is None:
            return {"image": image, "depth": None, "image_key": f"{image}#none"}
        return {"image": image, "depth": self.maps.find_for(name), "image_key": str(image)}


def _recorded_near(path: Path) -> str | None:
    """The ``near`` of a depth.json ("dark" or "bright"), None when there is no such file. Raises DataError when it says neither."""
    if not path.is_file():
        return None
    try:
        near = json.loads(path.read_text(encoding="utf-8")).get("near")
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path}: {error}; expected {{'near': 'dark' or 'bright', ...}}") from error
    if near not in ("dark", "bright", None):
        raise DataError(f"{path}: near is {near!r}; expected 'dark' or 'bright'")
    return near
