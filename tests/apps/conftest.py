"""A predictor of random weights, and a client of the service with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from service_client import LIMITS, OneByOne

from smolrgpt.apps.service.gateway import Settings, make_app
from smolrgpt.inference.predictor import Predictor


@pytest.fixture(scope="module")
def predictor(tiny_checkpoint: Path) -> Predictor:
    predictor = Predictor.from_pretrained(tiny_checkpoint, dtype=torch.float32, device="cpu")
    predictor.max_new_tokens = 12
    return predictor


@pytest.fixture
def client(predictor: Predictor) -> Iterator[TestClient]:
    with TestClient(make_app(OneByOne(predictor), Settings("tiny", limits=LIMITS)), raise_server_exceptions=False) as client:
        yield client
