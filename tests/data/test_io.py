"""Files are written completely or not at all, and rows are read as they were written."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smolrgpt.data.io import atomic_path, iter_rows, read_rows, write_rows
from smolrgpt.schema import DataError

NUM_WRITES = 200


def write(path: Path, text: str, kind: str) -> None:
    if kind == "folder":
        path.mkdir()
        path = path / "part"
    path.write_text(text)


def read(path: Path, kind: str) -> str:
    return (path / "part" if kind == "folder" else path).read_text()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["file", "folder"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_target_appears_when_the_block_ends_and_nothing_else_does(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "new" / "below" / "out.json"
    for text in ("first", "second"):
        before = target.exists()
        with atomic_path(target) as temporary:
            assert not temporary.exists() and temporary.parent == target.parent
            write(temporary, text, kind)
            assert target.exists() == before and (not before or read(target, kind) == "first")
            assert list(target.parent.glob("*.json")) == [target] * before, "no listing by suffix finds what is being written"
        assert read(target, kind) == text and names(target.parent) == ["out.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("existed", [True, False])
def test_a_failing_writer_leaves_the_old_file_and_no_rubbish(tmp_path: Path, kind: str, existed: bool, error: type[BaseException]) -> None:
    target = tmp_path / "out"
    if existed:
        write(target, "old", kind)
    with pytest.raises(error), atomic_path(target) as temporary:  # noqa: PT012
        write(temporary, "half", kind)
        raise error
    assert names(tmp_path) == ["out"] * existed
    assert not existed or read(target, kind) == "old"


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "out"):
        pass
    assert (tmp_path / "out").read_text() == "old"


def test_a_folder_that_cannot_be_replaced_is_put_back(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write(target, "old", "folder")
    with pytest.raises(OSError, match="no space"), pytest.MonkeyPatch.context() as patch:  # noqa: PT012

        def full(path: Path, other: Path) -> Path:
            raise OSError("no space")

        with atomic_path(target) as temporary:
            write(temporary, "new", "folder")
            patch.setattr(Path, "replace", full)
    assert read(target, "folder") == "old" and names(tmp_path) == ["out"]


def test_what_a_killed_process_left_is_removed_by_the_next_writer(tmp_path: Path, kind: str) -> None:
    with atomic_path(tmp_path / "out") as temporary:
        pass_on = temporary
        write(temporary, "whole", kind)
    write(pass_on, "half", kind)
    with atomic_path(tmp_path / "out") as temporary:
        assert not temporary.exists()
        write(temporary, "again", kind)
    assert read(tmp_path / "out", kind) == "again" and names(tmp_path) == ["out"]


def test_a_reader_never_sees_half_a_file_while_several_threads_write(tmp_path: Path) -> None:
    target, halves = tmp_path / "out", set()

    def writer(letter: str) -> None:
        for _ in range(NUM_WRITES):
            with atomic_path(target, concurrent=True) as temporary, open(temporary, "w") as file:
                file.write(letter * 5)
                file.flush()
                file.write(letter * 5)

    target.write_text("c" * 10)
    threads = [threading.Thread(target=writer, args=letter) for letter in "ab"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        halves.add(target.read_text())
    assert halves <= {letter * 10 for letter in "abc"} and names(tmp_path) == ["out"]


_VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec=None))


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
@given(st.lists(st.dictionaries(st.text(), _VALUES | st.lists(_VALUES, max_size=3), max_size=4), min_size=1, max_size=5))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_come_back_as_they_were_written(tmp_path: Path, name: str, rows: list[dict[str, object]]) -> None:
    write_rows(tmp_path / name, rows)
    assert read_rows(tmp_path / name) == rows == json.loads(json.dumps(rows))


def test_a_damaged_line_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smolrgpt.data.io._CHUNK_CHARS", 11)
    (tmp_path / "rows.json").write_text('\n[\n{"id": 1},\n\n{"id": 2},\n{"id": oops},\n{"id": 3}]\n')
    with pytest.raises(DataError, match=r"rows.json row 2: damaged: not JSON, .*\(line 6: "):
        list(iter_rows(tmp_path / "rows.json"))
