"""Options that several commands share, and checks that several commands make before they start."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

#: The names of ``evaluation.benchmarks.BENCHMARKS``, written out so that help imports none of them.
BenchmarkName = Literal["warehouse", "spatial", "sizes", "plain", "templates", "frames"]

_MODEL_HELP = "'nano' (bundled), a folder, or a hub id owner/name."

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL_HELP)]
ModelOrNano = Annotated[str, typer.Argument(metavar="[MODEL]", help=_MODEL_HELP)]
ModelOption = Annotated[str, typer.Option(help=_MODEL_HELP)]
DataRoot = Annotated[
    Path, typer.Argument(metavar="DATA", help="Folder of the data set; of a warehouse set: SPLIT.json next to SPLIT/images/.")
]
Split = Annotated[str | None, typer.Option(help="Which split; by default 'val', or the only one there is.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Ask only this many questions, drawn with a fixed seed.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Questions answered together.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
DepthUse = Annotated[
    Literal["auto", "metric", "relative", "none"],
    typer.Option("--depth", help="Depth maps to use; auto: metric where there are any, else relative."),
]
DepthUnit = Annotated[
    str | None,
    typer.Option(
        metavar="UNIT",
        help="Metres per stored unit of the depth maps: a number, 1/5000, or m, cm, mm, 0.1mm, tum (1/5000), kitti (1/256), "
        "l515 (0.25 mm), sunrgbd. By default that of the folder's depth.json, else mm for integers and m for floats.",
    ),
]
DepthKindOption = Annotated[
    Literal["metric", "relative", "inverse"] | None,
    typer.Option(
        "--depth-kind", help="What the values are; inverse: proportional to 1/depth. By default as depth.json or the type states."
    ),
]
DepthNear = Annotated[
    Literal["dark", "bright"] | None,
    typer.Option(help="Which end of relative depth maps is near. By default as depth.json states, else dark."),
]
BenchmarkUse = Annotated[
    BenchmarkName,
    typer.Option(
        "--benchmark",
        help="warehouse: four accuracies and S1; spatial: SpatialRGPT-Bench, by its groups; "
        "sizes: widths and heights, plain: everyday words, templates: every official template, on a set of 'smolrgpt synth'; "
        "frames: real RGB-D frames, beside rules on what was measured.",
    ),
]


def require_packages(packages: Sequence[str], extra: str, purpose: str) -> None:
    """Raise ImportError with the pip command for ``extra`` if one of the packages is not installed."""
    if any(importlib.util.find_spec(package) is None for package in packages):
        raise ImportError(f"{purpose} needs more packages: pip install 'smolrgpt[{extra}]'")


def parse_numbers(text: str, option: str) -> list[float]:
    """Return the numbers of a text such as ``1,2.5,3``. Raises ValueError that names the option."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} {text}: expected numbers separated by commas, without spaces") from None


def format_first_ids(ids: Sequence[Any]) -> str:
    """Format the first five ids of a list as ``": a, b, c, ..."``; "" if there are none."""
    return f": {', '.join(map(str, ids[:5]))}{', ...' if len(ids) > 5 else ''}" if ids else ""
