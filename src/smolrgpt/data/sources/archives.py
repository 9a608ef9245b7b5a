"""Unpacking the archives in which a data set ships its images.

A .tar.gz cannot be read at random: its last image costs decompressing all before it. So archives are unpacked once, as a stream.
"""

from __future__ import annotations

import gzip
import json
import logging
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from smolrgpt.data.io import atomic_path, write_text
from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.folders import archives_in
from smolrgpt.schema import DataError

logger = logging.getLogger(__name__)

#: Next to archives: which of them are unpacked: {name: {"bytes": size of the archive, "files": how many it held}}.
RECORD = "unpacked.json"
#: Folders whose files the readers look for by bare name.
FLAT = ("images", "depths")

_BUFFER_BYTES = 1 << 20


def unpack(root: Path | str, split: str = "", *, skips: SkipLog | None = None, progress: bool = True) -> int:
    """Unpack the archives (.tar, .tar.gz) of ``<root>/<split>`` and of its images/ and depths/; return how many files were written.

    Files go to the folder of their archive: by bare name in images/ and depths/, elsewhere into the folders that the archive names. Each
    is written to a temporary path, checked for its size and renamed. A rerun keeps complete files and passes over the archives that
    unpacked.json records; remove that file to unpack again. A damaged archive is counted in ``skips`` (logged when it is None), and its
    complete files stay. Raises DataError for a folder without archives, and for a member outside of the folder or that is no plain file.
    """
    folder = Path(root) / split
    folders = [folder] if folder.name in FLAT else [folder, *(folder / name for name in FLAT)]
    archives = [archive for folder in folders for archive in archives_in(folder)]
    if not archives:
        raise DataError(f"{folder}: no .tar or .tar.gz there, nor in its images/ and depths/; expected the archives as they were fetched")
    log = SkipLog() if skips is None else skips
    written = 0
    with tqdm(total=sum(path.stat().st_size for path in archives), unit="B", unit_scale=True, desc="unpack", disable=not progress) as bar:
        for archive in archives:
            written += _unpack_archive(archive, log, bar)
    if skips is None and log.total:
        logger.warning("%s: %s", folder, log.summary())
    return written


def _unpack_archive(archive: Path, log: SkipLog, bar: tqdm) -> int:
    size, done = archive.stat().st_size, _read_record(archive.parent)
    if done.get(archive.name, {}).get("bytes") == size:
        bar.update(size)
        return 0
    start, files, written = bar.n, 0, 0
    try:
        with open(archive, "rb") as raw:
            for target, length, source in _members(archive, raw):
                written += _write(source, target, length)
                files += 1
                bar.update(start + raw.tell() - bar.n)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk failed, not the archive
        log.add("damaged archive", f"{archive}: {error} after {files} files, which stay; fetch it again")
    else:
        _write_record(archive.parent, {**done, archive.name: {"bytes": size, "files": files}})
    bar.update(start + size - bar.n)
    return written


def _members(archive: Path, raw: IO[bytes]) -> Iterator[tuple[Path, int, IO[bytes]]]:
    """Yield (target path, bytes, contents) of every plain file, in order."""
    is_flat = archive.parent.name in FLAT
    sources: dict[Path, str] = {}
    # gzip's own reader, because tarfile's takes a stream that was cut off for one that is complete
    stream = raw if archive.suffix == ".tar" else gzip.GzipFile(fileobj=raw)
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
                raise DataError(
                    f"{archive}: refused the member {member.name!r}; expected plain files inside the folder, is this the data set?"
                )
            contents = tar.extractfile(member)
            if contents is None:
                continue
            target = archive.parent / (path.name if is_flat else path)
            if sources.setdefault(target, member.name) != member.name:
                raise DataError(f"{archive}: the members {sources[target]!r} and {member.name!r} would both become {target}")
            yield target, member.size, contents
    while stream.read(_BUFFER_BYTES):  # to the end, where the checksum is
        pass


def _write(source: IO[bytes], target: Path, length: int) -> bool:
    """Return whether the file had to be written; it stays as it is when it already has ``length`` bytes."""
    if target.is_file() and target.stat().st_size == length:
        return False
    with atomic_path(target) as temporary:
        with open(temporary, "wb") as file:
            shutil.copyfileobj(source, file, _BUFFER_BYTES)
        if (found := temporary.stat().st_size) != length:
            raise tarfile.ReadError(f"{target.name} ends after {found} of {length} bytes")
    return True


def _read_record(folder: Path) -> dict[str, dict[str, int]]:
    try:
        return dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise DataError(f"{folder / RECORD}: {error}; remove it to unpack again") from error


def _write_record(folder: Path, record: dict[str, dict[str, int]]) -> None:
    write_text(folder / RECORD, json.dumps(record, indent=1))
