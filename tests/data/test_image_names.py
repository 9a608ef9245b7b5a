"""Laws of finding images: what annotations call an image leads to the file with the most of its folders, or to none."""

from __future__ import annotations

from pathlib import Path

import pytest

from smolrgpt.data.sources.folders import FileFolder
from smolrgpt.data.sources.image_names import find_image, is_same_name
from smolrgpt.data.sources.rows import MissingFileError

FILES = ("a.png", "sub/a.png", "hall 1/a.png", "other/deep/a.png", "b%20c.png", "q?x.png", "back\\slash.png", "0123abcd-n.png", "m.png")


@pytest.fixture
def folder(tmp_path: Path) -> FileFolder:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return FileFolder(tmp_path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("form", ["{}", "./{}", "/home/me/data/{}", "C:\\data\\{}", "..\\images\\{}", "images/{}"])
def test_a_path_of_another_computer_keeps_as_many_folders_as_exist(folder: FileFolder, name: str, form: str) -> None:
    source = form.format(name.replace("/", "\\") if "\\" in form else name)
    if "\\" in name and form != "{}":
        return  # a backslash in a longer path is that of Windows
    assert find_image(folder, source) == name


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/data/local-files/?d=sub/a.png", "sub/a.png"),
        ("/data/local-files/?d=sub\\a.png", "sub/a.png"),
        ("/data/local-files/?d=hall%201/a.png", "hall 1/a.png"),
        ("/data/local-files/?d=a.png", "a.png"),
        ("https://host/bucket/other/deep/a.png?signature=x/a.png", "other/deep/a.png"),
        ("s3://bucket/sub/a.png", "sub/a.png"),
        ("s3://bucket/sub/a.png?x=1", "sub/a.png"),
        ("images/hall%201/a.png", "hall 1/a.png"),
        ("/data/upload/3/0123abcd-n.png", "0123abcd-n.png"),
        ("/data/upload/3/0123abcd-m.png", "m.png"),
        ("/data/upload/3/0123abcd-m.png?x=1", "m.png"),
    ],
)
def test_urls_and_storage_of_tools_are_paths(folder: FileFolder, source: str, name: str) -> None:
    assert find_image(folder, source) == name


@pytest.mark.parametrize(
    "source", ["", "/", "..", "gone.png", "A.PNG", "http://[a", "a" * 999, "x/" + "a" * 999, "a\x00.png", "?d=", "://"]
)
def test_what_is_no_image_is_missing(folder: FileFolder, source: str) -> None:
    with pytest.raises(MissingFileError):
        find_image(folder, source)


def test_names_of_one_image_end_alike() -> None:
    same = ["sub/a.png", "sub\\a.png", "C:\\x\\sub\\a.png", "/data/local-files/?d=sub/a.png", "a.png"]
    assert all(is_same_name(first, second) for first in same[:2] for second in same)
    assert not is_same_name("sub/a.png", "other/a.png") and not is_same_name("0123abcd-a.png", "89abcdef-a.png")
