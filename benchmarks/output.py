"""The output of every benchmark: one JSON file, and text or JSON on stdout."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smolrgpt.data.io import write_text


def make_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Build a parser for ``python -m benchmarks.NAME`` with the options that all benchmarks share: ``--out`` and ``--json``."""
    parser = argparse.ArgumentParser(
        f"python -m benchmarks.{name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the result to this file, as JSON")
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of tables")
    return parser


def report(result: Any, arguments: argparse.Namespace, render: Callable[[Any], str]) -> None:
    """Write and print a result as ``--out`` and ``--json`` of ``make_parser`` ask for it; ``render`` makes the tables."""
    if arguments.out is not None:
        write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if arguments.json else render(result))
