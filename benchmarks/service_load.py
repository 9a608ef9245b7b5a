"""A load on the service, valid and hostile requests mixed: are answers lost, swapped or late, and what happens if an engine is killed?

    python -m benchmarks.service_load                  # starts 'smolrgpt serve nano' on this machine, asks 2,000 times, stops it
    python -m benchmarks.service_load --requests 400 --clients 8 --no-kill --json

The expected answers of valid requests come from a predictor in this process, so that an answer to another request is noticed. Every eighth
request is hostile and must get the matching status. Halfway, the engine is killed with SIGKILL.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from benchmarks.output import make_parser, report
from smolrgpt.apps.tour import held_out_questions, with_table_indices
from smolrgpt.inference.loading import load_predictor
from smolrgpt.schema import DepthMap

CATEGORIES_TO_CHECK = ("left_right", "count", "mcq")  # the last digit of a length may differ between batches in bf16


@dataclass(frozen=True)
class Request:
    """A request, the status it must get, and the short answers it must get (None where they are not checked)."""

    path: str
    body: bytes
    status: int
    truth: tuple[Any, ...] = ()


def data_url(image: Image.Image) -> str:
    """Return the image as a data URL of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def good_requests(model: str, num_scenes: int, seed: int) -> list[Request]:
    """Return chat completions and plain requests about synthetic scenes, one or two questions each."""
    predictor = load_predictor(model)
    requests = []
    for number in range(num_scenes):
        samples = held_out_questions(seed, number, 8)
        table = list(dict.fromkeys(region for sample in samples for region in sample.regions))
        first = samples[0]
        assert isinstance(first.depth, DepthMap) and isinstance(first.image, Image.Image)
        depth = Image.fromarray(np.nan_to_num(first.depth.values * 1000).astype(np.uint16))
        questions = [with_table_indices(sample, table)[0] for sample in samples]
        metres = DepthMap.from_image(depth)
        camera = {name: getattr(first.camera, name) for name in ("fx", "fy", "cx", "cy")}
        answers = predictor.ask_many(first.image, questions, metres, table, camera)
        truths = [a.normalized_answer if a.category in CATEGORIES_TO_CHECK and a.confidence > 0.9 else None for a in answers]
        spatial = {"depth": data_url(depth), "regions": [{"rle": region.to_rle()} for region in table], "camera": camera}
        image_url = data_url(first.image)
        for start in range(0, len(questions), 2):
            asked = questions[start : start + 2]
            body = {"image": image_url, "questions": asked, **spatial}
            requests.append(Request("/v1/spatial/ask", json.dumps(body).encode(), 200, tuple(truths[start : start + 2])))
            content = [{"type": "image_url", "image_url": {"url": image_url}}, {"type": "text", "text": asked[0]}]
            chat = {"model": "nano", "messages": [{"role": "user", "content": content}], "spatial": spatial}
            requests.append(Request("/v1/chat/completions", json.dumps(chat).encode(), 200, (truths[start],)))
    return requests


def hostile_requests(good: Request) -> list[Request]:
    """Return one request of each kind of fault."""
    body = json.loads(good.body)

    def changed(status: int, **changes: Any) -> Request:
        return Request("/v1/spatial/ask", json.dumps({**body, **changes}).encode(), status)

    bomb = io.BytesIO()
    Image.new("L", (12_000, 12_000)).save(bomb, format="PNG")
    return [
        Request("/v1/spatial/ask", b"{", 400),
        Request("/v1/spatial/ask", b"\xff" * 2000, 400),
        Request("/v1/spatial/ask", b"x" * 40_000_000, 413),
        Request("/v1/nothing", b"{}", 404),
        changed(400, image="http://127.0.0.1/a.png"),
        changed(400, image=body["image"][: len(body["image"]) // 2 // 4 * 4]),
        changed(413, image="data:image/png;base64," + base64.b64encode(bomb.getvalue()).decode()),
        changed(400, questions=["How far is <region 99>?"]),
        changed(413, questions=["why " * 1000]),
        changed(400, regions=[{"rle": {"size": [216, 384], "counts": "garbage"}}]),
        changed(400, depth=body["image"]),
        changed(400, camera={"fx": -1, "fy": 1, "cx": 1, "cy": 1}),
    ]


async def load(url: str, requests: list[Request], clients: int, kill_at: int | None) -> dict[str, Any]:
    """Send all requests; returns statuses, wrong answers and seconds. kill_at: number of requests after which the engine is killed."""
    queue = list(reversed(requests))
    seconds: list[float] = []
    bad_seconds: list[float] = []
    statuses: Counter[str] = Counter()
    crossed, lost, unexpected, checked = 0, 0, [], 0
    started, killed_s = time.perf_counter(), None

    async def client() -> None:
        nonlocal crossed, lost, checked, killed_s
        async with httpx.AsyncClient(base_url=url, timeout=120) as http:
            while queue:
                if kill_at is not None and len(requests) - len(queue) >= kill_at and killed_s is None:
                    killed_s = time.perf_counter() - started
                    subprocess.run(["pkill", "-9", "-f", "ServeReplica:smolrgpt:Engine"], check=True)
                request = queue.pop()
                request_start = time.perf_counter()
                try:
                    response = await http.post(request.path, content=request.body, headers={"content-type": "application/json"})
                except httpx.HTTPError as error:
                    lost += 1
                    unexpected.append(repr(error))
                    continue
                took = time.perf_counter() - request_start
                (seconds if request.status == 200 else bad_seconds).append(took)
                statuses[f"{request.status} expected, {response.status_code} found"] += 1
                if response.status_code != request.status:
                    unexpected.append(f"{response.status_code} for {request.status}: {response.text[:200]}")
                elif request.status == 200:
                    found = short_answers(response.json())
                    pairs = [(a, b) for a, b in zip(found, request.truth, strict=True) if b is not None]
                    checked += len(pairs)
                    crossed += sum(a != b for a, b in pairs)
                elif not response.json()["error"]["message"] and "detail" not in response.json():
                    unexpected.append("an error without a message")

    await asyncio.gather(*(client() for _ in range(clients)))
    whole = time.perf_counter() - started
    cuts = dict(zip(("p50", "p95", "p99", "max"), np.percentile(seconds, (50, 95, 99, 100)).round(3).tolist(), strict=True))
    return {
        "requests": len(requests),
        "clients": clients,
        "seconds": round(whole, 1),
        "requests_per_second": round(len(requests) / whole, 1),
        "questions_per_second": round(sum(len(r.truth) for r in requests if r.status == 200) / whole, 1),
        "seconds_of_good_requests": cuts,
        "seconds_of_hostile_requests_p95": round(float(np.percentile(bad_seconds, 95)), 3),
        "lost": lost,
        "answers_checked": checked,
        "answers_of_another_request": crossed,
        "engine_killed_after_s": None if killed_s is None else round(killed_s, 1),
        "statuses": dict(sorted(statuses.items())),
        "unexpected": unexpected[:20],
        "num_unexpected": len(unexpected),
    }


def short_answers(found: dict[str, Any]) -> list[Any]:
    """Return the short answers in a reply of either kind."""
    if "answers" in found:
        return [answer["normalized_answer"] for answer in found["answers"]]
    return [choice["message"]["spatial"]["normalized_answer"] for choice in found["choices"]]


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = make_parser("service_load", __doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--no-kill", action="store_true")
    return parser


def main() -> None:
    """Run the command line."""
    given = build_parser().parse_args()
    good = good_requests(given.model, given.scenes, given.seed)
    hostile = hostile_requests(good[0])
    draw = random.Random(given.seed)
    requests = [draw.choice(hostile) if number % 8 == 7 else draw.choice(good) for number in range(given.requests)]
    url = f"http://127.0.0.1:{given.port}"
    log = Path("out/service_load.jsonl")
    log.parent.mkdir(exist_ok=True)
    arguments = ["serve", given.model, "--port", str(given.port), "--replicas", str(given.replicas), "--log", str(log)]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with subprocess.Popen([sys.executable, "-m", "smolrgpt", *arguments], stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            started = time.perf_counter()
            next(line for line in process.stderr if line.startswith("serving"))
            result = {"start_s": round(time.perf_counter() - started, 1)}
            result |= asyncio.run(load(url, requests, given.clients, None if given.no_kill else given.requests // 2))
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=90)
    result["exit_code"] = process.returncode
    report(result, given, partial(json.dumps, indent=1))


if __name__ == "__main__":
    main()
