"""``smolrgpt export`` and ``smolrgpt convert``: the model in other formats, and released checkpoints in ours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from smolrgpt.cli.options import ModelArgument


def export(
    model: ModelArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the exported model; created if it does not exist.")],
    format: Annotated[str, typer.Option(help="openvino or onnx.")] = "openvino",
    weights: Annotated[str, typer.Option(help="float32, float16 (openvino only) or int8.")] = "int8",
) -> None:
    """Write a model for OpenVINO or ONNX Runtime, which are faster on many CPUs and need less memory.

    Every command accepts the folder as its model. docs/performance.md has sizes, speeds and what int8 costs.

    \b
    smolrgpt export nano out/nano-int8
    smolrgpt ask scene.png "How far is <region 0> from <region 1>?" --model out/nano-int8 ...
    smolrgpt evaluate out/nano-int8 data/val
    """
    import torch

    from smolrgpt.inference.checkpoints import EXPORT_RECORD, resolve_checkpoint
    from smolrgpt.inference.exported import export as write
    from smolrgpt.inference.loading import hide_progress_bars
    from smolrgpt.model import SmolRGPTForConditionalGeneration, SmolRGPTProcessor

    source = resolve_checkpoint(model)
    if (Path(source) / EXPORT_RECORD).exists():
        raise ValueError(f"{source} is an exported model already; give the one it was exported from")
    hide_progress_bars()
    loaded = SmolRGPTForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
    write(loaded, SmolRGPTProcessor.from_pretrained(source), out, format, weights)
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"wrote {out}, {size / 1e6:.1f} MB; next: smolrgpt ask IMAGE QUESTION --model {out}", file=sys.stderr)


def convert(
    released: Annotated[Path, typer.Argument(metavar="RELEASED_DIR", help="Folder with the authors' config.json and model.safetensors.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the converted model.")],
) -> None:
    """Convert a released checkpoint of the paper.

    Every tensor is accounted for: an unknown or missing one is an error.

    \b
    smolrgpt convert released/smolRGPT models/smolrgpt
    """
    from smolrgpt.model.convert_released import convert as convert_released

    if not (released / "config.json").is_file():
        raise ValueError(f"{released}: no config.json there; expected the folder of a released checkpoint")
    convert_released(released, out)
    print(f"wrote {out}; next: smolrgpt ask IMAGE QUESTION --model {out}", file=sys.stderr)
