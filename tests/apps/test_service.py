"""Laws of the service: what it answers, what it refuses and how. Without Ray but for the last test."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from service_client import LABELS, LIMITS, QUESTION, REGIONS, Asleep, asleep, body, chat, message, pixels, png, url

from smolrgpt.apps.service.bodies import Usage
from smolrgpt.apps.service.engine import Engine, QueuedInquiry
from smolrgpt.apps.service.gateway import Settings, make_app
from smolrgpt.apps.service.messages import AskRequest
from smolrgpt.inference.predictor import Predictor
from smolrgpt.schema import Region

pytestmark = pytest.mark.slow  # many cases, each short


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


# ------------------------------------------------------------------------------------------------------------------ limits and life
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
