"""A data set as memory-mapped Arrow: read once from its source, opened in no time and with hardly any memory ever after.

<folder>/prepared.json        what is finished: the format's version, root, and for every shard its samples and rows used of the source
<folder>/shard-00000.arrow    columns as in FEATURES
<folder>/images-00000.tar     with ``pack``: the images and depth maps that occur first in this shard, named as WebDataset does,
                              00000000.rgb.png and 00000000.depth.png; else they stay the files they are
"""

from __future__ import annotations

import io
import json
import logging
import tarfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value, concatenate_datasets
from datasets.arrow_writer import ArrowWriter
from tqdm import tqdm

from smolrgpt.data.io import atomic_path, write_text
from smolrgpt.data.loading import SkipLog
from smolrgpt.schema import Camera, DataError, DepthFile, DepthMeaning, Region, Sample, TarMember, Truth
from smolrgpt.schema.image_file import open_file

logger = logging.getLogger(__name__)

MANIFEST = "prepared.json"
#: Of the format. Folders of another version are refused.
VERSION = 3

_FILE = {
    "path": Value("string"),  # of the file, or its name in the archive
    "archive": Value("string"),  # null for a plain file; relative to the prepared folder for a packed one
    "offset": Value("int64"),
    "size": Value("int64"),
    "below_root": Value("bool"),  # whether the path is relative to the root
}
#: Fields of Sample that are a text or None.
_TEXTS = ("id", "question", "answer", "category", "wording", "official_template", "text_question")
_LENGTHS = List(List(Value("float64")))
#: One column per field of Sample. There is none of ``image_key``, which is made from image, depth and camera: ``image_number`` is equal for
#: rows where these are.
#: Fields whose type depends on the row, normalized_answer and metadata, are JSON.
FEATURES = Features(
    {
        **{name: Value("string") for name in _TEXTS},
        **{name: Value("string") for name in ("normalized_answer", "metadata")},
        "image_number": Value("int64"),
        "image": _FILE,
        "depth": {"source": _FILE, **{name: Value("string") for name in ("near", "kind", "scale", "relative_near")}},
        "camera": {
            **{name: Value("float64") for name in ("fx", "fy", "cx", "cy")},
            **{name: Value("int64") for name in ("width", "height")},
            "distortion": List(Value("float64")),
            "distortion_model": Value("string"),
            "is_guessed": Value("bool"),
        },
        "regions": List({"size": List(Value("int32"), length=2), "counts": Value("string")}),
        "region_indices": List(Value("int32")),
        "truth": {"steps": Value("string"), "centers_m": _LENGTHS, "sizes_m": _LENGTHS},
    }
)


class Prepared(Sequence[Sample]):
    """The samples of a prepared folder; a Sample is built when it is accessed.

    Args:
        folder: What ``prepare`` wrote.
        root: Where the images are now, if they have moved; by default the root that was recorded.

    Raises:
        DataError: When the folder is not a prepared one, is not finished or has another version.
    """

    def __init__(self, folder: Path | str, root: Path | str | None = None):
        self.folder = Path(folder)
        manifest = _read_manifest(self.folder)
        if not manifest["complete"]:
            raise DataError(f"{folder} was not finished; prepare it again to go on")
        self.root = Path(manifest["root"] or "" if root is None else root)
        shards = [self.folder / shard["name"] for shard in manifest["shards"] if shard["samples"]]
        self._table = concatenate_datasets([Dataset.from_file(str(path)) for path in shards])
        self._decoders: dict[str, Callable[[Any], Any]] = {
            "image": self._decode_file,
            "depth": self._decode_depth,
            "camera": _decode_camera,
            "normalized_answer": json.loads,
            "metadata": json.loads,
            "regions": _decode_regions,
            "region_indices": tuple,
            "truth": _decode_truth,
        }

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = self._table[int(index)]
        del row["image_number"]
        return Sample(**{name: self._decode(name, value) for name, value in row.items()})

    def column(self, name: str) -> list[Any]:
        """Return one field of every sample, without building the samples. Raises KeyError for a name that is no field of Sample."""
        if name == "image_key":
            return self._image_keys()
        return [self._decode(name, value) for chunk in self._table.data.column(name).chunks for value in chunk.to_pylist()]

    def _image_keys(self) -> list[Hashable]:
        numbers = self._table.data.column("image_number").to_numpy()
        _, first, image = np.unique(numbers, return_index=True, return_inverse=True)
        columns = [self._table.data.column(name).take(first).to_pylist() for name in ("image", "depth", "camera")]
        parts = [
            [self._decode(name, value) for value in column] for name, column in zip(("image", "depth", "camera"), columns, strict=True)
        ]
        keys: list[Hashable] = list(zip(*parts, strict=True))
        return [keys[number] for number in image]

    def _decode(self, name: str, value: Any) -> Any:
        return self._decoders[name](value) if name in self._decoders else value

    def _decode_file(self, value: dict[str, Any]) -> Path | TarMember:
        if value["archive"] is not None:
            return TarMember(self.folder / value["archive"], value["path"], value["offset"], value["size"])
        return self.root / value["path"] if value["below_root"] else Path(value["path"])

    def _decode_depth(self, value: dict[str, Any] | None) -> DepthFile | None:
        if value is None:
            return None
        meaning = DepthMeaning(value["near"], value["kind"], value["scale"])
        return DepthFile(self._decode_file(value["source"]), meaning, value["relative_near"])


def _decode_camera(value: dict[str, Any] | None) -> Camera | None:
    return None if value is None else Camera(**{**value, "distortion": tuple(value.get("distortion", ()))})


def _decode_regions(values: list[dict[str, Any]]) -> list[Region]:
    return [Region((value["size"][0], value["size"][1]), value["counts"]) for value in values]


def _decode_truth(value: dict[str, Any] | None) -> Truth | None:
    if value is None:
        return None
    centers, sizes = ([tuple(row) for row in value[name]] for name in ("centers_m", "sizes_m"))
    return Truth(value["steps"], tuple(centers), tuple(sizes))


# ------------------------------------------------------------------------------------------------------------------------ writing
def prepare(
    samples: Iterable[Sample],
    out: Path | str,
    *,
    root: Path | str | None = None,
    pack: bool = False,
    shard_samples: int = 20_000,
    skips: SkipLog | None = None,
    progress: bool = True,
) -> Prepared:
    """Write samples, in order, as a data set in the folder ``out``, and open it.

    After an interruption the same call goes on after the last finished shard; on a finished folder it only opens it. Samples that cannot
    be stored (an image in memory instead of a file, a file to be packed that does not exist, an image key of its own, metadata that is
    not JSON, text that is not Unicode) are counted in ``skips``.

    Args:
        samples: Read once, shard by shard, so it may be a generator of any length.
        out: The folder.
        root: Paths below it are stored relative to it, so that a data set can move: ``Prepared(out, root=...)``.
        pack: Whether to copy images and depth maps, each once, into archives next to the rows: a few large files for object stores and
            shared disks.
        shard_samples: Samples of a shard.
        skips: Counts the skipped samples; logged when it is None.
        progress: Whether to show a progress bar.

    Raises:
        DataError: When no sample is left, or ``out`` was started with other settings, another source or another version.
    """
    out, log = Path(out), SkipLog() if skips is None else skips
    settings = {"version": VERSION, "root": None if root is None else str(root), "shard_samples": shard_samples, "pack": pack}
    manifest = _begin(out, settings)
    if not manifest["complete"]:
        with tqdm(unit="question", desc=out.name, disable=not progress) as bar:
            _Writer(out, manifest, log, bar).write(iter(samples))
    if not sum(shard["samples"] for shard in manifest["shards"]):
        raise DataError(f"{out}: none of the source's samples can be stored: {log.summary()}")
    if skips is None and log.total:
        logger.warning("%s: %s", out, log.summary())
    _write_manifest(out, {**manifest, "complete": True})
    return Prepared(out)


def _begin(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the finished part of ``out``, which may be empty. Raises DataError when it was started with other settings."""
    if not (out / MANIFEST).exists():
        return {**settings, "shards": [], "complete": False}
    manifest = _read_manifest(out)
    found = {name: manifest.get(name) for name in settings}
    if found != settings:
        raise DataError(f"{out} was started with {found}, now it is {settings}; choose another folder, or remove this one")
    return manifest


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = dict(json.loads((folder / MANIFEST).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{folder / MANIFEST} cannot be read ({error}); expected a folder that 'smolrgpt data prepare' wrote") from error
    if (found := manifest.get("version", 1)) != VERSION:
        raise DataError(f"{folder} has version {found} of the format; expected {VERSION}, so remove it and prepare the data set again")
    return manifest


def _write_manifest(out: Path, manifest: dict[str, Any]) -> None:
    write_text(out / MANIFEST, json.dumps(manifest, indent=1))


class _Writer:
    """Appends finished shards to a folder and its manifest."""

    def __init__(self, out: Path, manifest: dict[str, Any], skips: SkipLog, bar: tqdm):
        self._out, self._manifest, self._skips, self._bar = out, manifest, skips, bar
        self._root = None if manifest["root"] is None else Path(manifest["root"])
        self._numbers: dict[int, int] = {}  # hash of an image key -> image number; ten million keys would take gigabytes
        self._packed: dict[int, _PackedImage] = {}  # by image number

    def write(self, source: Iterator[Sample]) -> None:
        """Write all shards that are left of the source. Raises DataError when the source has changed since the finished ones."""
        for shard in self._manifest["shards"]:
            last_id = self._pass_over(source, shard["used"])
            if last_id != shard["last_id"]:
                raise DataError(
                    f"{self._out / shard['name']} ends with sample {shard['last_id']!r}, but the source has {last_id!r} there; it has "
                    "changed since, remove the folder and prepare it anew"
                )
            if self._manifest["pack"]:
                self._read_packed(self._out / shard["name"])
        while chunk := list(islice(source, self._manifest["shard_samples"])):
            self._write_shard(chunk)

    def _pass_over(self, source: Iterator[Sample], count: int) -> str | None:
        """Number the images of ``count`` samples; return the last one's id, None when there are none left."""
        last_id = None
        for sample in islice(source, count):
            last_id = sample.id
            self._number(sample)
            self._bar.update()
        return last_id

    def _number(self, sample: Sample) -> int:
        return self._numbers.setdefault(hash(sample.image_key), len(self._numbers))

    def _read_packed(self, shard: Path) -> None:
        """Record where a finished shard has packed its images."""
        table = Dataset.from_file(str(shard)).data
        numbers, images, depths = (table.column(name).to_pylist() for name in ("image_number", "image", "depth"))
        for number, image, depth in zip(numbers, images, depths, strict=True):
            self._packed[number] = _PackedImage(_tar_member(image), None if depth is None else _tar_member(depth["source"]))

    def _write_shard(self, samples: Sequence[Sample]) -> None:
        number, written = len(self._manifest["shards"]), 0
        shard, archive = self._out / f"shard-{number:05d}.arrow", self._out / f"images-{number:05d}.tar"
        num_packed = len(self._packed)
        with ExitStack() as stack:
            pack = None
            if self._manifest["pack"]:
                pack = stack.enter_context(tarfile.open(stack.enter_context(atomic_path(archive)), "w", format=tarfile.USTAR_FORMAT))
            writer = stack.enter_context(ArrowWriter(features=FEATURES, path=str(stack.enter_context(atomic_path(shard)))))
            for sample in samples:
                try:
                    _require_default_key(sample)
                    writer.write(self._row(sample if pack is None else self._pack(sample, pack, archive.name)))
                    written += 1
                except DataError as error:
                    self._skips.add("cannot be stored", str(error))
            writer.finalize()
        if pack is not None and len(self._packed) == num_packed:
            archive.unlink()
        self._manifest["shards"].append({"name": shard.name, "samples": written, "used": len(samples), "last_id": samples[-1].id})
        _write_manifest(self._out, self._manifest)
        self._bar.update(len(samples))

    def _pack(self, sample: Sample, archive: tarfile.TarFile, name: str) -> Sample:
        """Return the sample with its files in an archive. Raises DataError when they cannot be read."""
        number = self._number(sample)
        depth = None if sample.depth is None else _require_depth_file(sample)
        if number not in self._packed:
            stem = f"{len(self._packed):08d}"
            image_contents = _contents(sample.image)  # both files are read before either is written
            depth_contents = None if depth is None else _contents(depth.source)
            image = _add(archive, name, f"{stem}.rgb", *image_contents)
            self._packed[number] = _PackedImage(image, depth_contents and _add(archive, name, f"{stem}.depth", *depth_contents))
        packed = self._packed[number]
        return replace(
            sample,
            image=packed.image,
            depth=None if depth is None or packed.depth is None else replace(depth, source=packed.depth),
        )

    def _row(self, sample: Sample) -> dict[str, Any]:
        """Return the row of a sample. Raises DataError, naming the sample, for what cannot be stored."""
        depth = None if sample.depth is None else _require_depth_file(sample)
        try:
            row = {
                **{name: getattr(sample, name) for name in _TEXTS},
                "normalized_answer": json.dumps(sample.normalized_answer),
                "metadata": json.dumps(sample.metadata),
                "image_number": self._number(sample),
                "image": self._file(_require_file(sample)),
                "depth": None if depth is None else self._depth(depth),
                "camera": None if sample.camera is None else asdict(sample.camera),
                "regions": [region.to_rle() for region in sample.regions],
                "region_indices": list(sample.region_indices),
                "truth": None if sample.truth is None else asdict(sample.truth),
            }
            json.dumps(row, ensure_ascii=False).encode()
            return row
        except (TypeError, ValueError) as error:
            raise DataError(f"sample {sample.id!r}: {error}; expected Unicode texts, and metadata that JSON can hold") from error

    def _depth(self, depth: DepthFile) -> dict[str, Any]:
        scale = depth.meaning.scale
        return {
            "source": self._file(depth.source),
            "near": depth.meaning.near,
            "kind": depth.meaning.kind,
            "scale": None if scale is None else str(scale),
            "relative_near": depth.relative_near,
        }

    def _file(self, file: Path | TarMember) -> dict[str, Any]:
        if isinstance(file, TarMember):
            return {"path": file.name, "archive": str(file.archive), "offset": file.offset, "size": file.size, "below_root": False}
        path, prefix = str(file), f"{self._root}/"
        is_below = self._root is not None and path.startswith(prefix)
        path = path.removeprefix(prefix) if is_below else path
        return {"path": path, "archive": None, "offset": None, "size": None, "below_root": is_below}


@dataclass(frozen=True)
class _PackedImage:
    """The position of an image and its depth map in the archives of a prepared folder."""

    image: TarMember
    depth: TarMember | None


def _tar_member(value: dict[str, Any]) -> TarMember:
    return TarMember(Path(value["archive"]), value["path"], value["offset"], value["size"])


def _require_default_key(sample: Sample) -> None:
    if sample.image_key != sample.default_image_key():
        raise DataError(f"sample {sample.id!r} has the image key {sample.image_key!r}; expected that of its files")


def _require_file(sample: Sample) -> Path | TarMember:
    if not isinstance(sample.image, (Path, TarMember)):
        raise DataError(f"sample {sample.id!r} holds its image itself; expected the path of a file")
    return sample.image


def _require_depth_file(sample: Sample) -> DepthFile:
    if not isinstance(sample.depth, DepthFile):
        raise DataError(f"sample {sample.id!r} holds its depth map itself; expected a file")
    return replace(sample.depth, meaning=sample.depth.recorded_meaning())  # a packed file lies beside no depth.json


def _contents(file: Any) -> tuple[str, bytes]:
    """Return a file's suffix and bytes."""
    if not isinstance(file, Path):
        raise DataError("an image or depth map in memory or in an archive cannot be packed; expected the path of a file")
    with open_file(file) as opened:
        return file.suffix, opened.read()


def _add(archive: tarfile.TarFile, archive_name: str, stem: str, suffix: str, contents: bytes) -> TarMember:
    """Add a file to an archive."""
    entry = tarfile.TarInfo(stem + suffix)
    entry.size = len(contents)
    offset = archive.offset + tarfile.BLOCKSIZE  # after the header, one block for a name this short
    archive.addfile(entry, io.BytesIO(contents))
    return TarMember(Path(archive_name), entry.name, offset, entry.size)
