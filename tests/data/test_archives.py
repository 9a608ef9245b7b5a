"""Laws of unpacking: whole files or none, nothing outside the folder, a rerun does what is left."""

from __future__ import annotations

import io
import json
import shlex
import tarfile
from pathlib import Path

import numpy as np
import pytest

from smolrgpt.cli.main import main
from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources import read_source, unpack
from smolrgpt.schema import DataError

FILES = {f"{number:06d}.png": np.random.default_rng(number).bytes(30_000 + number) for number in range(8)}


def pack(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        folder = tarfile.TarInfo("some")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


@pytest.mark.parametrize(("suffix", "mode"), [(".tar.gz", "w:gz"), (".tar", "w")])
def test_every_file_comes_out_by_its_bare_name(tmp_path: Path, suffix: str, mode: str) -> None:
    halves = dict(list(FILES.items())[:5]), dict(list(FILES.items())[5:])
    for number, half in enumerate(halves):
        pack(
            tmp_path / "train" / "images" / f"chunk_{number:03d}{suffix}", {f"chunk/some/{name}": data for name, data in half.items()}, mode
        )
    assert unpack(tmp_path, "train", progress=False) == 8
    assert contents(tmp_path / "train" / "images") == FILES
    assert unpack(tmp_path, "train", progress=False) == 0
    assert not list(tmp_path.rglob("*.writing"))


def test_outside_images_folders_stay(tmp_path: Path) -> None:
    pack(tmp_path / "part.tar", {"rgb/a/000000.png": b"1", "depth/a/000000.png": b"2"}, "w")
    assert unpack(tmp_path, progress=False) == 2
    assert contents(tmp_path) == {"rgb/a/000000.png": b"1", "depth/a/000000.png": b"2"}


def test_a_rerun_goes_on_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = tmp_path / "images"
    for number, name in enumerate(FILES):
        pack(images / f"chunk_{number}.tar.gz", {name: FILES[name]})
    from smolrgpt.data.sources import archives

    real, left = archives._write, iter([True, True, True])

    def interrupted(*arguments: object) -> bool:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(archives, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack(tmp_path, progress=False)
    monkeypatch.setattr(archives, "_write", real)
    assert sorted(json.loads((images / "unpacked.json").read_text())) == ["chunk_0.tar.gz", "chunk_1.tar.gz", "chunk_2.tar.gz"]
    assert unpack(tmp_path, progress=False) == 5 and contents(images) == FILES


def test_a_file_of_the_wrong_size_is_written_again(tmp_path: Path) -> None:
    pack(tmp_path / "images" / "chunk.tar", FILES, "w")
    (tmp_path / "images" / "000003.png").write_bytes(b"half")
    assert unpack(tmp_path, progress=False) == 8 and contents(tmp_path / "images") == FILES


@pytest.mark.parametrize("keep", [0.3, 0.77, 0.999])
def test_a_cut_off_archive_is_counted_and_tried_again(tmp_path: Path, keep: float) -> None:
    images = tmp_path / "images"
    whole, other = pack(images / "b.tar.gz", FILES).read_bytes(), pack(images / "a.tar.gz", {"x.png": b"x"})
    (images / "b.tar.gz").write_bytes(whole[: int(len(whole) * keep)])
    skips = SkipLog()
    first = unpack(tmp_path, skips=skips, progress=False)
    assert skips.counts == {"damaged archive": 1} and "b.tar.gz" in skips.summary()
    found = contents(images)
    assert len(found) == first and all(data == {**FILES, "x.png": b"x"}[name] for name, data in found.items())
    (images / "b.tar.gz").write_bytes(whole)
    assert unpack(tmp_path, progress=False) == 9 - first and contents(images) == {**FILES, "x.png": b"x"} and other.exists()


def test_a_wrong_checksum_is_noticed(tmp_path: Path) -> None:
    packed = pack(tmp_path / "images" / "c.tar.gz", FILES)
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-8] + bytes(byte ^ 1 for byte in whole[-8:]))  # the trailer: CRC-32 and length
    skips = SkipLog()
    unpack(tmp_path, skips=skips, progress=False)
    assert skips.counts == {"damaged archive": 1} and not (tmp_path / "images" / "unpacked.json").exists()


def test_a_finished_archive_is_not_read_again(tmp_path: Path) -> None:
    packed = pack(tmp_path / "images" / "c.tar.gz", FILES)
    unpack(tmp_path, progress=False)
    packed.write_bytes(bytes(packed.stat().st_size))
    skips = SkipLog()
    assert unpack(tmp_path, skips=skips, progress=False) == 0 and skips.total == 0


@pytest.mark.parametrize("name", ["../../evil.png", "/tmp/evil.png", "good/../../../evil.png"])
def test_members_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    pack(tmp_path / "set" / "rgb.tar", {"fine.png": b"1", name: b"2"}, "w")
    with pytest.raises(DataError, match="refused the member"):
        unpack(tmp_path / "set", progress=False)
    assert contents(tmp_path) == {"set/fine.png": b"1"}


def test_links_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "rgb.tar", "w") as tar:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    with pytest.raises(DataError, match="refused the member 'out'"):
        unpack(tmp_path, progress=False)
    assert not (tmp_path / "out").exists()


def test_two_members_never_become_one_file(tmp_path: Path) -> None:
    pack(tmp_path / "images" / "c.tar", {"a/0.png": b"1", "b/0.png": b"2"}, "w")
    with pytest.raises(DataError, match="would both become"):
        unpack(tmp_path, progress=False)


def test_packed_sets_say_how_to_unpack_them_and_the_way_works(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no .tar"):
        unpack(tmp_path, "train")
    pack(tmp_path / "train" / "images" / "chunk_000.tar.gz", {"a.png": b""})
    (tmp_path / "train.json").write_text(
        json.dumps([{"id": "1", "image": "a.png", "rle": [], "conversations": [{"from": "human", "value": "?"}]}])
    )
    with pytest.raises(DataError, match="unpack") as raised:
        read_source("warehouse", tmp_path, "train")
    pack(tmp_path / "train" / "depths" / "chunk_000.tar.gz", {"a_depth.png": b""})
    arguments = shlex.split(str(raised.value).split("smolrgpt ")[1])
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    (sample,) = read_source("warehouse", tmp_path, "train")
    assert sample.depth.source == tmp_path / "train" / "depths" / "a_depth.png"
    sample.depth.source.unlink()
    with pytest.raises(DataError, match="holds no depth map; unpack"):
        read_source("warehouse", tmp_path, "train")
    assert read_source("warehouse", tmp_path, "train", depth="none")[0].depth is None
