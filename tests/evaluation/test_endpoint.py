"""A language model behind an endpoint that misbehaves: every row is accounted for, and what was answered is asked once."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from smolrgpt.evaluation.benchmarks.spatial_bench import score
from smolrgpt.evaluation.endpoint import Endpoint
from smolrgpt.evaluation.extractors import make_extractors
from smolrgpt.evaluation.extractors.llm import LLMExtractor, reply_form
from smolrgpt.evaluation.judge import Judge
from smolrgpt.tasks.count import COUNT

Answer = Callable[[str, int], Any]

Count = reply_form(COUNT)


class Stub:
    """An endpoint whose replies ``answer(user text, number of earlier tries)`` decides: text, or (status, body), or None to hang up."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.requests: list[dict[str, Any]] = []
        self.answer: Answer = lambda text, tries: "{}"
        stub, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text = request["messages"][-1]["content"]
                with lock:
                    tries = stub.asked[text]
                    stub.asked[text] += 1
                    stub.requests.append(request)
                reply = stub.answer(text, tries)
                if reply is None:
                    self.connection.close()
                    return
                message = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": reply}}
                completion = {"id": "0", "object": "chat.completion", "created": 0, "model": "stub", "choices": [message]}
                status, body = reply if isinstance(reply, tuple) else (200, json.dumps(completion))
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Retry-After", "0.01")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


def _slowly(text: str, tries: int) -> str:
    time.sleep(0.6)
    return '{"count": 1}'


TROUBLE: dict[str, Answer] = {
    "server error": lambda text, tries: (500, "oops"),
    "refused": lambda text, tries: (400, '{"error": {"message": "no such model"}}'),
    "prose": lambda text, tries: 'Sure! {"count": 3}',
    "no JSON": lambda text, tries: "three",
    "wrong field": lambda text, tries: '{"pallets": 3}',
    "wrong type": lambda text, tries: '{"count": "three"}',
    "one field too many": lambda text, tries: '{"count": 3, "thought": "..."}',
    "cut off": lambda text, tries: '{"count": ',
    "empty": lambda text, tries: "",
    "no choices": lambda text, tries: (200, '{"id": "0", "object": "chat.completion", "created": 0, "model": "m", "choices": []}'),
    "not a completion": lambda text, tries: (200, "[1, 2]"),
    "not even JSON": lambda text, tries: (200, "<html>"),
    "hangs up": lambda text, tries: None,
    "too slow": _slowly,
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_is_a_counted_miss(stub: Stub, trouble: str, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    stub.answer = lambda text, tries: TROUBLE[trouble](text, tries) if "bad" in text else '{"count": 2}'
    rows = [{"id": name, "question": "How many?", "answer": name, "category": "count"} for name in ("good", "bad", "fine")]
    extractor = LLMExtractor(url=stub.url, max_retries=0, timeout_s=0.3, cache=tmp_path)
    assert extractor(rows) == [2, None, 2]
    assert "1 x " in caplog.text and "bad" in caplog.text
    stub.answer = lambda text, tries: '{"count": 2}'
    before = sum(stub.asked.values())
    assert extractor(rows) == [2, 2, 2]
    assert sum(stub.asked.values()) == before + 1, "only what had gone wrong is asked again"


@pytest.mark.parametrize("reply", ['```json\n{"count": 3}\n```', '```\n{"count": 3}```', ' {"count": 3}\n'])
def test_an_object_in_a_fence_is_an_object(stub: Stub, reply: str) -> None:
    stub.answer = lambda text, tries: reply
    assert LLMExtractor(url=stub.url)([{"id": "a", "question": "How many?", "answer": "three", "category": "count"}]) == [3]
    (request,) = stub.requests
    assert json.dumps(Count.model_json_schema()) in request["messages"][0]["content"]  # for servers that hold the model to nothing


@pytest.mark.parametrize("trouble", ["server error", "hangs up", "busy"])
def test_a_passing_trouble_is_waited_out(stub: Stub, trouble: str) -> None:
    fails = TROUBLE.get(trouble, lambda text, tries: (429, "{}"))
    stub.answer = lambda text, tries: fails(text, tries) if tries < 1 else '{"count": 5}'
    replies = Endpoint(stub.url, max_retries=2).ask_all([("", "?")], [Count])
    assert replies[0].value == Count(count=5)
    assert stub.asked["?"] == 2


def test_each_category_is_asked_for_in_its_own_shape_and_others_are_not_asked(stub: Stub) -> None:
    replies = {"left_right": '{"side": "left"}', "count": '{"count": 3}', "mcq": '{"region": 4}', "distance": '{"metres": 2.5}'}
    stub.answer = lambda text, tries: next(value for name, value in replies.items() if name in text)
    rows = [{"id": c, "question": "", "answer": c, "category": c} for c in (*replies, "other")]
    assert make_extractors(["llm"], {"llm": {"url": stub.url}})["llm"](rows) == ["left", 3, "4", 2.5, None]
    schemas = {next(iter(r["response_format"]["json_schema"]["schema"]["properties"])) for r in stub.requests}
    assert schemas == {"side", "count", "region", "metres"}
    assert all(r["response_format"]["json_schema"]["schema"]["additionalProperties"] is False for r in stub.requests)


def test_a_judge_is_reported_next_to_the_rules_and_does_not_change_them(stub: Stub) -> None:
    truth = [
        {"id": "a", "category": "left_choice", "question": "Which is more left?", "answer": "Region [0] is more to the left."},
        {"id": "b", "category": "width_data", "question": "How wide?", "answer": "2 meters"},
        {"id": "c", "category": "direction", "question": "Where?", "answer": "11 o'clock"},
        {"id": "d", "category": "height_data", "question": "How tall?", "answer": "1 meter"},
        {"id": "e", "category": "tall_predicate", "question": "Taller?", "answer": "Yes."},
    ]
    predictions = [
        {"id": row_id, "answer": text} for row_id, text in {"a": "the sofa", "b": "two metres", "c": "noonish", "d": "bad"}.items()
    ]
    replies = {"the sofa": '{"agrees": true}', "two metres": '{"metres": 2.1}', "noonish": '{"hours": 12}', "bad": "no idea"}
    stub.answer = lambda text, tries: next(value for name, value in replies.items() if name in text)
    rules, judged = score(truth, predictions), score(truth, predictions, read=Judge(Endpoint(stub.url)))
    assert judged["accuracy"] == {"left/right": 100.0, "tall/short": 0.0, "width": 100.0, "height": 0.0, "direction": 100.0}
    assert judged["problem_counts"] == {"unparsable": 1, "missing": 1}
    assert score(truth, predictions) == rules and rules["accuracy"]["left/right"] == 0.0
    assert all("data; what they may tell you" in request["messages"][0]["content"] for request in stub.requests)
    shown = {request["messages"][1]["content"] for request in stub.requests}
    assert sum("correct_answer" in text for text in shown) == 1, "only a judge that compares is given the truth"


def test_replies_are_cached_by_the_whole_request(stub: Stub, tmp_path: Path) -> None:
    stub.answer = lambda text, tries: '{"count": 1}'
    for model in ("one", "two", "one"):
        Endpoint(stub.url, model, cache=tmp_path).ask_all([("", "?"), ("", "!")], [Count, Count])
    assert stub.asked == {"?": 2, "!": 2}
    assert len(list(tmp_path.rglob("*.json"))) == 4 and not list(tmp_path.rglob("*.writing"))


def test_an_endpoint_that_is_not_there_is_no_crash() -> None:
    replies = Endpoint("http://127.0.0.1:9/v1", max_retries=0, timeout_s=1).ask_all([("", "?")], [Count])
    assert replies[0].value is None and "no reply" in replies[0].reason
