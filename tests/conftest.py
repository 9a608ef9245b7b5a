"""Shared by all tests: where the real sample files lie, when they are there at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

# Set before torch is imported: tiny models are fastest on one thread, which also lets test processes share the cores; no test goes online.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


@pytest.fixture
def shared_path() -> Callable[[str], Path]:
    """``shared_path("samples/x")``: that path beside the repository; the test is skipped where it is absent."""

    def find(relative: str) -> Path:
        path = (SHARED / relative).resolve()
        if not path.exists():
            pytest.skip(f"real data {relative} is not here")
        return path

    return find
