"""Prediction distributed over Ray actors, each with a model of its own, on this machine or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from smolrgpt.evaluation.predict import AnsweredBatch, answer_batch
from smolrgpt.schema import Sample


class RayPredictor:
    """Answers batches on Ray actors. An actor that dies is restarted and gets its batch again.

    Args:
        checkpoint: Name, folder or hub id of the model, the same on every machine.
        actors: How many actors to start.
        gpus: GPUs of each actor.
        batch_size: Questions answered together.
        address: Address of a running cluster; None: Ray is started here and its cores are shared evenly by the actors.
    """

    def __init__(self, checkpoint: str, actors: int, gpus: float, batch_size: int, address: str | None = None):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray: Any = import_module("ray")
        if not ray.is_initialized():
            ray.init(address, logging_level="warning", **({"include_dashboard": False} if address is None else {}))
        threads = max(1, (os.cpu_count() or 1) // actors)

        class Actor:
            def __init__(self) -> None:
                import torch

                from smolrgpt.inference.loading import load_predictor

                torch.set_num_threads(threads)
                self.predictor = load_predictor(checkpoint)

            def answer(self, samples: list[Sample]) -> AnsweredBatch:
                return answer_batch(self.predictor, samples, batch_size)

        remote = ray.remote(num_cpus=0, num_gpus=gpus, max_restarts=-1, max_task_retries=-1)(Actor)
        self._pool: Any = import_module("ray.util").ActorPool([remote.remote() for _ in range(actors)])

    def predict_batches(self, batches: Iterator[list[Sample]]) -> Iterator[AnsweredBatch]:
        """Yield the batches with their rows, in the order in which the actors finish them."""

        def send(actor: Any, batch: list[Sample]) -> Any:
            return actor.answer.remote(batch)

        yield from self._pool.map_unordered(send, batches)
