"""Turns a finished run into a checkpoint that ships with the package: ``python -m tools.bundle runs/nano/final OUT``.

The checkpoint has bf16 weights and the resolved settings of the run, and no copy of the code, which the package contains.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from smolrgpt.data.io import atomic_path
from smolrgpt.model import SmolRGPTForConditionalGeneration, SmolRGPTProcessor

#: Largest size of a bundled checkpoint.
MAX_BYTES = 20_000_000


def bundle(final: Path, out: Path) -> int:
    """Write ``out`` from the ``final`` folder of a run; a model card in ``out`` stays. Returns the bytes written.

    Raises ValueError when the checkpoint is larger than ``MAX_BYTES``.
    """
    with atomic_path(out) as temporary:
        return _write(final, out, temporary)


def _write(final: Path, out: Path, temporary: Path) -> int:
    """Write the checkpoint into ``temporary``, with the model card of ``out``; returns the bytes written."""
    SmolRGPTForConditionalGeneration.from_pretrained(final, dtype=torch.bfloat16).save_pretrained(temporary)
    SmolRGPTProcessor.from_pretrained(final).save_pretrained(temporary)
    for code in temporary.glob("*.py"):
        code.unlink()
    for path in temporary.glob("*.json"):
        path.write_text(json.dumps(_without_code(json.loads(path.read_text())), indent=2) + "\n")
    shutil.copy(final / "run.json", temporary / "run.json")
    size = sum(path.stat().st_size for path in temporary.iterdir())
    if size > MAX_BYTES:
        raise ValueError(f"{final} makes a checkpoint of {size / 1e6:.1f} MB; expected at most {MAX_BYTES / 1e6:.0f} MB")
    if (out / "README.md").exists():
        shutil.copy(out / "README.md", temporary / "README.md")
    return size


def _without_code(node: Any) -> Any:
    """Return the JSON value without references to code files."""
    if isinstance(node, dict):
        return {key: _without_code(value) for key, value in node.items() if key != "auto_map"}
    return [_without_code(value) for value in node] if isinstance(node, list) else node


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser("python -m tools.bundle", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("final", type=Path, help="the folder 'final' of a run")
    parser.add_argument("out", type=Path, help="folder of the checkpoint; one that exists is replaced, but for its README.md")
    return parser


def main() -> None:
    """Run the command line."""
    given = build_parser().parse_args()
    print(f"wrote {given.out}, {bundle(given.final, given.out) / 1e6:.1f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
