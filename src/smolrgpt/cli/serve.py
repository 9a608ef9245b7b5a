"""``smolrgpt demo`` and ``smolrgpt serve``: the model as a web page and as an HTTP service."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

import typer

from smolrgpt.cli.options import ModelOrNano, require_packages

Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 makes it reachable from other machines.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
ModelLabel = Annotated[str | None, typer.Option(help="The model's name to clients; by default the last part of MODEL.")]
ApiKey = Annotated[
    str | None, typer.Option(envvar="SMOLRGPT_API_KEY", show_envvar=True, help="Require this key; without one, anybody may ask.")
]
Gpus = Annotated[float, typer.Option(min=0, help="GPUs of each engine; 0.5 puts two on one.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of each engine; by default an even share of the cores.")]
Address = Annotated[
    str | None, typer.Option(help="A running Ray cluster ('auto', or ray://HOST:10001); by default Ray is started on this machine.")
]
BodySize = Annotated[float, typer.Option(min=0.01, help="Size of a request in 10^6 bytes.")]
Megapixels = Annotated[float, typer.Option(min=0.01, help="Pixels of each image, depth map and mask, in millions.")]
Cors = Annotated[
    list[str] | None,
    typer.Option(metavar="ORIGIN", help="Let web pages of this origin ask, such as https://example.com; * = any."),
]
Log = Annotated[Path | None, typer.Option(help="Append a line of JSON for each request to this file; by default they go to stdout.")]


def serve(  # noqa: PLR0913 (the options of a command)
    model: ModelOrNano = "nano",
    host: Host = "127.0.0.1",
    port: Port = 8000,
    name: ModelLabel = None,
    api_key: ApiKey = None,
    replicas: Annotated[int, typer.Option(min=1, help="Engines; each holds the model.")] = 1,
    gpus: Gpus = 0.0,
    threads: Threads = None,
    address: Address = None,
    batch: Annotated[int, typer.Option(min=1, help="Requests answered together at most.")] = 16,
    max_queue: Annotated[int, typer.Option(min=1, help="Requests in progress at once; more get status 429.")] = 256,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds a request may take; longer ones get status 504.")] = 60.0,
    max_body_mb: BodySize = 32.0,
    max_megapixels: Megapixels = 25.0,
    max_regions: Annotated[int, typer.Option(min=1, help="Regions in a request.")] = 64,
    max_questions: Annotated[int, typer.Option(min=1, help="Questions in a request.")] = 32,
    max_question_characters: Annotated[int, typer.Option(min=1, help="Characters of a question.")] = 2000,
    cors: Cors = None,
    log: Log = None,
) -> None:
    """Serve a model over HTTP, for OpenAI's clients and plain requests.

    Requests that arrive together are answered together, and an image is encoded once for all questions about it. Ctrl-C finishes what was
    accepted, then stops.

    \b
    smolrgpt serve                                       # http://127.0.0.1:8000/docs describes what to send
    smolrgpt serve runs/mine/final --replicas 2 --gpus 1 --host 0.0.0.0 --api-key SECRET
    curl -F image=@scene.png -F depth=@depth.png -F 'regions=[{"box": [40, 90, 110, 150]}]' \\
        -F 'question=How tall is <region 0>?' http://127.0.0.1:8000/v1/spatial/ask
    """
    require_packages(["ray", "fastapi", "fastapi_offline", "prometheus_client"], "serve", "serving")
    from smolrgpt.apps.service.gateway import Settings
    from smolrgpt.apps.service.messages import Limits
    from smolrgpt.apps.service.run import Deployment, run
    from smolrgpt.inference.checkpoints import portable_checkpoint_name

    checkpoint = portable_checkpoint_name(model)
    if address is None:
        _check_port(host, port)
    limits = Limits(max_body_mb, max_megapixels, max_regions, max_questions, max_question_characters, max_queue, timeout)
    settings = Settings(name or Path(model).name, api_key or None, limits, tuple(cors or ()))
    log_file = None if log is None else str(log.resolve())
    deployment = Deployment(checkpoint, host, port, replicas, gpus, threads, batch, address, log=log_file)
    run(settings, deployment)


def _check_port(host: str, port: int) -> None:
    """Raise ValueError if nothing can listen on the port."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise ValueError(f"cannot listen on {host}:{port} ({error.strerror or error}); choose another one with --port or --host") from error


def demo(
    model: ModelOrNano = "nano",
    host: Host = "127.0.0.1",
    port: Port = 7860,
    data: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Show the images and questions of this data set, too.")] = None,
    source: Annotated[str | None, typer.Option(help="What DATA is, as of 'smolrgpt predict'.")] = None,
    split: Annotated[str | None, typer.Option(help="Which split of it.")] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
) -> None:
    """Show a web page for asking questions about images.

    Open an image, its depth and masks, or draw a synthetic scene; mark regions and ask about them. Works offline.

    \b
    smolrgpt demo
    smolrgpt demo runs/mine/final --port 8080 --no-open
    smolrgpt demo nano --data data/warehouse --split val
    """
    require_packages(["gradio", "plotly"], "demo", "the page")
    _check_port(host, port)
    from smolrgpt.apps.page.page import launch
    from smolrgpt.data.loading import group_by_image
    from smolrgpt.evaluation.samples import read_samples
    from smolrgpt.inference.loading import load_predictor

    by_image = group_by_image([] if data is None else read_samples(data, source, split))
    launch(load_predictor(model), model, host, port, open_browser, list(by_image.values()))
