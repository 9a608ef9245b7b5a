"""``smolrgpt demo`` and ``smolrgpt serve``: the model as a web page and as an HTTP service."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from smolrgpt.schema import Sample


def _check_port(host: str, port: int) -> None:
    """Raises ValueError when nothing can listen there."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise ValueError(f"cannot listen on {host}:{port} ({error.strerror or error}); choose another one with --port or --host") from error


def serve(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="'nano' (bundled), a folder, or a hub id owner/name.")] = "nano",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines ask.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    name: Annotated[str | None, typer.Option(help="The model's name to clients; by default the last part of MODEL.")] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="SMOLRGPT_API_KEY", show_envvar=True, help="Ask for this key; without one, anybody may ask.")
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Engines; each holds the model.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of each engine; 0.5 puts two on one.")] = 0.0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each engine; by default the cores, shared evenly.")] = None,
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster ('auto', or ray://HOST:10001); by default Ray is started on this machine.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Requests answered together at most.")] = 16,
    max_queue: Annotated[int, typer.Option(min=1, help="Requests under way at once; more get status 429.")] = 256,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds a request may take; longer ones get status 504.")] = 60.0,
    max_body_mb: Annotated[float, typer.Option(min=0.01, help="Size of a request in 10^6 bytes.")] = 32.0,
    max_megapixels: Annotated[float, typer.Option(min=0.01, help="Pixels of each picture, depth map and mask, in millions.")] = 25.0,
    max_regions: Annotated[int, typer.Option(min=1, help="Regions in a request.")] = 64,
    max_questions: Annotated[int, typer.Option(min=1, help="Questions in a request.")] = 32,
    max_question_characters: Annotated[int, typer.Option(min=1, help="Characters of a question.")] = 2000,
    log: Annotated[
        Path | None, typer.Option(help="Append a line of JSON for each request to this file; by default they go to stdout.")
    ] = None,
) -> None:
    """Serve a model over HTTP, for OpenAI's clients and plain requests.

    Requests that come in together are answered together, and a picture that was asked about before is not encoded again. Ctrl-C finishes
    what was accepted, then stops.

    \b
    smolrgpt serve                                       # http://127.0.0.1:8000/docs describes what to send
    smolrgpt serve runs/mine/final --replicas 2 --gpus 1 --host 0.0.0.0 --api-key SECRET
    curl -F image=@scene.png -F depth=@depth.png -F 'regions=[{"box": [40, 90, 110, 150]}]' \\
        -F 'question=How tall is <region 0>?' http://127.0.0.1:8000/v1/spatial/ask
    """
    if any(importlib.util.find_spec(package) is None for package in ("ray", "fastapi", "fastapi_offline", "prometheus_client")):
        raise ImportError("serving needs more packages: pip install 'smolrgpt[serve]'")
    from smolrgpt.apps.service.gateway import Settings
    from smolrgpt.apps.service.messages import Limits
    from smolrgpt.apps.service.run import Deployment, run
    from smolrgpt.inference.predictor import checkpoint_anywhere

    checkpoint = checkpoint_anywhere(model)
    if address is None:
        _check_port(host, port)
    limits = Limits(
        max_body_mb=max_body_mb,
        max_megapixels=max_megapixels,
        max_regions=max_regions,
        max_questions=max_questions,
        max_question_characters=max_question_characters,
        max_queue=max_queue,
        timeout_s=timeout,
    )
    settings = Settings(name or Path(model).name, api_key or None, limits)
    run(
        settings,
        Deployment(
            checkpoint=checkpoint,
            host=host,
            port=port,
            replicas=replicas,
            gpus=gpus,
            threads=threads,
            batch=batch,
            address=address,
            log=None if log is None else str(log.resolve()),
        ),
    )


def demo(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="'nano' (bundled), a folder, or a hub id owner/name.")] = "nano",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    data: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Show the pictures and questions of this data set, too.")] = None,
    source: Annotated[str | None, typer.Option(help="What DATA is, as of 'smolrgpt predict'.")] = None,
    split: Annotated[str | None, typer.Option(help="Which split of it.")] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
) -> None:
    """Show a web page to ask pictures on.

    Open a picture, its depth and masks, or draw a synthetic scene; mark regions and ask about them. Works offline.

    \b
    smolrgpt demo
    smolrgpt demo runs/mine/final --port 8080 --no-open
    smolrgpt demo nano --data data/warehouse --split val
    """
    if any(importlib.util.find_spec(package) is None for package in ("gradio", "plotly")):
        raise ImportError("the page needs more packages: pip install 'smolrgpt[demo]'")
    _check_port(host, port)
    from smolrgpt.apps.page.page import launch
    from smolrgpt.cli.main import load_predictor, samples_of

    pictures: dict[str, list[Sample]] = {}
    for sample in [] if data is None else samples_of(data, source, split, "auto"):
        pictures.setdefault(sample.image_key, []).append(sample)
    launch(load_predictor(model), model, host, port, open_browser, list(pictures.values()))
