"""In workers, after a resume, past unreadable images: every question is shown as often as planned, and what is left out is counted."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import tiny_run

from smolrgpt.data import collate
from smolrgpt.data.collate import Collator
from smolrgpt.data.prepared import Prepared
from smolrgpt.data.sources.warehouse import read_warehouse
from smolrgpt.schema import DataError
from smolrgpt.train import sources, trainer
from smolrgpt.train.config import FolderData


@pytest.fixture
def run(warehouse, tmp_path, fast_training, perfect_answers):
    """Trains with changed fields of the stage and the run; the losses of all steps."""

    def train(name: str = "run", stage: dict | None = None, **fields) -> list[float]:
        # health measurements would load samples of their own
        trainer.run(tiny_run.tiny_run(warehouse, tmp_path / name, stage, monitor_health=False, **fields))
        return [loss for _, loss in tiny_run.losses(tmp_path / name)]

    return train


def _unreadable(monkeypatch, images: int) -> None:
    """The first images of the training set cannot be read, in this process and in its workers."""
    encode = Collator.encode_image

    def fails(self, sample, regions):
        if Path(sample.image).stem < f"{images:06d}":
            raise DataError(f"{sample.image}: damaged")
        return encode(self, sample, regions)

    monkeypatch.setattr(Collator, "encode_image", fails)


#: More than one epoch of three steps, without validation.
SHORT = {"max_steps": 4, "eval_every": None, "save_every": 4}


@pytest.mark.slow
def test_workers_change_nothing(run):
    assert run("here", SHORT, dataloader_num_workers=0) == run("workers", SHORT, dataloader_num_workers=2)


@pytest.mark.slow
def test_an_image_is_prepared_once_for_all_epochs(run, monkeypatch):
    prepare_image, prepared = collate.prepare_image, []
    monkeypatch.setattr(collate, "prepare_image", lambda *args: prepared.append(args) or prepare_image(*args))
    run(cache_gb=1.0)
    assert len(prepared) == 3, "seven steps are more than two epochs of three images"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.slow
def test_what_workers_leave_out_is_counted_here(run, monkeypatch, caplog, workers):
    """Batches of one image, some of them unreadable: no step is lost, nothing is fatal, every question is counted."""
    _unreadable(monkeypatch, 1)
    one_by_one = {"images_per_step": 1, "accumulation_steps": 1, "questions_per_image": 8, "max_steps": 3, "eval_every": None}
    with caplog.at_level(logging.WARNING):
        losses = run(stage={**one_by_one, "save_every": 1}, dataloader_num_workers=workers)
    assert sorted(loss == 0 for loss in losses) == [False, False, True], "the unreadable one teaches nothing, the others do"
    assert "skipped 8: 8 x unreadable image" in caplog.text and "damaged" in caplog.text


@pytest.mark.slow
def test_prepared_sources_train_as_lists_do(run, warehouse, tmp_path):
    """The first run prepares them, the next one opens them."""
    folders = {"train": ("warehouse", warehouse, "train"), "val": ("warehouse", warehouse, "val")}
    losses = [
        run(name, SHORT, data=FolderData(folders, validation="val", prepared=folder))
        for name, folder in {"read": None, "prepared": tmp_path / "prepared", "found": tmp_path / "prepared"}.items()
    ]
    assert losses[0] == losses[1] == losses[2]
    assert len(Prepared(tmp_path / "prepared" / warehouse.name / "train")) == len(read_warehouse(warehouse, "train"))


def test_nothing_readable_at_all_is_an_error_that_names_a_file(run, monkeypatch):
    _unreadable(monkeypatch, 999)
    with pytest.raises(DataError, match=r"no image of the first 1000 questions can be read.*damaged"):
        run()


@pytest.mark.slow
def test_a_resumed_epoch_prepares_no_batch_twice(run, monkeypatch):
    """Interrupted after five of seven steps, with a checkpoint of the fourth: only the other three, of two batches each, are loaded."""
    straight, call, loaded = run("straight"), Collator.__call__, []
    with monkeypatch.context() as patch:
        patch.setattr(trainer.StageTrainer, "training_step", tiny_run.interrupt_after(5))
        with pytest.raises(KeyboardInterrupt):
            run("resumed")
    monkeypatch.setattr(Collator, "__call__", lambda self, groups: loaded.append(groups) or call(self, groups))
    assert run("resumed") == straight
    assert len(loaded) == 6 + 1, "and one batch that the loader has ready when the run ends"


@pytest.mark.slow
def test_a_stage_balances_what_its_batches_show(run, monkeypatch):
    call, shown = Collator.__call__, []
    monkeypatch.setattr(
        Collator, "__call__", lambda self, groups: shown.extend(s.category for g in groups for s in g) or call(self, groups)
    )
    monkeypatch.setattr(sources, "restyle", lambda samples, style: [s for i, s in enumerate(samples) if s.category != "count" or i < 8])

    def spread(name: str, **stage) -> int:
        shown.clear()
        run(name, stage={"max_steps": 2, "accumulation_steps": 1, "images_per_step": 100, **stage})
        counts = {category: shown.count(category) for category in set(shown)}
        return max(counts.values()) - min(counts.values())

    assert spread("plain") > 3
    assert spread("balanced", balance=("category",)) <= 1
