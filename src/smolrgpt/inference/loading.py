"""Loads a predictor for a program that has the process to itself."""

from __future__ import annotations

from collections.abc import Callable

from transformers.utils import logging as transformers_logging

from smolrgpt.inference.checkpoints import resolve_checkpoint
from smolrgpt.inference.predictor import Predictor
from smolrgpt.precision import set_threads


def load_predictor(model: str) -> Predictor:
    """Load a model without progress bars, and limit the process to the CPU threads that suit a model of its size.

    model: a bundled name, a folder or a hub id. Raises the same errors as ``Predictor.from_pretrained``.
    """
    resolve_checkpoint(model)
    hide_progress_bars()
    predictor = Predictor.from_pretrained(model)
    set_threads(predictor.model)
    return predictor


def hide_progress_bars() -> None:
    """Show no progress bars of the transformers library in this process."""
    disable: Callable[[], None] = transformers_logging.disable_progress_bar
    disable()
