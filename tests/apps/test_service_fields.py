"""Laws of a request's fields: which are read, in which forms, and how those that cannot be used are refused. Without Ray."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from service_client import LABELS, LIMITS, QUESTION, REGIONS, Asleep, body, chat, message, pixels, png, url

from smolrgpt.apps.service.bodies import IGNORED_FIELDS, UNSUPPORTED_FIELDS, ChatBody
from smolrgpt.apps.service.gateway import Settings, make_app
from smolrgpt.inference.predictor import Predictor
from smolrgpt.schema import DataError

pytestmark = pytest.mark.slow  # many cases, each short


def truncated() -> str:
    return url(png(pixels())[:200])


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
