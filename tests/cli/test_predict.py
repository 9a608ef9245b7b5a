"""Laws of batch prediction: every row once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources import iter_source, read_source
from smolrgpt.data.worlds import write_dataset
from smolrgpt.evaluation.submission import write_submission
from smolrgpt.schema import DataError, Sample


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures, two questions each, as JSON lines; one row in the middle is no JSON, one names a picture that is not there."""
    folder = tmp_path_factory.mktemp("rows")
    lines = []
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        mask = np.zeros((48, 64), dtype=np.uint8)
        mask[10:30, 40:60] = 1
        Image.fromarray(mask).save(folder / "mask.png")
        regions = [{"box": [2, 3, 20, 30]}, {"mask": "mask.png"}]
        questions = ["How far is <region 1> from <region 0>?", "Which of <region 0> <region 1> is leftmost?"]
        lines.append(json.dumps({"image": f"{number}.png", "regions": regions, "questions": questions}))
    lines.insert(5, "{ no json")
    lines.insert(7, json.dumps({"image": "absent.png", "question": "What?"}))
    lines.insert(8, json.dumps({"image": "0.png", "question": "Is <region 4> left?"}))
    (folder / "rows.jsonl").write_text("\n".join(lines))
    return folder / "rows.jsonl"


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_become_samples_in_the_order_of_mention(rows_file: Path) -> None:
    skips = SkipLog()
    samples = list(iter_source("samples", rows_file, "", skips=skips))
    assert len(samples) == 24 and skips.total == 3, skips.summary()
    first, second = samples[:2]
    assert first.question == "How far is <mask> from <mask>?" and first.regions == second.regions[::-1]
    assert (first.id, second.id) == ("rows-1-0", "rows-1-1") and first.image_key == second.image_key
    with pytest.raises(DataError, match="no rows"):
        read_source("samples", rows_file.parent / "nowhere", "")


@pytest.mark.slow
def test_answers_name_the_region_indices_that_the_caller_passed(rows_file: Path, tiny_checkpoint: Path, command, tmp_path: Path) -> None:
    status, _, errors = command("predict", tiny_checkpoint, rows_file, "--out", tmp_path / "a.jsonl")
    assert status == 0 and "3" in errors, errors
    rows = read(tmp_path / "a.jsonl")
    assert len({row["id"] for row in rows}) == len(rows) == 24
    again = command("predict", tiny_checkpoint, rows_file, "--out", tmp_path / "b.jsonl", "--batch-size", 3)
    assert again[0] == 0 and [row["answer"] for row in read(tmp_path / "b.jsonl")] == [row["answer"] for row in rows]


@pytest.mark.slow
def test_killed_and_started_again_every_row_is_there_once(rows_file: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    out, partial = tmp_path / "a.jsonl", tmp_path / "a.jsonl.partial"
    command = [sys.executable, "-m", "smolrgpt", "predict", str(tiny_checkpoint), str(rows_file), "--out", str(out), "--batch-size", "2"]
    kills = 0
    for _ in range(2):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            known = len(read(partial)) if partial.exists() else 0
            while process.poll() is None:
                try:
                    done = len(read(partial)) if partial.exists() else 0
                except ValueError:  # a line is being written
                    done = known
                if done > known + 2:
                    os.kill(process.pid, signal.SIGKILL)
                    kills += 1
                    break
                time.sleep(0.002)
        if out.exists():
            break
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    rows = read(out)
    assert kills and len(rows) == 24 == len({row["id"] for row in rows}) and not partial.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_alone")
def test_actors_write_what_one_process_writes(rows_file: Path, tiny_checkpoint: Path, command, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    arguments = ["predict", str(tiny_checkpoint), str(rows_file), "--batch-size", "4"]
    assert command(*arguments, "--out", tmp_path / "one")[0] == 0
    actors = [sys.executable, "-m", "smolrgpt", *arguments, "--out", str(tmp_path / "many"), "--ray", "2"]
    subprocess.run(actors, check=True, capture_output=True, timeout=300)
    one, many = (read(tmp_path / name) for name in ("one", "many"))
    assert [(row["id"], row["answer"]) for row in one] == [(row["id"], row["answer"]) for row in many]


def test_a_submission_has_every_question_once_and_of_its_kind(tmp_path: Path) -> None:
    write_dataset(tmp_path, "val", 2, seed=5, workers=1, progress=False)
    samples = read_source("warehouse", tmp_path, "val")
    rows = [{"id": s.id, "category": s.category, "normalized_answer": s.normalized_answer} for s in samples]
    rows[0]["normalized_answer"] = None
    choice = next(number for number, sample in enumerate(samples) if sample.category == "mcq" and number)
    rows[choice]["normalized_answer"] = "77"
    assert set(write_submission(tmp_path / "s.json", samples, rows)) == {samples[0].id, samples[choice].id}
    written = json.loads((tmp_path / "s.json").read_text())
    assert [one["id"] for one in written] == [sample.id for sample in samples] and set(written[0]) == {"id", "normalized_answer"}
    kinds = {"left_right": str, "count": int, "mcq": str, "distance": (int, float)}
    assert all(isinstance(one["normalized_answer"], kinds[str(s.category)]) for one, s in zip(written, samples, strict=True))
    with pytest.raises(DataError, match="more than one question"):
        write_submission(tmp_path / "s.json", [*samples, samples[0]], [*rows, rows[0]])


def test_a_sample_saved_by_the_web_page_can_be_asked_again(tmp_path: Path) -> None:
    from smolrgpt.apps.page import scene as scenes
    from smolrgpt.inference.answer import Answer

    scene = scenes.draw_scene(2)
    scene.history = [(scene.examples[0], Answer("", "left", "left_right", 0.0, 1.0))]
    scenes.export_sample(scene, tmp_path)
    (sample,) = read_source("samples", tmp_path, "")
    assert isinstance(sample, Sample) and sample.camera == scene.camera and set(sample.regions) <= set(scene.regions)
