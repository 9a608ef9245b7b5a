"""The service's HTTP side: authorisation, limits, request formats, ids, logs and metrics. It decodes nothing and needs no torch.

An engine is whatever implements ``EngineLike``, so that the same gateway runs on Ray Serve and in tests.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from smolrgpt import __version__
from smolrgpt.apps.service.ask_request import request_from_chat, request_from_form, request_from_json
from smolrgpt.apps.service.bodies import AnswersBody, AskBody, ChatBody, SceneBody, parse
from smolrgpt.apps.service.messages import AskRequest, Limits, Refusal, Reply
from smolrgpt.schema import DataError, brief

logger = logging.getLogger("smolrgpt.service")

_REQUEST_ID = re.compile(r"[\w.-]{1,64}")
#: What browsers send as an origin, and the wildcard.
_ORIGIN = re.compile(r"\*|https?://[^/\s]+")
_ERROR_TYPES = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error", 503: "server_error", 504: "timeout_error"}
_ERROR_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class EngineLike(Protocol):
    """The interface of an engine. ``ask`` and ``stream`` raise Refusal when nothing can answer now."""

    async def ready(self) -> bool:
        """Return whether a request would be answered now."""
        ...

    async def ask(self, ask: AskRequest) -> Reply:
        """Return all answers, or the reason why there are none."""
        ...

    def stream(self, ask: AskRequest) -> AsyncIterator[str | Reply]:
        """Yield the unfinished answer to the first question again and again, and at last the Reply."""
        ...


@dataclass(frozen=True)
class Settings:
    """Settings of a gateway.

    Attributes:
        model: The name that clients see.
        api_key: The key they must send; None = no key.
        limits: Of a request.
        origins: Of the web pages whose scripts may ask, such as "https://example.com"; "*" = any.

    Raises:
        DataError: When an origin is none.
    """

    model: str = "nano"
    api_key: str | None = None
    limits: Limits = field(default_factory=Limits)
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise DataError(f"origin {origin!r}: expected http(s)://HOST[:PORT] without a path, as browsers send it, or *")


class Gateway:
    """The state of the service: requests in flight, whether new ones are accepted, and metrics for Prometheus."""

    def __init__(self, engine: EngineLike, settings: Settings):
        self.engine, self.settings = engine, settings
        self.draining = False
        self.in_flight = 0
        self.registry = CollectorRegistry()
        self.requests = Counter("smolrgpt_requests", "Requests by path and HTTP status", ["path", "status"], registry=self.registry)
        self.seconds = Histogram("smolrgpt_request_seconds", "Seconds to the last byte", ["path"], buckets=_SECONDS, registry=self.registry)
        self.questions = Counter("smolrgpt_questions", "Questions answered", registry=self.registry)
        self.batch = Histogram(
            "smolrgpt_batch_questions", "Questions answered together", buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=self.registry
        )
        Gauge("smolrgpt_requests_in_flight", "Requests being read or answered", registry=self.registry).set_function(lambda: self.in_flight)

    @asynccontextmanager
    async def queue_slot(self) -> AsyncIterator[None]:
        """Hold one request's slot in the queue. Raises Refusal when the queue is full or closed, and when the request takes too long."""
        limits = self.settings.limits
        if self.draining:
            raise Refusal(503, "this service is shutting down", retry_after_s=5)
        if self.in_flight >= limits.max_queue:
            raise Refusal(429, f"{limits.max_queue} requests are waiting already; try again", retry_after_s=1)
        self.in_flight += 1
        try:
            async with asyncio.timeout(limits.timeout_s):
                yield
        except TimeoutError as error:
            raise Refusal(504, f"no answer within {limits.timeout_s:g} s; ask fewer questions at once, or later") from error
        finally:
            self.in_flight -= 1

    async def answers(self, ask: AskRequest) -> Reply:
        """Return the engine's answers. Raises Refusal where there are none."""
        return self.count_reply(await self.engine.ask(ask))

    def count_reply(self, reply: Reply) -> Reply:
        """Count a reply in the metrics and return it. Raises Refusal with the reply's error."""
        if reply.error is not None:
            raise Refusal(reply.status, reply.error)
        self.questions.inc(len(reply.answers))
        self.batch.observe(reply.batch)
        return reply

    async def drain(self, timeout_s: float) -> int:
        """Refuse new requests and wait for those in flight; return how many are left after ``timeout_s``."""
        self.draining = True
        ends = time.monotonic() + timeout_s
        while self.in_flight and time.monotonic() < ends:
            await asyncio.sleep(0.05)
        return self.in_flight


def make_app(engine: EngineLike, settings: Settings) -> FastAPI:
    """Return the service around an engine; ``app.state.gateway`` is its ``Gateway``."""
    app: FastAPI = FastAPIOffline(
        redoc_url=None,
        title="smolrgpt",
        version=__version__,
        description="Answers questions about marked regions of an RGB-D image. Answers come from a model: they can be wrong.",
    )
    gateway = Gateway(engine, settings)
    app.state.gateway = gateway
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(_Guard, gateway=gateway)
    if settings.origins:  # around the guard: browsers send no key with the request that asks whether a script may ask
        exposed = ["x-request-id", "retry-after"]
        app.add_middleware(CORSMiddleware, settings.origins, ["GET", "POST"], ["*"], expose_headers=exposed)
    ask, chat = (body.model_json_schema(ref_template="#/components/schemas/{model}") for body in (AskBody, ChatBody))
    definitions = {**ask.pop("$defs", {}), **chat.pop("$defs", {})}
    _add_spatial_ask(app, gateway, {"application/json": {"schema": ask}, "multipart/form-data": {"schema": _FORM}})
    _add_chat(app, gateway, {"application/json": {"schema": chat}})
    _add_status(app, gateway)
    document = app.openapi()  # the application keeps this dict and serves it
    document.setdefault("components", {}).setdefault("schemas", {}).update(definitions)
    return app


def _add_spatial_ask(app: FastAPI, gateway: Gateway, content: dict[str, Any]) -> None:
    @app.post("/v1/spatial/ask", response_model=AnswersBody, openapi_extra={"requestBody": {"required": True, "content": content}})
    async def spatial_ask(request: Request) -> Any:
        """Ask about one image, as JSON with data URLs or as an upload."""
        started = time.perf_counter()
        async with gateway.queue_slot():
            ask = await _read_ask(request, gateway.settings.limits)
            reply = await gateway.answers(ask)
        answers = [{**answer, "question": question} for question, answer in zip(ask.questions, reply.answers, strict=True)]
        usage, seconds = _usage(reply), round(time.perf_counter() - started, 4)
        whole = {"id": request.state.id, "model": gateway.settings.model, "answers": answers}
        return {**whole, "inputs": reply.answers[0]["inputs"], "usage": usage, "seconds": seconds}


def _add_chat(app: FastAPI, gateway: Gateway, content: dict[str, Any]) -> None:
    @app.post("/v1/chat/completions", openapi_extra={"requestBody": {"required": True, "content": content}})
    async def chat_completions(request: Request) -> Response:
        """Answer a request in OpenAI's protocol; depth, regions and camera go into the extension field ``spatial``."""
        chat = {"id": f"chatcmpl-{request.state.id}", "created": int(time.time()), "model": gateway.settings.model}
        async with gateway.queue_slot():
            body = parse(await request.body(), ChatBody)
            if body.model and body.model != gateway.settings.model:
                raise _no_such_model(body.model, gateway.settings.model)
            ask = request_from_chat(body, gateway.settings.limits)
            if not body.stream:
                reply = await gateway.answers(ask)
                message = {"role": "assistant", **_message(reply.answers[0])}
                choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
                return JSONResponse({**chat, "object": "chat.completion", "choices": [choice], "usage": _usage(reply)})
        deltas = _stream(gateway, ask)
        first = await anext(deltas)  # an error in the request becomes a status before anything is streamed
        with_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return StreamingResponse(_events(chat, first, deltas, with_usage), media_type="text/event-stream")


def _no_such_model(name: str, served: str) -> Refusal:
    return Refusal(404, f"model: there is no model {brief(repr(name))}; this service has {served!r}", "model", "model_not_found")


def _add_status(app: FastAPI, gateway: Gateway) -> None:
    model = gateway.settings.model
    described = {"id": model, "object": "model", "created": 0, "owned_by": "smolrgpt"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """Return the list with the one model that is served, in OpenAI's form."""
        return {"object": "list", "data": [described]}

    @app.get("/v1/models/{name:path}")
    async def model_of_name(name: str) -> dict[str, Any]:
        """Return the model that is served, in OpenAI's form; status 404 for any other name."""
        if name != model:
            raise _no_such_model(name, model)
        return described

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Return status 200 as long as the HTTP server runs."""
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> Response:
        """Return status 200 if a question would be answered now, else 503."""
        answers = not gateway.draining and await gateway.engine.ready()
        state = "shutting down" if gateway.draining else "ready" if answers else "the engine does not answer"
        return JSONResponse({"status": state, "in_flight": gateway.in_flight}, 200 if answers else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return counters and histograms in Prometheus' format."""
        return PlainTextResponse(generate_latest(gateway.registry))

    @app.get("/", include_in_schema=False)
    async def root() -> dict[str, Any]:
        return {"service": "smolrgpt", "version": __version__, "model": model, "docs": "/docs", "openapi": "/openapi.json"}


_FORM = {
    "type": "object",
    "required": ["image", "question"],
    "properties": {
        "image": {"type": "string", "format": "binary"},
        "depth": {"type": "string", "format": "binary"},
        "mask": {"type": "array", "items": {"type": "string", "format": "binary"}, "description": "come before other regions"},
        "question": {"type": "array", "items": {"type": "string"}},
        **{name: {"type": "string"} for name in SceneBody.model_fields if name != "depth"},
        "regions": {"type": "string", "description": "JSON, as in the JSON body"},
        "camera": {"type": "string", "description": "JSON, as in the JSON body"},
    },
}


async def _read_ask(request: Request, limits: Limits) -> AskRequest:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        return request_from_json(parse(await request.body(), AskBody), limits)
    fields: dict[str, list[str]] = {}
    files: dict[str, list[bytes]] = {}
    async with request.form(
        max_files=limits.max_regions + 8, max_fields=limits.max_questions + 8, max_part_size=round(1e6 * limits.max_body_mb)
    ) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                files.setdefault(name, []).append(await value.read())
            else:
                fields.setdefault(name, []).append(value)
    return request_from_form(fields, files, limits)


# -------------------------------------------------------------------------------------------------------------------- streaming
def _message(answer: dict[str, Any]) -> dict[str, Any]:
    short = {name: answer[name] for name in ("normalized_answer", "unit", "category", "reason", "confidence", "inputs")}
    return {"content": answer["answer"], "spatial": short}


def _usage(reply: Reply) -> dict[str, int]:
    """Count the tokens of all answers, in OpenAI's form."""
    prompt, completion = (sum(answer[name] for answer in reply.answers) for name in ("prompt_tokens", "completion_tokens"))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def _stream(gateway: Gateway, ask: AskRequest) -> AsyncIterator[dict[str, Any] | Reply]:
    """Yield the deltas of a growing answer, of which the last has the rest of it and ``spatial``, and then the reply. Raises Refusal."""
    deltas: asyncio.Queue[dict[str, Any] | Reply | None] = asyncio.Queue()

    async def produce() -> None:  # a separate task: the reader of the deltas may change tasks, which asyncio.timeout does not survive
        sent = ""
        try:
            async with gateway.queue_slot():
                async for part in gateway.engine.stream(ask):
                    if isinstance(part, Reply):
                        message = _message(gateway.count_reply(part).answers[0])
                        deltas.put_nowait({**message, "content": message["content"].removeprefix(sent)})
                        deltas.put_nowait(part)
                    elif part.startswith(sent) and part != sent:
                        deltas.put_nowait({"content": part.removeprefix(sent)})
                        sent = part
        finally:
            deltas.put_nowait(None)

    task = asyncio.create_task(produce())
    try:
        while (delta := await deltas.get()) is not None:
            yield delta
        await task
    finally:
        task.cancel()


async def _events(
    chat: dict[str, Any], first: dict[str, Any] | Reply, rest: AsyncIterator[dict[str, Any] | Reply], with_usage: bool
) -> AsyncIterator[str]:
    def event(choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> str:
        chunk = {**chat, "object": "chat.completion.chunk", "choices": choices} | ({"usage": usage} if with_usage else {})
        return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"

    def choice(delta: dict[str, Any], reason: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "finish_reason": reason}]

    assert not isinstance(first, Reply)
    yield event(choice({"role": "assistant", **first}))
    usage = None
    try:
        async for part in rest:
            if isinstance(part, Reply):
                usage = _usage(part)
            else:
                yield event(choice(part))
    except Refusal as error:  # too late for a status
        yield f"data: {json.dumps(_error_body(error))}\n\n"
        return
    yield event(choice({}, "stop"))
    if with_usage:
        yield event([], usage)
    yield "data: [DONE]\n\n"


# ------------------------------------------------------------------------------------------------------------------------ errors
def _error_body(error: Refusal) -> dict[str, Any]:
    """Return an error in OpenAI's form."""
    kind, code = _ERROR_TYPES.get(error.status, "invalid_request_error"), error.code or _ERROR_CODES.get(error.status)
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": code}}


def _error(error: Refusal) -> JSONResponse:
    headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
    headers |= {"www-authenticate": "Bearer"} if error.status == 401 else {}
    return JSONResponse(_error_body(error), error.status, headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _error(error)


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer requests that the framework refuses: unknown paths and methods, broken uploads."""
    assert isinstance(error, HTTPException)
    hint = "; /docs lists the paths and methods" if error.status_code in (404, 405) else ""
    return _error(Refusal(error.status_code, f"{request.method} {request.url.path}: {error.detail}{hint}"))


class _Guard:
    """Middleware: gives every request an id, checks key and size of the body, logs one line, and hides tracebacks."""

    def __init__(self, app: ASGIApp, gateway: Gateway):
        self.app, self.gateway = app, gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get(b"x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["id"] = request_id
        started, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            refusal = self._refusal(scope["path"], headers)
            if refusal is not None:
                await refusal(scope, receive, answer)
            else:
                await self.app(scope, self._counting(receive), answer)
        except Exception:
            logger.exception("request %s failed", request_id)
            if not status:
                await _error(Refusal(500, f"the service failed at this request; its log says more under {request_id}"))(
                    scope, receive, answer
                )
        finally:
            self._log(scope, request_id, status, time.perf_counter() - started)

    def _refusal(self, path: str, headers: dict[bytes, str]) -> Response | None:
        key, limit = self.gateway.settings.api_key, 1e6 * self.gateway.settings.limits.max_body_mb
        if key is not None and path.startswith("/v1/"):
            given = headers.get(b"authorization", "").removeprefix("Bearer ").strip()
            if not hmac.compare_digest(given.encode("latin-1"), key.encode()):
                return _error(Refusal(401, "this service wants an API key: Authorization: Bearer KEY"))
        length = headers.get(b"content-length", "0")
        if not length.isdecimal() or int(length) > limit:
            return _error(Refusal(413, self._too_large()))
        return None

    def _too_large(self) -> str:
        return f"the body is larger than {self.gateway.settings.limits.max_body_mb:g} MB; scale the images down first"

    def _counting(self, receive: Receive) -> Receive:
        total, limit = 0, 1e6 * self.gateway.settings.limits.max_body_mb

        async def counted() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > limit:
                raise Refusal(413, self._too_large())
            return message

        return counted

    def _log(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "other")  # only known routes, so that the number of metrics stays small
        self.gateway.requests.labels(path, str(status)).inc()
        self.gateway.seconds.labels(path).observe(seconds)
        line = {"time": round(time.time(), 3), "request_id": request_id, "method": scope["method"], "path": scope["path"][:200]}
        logger.info(json.dumps({**line, "status": status, "seconds": round(seconds, 4), "in_flight": self.gateway.in_flight}))
