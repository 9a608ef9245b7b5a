"""A data set as memory-mapped Arrow: read once from its source, opened in no time and hardly any memory ever after.

<folder>/prepared.json        what is finished: root, and for every shard its samples and how much of the source it used up
<folder>/shard-00000.arrow    columns as in FEATURES
<folder>/pictures-00000.tar   with ``pack``: pictures and depth maps first met in this shard, side by side and named as WebDataset does,
                              00000000.rgb.png and 00000000.depth.png; else they stay the files they are
"""

from __future__ import annotations

import io
import json
import logging
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value, concatenate_datasets
from datasets.arrow_writer import ArrowWriter
from tqdm import tqdm

from smolrgpt.data.io import atomic_path
from smolrgpt.data.loading import SkipLog
from smolrgpt.schema import Camera, DataError, Region, Sample, TarMember
from smolrgpt.schema.image_file import open_file

logger = logging.getLogger(__name__)

MANIFEST = "prepared.json"
#: One column per field of Sample. Paths and keys below the root start with ``{root}/``, a packed file is
#: ``{pack}/archive:offset:size:name``; camera, normalised answer and metadata are JSON.
FEATURES = Features(
    {name: Value("string") for name in ("id", "image", "depth", "question", "answer", "category", "image_key")}
    | {name: Value("string") for name in ("camera", "normalized_answer", "metadata")}
    | {"regions": List({"size": List(Value("int32"), length=2), "counts": Value("string")})}
)
_ROOT, _PACK = "{root}/", "{pack}/"


def prepare(
    samples: Iterable[Sample],
    out: Path | str,
    *,
    root: Path | str | None = None,
    pack: bool = False,
    shard_samples: int = 20_000,
    total: int | None = None,
    skips: SkipLog | None = None,
    progress: bool = True,
) -> Prepared:
    """Write samples, in order, as a data set in the folder ``out``, and open it.

    ``samples`` is read once, shard by shard, so it may be a generator of any length; ``total`` is for the progress bar. Paths below
    ``root`` are kept relative to it, so that a data set can move (``Prepared(out, root=...)``). With ``pack`` pictures and depth maps are
    copied, each once, into archives beside the rows: a few large files for object stores and shared disks. Broken off, the same call goes
    on after the last finished shard; finished, it only opens. Samples that cannot be kept (a picture in memory instead of a file, a file
    that is not there to be packed, metadata that is not JSON, text that is not Unicode) are counted in ``skips`` (logged when it is None).
    Raises DataError when no sample is left, or when ``out`` was begun with another root, shard size or source.
    """
    out, log = Path(out), SkipLog() if skips is None else skips
    packed = {"pack": True} if pack else {}
    manifest = _begin(out, {"root": None if root is None else str(root), "shard_samples": shard_samples, **packed})
    if not manifest["complete"]:
        _write_shards(samples, out, manifest, log, tqdm(total=total, unit="question", desc=out.name, disable=not progress))
    if not sum(shard["samples"] for shard in manifest["shards"]):
        raise DataError(f"{out}: none of the source's samples can be kept: {log.summary()}")
    if skips is None and log.total:
        logger.warning("%s: %s", out, log.summary())
    _finish(out, {**manifest, "complete": True})
    return Prepared(out)


class Prepared(Sequence[Sample]):
    """The samples of a prepared folder; a Sample is built when it is asked for. ``root`` overrides where the pictures are.

    Raises DataError when the folder is not one, or was not finished.
    """

    def __init__(self, folder: Path | str, root: Path | str | None = None):
        self.folder = Path(folder)
        shards = list(_shards(self.folder))
        recorded = next(recorded for _, recorded in shards)
        self.root = str(recorded if root is None else root)
        self._table = concatenate_datasets([Dataset.from_file(str(path)) for path, _ in shards])
        self._decode: dict[str, Callable[[Any], Any]] = {
            "image": self._file,
            "depth": self._file,
            "image_key": self._below_root,
            "camera": _camera,
            "normalized_answer": json.loads,
            "metadata": json.loads,
            "regions": _regions,
        }

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = self._table[int(index)]
        return Sample(**{name: self._decode[name](value) if name in self._decode else value for name, value in row.items()})

    def column(self, name: str) -> list[Any]:
        """One field of every sample, without building the others. Raises KeyError for what is no field of Sample."""
        decode = self._decode.get(name, _as_it_is)
        return [decode(value) for chunk in self._table.data.column(name).chunks for value in chunk.to_pylist()]

    def _below_root(self, text: str) -> str:
        return f"{self.root}/{text.removeprefix(_ROOT)}" if text.startswith(_ROOT) else text

    def _file(self, text: str | None) -> Path | TarMember | None:
        if text is None or not text.startswith(_PACK):
            return None if text is None else Path(self._below_root(text))
        return _packed(text, self.folder)


def _packed(text: str, folder: Path) -> TarMember:
    archive, offset, size, name = text.removeprefix(_PACK).rsplit(":", 3)
    return TarMember(folder / archive, name, int(offset), int(size))


def _as_it_is(value: Any) -> Any:
    return value


def _camera(text: str) -> Camera | None:
    fields = json.loads(text)
    return None if fields is None else Camera(**fields)


def _regions(values: list[dict[str, Any]]) -> list[Region]:
    return [Region(tuple(value["size"]), value["counts"]) for value in values]


def _row(sample: Sample, root: str | None) -> dict[str, Any]:
    """Raises DataError, naming the sample, for what cannot be kept."""
    try:
        row = {
            "id": sample.id,
            "image": _place(sample, sample.image, root),
            "depth": None if sample.depth is None else _place(sample, sample.depth, root),
            "question": sample.question,
            "answer": sample.answer,
            "category": sample.category,
            "image_key": _relative(sample.image_key, root),
            "camera": json.dumps(None if sample.camera is None else asdict(sample.camera)),
            "normalized_answer": json.dumps(sample.normalized_answer),
            "metadata": json.dumps(sample.metadata),
            "regions": [region.to_rle() for region in sample.regions],
        }
        "".join(value for value in row.values() if isinstance(value, str)).encode()
        return row
    except (TypeError, ValueError) as error:
        raise DataError(f"sample {sample.id!r}: {error}; expected Unicode texts, and metadata that JSON can hold") from error


def _place(sample: Sample, file: Any, root: str | None) -> str:
    if isinstance(file, TarMember):
        return f"{_PACK}{file.archive}:{file.offset}:{file.size}:{file.name}"
    if not isinstance(file, Path):
        raise DataError(f"sample {sample.id!r} holds its picture or depth itself; expected the path of a file")
    return _relative(str(file), root)


def _relative(text: str, root: str | None) -> str:
    return _ROOT + text.removeprefix(f"{root}/") if root is not None and text.startswith(f"{root}/") else text


def _begin(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What is finished of ``out``, perhaps nothing. Raises DataError when it was begun otherwise."""
    if not (out / MANIFEST).exists():
        return {**settings, "shards": [], "complete": False}
    manifest = _read(out)
    found = {name: manifest.get(name) for name in settings}
    if found != settings:
        raise DataError(f"{out} was begun with {found}, now it is {settings}; choose another folder, or remove this one")
    return manifest


def _write_shards(samples: Iterable[Sample], out: Path, manifest: dict[str, Any], skips: SkipLog, bar: tqdm) -> None:
    """Append finished shards to the manifest, here and on disk, until the source is used up."""
    out.mkdir(parents=True, exist_ok=True)
    source = iter(samples)
    for shard in manifest["shards"]:
        found = _id_after(source, shard["used"], bar)
        if found != shard["last_id"]:
            raise DataError(
                f"{out / shard['name']} ends with sample {shard['last_id']!r}, but the source has {found!r} there; it has changed since, "
                "remove the folder and prepare it anew"
            )
    known = _packed_before(out, manifest) if manifest.get("pack") else None
    while chunk := list(islice(source, manifest["shard_samples"])):
        number = len(manifest["shards"])
        name = f"shard-{number:05d}.arrow"
        with nullcontext() if known is None else _pack(out / f"pictures-{number:05d}.tar", manifest["root"], known) as pack:
            written = _write_shard(chunk, out / name, manifest["root"], skips, pack)
        (out / (name + ".partial")).rename(out / name)
        manifest["shards"].append({"name": name, "samples": written, "used": len(chunk), "last_id": chunk[-1].id})
        _finish(out, manifest)
        bar.update(len(chunk))
    bar.close()


def _packed_before(out: Path, manifest: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Image key below the root -> where picture and depth of the finished shards were packed."""
    known: dict[str, tuple[Any, Any]] = {}
    for shard in manifest["shards"]:
        table = Dataset.from_file(str(out / shard["name"])).data
        keys, *files = (table.column(name).to_pylist() for name in ("image_key", "image", "depth"))
        known.update(zip(keys, zip(*([text and _packed(text, Path()) for text in texts] for texts in files), strict=True), strict=True))
    return known


@contextmanager
def _pack(path: Path, root: str | None, known: dict[str, tuple[Any, Any]]) -> Iterator[_Pack]:
    """An archive to add to: complete or not at all, and not there when nothing is new."""
    partial, before = path.with_name(path.name + ".partial"), len(known)
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as archive:
        yield _Pack(path.name, root, known, archive)
    if len(known) > before:
        partial.rename(path)
    else:
        partial.unlink()


@dataclass(frozen=True)
class _Pack:
    """An archive that is being written, and where it and those before it hold the files of an image key."""

    name: str
    root: str | None
    known: dict[str, tuple[Any, Any]]
    archive: tarfile.TarFile

    def add(self, sample: Sample) -> Sample:
        """The sample with its files in an archive. Raises DataError when they cannot be read."""
        key = _relative(sample.image_key, self.root)
        if key not in self.known:
            number = len(self.known)
            picture, depth = (_contents(file) for file in (sample.image, sample.depth))  # both, before either is written
            self.known[key] = self._write(f"{number:08d}.rgb", picture), self._write(f"{number:08d}.depth", depth)
        image, depth = self.known[key]
        return replace(sample, image=image, depth=depth)

    def _write(self, stem: str, contents: tuple[str, bytes] | None) -> TarMember | None:
        if contents is None:
            return None
        entry = tarfile.TarInfo(stem + contents[0])
        entry.size = len(contents[1])
        offset = self.archive.offset + tarfile.BLOCKSIZE  # after the header, one block for a name this short
        self.archive.addfile(entry, io.BytesIO(contents[1]))
        return TarMember(Path(self.name), entry.name, offset, entry.size)


def _contents(file: Any) -> tuple[str, bytes] | None:
    """A file's suffix and bytes."""
    if file is None:
        return None
    if not isinstance(file, Path):
        raise DataError("a picture or depth map in memory cannot be packed; expected the path of a file")
    with open_file(file) as opened:
        return file.suffix, opened.read()


def _id_after(source: Iterator[Sample], count: int, bar: tqdm) -> str | None:
    """The id of the last of ``count`` samples, which are passed over; None when there are none left."""
    found = None
    for sample in islice(source, count):
        found = sample.id
        bar.update()
    return found


def _write_shard(samples: Sequence[Sample], path: Path, root: str | None, skips: SkipLog, pack: _Pack | None) -> int:
    """The rows of one shard, under a temporary name; returns how many there are."""
    kept = 0
    with ArrowWriter(features=FEATURES, path=str(path) + ".partial") as writer:
        for sample in samples:
            try:
                writer.write(_row(sample if pack is None else pack.add(sample), root))
                kept += 1
            except DataError as error:
                skips.add("cannot be kept", str(error))
        writer.finalize()
    return kept


def _finish(out: Path, manifest: dict[str, Any]) -> None:
    with atomic_path(out / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1))


def _read(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / MANIFEST} cannot be read ({error}); expected a folder that 'smolrgpt data prepare' wrote") from error


def _shards(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Every shard that holds samples, and the root of its paths."""
    manifest = _read(folder)
    if not manifest["complete"]:
        raise DataError(f"{folder} was not finished; prepare it again to go on")
    for shard in manifest["shards"]:
        if shard["samples"]:
            yield folder / shard["name"], manifest["root"]
