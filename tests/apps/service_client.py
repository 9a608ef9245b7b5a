"""What the tests of the service share: its limits, requests to it, engines, and the line of an error."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from smolrgpt.apps.service.engine import Engine
from smolrgpt.apps.service.gateway import Settings, make_app
from smolrgpt.apps.service.messages import AskRequest, Limits, Reply
from smolrgpt.inference.answer import Answer

LIMITS = Limits(max_body_mb=1, max_megapixels=0.1, max_regions=4, max_questions=3, max_question_characters=200, max_queue=2, timeout_s=5)
REGIONS = [{"box": [2, 3, 20, 30]}, {"polygon": [30, 5, 60, 5, 60, 40]}]
QUESTION = "How far is <region 0> from <region 1>?"
#: A label image of three objects.
LABELS = np.zeros((48, 64), np.uint8)
LABELS[3:30, 2:20], LABELS[5:40, 30:60], LABELS[41:45, 2:9] = 1, 2, 3


def pixels(seed: int = 0, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


def url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def body(**changes: Any) -> dict[str, Any]:
    whole = {"image": url(png(pixels())), "questions": [QUESTION], "regions": REGIONS} | changes
    return {name: value for name, value in whole.items() if value is not None}


def chat(question: str = QUESTION, **changes: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": url(png(pixels()))}}]
    return {"model": "tiny", "messages": [{"role": "user", "content": content}], "spatial": {"regions": REGIONS}} | changes


class OneByOne(Engine):
    """The real engine, without Ray to collect what it answers together."""

    async def ready(self) -> bool:
        return True


class Asleep:
    """An engine that takes its time, or dies."""

    def __init__(self, seconds: float = 0.0, error: Exception | None = None):
        self.seconds, self.error, self.asked = seconds, error, 0

    async def ready(self) -> bool:
        return self.error is None

    async def ask(self, ask: AskRequest) -> Reply:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        if self.error:
            raise self.error
        answer = Answer("left", "left", "left_right", 0.0, 1.0, prompt_tokens=9, completion_tokens=2)
        return Reply([dataclasses.asdict(answer)] * len(ask.questions), batch=1)

    async def stream(self, ask: AskRequest) -> AsyncIterator[str | Reply]:
        yield "le"
        yield await self.ask(ask)


def asleep(engine: Asleep, **limits: Any) -> TestClient:
    return TestClient(make_app(engine, Settings("tiny", limits=replace(LIMITS, **limits))), raise_server_exceptions=False)


def message(response: Any) -> str:
    (error,) = response.json().values()
    assert set(response.json()) == {"error"} and set(error) == {"message", "type", "param", "code"}, response.text
    assert error["param"] is None or error["message"].startswith(error["param"]), "the message names the same field"
    return error["message"]
