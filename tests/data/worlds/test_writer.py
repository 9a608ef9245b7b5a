"""Laws of written sets: official layout, the same bytes for any number of workers, other settings are another set."""

from __future__ import annotations

import filecmp
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from smolrgpt.data.loading import load_sample_depth
from smolrgpt.data.sources.warehouse import read_warehouse
from smolrgpt.data.worlds import (
    write_dataset,
)
from smolrgpt.data.worlds.writer import draw_scene
from smolrgpt.schema import DataError, DepthMap


def test_written_set(tmp_path):
    """Official layout; finished sets are left alone, broken-off ones continued, those with other settings refused."""
    settings = {"layouts": "known", "questions_per_scene": 8, "progress": False}
    main = write_dataset(tmp_path / "a", "val", 3, 21, workers=1, **settings)
    rows = json.loads(main.read_text())
    ours = {"layout", "steps", "centers_m", "sizes_m"}
    assert {"id", "image", "conversations", "rle", "category", "normalized_answer", "freeform_answer", *ours} == set(rows[0])
    assert len({row["id"] for row in rows}) == len(rows) and all(re.fullmatch("[0-9a-f]{32}", row["id"]) for row in rows)
    for split in ("val", "val_warmup", "val_extra", "val_captions"):
        samples = read_warehouse(tmp_path / "a", split, depth="metric", folder="val")
        assert samples and all(sample.camera is not None and sample.depth is not None for sample in samples)

    stamp = main.stat().st_mtime_ns
    assert write_dataset(tmp_path / "a", "val", 3, 21, **settings) == main and main.stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match=r"other settings|finished set"):
        write_dataset(tmp_path / "a", "val", 4, 21, **settings)

    _break_off(tmp_path / "b", settings)
    write_dataset(tmp_path / "b", "val", 3, 21, workers=1, **settings)
    assert _tree(tmp_path / "a") == _tree(tmp_path / "b")
    assert filecmp.cmp(main, tmp_path / "b" / "val.json", shallow=False)


@pytest.mark.slow
def test_same_bytes_for_any_number_of_workers(tmp_path):
    for workers in (1, 2):
        write_dataset(tmp_path / str(workers), "train", 16, 2, size=(96, 54), questions_per_scene=4, workers=workers, progress=False)
    assert _tree(tmp_path / "1") == _tree(tmp_path / "2")


@pytest.mark.slow
def test_workers_that_die_end_the_run_with_a_word(tmp_path):
    """Here: a script without the guard that starting processes needs, which each of them runs again."""
    script = tmp_path / "draw.py"
    call = f"write_dataset({str(tmp_path / 'set')!r}, 'train', 16, 2, size=(96, 54), questions_per_scene=4, workers=2, progress=False)"
    script.write_text(f"from smolrgpt.data.worlds import write_dataset\n{call}\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "a process that draws scenes has died" in done.stderr and "run it again" in done.stderr
    write_dataset(tmp_path / "set", "train", 16, 2, size=(96, 54), questions_per_scene=4, workers=2, progress=False)
    assert (tmp_path / "set" / "train.json").is_file()


def _break_off(root, settings):
    """Leaves what a run killed after one scene leaves."""
    from smolrgpt.data.worlds import writer

    def stop(*_):
        raise KeyboardInterrupt

    original, calls = writer._write_scene, []

    def once(index, **arguments):
        calls.append(index)
        return original(index, **arguments) if len(calls) == 1 else stop()

    writer._write_scene = once
    try:
        with pytest.raises(KeyboardInterrupt):
            write_dataset(root, "val", 3, 21, workers=1, **settings)
    finally:
        writer._write_scene = original
    assert not (root / "val").exists() and len(list((root / ".val.partial" / "scenes").iterdir())) == 1


def _tree(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("bad", [{"num_scenes": 0}, {"seed": -1}, {"questions_per_scene": 0}, {"layouts": "nowhere"}])
def test_bad_settings(tmp_path, bad):
    with pytest.raises(ValueError, match=r"expected >= 1|unknown"):
        write_dataset(tmp_path, "val", **{"num_scenes": 1, "seed": 0, **bad})


def test_a_set_of_all_worlds_and_scales_is_read_back(tmp_path: Path) -> None:
    write_dataset(tmp_path, "val", 6, 5, size=(96, 54), workers=1, progress=False, world="mixed", scales=(0.03, 10))
    samples = read_warehouse(tmp_path, "val", depth="metric")
    assert len({sample.metadata["world"] for sample in samples}) > 2 and len({sample.metadata["scale"] for sample in samples}) == 6
    for sample in samples:
        scene = draw_scene(json.loads((tmp_path / "val" / "settings.json").read_text()), int(sample.image.stem))[0]
        stored = load_sample_depth(sample).values
        assert np.allclose(stored, scene.depth_m, rtol=1e-3, equal_nan=True)
        centers = {item.region: item.center_m for item in scene.regions}
        has_area = not set(sample.regions) <= set(centers)  # a rectangle is nowhere in 3-D
        assert has_area == (sample.truth.centers_m == ())
        for region, center in zip(sample.regions, sample.truth.centers_m, strict=False):
            assert np.allclose(center, centers[region], rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="no layout of this set"):
        write_dataset(tmp_path, "other", 1, 3, world="room", view="low")
    with pytest.raises(ValueError, match="two factors above 0"):
        write_dataset(tmp_path, "other", 1, 3, scales=(2, 1))


def test_a_set_of_another_view_is_another_set(tmp_path: Path) -> None:
    write_dataset(tmp_path, "val", 1, 3, workers=1, progress=False, view="low")
    assert "low" in (tmp_path / "val" / "settings.json").read_text()
    with pytest.raises(DataError, match="no finished set with these settings"):
        write_dataset(tmp_path, "val", 1, 3, workers=1, progress=False)
    with pytest.raises(ValueError, match="'fisheye'"):
        write_dataset(tmp_path, "other", 1, 3, workers=1, progress=False, view="fisheye")


def test_a_set_of_other_surroundings_is_another_set(tmp_path: Path) -> None:
    write_dataset(tmp_path, "val", 1, 3, workers=1, progress=False, surroundings="hidden")
    assert "hidden" in (tmp_path / "val" / "settings.json").read_text()
    with pytest.raises(DataError, match="no finished set with these settings"):
        write_dataset(tmp_path, "val", 1, 3, workers=1, progress=False)
    with pytest.raises(ValueError, match="no surroundings 'fog'"):
        write_dataset(tmp_path, "other", 1, 3, workers=1, progress=False, surroundings="fog")


@pytest.mark.parametrize("sensor", ["stereo", "lidar", "mixed"])
def test_a_sensor_changes_depth_and_nothing_else(tmp_path: Path, sensor: str) -> None:
    for name in ("perfect", sensor):
        write_dataset(tmp_path / name, "val", 3, 5, world="tabletop", scales=(0.05, 8.0), sensor=name, workers=1, progress=False)
    perfect, observed = (
        {str(path.relative_to(tmp_path / name).with_suffix("")): path for path in (tmp_path / name).rglob("*.*") if path.is_file()}
        for name in ("perfect", sensor)
    )
    assert perfect.keys() == observed.keys()
    same = {name for name in perfect if perfect[name].read_bytes() == observed[name].read_bytes()}
    assert all("/depths" in name or name.endswith("settings") for name in perfect.keys() - same)
    for name in perfect:
        if "depths_metric" in name:
            true, seen = (DepthMap.from_file(files[name]).values for files in (perfect, observed))
            assert np.isfinite(seen).any() and 0.75 < np.nanmedian(seen / true) < 1.3


@pytest.mark.parametrize(("sensor", "message"), [("sonar", "expected one of perfect"), ("relative", "measures no metres")])
def test_a_sensor_that_gives_no_metres_is_refused(tmp_path: Path, sensor: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_dataset(tmp_path, "val", 1, 5, sensor=sensor)
