"""Prepared samples are the samples: same fields, same order, also after a broken-off preparation, packed, and in another place."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from smolrgpt.data.loading import SkipLog, load_image, load_sample_depth
from smolrgpt.data.mixture import Mixture
from smolrgpt.data.prepared import Prepared, prepare
from smolrgpt.data.sources.warehouse import read_warehouse
from smolrgpt.schema import Camera, DataError, DepthFile, DepthMeaning, Region, Sample, Truth

_MEANINGS = (
    DepthMeaning(),
    DepthMeaning("bright", "inverse", 250.5),
    DepthMeaning(None, "relative"),
    DepthMeaning("dark", None, 0.1 / 3),
    DepthMeaning("dark", "metric", "tum"),
)


def _samples(count: int, first: int = 0) -> list[Sample]:
    return [
        Sample(
            id=f"q{i}",
            image=Path(f"/data/images/{i // 3}.png"),
            question="Is <mask> left of <mask>?",
            regions=[Region((4, 6), "0" * (i % 5 + 1)), Region((1080, 1920), "ab`\\")],
            depth=DepthFile(Path(f"/data/depths/{i // 3}.png"), _MEANINGS[i % 5], "bright" if i % 4 == 1 else "dark") if i % 2 else None,
            camera=Camera(500.5, 0.1 + 0.2, 3.0, 2.0, 6, 4) if i % 3 else None,
            answer=None if i % 4 == 0 else "Ja – links\n",
            normalized_answer=[None, "left", 3, 2.5][i % 4],
            category=None if i % 7 == 0 else "left_right",
            region_indices=(4, 2) if i % 3 else (),
            truth=[None, Truth(), Truth("a", ((0.1, 2.0, 0.3), (3.0, 4.0, 0.0)), ((1.0, None), (2.5, 1.5)))][i % 3],
            wording=[None, "known", "reserved"][i % 3],
            official_template="Is OBJ left of OBJ?" if i % 3 else None,
            text_question="Is region 0 left of region 1?" if i % 2 else None,
            metadata={"layout": "a", "ids": [[0.1, 2], [3.0, 4]], "none": None} if i % 2 else {},
        )
        for i in range(first, first + count)
    ]


def test_round_trip(tmp_path):
    samples = _samples(25)
    prepared = prepare(iter(samples), tmp_path / "out", root="/data", shard_samples=10, progress=False)
    assert list(prepared) == samples and len(prepared) == 25 and prepared[-1] == samples[-1] and prepared[3:5] == samples[3:5]
    assert [type(s.normalized_answer) for s in prepared] == [type(s.normalized_answer) for s in samples]
    for name in (field.name for field in dataclasses.fields(Sample)):
        assert prepared.column(name) == [getattr(sample, name) for sample in samples], name
    assert list(pickle.loads(pickle.dumps(prepared))) == samples, "for workers that are not forked"
    with pytest.raises(IndexError):
        prepared[25]


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXT, lambda x: st.lists(x) | st.dictionaries(_TEXT, x)
)


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(
    text=_TEXT,
    answer=st.none() | _TEXT,
    value=st.none() | st.integers() | st.floats(allow_nan=False) | _TEXT,
    metadata=st.dictionaries(_TEXT, _JSON),
)
def test_round_trip_of_anything(tmp_path_factory, text, answer, value, metadata):
    sample = Sample("id" + text, Path("/a/b.png"), text.replace("<mask>", ""), answer=answer, normalized_answer=value, metadata=metadata)
    assert list(prepare([sample], tmp_path_factory.mktemp("any") / "out", root="/a", progress=False)) == [sample]


@pytest.mark.realdata
def test_round_trip_of_official_rows(tmp_path, shared_path):
    samples = read_warehouse(shared_path("samples/warehouse/mini"), "train")
    root = shared_path("samples/warehouse/mini")
    assert list(prepare(samples, tmp_path / "out", root=root, progress=False)) == samples


def test_a_broken_off_preparation_goes_on_after_its_last_shard(tmp_path):
    samples, read, out = _samples(25), [], tmp_path / "out"

    def source(stop: int):
        for index, sample in enumerate(samples):
            if index == stop:
                raise KeyboardInterrupt
            read.append(index)
            yield sample

    with pytest.raises(KeyboardInterrupt):
        prepare(source(17), out, shard_samples=5, progress=False)
    with pytest.raises(DataError, match="not finished"):
        Prepared(out)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*.arrow")}
    assert sorted(before) == ["shard-00000.arrow", "shard-00001.arrow", "shard-00002.arrow"]
    assert list(prepare(source(99), out, shard_samples=5, progress=False)) == samples
    assert all((out / name).stat().st_mtime_ns == time for name, time in before.items()), "finished shards are left as they are"
    read.clear()
    assert list(prepare(source(99), out, shard_samples=5, progress=False)) == samples and not read, "a finished set is only opened"


def test_another_source_or_other_settings_are_refused(tmp_path):
    def broken_off():
        yield from _samples(7)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(broken_off(), tmp_path / "out", shard_samples=5, progress=False)
    with pytest.raises(DataError, match="ends with sample 'q4', but the source has 'q5'"):
        prepare(_samples(7, first=1), tmp_path / "out", shard_samples=5, progress=False)
    with pytest.raises(DataError, match="was started with"):
        prepare(_samples(7), tmp_path / "out", shard_samples=6, progress=False)
    with pytest.raises(DataError, match="expected a folder that 'smolrgpt data prepare' wrote"):
        Prepared(tmp_path)


def test_a_folder_of_an_older_version_is_refused_by_name(tmp_path):
    samples = _samples(3)
    prepare(samples, tmp_path / "out", progress=False)
    manifest = tmp_path / "out" / "prepared.json"
    old = {name: value for name, value in json.loads(manifest.read_text()).items() if name != "version"}
    manifest.write_text(json.dumps(old))
    for opened in (Prepared, lambda folder: prepare(samples, folder, progress=False)):
        with pytest.raises(DataError, match=r"out has version 1 of the format; expected 3, so remove it"):
            opened(tmp_path / "out")


def test_what_cannot_be_kept_is_counted(tmp_path):
    good = _samples(3)
    bad = [
        Sample("picture", Image.new("RGB", (2, 2)), "?"),
        Sample("set", Path("a.png"), "?", metadata={"x": {1}}),
        Sample("key", Path("a.png"), "?", image_key="b"),
        Sample("surrogate", Path("a.png"), "\ud800"),
    ]
    skips = SkipLog()
    assert list(prepare([bad[0], *good, *bad[1:]], tmp_path / "out", shard_samples=2, skips=skips, progress=False)) == good
    assert skips.total == 4 and "sample 'picture' holds its image" in skips.summary()
    with pytest.raises(DataError, match="none of the source's samples"):
        prepare(bad, tmp_path / "nothing", progress=False)


def test_the_pictures_may_move(tmp_path):
    prepare(_samples(3), tmp_path / "out", root="/data", progress=False)
    assert "/data" not in json.dumps((tmp_path / "out" / "shard-00000.arrow").read_bytes().decode("latin-1"))
    moved = Prepared(tmp_path / "out", root="/elsewhere")
    assert moved[1].image == Path("/elsewhere/images/0.png") and moved[1].depth.source == Path("/elsewhere/depths/0.png")
    assert [sample.image_key for sample in moved] == moved.column("image_key")


@pytest.fixture
def pictures(tmp_path) -> list[Sample]:
    """Six questions about three pictures in turn, one of them without depth; a seventh whose picture is not there."""
    samples = []
    for i in range(7):
        image, depth = (tmp_path / "data" / name / f"{i % 3 if i < 6 else 'lost'}.png" for name in ("images", "depths"))
        for path, mode in ((image, "RGB"), (depth, "L")):
            path.parent.mkdir(parents=True, exist_ok=True)
            if i < 3:
                Image.new(mode, (6 + i, 4), 9 * i if mode == "L" else (9 * i, 0, 0)).save(path)
        samples.append(Sample(id=f"q{i}", image=image, depth=None if i % 3 == 1 else DepthFile(depth), question="What is this?"))
    return samples


def test_packed_pictures_are_the_pictures_each_once(pictures, tmp_path):
    skips = SkipLog()
    packed = prepare(pictures, tmp_path / "out", root=tmp_path / "data", pack=True, shard_samples=2, skips=skips, progress=False)
    assert skips.total == 1 and "lost.png: no such file" in skips.summary()
    for found, sample in zip(packed, pictures, strict=False):
        assert found.id == sample.id
        assert load_image(found).tobytes() == load_image(sample).tobytes()
        depths = load_sample_depth(found), load_sample_depth(sample)
        assert depths == (None, None) if sample.depth is None else np.array_equal(depths[0].values, depths[1].values)
    pairs = list(zip(packed, pictures, strict=False))
    for (one, first), (two, second) in itertools.combinations(pairs, 2):
        assert (one.image_key == two.image_key) == (first.image_key == second.image_key)
    names = []
    for path in sorted((tmp_path / "out").glob("*.tar")):
        with tarfile.open(path) as archive:
            names += archive.getnames()
    assert names == ["00000000.rgb.png", "00000000.depth.png", "00000001.rgb.png", "00000002.rgb.png", "00000002.depth.png"]
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "out").rename(tmp_path / "moved")
    assert load_image(Prepared(tmp_path / "moved")[5]).size == (8, 4), "neither the files nor the place are needed any more"


def test_packing_that_was_broken_off_goes_on_without_packing_twice(pictures, tmp_path):
    def broken_off():
        yield from pictures[:5]
        raise KeyboardInterrupt

    whole = prepare(pictures, tmp_path / "whole", pack=True, shard_samples=2, progress=False)
    with pytest.raises(KeyboardInterrupt):
        prepare(broken_off(), tmp_path / "out", pack=True, shard_samples=2, progress=False)
    resumed = prepare(pictures, tmp_path / "out", pack=True, shard_samples=2, progress=False)
    for one, two in zip(whole, resumed, strict=True):
        assert one.image.name == two.image.name and load_image(one).tobytes() == load_image(two).tobytes()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in (tmp_path / "whole").iterdir())


def test_an_archive_cut_short_is_named(pictures, tmp_path):
    packed = prepare(pictures[:1], tmp_path / "out", pack=True, progress=False)
    archive = tmp_path / "out" / "images-00000.tar"
    archive.write_bytes(archive.read_bytes()[: packed[0].image.offset + 20])
    with pytest.raises(DataError, match=r"images-00000.tar/00000000.rgb.png: the archive ends \d+ bytes too early"):
        load_image(packed[0])
    archive.unlink()
    with pytest.raises(DataError, match=r"00000000.depth.png: the archive cannot be read"):
        load_sample_depth(packed[0])


def test_a_mixture_takes_prepared_samples_as_it_takes_a_list(tmp_path):
    samples = _samples(30)
    prepared = prepare(samples, tmp_path / "out", progress=False)
    options = {"weights": {"a": 1.5}, "questions_per_image": 2, "balance": ("category", "template")}
    one, two = (Mixture({"a": source}, **options) for source in (samples, prepared))
    assert [[one[i] for i in group] for group in one.epoch(1)] == [[two[i] for i in group] for group in two.epoch(1)]


_MEASURE = """
import resource, sys
from smolrgpt.data.prepared import Prepared
def resident_mb():
    # all of it, and what no file backs
    resident, shared = map(int, open("/proc/self/statm").read().split()[1:3])
    return resident * resource.getpagesize() / 1e6, (resident - shared) * resource.getpagesize() / 1e6
def open_and_look(folder):
    prepared = Prepared(folder)
    prepared[0], prepared[len(prepared) - 1], prepared[len(prepared) // 2]
    return prepared
small = open_and_look(sys.argv[1])
before = resident_mb()
large = open_and_look(sys.argv[2])
print(len(small), len(large), *(now - then for now, then in zip(resident_mb(), before)))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_opening_costs_no_memory(tmp_path):
    """100,000 rows more cost a process that opens them and reads three next to nothing, but for some pages of the files."""
    few = _samples(1000)
    prepare(few, tmp_path / "small", progress=False)
    prepare((sample for _ in range(100) for sample in few), tmp_path / "large", progress=False)
    size_mb = sum(path.stat().st_size for path in (tmp_path / "large").glob("*.arrow")) / 1e6
    command = [sys.executable, "-c", _MEASURE, tmp_path / "small", tmp_path / "large"]
    environment = {"PYTHONPATH": ":".join(entry for entry in sys.path if entry)}
    small, large, resident_mb, own_mb = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert (int(small), int(large)) == (1000, 100_000) and size_mb > 20
    assert float(own_mb) < 3 and float(resident_mb) < size_mb / 2
