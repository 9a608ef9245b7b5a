"""A run of seconds, for tests in this process and, as a program, in several: ``torchrun tiny_run.py RUN.json...``

Each file holds the arguments of ``tiny_run`` and perhaps break_off, those of ``_break_off``; the runs are taken one after the other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType

from smolrgpt.data import worlds as synthetic
from smolrgpt.data.worlds import writer
from smolrgpt.schema import Sample
from smolrgpt.train import build, trainer
from smolrgpt.train.config import ModelSpec, Rates, Run, Stage, SyntheticData

TINY = {
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "vision_use_head": False,
    },
    "text_config": {
        "model_type": "llama",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "refiner_stages": 2,
    "region_tokens": ["rgb", "depth", "geo"],
    "predicts_geometry": True,
}
SMALL = {"size": (96, 54), "workers": 1, "progress": False}


#: The vision tower is frozen, all else learns.
FROZEN_TOWER = ((r"vision_tower\.", None), (".", 1e-3))


def tiny_stage(name: str, rates: Rates, mixture: dict[str, float], max_steps: int, **fields: Any) -> Stage:
    """A stage that shows two images at once, with three questions about each."""
    return Stage(name, rates, mixture, max_steps=max_steps, **{"images_per_step": 2, "questions_per_image": 3, **fields})


def tiny_run(root: Path, out: Path, stage: dict[str, Any] | None = None, **fields: Any) -> Run:
    """Seven steps of four groups, three steps an epoch: no step is full, batches differ in size, and the run ends within an epoch.

    stage, fields: changes to its only stage and to the run.
    """
    only_stage = tiny_stage("fine-tune", FROZEN_TOWER, {"train": 1.0}, max_steps=7, accumulation_steps=2, eval_every=2, save_every=2)
    run = Run(
        name="tiny",
        out=out,
        model=ModelSpec(config=TINY, processor={"region_labels": True}, vocab_size=400),
        data=SyntheticData(root=root, num_scenes=3, num_val_scenes=3, seed=5, questions_per_scene=8, size=SMALL["size"]),
        stages=(dataclasses.replace(only_stage, **(stage or {})),),
        validation_questions=12,
        log_every=1,
    )
    return dataclasses.replace(run, **fields)


def losses(out: Path, stage: str = "1-fine-tune") -> list[tuple[int, float]]:
    """(step, loss) of every step of a stage, from its last checkpoint."""
    last = max((out / stage).glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return [(row["step"], row["loss"]) for row in json.loads((last / "trainer_state.json").read_text())["log_history"] if "loss" in row]


def interrupt_after(steps: int) -> Callable[..., Any]:
    """A ``training_step`` that raises KeyboardInterrupt when this many steps are done."""
    training_step = trainer.StageTrainer.training_step

    def interrupted(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == steps:
            raise KeyboardInterrupt
        return training_step(self, *args, **kwargs)

    return interrupted


def answer_truly(predictor: Any, samples: list[Sample], **options: Any) -> list[dict[str, Any]]:
    """The answers of a perfect model: S1 is 100 if and only if every validation question was asked and its answer was gathered."""
    return [{"id": s.id, "normalized_answer": s.normalized_answer} for s in samples]


def _prepare_process() -> None:
    """Small images, float32, perfect answers, as the fixtures in conftest.py do for the process of the tests."""
    synthetic.write_dataset = functools.partial(writer.write_dataset, **SMALL)
    build.best_dtype = lambda device: torch.float32
    trainer.predict = answer_truly


def _break_off(step: int, rank: int | None) -> None:
    """In the step after this many, one process dies as by kill -9, or (None) all are interrupted."""
    training_step = trainer.StageTrainer.training_step

    def breaks(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == step and rank is None:
            trainer.StageTrainer.training_step = training_step
            raise KeyboardInterrupt
        if self.state.global_step == step and self.args.process_index == rank:
            os.kill(os.getpid(), signal.SIGKILL)
        return training_step(self, *args, **kwargs)

    trainer.StageTrainer.training_step = breaks


def _let_accelerate_shard_on_cpu() -> None:
    """accelerate shards on every kind of device but the CPU, where torch can as well: call gloo's processes such devices."""
    torch.distributed.init_process_group("gloo")
    PartialState._prepare_backend = lambda *args, **kwargs: ("gloo", DistributedType.MULTI_GPU)


if __name__ == "__main__":
    _prepare_process()
    if os.environ.get("ACCELERATE_USE_FSDP"):
        _let_accelerate_shard_on_cpu()
    for path in sys.argv[1:]:
        fields = json.loads(Path(path).read_text())
        if break_off := fields.pop("break_off", None):
            _break_off(*break_off)
        with contextlib.suppress(KeyboardInterrupt):
            trainer.run(tiny_run(Path(fields.pop("root")), Path(fields.pop("out")), **fields))
