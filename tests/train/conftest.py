"""Shared by the tests of training: a tiny synthetic set, and runs on it that take seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_run
import torch

from smolrgpt.data.worlds import write_dataset
from smolrgpt.train import build, trainer


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic set of three training and three validation images of 96 x 54 pixels, eight questions about each."""
    root = tmp_path_factory.mktemp("warehouse")
    for split, seed in (("train", 5), ("val", 1_000_005)):
        write_dataset(root, split, 3, seed, "known", questions_per_scene=8, **tiny_run.SMALL)
    return root


@pytest.fixture
def fast_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs find the small images that are there instead of drawing their own, and train in float32, which tiny models need."""
    monkeypatch.setattr("smolrgpt.data.worlds.write_dataset", lambda *args, **kwargs: None)
    monkeypatch.setattr(build, "best_dtype", lambda device: torch.float32)


@pytest.fixture
def perfect_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validations score true answers instead of generated ones."""
    monkeypatch.setattr(trainer, "predict", tiny_run.answer_truly)
