"""Prediction distributed over Ray actors, each with a model of its own, on this machine or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from smolrgpt.evaluation.predict import Distribute, Row, answer_batch
from smolrgpt.schema import Sample


def over_actors(checkpoint: str, actors: int, gpus: float, batch_size: int, address: str | None = None) -> Distribute:
    """Return what ``predict_distributed`` distributes batches with. An actor that dies is restarted and gets its batch again.

    Args:
        checkpoint: Name, folder or hub id of the model, the same on every machine.
        actors: How many actors to start.
        gpus: GPUs of each actor.
        batch_size: Questions answered together.
        address: Address of a running cluster; None: Ray is started here and its cores are shared evenly by the actors.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray: Any = import_module("ray")
    if not ray.is_initialized():
        ray.init(address, logging_level="warning", **({"include_dashboard": False} if address is None else {}))
    threads = max(1, (os.cpu_count() or 1) // actors)

    class Answerer:
        def __init__(self) -> None:
            import torch

            from smolrgpt.inference.loading import load_predictor

            torch.set_num_threads(threads)
            self.predictor = load_predictor(checkpoint)

        def answer(self, samples: list[Sample]) -> list[tuple[Sample, Row]]:
            return answer_batch(self.predictor, samples, batch_size)

    remote = ray.remote(num_cpus=0, num_gpus=gpus, max_restarts=-1, max_task_retries=-1)(Answerer)
    pool = import_module("ray.util").ActorPool([remote.remote() for _ in range(actors)])

    def distribute(batches: Iterator[list[Sample]]) -> Iterator[list[tuple[Sample, Row]]]:
        def send(actor: Any, batch: list[Sample]) -> Any:
            return actor.answer.remote(batch)

        yield from pool.map_unordered(send, batches)

    return distribute
