"""The service on Ray Serve: one gateway, engine replicas behind it, on this machine or a cluster. Batching and routing are Ray's."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from smolrgpt.apps.service.gateway import Settings, make_app
from smolrgpt.apps.service.messages import AskRequest, Refusal, Reply

APP = "smolrgpt"
#: A request waits this long for others to be batched with; requests that arrive while a batch is answered form the next one.
BATCH_WAIT_S = 0.002
#: How long accepted requests may take when the service stops.
DRAIN_S = 30.0
#: Time that Ray has to stop once all requests are answered.
STOP_S = 30.0
#: OpenMP threads sleep while they wait: the HTTP side needs the cores as well, and threads that spin take them away.
_PASSIVE_THREADS = {"OMP_WAIT_POLICY": "passive"}
#: Times a request is handed to another replica when the one that had it died.
ATTEMPTS = 3

logger = logging.getLogger("smolrgpt.service")


@dataclass(frozen=True)
class Deployment:
    """The settings under which the gateway and the engines of the service run.

    checkpoint: name, folder or hub id, the same on every machine. replicas: engines, each with ``gpus`` GPUs (may be a share) and
    ``threads`` CPU threads (None: ``set_threads``). batch: requests answered together. address: of a Ray cluster, None starts
    one here. log: a file on the gateway's machine.
    """

    checkpoint: str = "nano"
    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 1
    gpus: float = 0.0
    threads: int | None = None
    batch: int = 16
    address: str | None = None
    log: str | None = None


class RayEngine:
    """The engine of the gateway: hands requests to the replicas. A request whose replica dies goes to another one."""

    def __init__(self) -> None:
        self._handle: Any = None

    @property
    def handle(self) -> Any:
        """Handle of the engine replicas in Ray Serve."""
        from ray import serve

        self._handle = self._handle or serve.get_deployment_handle("Engine", APP)
        return self._handle

    async def ready(self) -> bool:
        """Return whether a replica answers within a second."""
        try:
            return bool(await asyncio.wait_for(self.handle.ping.remote(), 1.0))
        except Exception:  # whatever the reason, it is not ready
            return False

    async def ask(self, ask: AskRequest) -> Reply:
        """Return a replica's reply. Raises Refusal 503 when ``ATTEMPTS`` replicas die."""
        from ray.exceptions import RayActorError

        for attempt in range(ATTEMPTS):
            try:
                reply: Reply = await self.handle.ask.remote(ask)
                return reply
            except RayActorError:
                logger.warning("an engine died at attempt %d of a request", attempt + 1)
        raise _DIED

    async def stream(self, ask: AskRequest) -> AsyncIterator[str | Reply]:
        """Stream as ``Engine.stream``; another replica repeats what a dead one sent, since decoding is greedy. Raises Refusal 503."""
        from ray.exceptions import RayActorError

        for attempt in range(ATTEMPTS):
            try:
                async for part in self.handle.options(stream=True).stream.remote(ask):
                    yield part
                return
            except RayActorError:
                logger.warning("an engine died at attempt %d of a stream", attempt + 1)
        raise _DIED


_DIED = Refusal(503, "the engines died at this request; try again, and if it stays so, their logs say why", retry_after_s=5)


def application(settings: Settings, deployment: Deployment) -> Any:
    """Return the Ray Serve application: a gateway bound to engine replicas."""
    from ray import serve

    engines = serve.deployment(
        name="Engine",
        num_replicas=deployment.replicas,
        max_ongoing_requests=settings.limits.max_queue + 64,
        ray_actor_options={"num_cpus": 0, "num_gpus": deployment.gpus, "runtime_env": {"env_vars": _PASSIVE_THREADS}},
        health_check_period_s=2,
        graceful_shutdown_timeout_s=DRAIN_S,
    )(_engine_class(settings, deployment))
    gateway = serve.deployment(
        name="Gateway",
        max_ongoing_requests=4 * settings.limits.max_queue + 64,  # the gateway counts and refuses; Ray's own limit must not be reached
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=DRAIN_S,
    )(_gateway_class(settings, deployment))
    return gateway.bind(engines.bind())


def _engine_class(settings: Settings, deployment: Deployment) -> type:
    """Define the engine replica of a deployment; it loads the model when Ray starts it."""
    from ray import serve

    from smolrgpt.apps.service.engine import Engine, QueuedInquiry

    shared_threads = max(1, (os.cpu_count() or 1) // deployment.replicas)

    class EngineReplica(Engine):
        def __init__(self) -> None:
            import torch
            from PIL import Image

            from smolrgpt.inference.loading import load_predictor
            from smolrgpt.precision import set_threads

            Image.MAX_IMAGE_PIXELS = round(1e6 * settings.limits.max_megapixels)  # of files whose size the gateway does not see
            super().__init__(load_predictor(deployment.checkpoint))
            if deployment.threads:
                torch.set_num_threads(deployment.threads)
            else:
                set_threads(self.predictor.model, shared_threads)
            self.thread = ThreadPoolExecutor(1)  # always the same thread: each thread that calls torch gets a thread pool of its own
            self.idle = asyncio.Event()
            self.idle.set()

        async def ping(self) -> bool:
            return True

        async def answer_item(self, item: QueuedInquiry) -> Reply:
            await self.idle.wait()  # otherwise Ray closes a batch after BATCH_WAIT_S and queues many small ones
            return await self.batched(item)

        @serve.batch(max_batch_size=deployment.batch, batch_wait_timeout_s=BATCH_WAIT_S)
        async def batched(self, items: list[QueuedInquiry]) -> list[Reply]:
            self.idle.clear()
            try:
                return await asyncio.get_running_loop().run_in_executor(self.thread, self.answer_batch, items)
            finally:
                self.idle.set()

    return EngineReplica


def _gateway_class(settings: Settings, deployment: Deployment) -> type:
    """Define the HTTP side of a deployment."""
    from ray import serve

    def build() -> Any:
        _log_to(deployment.log)
        return make_app(RayEngine(), settings)

    @serve.ingress(build)
    class Gateway:
        app: Any

        def __init__(self, engine: Any):  # bound so that Ray deploys the engine, which build() finds by its name
            pass

        async def drain(self, timeout_s: float) -> int:
            return int(await self.app.state.gateway.drain(timeout_s))

    return Gateway


def _log_to(path: str | None) -> None:
    """Log one JSON object a line, to a file or to the output of Ray's workers."""
    handler = logging.StreamHandler(sys.stdout) if path is None else logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)


def start(settings: Settings, deployment: Deployment) -> None:
    """Start Ray, unless an address is given, and the application, and wait until it answers. Raises RuntimeError when it does not."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray import serve

    quiet = logging.WARNING
    if deployment.address is None:
        ray.init(include_dashboard=False, log_to_driver=deployment.log is None, logging_level=quiet, num_cpus=os.cpu_count())
    else:
        ray.init(deployment.address, logging_level=quiet)
    logging.getLogger("ray.serve").setLevel(quiet)
    serve.start(http_options={"host": deployment.host, "port": deployment.port})
    serve.run(application(settings, deployment), name=APP, logging_config={"enable_access_log": False, "log_level": "WARNING"})


def stop() -> int:
    """Stop the service of this Ray cluster: answer requests in flight for at most ``DRAIN_S``; return how many are left, -1 if unknown."""
    import ray
    from ray import serve

    try:
        left = int(serve.get_deployment_handle("Gateway", APP).drain.remote(DRAIN_S).result(timeout_s=DRAIN_S + 5))
    except Exception as error:  # the service stops in any case
        logger.warning("could not wait for requests under way: %s", error)
        left = -1
    serve.delete(APP)
    serve.shutdown()
    ray.shutdown()
    return left


def run(settings: Settings, deployment: Deployment) -> None:
    """Serve until SIGINT or SIGTERM, then finish the accepted requests."""
    stop_requested = threading.Event()
    start(settings, deployment)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop_requested.set())
    where = f"http://{deployment.host}:{deployment.port}"
    print(f"serving {settings.model} on {where}: {where}/docs, {where}/v1/chat/completions, {where}/v1/spatial/ask", file=sys.stderr)
    stop_requested.wait()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # a second signal ends the process at once
    print("finishing accepted requests; interrupt once more to stop at once", file=sys.stderr)
    overdue = threading.Timer(DRAIN_S + STOP_S, os._exit, [1])  # a cluster that is gone never answers
    overdue.daemon = True
    overdue.start()
    left = stop()
    if left:
        print(f"{left if left > 0 else 'an unknown number of'} requests were not finished in time", file=sys.stderr)
