"""Files: written completely or not at all, and read as rows of JSON or parquet; values of options."""

from __future__ import annotations

import io
import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smolrgpt.schema import DataError, brief
from smolrgpt.schema.image_file import is_file

_CHUNK_CHARS = 1 << 20
_MAX_ROW_CHARS = 1 << 26  # 15 full-size masks take about 30 thousand characters, an Open Spatial entry 35 thousand on average
_PARQUET_BATCH_ROWS = 64  # rows with run lengths are tens of kilobytes each


@contextmanager
def atomic_path(path: Path | str, *, concurrent: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path`` for a file or a folder that replaces ``path`` when the block ends.

    A reader finds the old contents or the complete new ones. When the block raises, what it wrote is removed and ``path`` stays as it is.
    Missing parent folders are made. The temporary name is hidden and does not end in the suffix of ``path``, so that no listing of a
    folder finds it; it is the same at every call, so that the next call removes what a killed process has left.

    Args:
        path: The file or folder to write.
        concurrent: Whether several threads or processes may write the same path at once; each then uses a temporary name of its own.
    """
    path = Path(path)
    writer = f".{os.getpid()}-{threading.get_ident()}" if concurrent else ""
    temporary, old = (path.with_name(f".{path.name}{writer}.{use}") for use in ("writing", "replaced"))
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(temporary)
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():  # a folder that is not empty cannot be replaced in one step
            _remove(old)
            path.rename(old)
        temporary.replace(path)
    except BaseException:
        _remove(temporary)
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    _remove(old)


def write_text(path: Path | str, text: str, *, concurrent: bool = False) -> None:
    """Write a text in UTF-8, completely or not at all; ``concurrent`` is that of ``atomic_path``."""
    with atomic_path(path, concurrent=concurrent) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # in JSON, a lone surrogate becomes JSON's own escape


def parse_value(text: str) -> Any:
    """Return the value of an option NAME=VALUE: JSON where the text parses as such (``null``, ``4``, ``[1, 2]``), else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------------------------------- rows
def iter_rows(path: Path | str) -> Iterator[Any]:
    """Iterate over the rows of a JSON list, JSON lines or parquet file.

    Only one row and a window of the file are held in memory: the official files are too large to hold as text and as objects.
    Raises DataError naming the file and the row where the file is absent, damaged or ends early.
    """
    if not is_file(path):
        raise DataError(f"cannot read {brief(path, 200)}: no such file")
    return _parquet_rows(Path(path)) if Path(path).suffix == ".parquet" else _json_rows(path)


def read_rows(path: Path | str) -> list[dict[str, Any]]:
    """Read all rows of a file as objects.

    Raises DataError as ``iter_rows`` does, and for a file without rows or with a row that is not an object.
    """
    rows = list(iter_rows(path))
    wrong = next((row for row in rows if not isinstance(row, dict)), None)
    if wrong is not None or not rows:
        found = "an empty file" if not rows else brief(repr(wrong))
        raise DataError(f"{path}: found {found}; expected a JSON list of objects, or one JSON object a line")
    return rows


def write_rows(path: Path | str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as a JSON list (``.json``) or as JSON lines (any other suffix), completely or not at all."""
    path = Path(path)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = "[\n" + ",\n".join(lines) + "\n]\n" if path.suffix == ".json" else "".join(line + "\n" for line in lines)
    write_text(path, text)


def _json_rows(path: Path | str) -> Iterator[Any]:
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            yield from _decoded_rows(file, path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _decoded_rows(file: io.TextIOBase, path: Path | str) -> Iterator[Any]:
    decode, row, step, line = json.JSONDecoder().raw_decode, 0, _CHUNK_CHARS, 1
    window = file.read(step)
    position = len(window) - len(window.lstrip())
    is_list = window.startswith("[", position)
    position += is_list
    while True:
        while position < len(window) and window[position] in " \t\r\n,":
            position += 1
        try:
            value, position = decode(window, position)
        except RecursionError as error:
            raise DataError(f"{path} row {row}: damaged: lists or objects inside of each other are too many; write it again") from error
        except json.JSONDecodeError as error:
            if is_list and window.startswith("]", position):
                return
            more = file.read(step) if len(window) - position < _MAX_ROW_CHARS else ""
            if not more and not is_list and position == len(window):
                return
            if not more:
                line += window.count("\n", 0, error.pos)
                raise DataError(
                    f"{path} row {row}: damaged: not JSON, or the file ends early (line {line}: {error.msg}); fetch or write it again"
                ) from error
            line += window.count("\n", 0, position)
            window, position, step = window[position:] + more, 0, step * 2
        else:
            yield value
            row, step = row + 1, _CHUNK_CHARS


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError(f"{path}: reading parquet needs pyarrow; pip install smolrgpt[train]") from error
    row = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH_ROWS):
                for value in batch.to_pylist():
                    yield value
                    row += 1
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{path} row {row}: damaged parquet ({error}); fetch it again") from error
