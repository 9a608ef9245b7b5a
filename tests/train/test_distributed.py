"""Several processes train as one does: same losses, same weights, also after a kill and when their number changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_run
import torch
from safetensors.torch import load_file

from smolrgpt.train import trainer
from smolrgpt.train.callbacks import CURVE_FILE, read_curve

pytestmark = pytest.mark.slow

#: Two processes and one that accumulates twice add the same two gradients; only the order of sums inside gloo could differ.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


#: What ``accelerate launch --use_fsdp --fsdp_version 2`` sets.
FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_TORCH_DEVICE": "cpu",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "LlamaDecoderLayer",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
}


def _torchrun(folder: Path, *runs: dict, **environment: str) -> subprocess.CompletedProcess:
    """Two processes on gloo that take the runs one after the other."""
    files = []
    for index, fields in enumerate(runs):
        files.append(folder / f"run-{index}.json")
        files[-1].write_text(json.dumps(fields, default=str))
    program = Path(tiny_run.__file__)
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **environment}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", program, *files]
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=300)


#: Some batches have regions, some only captions: what a process uses of the model differs from what the other uses.
CAPTIONS = {"mixture": {"captions": 2.0, "train": 0.5}, "images_per_step": 1, "questions_per_image": 8}


def _assert_same_losses(one: Path, other: Path, tolerance: float = TOLERANCE["rtol"]) -> None:
    steps, losses = zip(*tiny_run.losses(one), strict=True)
    other_steps, other_losses = zip(*tiny_run.losses(other), strict=True)
    assert steps == other_steps == (1, 2, 3, 4, 5, 6, 7)
    assert other_losses == pytest.approx(losses, rel=tolerance)


def _assert_same_weights(one: Path, other: Path) -> None:
    weights, others = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, **TOLERANCE)


def _assert_same_training(one: Path, other: Path) -> None:
    _assert_same_losses(one, other)
    for folder in ("final", "1-fine-tune/checkpoint-7"):
        _assert_same_weights(one / folder, other / folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture(scope="module")
def launched(folder) -> subprocess.CompletedProcess:
    """Two processes draw the data and train to the end; then train again until one of them is killed in the middle of the sixth step."""
    straight = {"root": folder / "data", "out": folder / "two"}
    return _torchrun(folder, straight, {"root": folder / "data", "out": folder / "killed", "break_off": [5, 1]})


@pytest.fixture
def single(fast_training, perfect_answers):
    """This process trains as the launched ones do, on the data they drew."""
    return trainer.run


@pytest.fixture
def straight(launched, folder, single) -> Path:
    """The whole run in this process."""
    out = folder / "one"
    assert (folder / "data/train.json").exists(), launched.stderr[-3000:]
    single(tiny_run.tiny_run(folder / "data", out))
    return out


@pytest.fixture
def captions(launched, folder, single) -> Path:
    """A whole run in this process in which captions alternate with questions."""
    out = folder / "captions"
    single(tiny_run.tiny_run(folder / "data", out, CAPTIONS))
    return out


def test_two_processes_train_as_one_that_accumulates_twice(straight, launched, folder):
    assert (folder / "two/final/model.safetensors").exists(), launched.stderr[-3000:]
    _assert_same_training(straight, folder / "two")
    for out in (straight, folder / "two"):
        rows = read_curve(out / CURVE_FILE)
        assert [(row["step"], row["S1"]) for row in rows if "S1" in row] == [(2, 100.0), (4, 100.0), (6, 100.0), (7, 100.0)]
        assert [row["event"] for row in rows if "event" in row] == ["checkpoint"] * 4 + ["stage ends"]


def test_a_killed_run_goes_on_in_one_process_from_its_last_whole_checkpoint(straight, launched, folder, single):
    out = folder / "killed"
    stage = out / "1-fine-tune"
    assert launched.returncode != 0 and "SIGKILL" in launched.stderr
    assert sorted(path.name for path in stage.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"], "killed in step 6"
    shutil.copytree(stage / "checkpoint-4", stage / "checkpoint-6")
    (stage / "checkpoint-6/trainer_state.json").write_text('{"epoch": 1')  # as if killed again, while writing
    single(tiny_run.tiny_run(folder / "data", out))
    _assert_same_training(straight, out)


def test_a_run_of_one_process_goes_on_in_two(straight, captions, folder, single, monkeypatch):
    out = folder / "widened"
    monkeypatch.setattr(trainer.StageTrainer, "training_step", tiny_run.interrupt_after(5))
    with pytest.raises(KeyboardInterrupt):
        single(tiny_run.tiny_run(folder / "data", out))
    mixed = {"root": folder / "data", "out": folder / "captions-two", "stage": CAPTIONS, "feature_cache": str(folder / "features")}
    done = _torchrun(folder, {"root": folder / "data", "out": out}, mixed)
    assert done.returncode == 0, done.stderr[-3000:]
    _assert_same_training(straight, out)
    _assert_same_training(captions, folder / "captions-two")
    assert list((folder / "features").glob("*/*/*.safetensors")) and not list((folder / "features").glob("*/*/*.writing"))


def test_shards_train_save_and_load_as_the_whole(straight, captions, folder):
    """FSDP2 with sharded checkpoints, broken off after five steps and gone on with from the checkpoint of the fourth."""
    run = {"root": folder / "data", "out": folder / "sharded"}
    mixed = {"root": folder / "data", "out": folder / "captions-sharded", "stage": CAPTIONS}
    done = _torchrun(folder, {**run, "break_off": [5, None]}, run, mixed, **FSDP)
    assert done.returncode == 0, done.stderr[-3000:]
    assert list((folder / "sharded/1-fine-tune/checkpoint-7/pytorch_model_fsdp_0").glob("__1_*.distcp")), "every process writes its shards"
    _assert_same_losses(straight, folder / "sharded")
    _assert_same_weights(straight / "final", folder / "sharded/final")
    assert (folder / "sharded/final/config.json").read_text() == (straight / "final/config.json").read_text()
    # what no batch of a step uses has a gradient of zero here and none elsewhere, where Adam leaves it alone
    _assert_same_losses(captions, folder / "captions-sharded", tolerance=1e-3)
