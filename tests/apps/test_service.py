"""Laws of the service: what it answers, what it refuses and how. Without Ray but for the last test."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import itertools
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from smolrgpt.apps.service.bodies import IGNORED_FIELDS, UNSUPPORTED_FIELDS, ChatBody, Usage
from smolrgpt.apps.service.engine import Engine, QueuedInquiry
from smolrgpt.apps.service.gateway import Settings, make_app
from smolrgpt.apps.service.messages import AskRequest, Limits, Reply
from smolrgpt.inference.answer import Answer
from smolrgpt.inference.predictor import Predictor
from smolrgpt.schema import DataError, Region

pytestmark = pytest.mark.slow  # many cases, each short

LIMITS = Limits(max_body_mb=1, max_megapixels=0.1, max_regions=4, max_questions=3, max_question_characters=200, max_queue=2, timeout_s=5)
REGIONS = [{"box": [2, 3, 20, 30]}, {"polygon": [30, 5, 60, 5, 60, 40]}]
QUESTION = "How far is <region 0> from <region 1>?"


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


@pytest.fixture(scope="module")
def predictor(tiny_checkpoint: Path) -> Predictor:
    predictor = Predictor.from_pretrained(tiny_checkpoint, dtype=torch.float32, device="cpu")
    predictor.max_new_tokens = 12
    return predictor


@pytest.fixture
def client(predictor: Predictor) -> Iterator[TestClient]:
    with TestClient(make_app(OneByOne(predictor), Settings("tiny", limits=LIMITS)), raise_server_exceptions=False) as client:
        yield client


def asleep(engine: Asleep, **limits: Any) -> TestClient:
    return TestClient(make_app(engine, Settings("tiny", limits=replace(LIMITS, **limits))), raise_server_exceptions=False)


def message(response: Any) -> str:
    (error,) = response.json().values()
    assert set(response.json()) == {"error"} and set(error) == {"message", "type", "param", "code"}, response.text
    assert error["param"] is None or error["message"].startswith(error["param"]), "the message names the same field"
    return error["message"]


# --------------------------------------------------------------------------------------------------------------------- answers
def test_the_service_answers_as_the_predictor(client: TestClient, predictor: Predictor) -> None:
    depth = np.random.default_rng(1).uniform(1, 9, (48, 64)).astype(np.float32)
    stored = io.BytesIO()
    np.save(stored, depth)
    mask = np.zeros((48, 64), dtype=np.uint8)
    mask[3:30, 2:20] = 255
    questions = ["How many pallets are in <region 1>?", "Is <region 0> left of <region 1>?"]
    camera = {"fx": 60.0, "fy": 60.0, "cx": 32.0, "cy": 24.0}
    expected = predictor.ask_many(Image.fromarray(pixels()), questions, depth, [mask > 0, (30, 5, 60, 40)], camera)
    regions = [{"mask": url(png(mask))}, {"box": [30, 5, 60, 40]}]
    sent = body(questions=questions, regions=regions, depth=url(stored.getvalue(), "application/octet-stream"), camera=camera)
    upload = client.post(
        "/v1/spatial/ask",
        files=[("image", ("a.png", png(pixels()))), ("depth", ("d.npy", stored.getvalue())), ("mask", ("m.png", png(mask)))],
        data={"question": questions, "regions": json.dumps(regions[1:]), "camera": json.dumps(camera)},
    )
    for response in (client.post("/v1/spatial/ask", json=sent), upload):
        assert response.status_code == 200, response.text
        found = response.json()["answers"]
        assert [one["answer"] for one in found] == [answer.answer for answer in expected]
        assert [one["normalized_answer"] for one in found] == [answer.normalized_answer for answer in expected]
        assert [one["question"] for one in found] == questions
        assert response.json()["id"] == response.headers["x-request-id"]


def spoken(client: TestClient, **changes: Any) -> dict[str, Any]:
    """The reply to the same request as JSON, in a chat and as an upload, which say the same."""
    sent = body(**changes)
    whole = client.post("/v1/spatial/ask", json=sent)
    assert whole.status_code == 200, whole.text
    found = whole.json()
    spatial = {name: value for name, value in sent.items() if name not in ("image", "questions")}
    message = client.post("/v1/chat/completions", json=chat(spatial=spatial)).json()["choices"][0]["message"]
    assert (message["content"], message["spatial"]["inputs"]) == (found["answers"][0]["answer"], found["inputs"])
    files = [("image", ("a.png", png(pixels())))]
    if "depth" in spatial:
        files.append(("depth", ("depth", base64.b64decode(spatial.pop("depth").partition(",")[2]))))
    data = {name: value if isinstance(value, str) else json.dumps(value) for name, value in spatial.items()}
    uploaded = client.post("/v1/spatial/ask", files=files, data={"question": QUESTION, **data}).json()
    assert (uploaded["answers"], uploaded["inputs"]) == (found["answers"], found["inputs"])
    return found


def saved(values: np.ndarray, kind: str) -> str:
    """A data URL of these depth values in a file of this kind."""
    buffer = io.BytesIO()
    if kind == "npy":
        np.save(buffer, values)
    elif kind == "npz":
        np.savez_compressed(buffer, depth=values)
    elif kind == "pgm":
        buffer.write(b"P5 64 48 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(buffer, format=kind)
    return url(buffer.getvalue(), "application/octet-stream")


METRES = np.random.default_rng(1).integers(1000, 6000, (48, 64)) / 1000
DEPTHS = {
    "millimetres": (np.uint16(np.rint(METRES * 1000)), "png", {}),
    "PGM": (np.uint16(np.rint(METRES * 1000)), "pgm", {}),
    "TUM": (np.uint16(np.rint(METRES * 5000)), "png", {"depth_unit": "tum"}),
    "1/5000": (np.uint16(np.rint(METRES * 5000)), "tiff", {"depth_unit": "1/5000"}),
    "0.1 mm": (np.uint16(np.rint(METRES * 10000)), "npz", {"depth_unit": 0.0001}),
    "float centimetres": (np.float32(METRES * 100), "npy", {"depth_unit": "cm", "depth_kind": "metric"}),
    "inverse": (np.float64(1 / METRES), "npy", {"depth_unit": 1.0, "depth_kind": "inverse"}),
}


@pytest.mark.parametrize("name", DEPTHS)
def test_depth_of_every_unit_and_file_is_the_same_depth(client: TestClient, name: str) -> None:
    expected = spoken(client, depth=saved(np.float32(METRES), "npy"))
    values, kind, options = DEPTHS[name]
    found = spoken(client, depth=saved(values, kind), **options)
    assert found["answers"][0]["answer"] == expected["answers"][0]["answer"]
    read = found["inputs"]["depth"]
    assert (read["kind"], read["width"], read["height"]) == ("metric", 64, 48)
    assert read["low"] == pytest.approx(METRES.min(), abs=1e-3) and read["high"] == pytest.approx(METRES.max(), abs=1e-3)
    assert any("camera" in warning for warning in found["inputs"]["warnings"]), "none was given"


def test_relative_depth_states_its_near_end(client: TestClient) -> None:
    grey = pixels()[..., 0]
    near_dark = spoken(client, depth=url(png(grey)))
    assert near_dark["inputs"]["depth"]["kind"] == "relative" and "dark" in near_dark["inputs"]["depth"]["unit"]
    near_bright = spoken(client, depth=url(png(255 - grey)), depth_near="bright")
    assert near_bright["answers"][0]["answer"] == near_dark["answers"][0]["answer"]


def test_regions_of_every_form_are_the_same_region(client: TestClient) -> None:
    second = REGIONS[1]
    expected = spoken(client, regions=[{"box": [2, 3, 20, 30]}, second])["answers"]
    alone = np.uint8(LABELS == 1) * 255
    rle = Region.from_mask(alone).to_rle()
    for form in (
        {"box": [2 / 64, 3 / 48, 20 / 64, 30 / 48], "units": "normalized"},
        {"mask": url(png(alone))},
        {"mask": url(png(LABELS)), "value": 1},
        {"mask": saved(alone, "gif")},
        {"mask": (alone > 0).astype(int).tolist()},
        {"rle": rle},
        rle,
        {"segmentation": rle, "area": 486, "bbox": [2, 3, 18, 27]},
    ):
        assert spoken(client, regions=[form, second])["answers"] == expected, form
    whole = spoken(client, regions=[{"box": [0, 0, 64, 48]}, second])["inputs"]["warnings"]
    assert any(warning.startswith("region 0: it fills") for warning in whole)


def test_masks_and_depth_of_the_stored_pixels_follow_an_image_that_exif_turns(client: TestClient) -> None:
    stored, turn = Image.fromarray(pixels()), Image.Exif()
    turn[0x0112] = 6  # to be turned by a quarter to the right
    depth = np.random.default_rng(1).uniform(1, 9, (48, 64)).astype(np.float32)
    mask = np.zeros((48, 64), dtype=np.uint8)
    mask[3:30, 2:20] = 255

    def ask(image: bytes, depth: np.ndarray, mask: np.ndarray) -> Any:
        array = io.BytesIO()
        np.save(array, depth)
        regions = [{"mask": url(png(mask))}, {"mask": url(png(255 - mask))}]
        response = client.post("/v1/spatial/ask", json=body(image=url(image), depth=url(array.getvalue()), regions=regions))
        assert response.status_code == 200, response.text
        return response.json()["answers"]

    turned = io.BytesIO()
    stored.save(turned, format="PNG", exif=turn)
    upright = ask(png(np.rot90(pixels(), -1)), np.rot90(depth, -1), np.ascontiguousarray(np.rot90(mask, -1)))
    assert ask(turned.getvalue(), depth, mask) == upright


def test_a_chat_answers_the_last_question_about_the_last_image(client: TestClient, predictor: Predictor) -> None:
    expected = client.post("/v1/spatial/ask", json=body()).json()["answers"][0]
    whole = client.post("/v1/chat/completions", json=chat()).json()
    message = whole["choices"][0]["message"]
    assert (message["role"], message["content"]) == ("assistant", expected["answer"])
    assert message["spatial"]["normalized_answer"] == expected["normalized_answer"]
    followed = chat()
    followed["messages"] += [{"role": "assistant", "content": "..."}, {"role": "user", "content": QUESTION}]
    assert client.post("/v1/chat/completions", json=followed).json()["choices"][0]["message"]["content"] == expected["answer"]


def test_a_stream_is_the_answer_in_pieces(client: TestClient) -> None:
    whole = client.post("/v1/chat/completions", json=chat()).json()["choices"][0]["message"]
    with client.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    deltas = [json.loads(line)["choices"][0] for line in lines]
    assert "".join(one["delta"].get("content", "") for one in deltas) == whole["content"]
    assert [one["finish_reason"] for one in deltas] == [None] * (len(deltas) - 1) + ["stop"]
    assert next(one["delta"]["spatial"] for one in deltas if "spatial" in one["delta"]) == whole["spatial"]


def test_what_comes_in_together_is_answered_together_and_apart_when_one_fails(predictor: Predictor, monkeypatch) -> None:
    engine = Engine(predictor)
    good = engine._prepare(AskRequest(png(pixels()), [QUESTION], regions=list(REGIONS)))
    bad = engine._prepare(AskRequest(png(pixels(1)), [QUESTION], regions=list(REGIONS)))
    alone = engine.answer_batch([QueuedInquiry(good)])[0]
    answer = predictor.answer

    def fails(inquiries: Any, on_text: Any = None) -> Any:
        if any(inquiry is bad for inquiry in inquiries):
            raise RuntimeError("out of memory")
        return answer(inquiries, on_text)

    monkeypatch.setattr(predictor, "answer", fails)
    found = engine.answer_batch([QueuedInquiry(good), QueuedInquiry(bad), QueuedInquiry(good, dropped=True), QueuedInquiry(good)])
    assert [one.answers[0]["answer"] for one in (found[0], found[3])] == [alone.answers[0]["answer"]] * 2
    assert [found[1].status, found[2].status] == [500, 503] and "out of memory" not in str(found[1].error)
    monkeypatch.undo()
    assert [reply.batch for reply in engine.answer_batch([QueuedInquiry(good), QueuedInquiry(bad)])] == [2, 2]


# ------------------------------------------------------------------------------------------------------------------- refusals
def truncated() -> str:
    return url(png(pixels())[:200])


LABELS = np.zeros((48, 64), np.uint8)
LABELS[3:30, 2:20], LABELS[5:40, 30:60], LABELS[41:45, 2:9] = 1, 2, 3
OBJECTS = b"\x93NUMPY\x01\x00\x46\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }" + b" " * 40
REFUSED = {
    "not JSON": (b"{", 400, "not JSON"),
    "not UTF-8": (b'{"image": "\xff"}', 400, "not JSON"),
    "deep JSON": (b"[" * 100_000, 400, "JSON"),
    "a list": (b"[]", 400, "the body"),
    "no image": (body(image=None), 400, "image"),
    "no question": (body(questions=[]), 400, "questions"),
    "empty question": (body(questions=[" "], regions=[]), 400, "empty"),
    "unknown field": (body(imgae="x"), 400, "imgae: there is no such field here; did you mean 'image'?"),
    "another endpoint's field": (body(spatial={}), 400, "spatial: belongs to /v1/chat/completions"),
    "an address": (body(image="http://example.com/a.png"), 400, "not fetched"),
    "a path": (body(image="/etc/passwd"), 400, "not fetched"),
    "a file address": (body(depth="file:///etc/passwd"), 400, "not fetched"),
    "bad base64": (body(image="data:image/png;base64,%%%"), 400, "base64"),
    "not base64": (body(image="data:image/png,abc"), 400, "base64"),
    "not an image": (body(image=url(b"hello")), 400, "not an image"),
    "truncated image": (body(image=truncated()), 400, "truncated"),
    "svg": (body(image=url(b"<svg/>", "image/svg+xml")), 400, "not an image"),
    "large image": (body(image=url(png(pixels(0, (400, 300))))), 413, "megapixels"),
    "large mask": (body(regions=[{"mask": url(png(pixels(0, (400, 300))))}, REGIONS[0]]), 413, "megapixels"),
    "huge run lengths": (body(regions=[{"rle": {"size": [10**6, 10**6], "counts": "01"}}, REGIONS[0]]), 413, "megapixels"),
    "huge run lengths of text": (body(regions=[{"size": ["1000000", 10**6], "counts": "01"}, REGIONS[0]]), 413, "megapixels"),
    "wrong run lengths": (body(regions=[{"rle": {"size": [48, 64], "counts": "01"}}, REGIONS[0]]), 400, "region 0"),
    "run lengths of a list": (body(regions=[{"rle": {"size": [48, 64], "counts": [-1, 1]}}, REGIONS[0]]), 400, "region 0"),
    "two forms": (body(regions=[{"box": [0, 0, 5, 5], "polygon": [0, 0, 5, 0, 5, 5]}, REGIONS[0]]), 400, "region 0: "),
    "box outside": (body(regions=[{"box": [100, 100, 120, 120]}, REGIONS[0]]), 400, "outside"),
    "box of words": (body(regions=[{"box": ["a", 0, 1, 1]}, REGIONS[0]]), 400, "region 0: box"),
    "region of no form": (body(regions=[{"bx": [0, 0, 1, 1]}, REGIONS[0]]), 400, "region 0: "),
    "region of a path": (body(regions=[{"mask": "/etc/passwd"}, REGIONS[0]]), 400, "regions.0.mask: expected a data URL"),
    "mask and more": (body(regions=[{"mask": url(png(pixels())), "label": 3}, REGIONS[0]]), 400, "region 0: "),
    "region of a name": (body(regions=["mask.png", REGIONS[0]]), 400, "regions.0: "),
    "region not there": (body(questions=["How far is <region 7>?"]), 400, "<region 7>"),
    "regions unused": (body(questions=["How far is it?"]), 400, "no question mentions one"),
    "too many regions": (body(regions=REGIONS * 3), 413, "6 regions"),
    "too many questions": (body(questions=[QUESTION] * 4), 413, "4 questions"),
    "long question": (body(questions=["why " * 100]), 413, "characters"),
    "depth of another shape": (body(depth=url(png(pixels(0, (48, 64))[..., 0]))), 400, "depth"),
    "coloured depth": (body(depth=url(png(pixels()))), 400, "coloured"),
    "array of objects": (body(depth=url(OBJECTS)), 400, "depth"),
    "wrong polarity": (body(depth_near="left"), 400, "depth_near: Input should be 'dark' or 'bright'"),
    "wrong kind": (body(depth_kind="absolute"), 400, "depth_kind: Input should be 'metric', 'relative' or 'inverse'"),
    "wrong unit": (body(depth_unit="miles"), 400, "depth_unit: "),
    "unit of a list": (body(depth_unit=[1]), 400, "depth_unit: "),
    "units a metre": (body(depth_unit=1000), 400, "depth_unit: depth unit is 1000 metres per stored unit"),
    "relative with a unit": (body(depth_kind="relative", depth_unit="mm"), 400, "depth_kind: depth kind is 'relative' and its unit is"),
    "bright metres": (body(depth_unit="mm", depth_near="bright"), 400, "depth_unit: depth near is 'bright'"),
    "misspelt unit": (body(depth_units="mm"), 400, "depth_units: there is no such field here; did you mean 'depth_unit'?"),
    "depth of zeros": (body(depth=url(png(np.zeros((48, 64), np.uint16)))), 400, "depth: "),
    "zipped nothing": (body(depth=url(b"PK\x03\x04" + b"x" * 99)), 400, "depth: "),
    "EXR of nothing": (body(depth=url(b"v/1\x01" + b"x" * 99)), 400, "depth: "),
    "box of shares": (body(regions=[{"box": [0.1, 0.1, 0.5, 0.5]}, REGIONS[0]]), 400, "region 0: "),
    "labels without a value": (body(regions=[{"mask": url(png(LABELS))}, REGIONS[0]]), 400, "region 0: "),
    "value that is not there": (body(regions=[{"mask": url(png(LABELS)), "value": 9}, REGIONS[0]]), 400, "region 0: "),
    "camera without lengths": (body(camera={"fx": 0, "fy": 1, "cx": 0, "cy": 0}), 400, "camera"),
    "camera of words": (body(camera={"fx": "x"}), 400, "camera"),
    "camera of a file": (body(camera="/work/camera.json"), 400, "camera: /work/camera.json: expected fx,fy"),
    "camera of a number": (body(camera=7), 400, "camera"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_bad_requests_get_a_status_and_a_line_that_helps(client: TestClient, name: str) -> None:
    sent, status, expected = REFUSED[name]
    content = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    response = client.post("/v1/spatial/ask", content=content, headers={"content-type": "application/json"})
    assert response.status_code == status, response.text
    assert expected in message(response) and "\n" not in message(response) and len(message(response)) < 400
    assert response.headers["x-request-id"]
    if (
        not isinstance(sent, bytes)
        and "image" in sent
        and "questions" in sent
        and name not in ("unknown field", "too many questions", "another endpoint's field")
    ):
        spatial = {key: value for key, value in sent.items() if key not in ("image", "questions")}
        content = [{"type": "image_url", "image_url": {"url": sent["image"]}}, {"type": "text", "text": "".join(sent["questions"])}]
        for stream in (False, True):
            chatted = {"messages": [{"role": "user", "content": content}], "spatial": spatial, "stream": stream}
            assert client.post("/v1/chat/completions", json=chatted).status_code == status


TEXT_PART, IMAGE_PART = chat()["messages"][0]["content"]


def part(**changes: Any) -> dict[str, Any]:
    """A chat of these parts besides the question."""
    return {"messages": [{"role": "user", "content": [TEXT_PART, changes]}]}


def said(content: Any, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content, **more}]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"messages": []}, "messages: "),
        ({"messages": "hi"}, "messages: "),
        ({"messages": ["hi"]}, 'messages.0: expected {"role": ...'),
        ({"messages": [{"content": "hi"}]}, "messages.0.role: Field required"),
        ({"messages": [{"role": "user"}]}, "messages.0.content: expected a text or a list of parts"),
        (said("hi", role="human"), "messages.0.role: "),
        (said("hi", role="system"), "messages: none is of role user"),
        (said("hi"), "messages: no image"),
        (said(7), "messages.0.content: expected a text or a list of parts, found 7"),
        (said(["hi"]), 'messages.0.content.0: expected {"type": ...}, found \'hi\''),
        (said([IMAGE_PART, IMAGE_PART, TEXT_PART]), "messages.0.content: two images"),
        ({"messages": [*said([IMAGE_PART, IMAGE_PART])["messages"], *said(QUESTION)["messages"]]}, "messages.0.content: two images"),
        (said([IMAGE_PART, TEXT_PART], spatial={}), "messages.0.spatial: belongs to the top level"),
        (said([IMAGE_PART, TEXT_PART], images=[]), "messages.0.images: there is no such field"),
        (part(**IMAGE_PART, detal="low"), "messages.0.content.1.detal: "),
        (part(type="image_url", image_url="data:image/png;base64,"), 'messages.0.content.1.image_url: expected {"url": ...}, found'),
        (part(type="image_url", image_url={}), "messages.0.content.1.image_url.url: Field required"),
        (part(type="image_url", image_url={"url": 3}), "messages.0.content.1.image_url.url: Input should be a valid string"),
        (part(type="image_url", image_url={"url": "http://a/b.png"}), "messages.0.content.1.image_url.url: expected a data URL"),
        (part(type="image_url", image_url={"uri": "x"}), "messages.0.content.1.image_url.uri: there is no such field here; did you"),
        (part(type="image_url"), "messages.0.content.1: a part of type image_url has the field image_url"),
        (part(type="text", image_url=IMAGE_PART["image_url"]), "messages.0.content.1: a part of type text has the field text"),
        (part(type="input_image", image_url="data:"), "messages.0.content.1.type: expected 'text' or 'image_url', found 'input_image'"),
        (part(type="input_audio", input_audio={}), "messages.0.content.1.type: expected 'text' or 'image_url'"),
        (part(type=["text"]), "messages.0.content.1.type: expected 'text' or 'image_url', found ['text']"),
        ({"stream": "perhaps"}, "stream: "),
        ({"stream": False, "stream_options": {"include_usage": True}}, "stream_options: only a stream"),
        ({"stream": True, "stream_options": {"includ_usage": True}}, "stream_options.includ_usage: there is no such field here; did you"),
        ({"model": 3}, "model: "),
        ({"spatial": []}, "spatial: expected {"),
        ({"spatial": {"region": []}}, "spatial.region: there is no such field here; did you mean 'regions'?"),
        ({"spatial": {"temperature": 0}}, "spatial.temperature: there is no such field here; expected one of camera, depth"),
        ({"spatial": {"regions": {"box": [0, 0, 9, 9]}}}, "spatial.regions: "),
        ({"spatial": {"depth": {"url": "data:"}}}, "spatial.depth: Input should be a valid string"),
        ({"spatial": {"depth": "depth.png"}}, "spatial.depth: expected a data URL"),
        ({"regions": REGIONS}, "regions: belongs into spatial"),
        ({"depth": "data:", "regions": REGIONS}, "depth: belongs into spatial; regions: belongs into spatial"),
        ({"camera": [1, 2, 3, 4]}, "camera: belongs into spatial"),
        ({"image": "data:"}, "image: belongs into messages"),
        ({"spatia": {}}, "spatia: there is no such field here; did you mean 'spatial'?"),
        ({"temprature": 1}, "temprature: there is no such field here; did you mean 'temperature'?"),
        ({"zzz": 1}, "zzz: there is no such field here; expected one of messages, model, spatial, stream"),
        ({"n": 2}, "n: "),
        ({"tools": [{"type": "function"}]}, "tools: "),
        ({"tool_choice": "required"}, "tool_choice: "),
        ({"functions": [{"name": "f", "parameters": {}}]}, "functions: "),
        ({"function_call": {"name": "f"}}, "function_call: "),
        ({"logprobs": True}, "logprobs: "),
        ({"top_logprobs": 5}, "top_logprobs: "),
        ({"modalities": ["text", "audio"]}, "modalities: "),
        ({"response_format": {"type": "json_object"}}, "response_format: "),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}}, "response_format: "),
        ({"web_search_options": {}}, "web_search_options: "),
    ],
)  # fmt: skip
def test_bad_chats_name_the_field_that_is_wrong(client: TestClient, changes: dict[str, Any], expected: str) -> None:
    for stream in (None, True):
        response = client.post("/v1/chat/completions", json={**chat(stream=stream), **changes})
        assert response.status_code == 400 and message(response).startswith(expected.partition(": ")[0]), response.text
        assert expected in message(response) and len(message(response)) < 400


HARMLESS = {
    "temperature": 0.2,
    "top_p": 1,
    "max_tokens": 8,
    "max_completion_tokens": 8,
    "seed": 3,
    "user": "me",
    "stop": ["."],
    "store": False,
    "n": 1,
    "logprobs": False,
    "top_logprobs": 0,
    "tools": [],
    "tool_choice": "none",
    "functions": [],
    "modalities": ["text"],
    "response_format": {"type": "text"},
    "metadata": {"a": "b"},
    "stream": None,
    "stream_options": None,
    "spatial": None,
    "model": "",
}


def test_fields_that_change_nothing_are_accepted(client: TestClient) -> None:
    plain = client.post("/v1/chat/completions", json=chat()).json()["choices"]
    found = client.post("/v1/chat/completions", json={**HARMLESS, **chat()}).json()["choices"]
    assert found == plain
    nothing = said([IMAGE_PART, {"type": "text", "text": "How many pallets are there?"}])
    assert client.post("/v1/chat/completions", json={**dict.fromkeys(HARMLESS), **nothing}).status_code == 200
    assert client.post("/v1/chat/completions", json={**HARMLESS, **nothing}).status_code == 200


def test_every_field_of_openais_client_is_obeyed_accepted_or_refused() -> None:
    parameters = pytest.importorskip("openai.types.chat.completion_create_params")
    names = {*parameters.CompletionCreateParamsBase.__annotations__, "stream"}
    assert names == {*ChatBody.model_fields, *IGNORED_FIELDS, *UNSUPPORTED_FIELDS} - {"spatial"}


def test_replies_that_are_sent_back_and_messages_of_others_are_not_read(client: TestClient) -> None:
    first = client.post("/v1/chat/completions", json=chat()).json()["choices"][0]["message"]
    others = [{"role": "system", "content": None, "anything": 1}, {"role": "tool", "content": [7], "tool_call_id": "x"}]
    sent = chat()
    sent["messages"] = [*others, *sent["messages"], first, {"role": "user", "content": QUESTION, "name": "me"}]
    assert client.post("/v1/chat/completions", json=sent).json()["choices"][0]["message"] == first


def test_a_field_that_is_given_twice_is_refused(client: TestClient) -> None:
    twice = client.post("/v1/chat/completions", content=b'{"spatial": {"depth": "a", "depth": "b"}}')
    assert twice.status_code == 400 and message(twice).startswith("depth: the field is given twice")


def test_models_go_by_their_name(client: TestClient) -> None:
    for stream in (False, True):
        unknown = client.post("/v1/chat/completions", json=chat(model="gpt-4o", stream=stream))
        assert unknown.status_code == 404 and unknown.json()["error"]["code"] == "model_not_found"
        assert "'gpt-4o'" in message(unknown) and "'tiny'" in message(unknown)
    without = chat()
    del without["model"]
    assert client.post("/v1/chat/completions", json=without).json()["model"] == "tiny"
    assert client.get("/v1/models/tiny").json() == client.get("/v1/models").json()["data"][0]
    for name in ("gpt-4o", "org/name", "tin"):
        assert client.get(f"/v1/models/{name}").json()["error"]["code"] == "model_not_found"


def test_usage_counts_the_tokens_of_prompt_and_answer(client: TestClient, predictor: Predictor) -> None:
    inquiry = predictor.prepare(Image.fromarray(pixels()), [QUESTION], None, REGIONS)
    (answer,) = predictor.answer([inquiry])[0]
    usage = client.post("/v1/chat/completions", json=chat()).json()["usage"]
    assert usage["prompt_tokens"] == len(inquiry.questions[0].input_ids) > len(predictor.processor.prompt_start)
    assert 0 < usage["completion_tokens"] == answer.completion_tokens <= predictor.max_new_tokens
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    twice = client.post("/v1/spatial/ask", json=body(questions=[QUESTION, QUESTION])).json()
    assert twice["usage"] == {name: 2 * count for name, count in usage.items()}
    with client.stream("POST", "/v1/chat/completions", json=chat(stream=True, stream_options={"include_usage": True})) as response:
        chunks = [json.loads(line.removeprefix("data: ")) for line in response.iter_lines() if line and line != "data: [DONE]"]
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], usage)
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


def test_scripts_of_listed_pages_may_ask_and_still_need_the_key() -> None:
    settings = Settings("tiny", api_key="sesame", limits=LIMITS, origins=("https://page.example",))
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    with TestClient(make_app(Asleep(), settings)) as client:
        for origin, status in (("https://page.example", 200), ("https://other.example", 400)):
            preflight = client.options("/v1/chat/completions", headers={"origin": origin, **asks})
            assert preflight.status_code == status
            assert ("access-control-allow-origin" in preflight.headers) == (status == 200)
        refused = client.post("/v1/chat/completions", json=chat(), headers={"origin": "https://page.example"})
        assert refused.status_code == 401 and refused.headers["access-control-allow-origin"] == "https://page.example"
        headers = {"origin": "https://page.example", "authorization": "Bearer sesame"}
        assert client.post("/v1/chat/completions", json=chat(), headers=headers).status_code == 200
    plain = TestClient(make_app(Asleep(), Settings("tiny"))).options("/v1/chat/completions", headers={"origin": "https://a.b", **asks})
    assert plain.status_code == 405 and "access-control-allow-origin" not in plain.headers
    for origin in ("page.example", "https://page.example/", "https://page.example/path", ""):
        with pytest.raises(DataError, match="without a path"):
            Settings(origins=(origin,))


IMAGE_FILE = ("image", ("a.png", png(pixels())))


@pytest.mark.parametrize(
    ("files", "data", "expected"),
    [
        ([IMAGE_FILE], {}, "question"),
        ([IMAGE_FILE, IMAGE_FILE], {"question": "a?"}, "image: given 2 times"),
        ([IMAGE_FILE], {"question": "a?", "depth_near": ["dark", "bright"]}, "depth_near: given 2 times"),
        ([IMAGE_FILE], {"question": "a?", "regions": "{"}, "regions: the value is not JSON"),
        ([IMAGE_FILE], {"question": "a?", "camera": "camera.json"}, "camera: "),
        ([IMAGE_FILE], {"question": "a?", "region": "[]"}, "region: there is no field of this name; did you mean 'regions'?"),
        ([IMAGE_FILE], {"question": "a?", "depth": "x"}, "depth: there is no field of this name; send it as a file"),
        ([IMAGE_FILE, ("masks", ("m.png", b"x"))], {"question": "a?"}, "masks: there is no file of this name; did you mean 'mask'?"),
        ([IMAGE_FILE, ("camera", ("c.json", b"{}"))], {"question": "a?"}, "camera: there is no file of this name; send it as a field"),
        ([("depth", IMAGE_FILE[1])], {"question": "a?"}, "image: it is missing"),
        ([IMAGE_FILE], {"question": "a?", "camera": "[1, 2]"}, "camera"),
    ],
)
def test_bad_uploads(client: TestClient, files: list[Any], data: dict[str, str], expected: str) -> None:
    response = client.post("/v1/spatial/ask", files=files, data=data)
    assert response.status_code == 400 and expected in message(response), response.text


FORMS = {
    "numbers": [600, 610, 30, 25],
    "nested": [[600, 0, 30], [0, 610, 25], [0, 0, 1]],
    "ROS": {"K": [600, 0, 30, 0, 610, 25, 0, 0, 1], "width": 64, "height": 48, "D": [0, 0, 0, 0, 0]},
    "Open3D": {"intrinsic_matrix": [600, 0, 0, 0, 610, 0, 30, 25, 1], "width": 64, "height": 48},
    "RealSense": {"width": 128, "height": 96, "ppx": 60, "ppy": 50, "fx": 1200, "fy": 1220, "model": "none", "coeffs": [0] * 5},
    "text": "600,610,30,25",
    "YAML": "camera_matrix:\n  rows: 3\n  cols: 3\n  data: [600, 0, 30, 0, 610, 25, 0, 0, 1]\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_cameras_of_every_form_are_read_alike(client: TestClient, form: str) -> None:
    expected = client.post("/v1/spatial/ask", json=body(camera={"fx": 600, "fy": 610, "cx": 30, "cy": 25})).json()
    answered = client.post("/v1/spatial/ask", json=body(camera=FORMS[form])).json()
    text = FORMS[form] if isinstance(FORMS[form], str) else json.dumps(FORMS[form])
    data = {"question": QUESTION, "regions": json.dumps(REGIONS), "camera": text}
    for found in (answered, client.post("/v1/spatial/ask", files=[IMAGE_FILE], data=data).json()):
        assert [one["answer"] for one in found["answers"]] == [one["answer"] for one in expected["answers"]], found
        assert found["inputs"]["camera"]["fx"] / found["inputs"]["camera"]["width"] == 600 / 64


def test_a_body_without_its_boundary_is_refused(client: TestClient) -> None:
    broken = client.post("/v1/spatial/ask", content=b"--x", headers={"content-type": "multipart/form-data; boundary=y"})
    assert broken.status_code == 400 and message(broken)


def test_large_bodies_are_refused_with_and_without_a_length(client: TestClient) -> None:
    large = b"x" * 1_100_000

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(large), 10_000):
            yield large[start : start + 10_000]

    for content in (large, pieces()):
        response = client.post("/v1/spatial/ask", content=content)
        assert response.status_code == 413 and "1 MB" in message(response)


def test_unknown_paths_and_methods(client: TestClient) -> None:
    assert client.get("/nothing").status_code == 404 and client.get("/v1/spatial/ask").status_code == 405
    assert "/docs" in message(client.get("/nothing"))


def test_a_key_opens_the_service() -> None:
    client = TestClient(make_app(Asleep(), Settings("tiny", api_key="sesame", limits=LIMITS)))
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "sesame "},
        {"authorization": "Bearer \xff".encode("latin-1")},
    ):
        response = client.post("/v1/spatial/ask", json=body(), headers=headers)
        assert response.status_code == (200 if headers.get("authorization") == "sesame " else 401), headers
    assert client.post("/v1/spatial/ask", json=body(), headers={"authorization": "Bearer sesame"}).status_code == 200
    assert client.get("/health").status_code == 200, "whether it is alive may be asked by anybody"


def test_slow_engines_time_out_and_full_queues_refuse() -> None:
    with asleep(Asleep(3.0), timeout_s=0.2) as client:
        late = client.post("/v1/spatial/ask", json=body())
        assert late.status_code == 504 and "0.2 s" in message(late)
    with asleep(Asleep(1.0)) as client:
        found: list[Any] = []
        threads = [threading.Thread(target=lambda: found.append(client.post("/v1/spatial/ask", json=body()))) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert sorted(response.status_code for response in found) == [200, 200, 429, 429]
        assert all(response.headers["retry-after"] == "1" for response in found if response.status_code == 429)


def test_draining_finishes_what_was_accepted_and_takes_nothing_new() -> None:
    engine = Asleep(0.5)
    with asleep(engine) as client:
        gateway = client.app.state.gateway
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(client.post("/v1/spatial/ask", json=body())))
        thread.start()
        while not engine.asked:
            time.sleep(0.01)
        assert asyncio.run(gateway.drain(5.0)) == 0
        thread.join()
        refused = client.post("/v1/spatial/ask", json=body())
        assert (found[0].status_code, refused.status_code, client.get("/ready").status_code) == (200, 503, 503)
        assert refused.headers["retry-after"]


def test_an_engine_that_breaks_is_a_clean_error() -> None:
    with asleep(Asleep(error=RuntimeError("secret detail"))) as client:
        for sent, path in ((body(), "/v1/spatial/ask"), (chat(), "/v1/chat/completions")):
            response = client.post(path, json=sent, headers={"x-request-id": "abc-1"})
            assert response.status_code == 500 and "abc-1" in message(response) and "secret" not in response.text
        assert client.get("/ready").status_code == 503


# ----------------------------------------------------------------------------------------------------------- numbers and pages
def test_requests_are_counted_logged_and_named(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="smolrgpt.service")
    named = client.post("/v1/spatial/ask", json=body(), headers={"x-request-id": "mine-7"})
    assert named.headers["x-request-id"] == "mine-7"
    assert client.get("/health", headers={"x-request-id": "bad id\n" * 30}).headers["x-request-id"] != "bad id\n" * 30
    line = json.loads(next(r.message for r in caplog.records if "mine-7" in r.message))
    assert (line["path"], line["status"], line["method"]) == ("/v1/spatial/ask", 200, "POST") and line["seconds"] > 0
    client.get("/" + "x" * 500)
    numbers = client.get("/metrics").text
    assert 'smolrgpt_requests_total{path="/v1/spatial/ask",status="200"} 1.0' in numbers
    assert "smolrgpt_questions_total 1.0" in numbers and 'path="other",status="404"' in numbers and "xxxx" not in numbers


def test_the_pages_describe_the_service_without_the_network(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert {"/v1/spatial/ask", "/v1/chat/completions", "/v1/models", "/ready", "/metrics"} <= set(schema["paths"])
    assert "SceneBody" in schema["components"]["schemas"]
    page = client.get("/docs").text
    assert "http://" not in page and "https://" not in page
    assert client.get("/v1/models").json()["data"][0]["id"] == "tiny"


def test_a_taken_port_is_one_line(command: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for name in ("serve", "demo"):
            status, _, errors = command(name, "--port", taken.getsockname()[1])
            assert status == 2 and "choose another one with --port" in errors and len(errors.splitlines()) == 1
        status, _, errors = command("serve", "--host", "no such host")
        assert status == 2 and "cannot listen" in errors


@pytest.mark.slow
# --------------------------------------------------------------------------------------------------------------------- for real
@pytest.mark.usefixtures("ray_alone")
def test_the_command_serves_openais_client_survives_a_killed_engine_and_stops(tiny_checkpoint: Path, tmp_path: Path) -> None:
    openai = pytest.importorskip("openai")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "requests.jsonl"
    command = [sys.executable, "-m", "smolrgpt", "serve", str(tiny_checkpoint), "--name", "tiny", "--port", str(port), "--log", str(log)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            started = list(itertools.takewhile(lambda line: not line.startswith("serving"), process.stderr))
            assert process.poll() is None, started
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=60)
            ask = client.chat.completions.create
            sent = chat()
            spatial = {"spatial": sent["spatial"]}
            whole = ask(model="tiny", messages=sent["messages"], extra_body=spatial)
            first = whole.choices[0].message
            counted = {"stream": True, "stream_options": {"include_usage": True}}
            *pieces, last = list(ask(model="tiny", messages=sent["messages"], extra_body=spatial, **counted))
            assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == first.content
            assert (last.choices, last.usage) == ([], whole.usage) and whole.usage.completion_tokens > 0
            with pytest.raises(openai.NotFoundError) as unknown:
                ask(model="gpt-4o", messages=sent["messages"], extra_body=spatial)
            assert unknown.value.code == "model_not_found"
            with pytest.raises(openai.BadRequestError, match="response_format") as unsupported:
                client.chat.completions.parse(model="tiny", messages=sent["messages"], response_format=Usage, extra_body=spatial)
            assert unsupported.value.param == "response_format"
            assert client.models.retrieve("tiny").id == "tiny"
            with pytest.raises(openai.BadRequestError, match="region 9"):
                ask(model="tiny", messages=chat("Is <region 9> left?")["messages"], extra_body=spatial)
            subprocess.run(["pkill", "-9", "-f", "ServeReplica:smolrgpt:Engine"], check=True)
            again = ask(model="tiny", messages=sent["messages"], extra_body=spatial).choices[0].message
            assert again.content == first.content
        finally:
            process.terminate()
            _, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    assert [json.loads(line)["status"] for line in log.read_text().splitlines()] == [200, 200, 404, 400, 200, 400, 200]
