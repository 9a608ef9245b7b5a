"""Times the bundled model and compares its speed with earlier runs on the same machine; ``make bench-quick`` runs it.

The measure is a ratio within one run: how many times as many questions a second this package answers as the released program, so that a
faster or slower machine matters less. Every run appends a line to the history. A ratio below half of the history's median is a regression
if it stays below in repeated measurements: other work on a shared machine can halve a single one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks import answering
from benchmarks.output import make_parser
from smolrgpt.evaluation.report.markdown import markdown_table

HISTORY = Path("build/bench_quick.jsonl")
#: Measurements that must all show a regression. On a shared machine the same code answered 22 and 42 questions a second within a minute.
NUM_RETRIES = 3
#: Earlier runs in the table.
NUM_SHOWN = 8


@dataclass(frozen=True)
class Run:
    """One line of the history. ratios: backend -> questions a second, divided by those of the released program in the same run."""

    date: str
    commit: str
    machine: str
    ratios: Mapping[str, float]


def find_regressions(ratios: Mapping[str, float], earlier: Mapping[str, float]) -> list[str]:
    """List backends whose ratio is less than half of its earlier one, a line each. Raises ValueError if no backend is in both."""
    shared = [name for name in ratios if name in earlier]
    if not shared:
        raise ValueError(f"no backend has a ratio in both: {', '.join(ratios)} now, {', '.join(earlier)} earlier")
    return [f"{name}: {ratios[name]:.1f}x the released program, it was {earlier[name]:.1f}x" for name in shared
            if ratios[name] < earlier[name] / 2]  # fmt: skip


def measure_with_retries(
    measure: Callable[[], dict[str, float]], earlier: Mapping[str, float] | None
) -> tuple[dict[str, float], list[str]]:
    """Return ratios of ``measure`` and their regressions; measures up to ``NUM_RETRIES`` times while there are any."""
    for _ in range(NUM_RETRIES):
        ratios = measure()
        regressions = [] if earlier is None else find_regressions(ratios, earlier)
        if not regressions:
            break
    return ratios, regressions


def read_history(path: Path) -> list[Run]:
    """Read the runs in a history file, oldest first; none if there is no such file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Run(**json.loads(line)) for line in lines]


def median_ratios(history: Sequence[Run], machine: str) -> dict[str, float] | None:
    """Return each backend's median ratio in the runs on this machine; None if there are none."""
    runs = [run.ratios for run in history if run.machine == machine]
    names = {name for ratios in runs for name in ratios}
    return {name: median(ratios[name] for ratios in runs if name in ratios) for name in sorted(names)} or None


def render(history: Sequence[Run]) -> str:
    """Format the last runs as a Markdown table, the newest at the bottom."""
    shown = history[-NUM_SHOWN:]
    names = list(dict.fromkeys(name for run in shown for name in run.ratios))
    rows = [[run.date, run.commit, run.machine, *(f"{run.ratios[n]:.1f}x" if n in run.ratios else "" for n in names)] for run in shown]
    return markdown_table(["date", "commit", "machine", *names], rows)


def measure_ratios(setting: answering.Setting) -> dict[str, float]:
    """Measure each backend's ratio now; the released program itself is left out."""
    measured = answering.bench(setting)["backends"]
    return {name: float(found["ratio"]) for name, found in measured.items() if name != "released"}


def current_commit() -> str:
    """Return the name that ``git describe`` gives the working tree; "unknown" outside of a repository."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def current_machine() -> str:
    """Return name, processor and number of cores of this machine."""
    return f"{platform.node()}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = make_parser("quick", __doc__)
    parser.set_defaults(out=HISTORY)
    parser.add_argument("--model", default="nano", help="'nano', a folder or a hub id (default: nano)")
    parser.add_argument("--questions", type=int, default=64, help="number of questions (default: 64)")
    parser.add_argument("--baseline-questions", type=int, default=4, help="how many of them the released program answers (default: 4)")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ``arguments`` defaults to ``sys.argv``. Exits with 1 at a regression."""
    given = build_parser().parse_args(arguments)
    history, machine = read_history(given.out), current_machine()
    setting = answering.Setting(given.model, num_questions=given.questions, baseline_questions=given.baseline_questions)
    ratios, regressions = measure_with_retries(lambda: measure_ratios(setting), median_ratios(history, machine))
    run = Run(datetime.now(UTC).isoformat(timespec="minutes"), current_commit(), machine, ratios)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(run)) + "\n")
    print(json.dumps(asdict(run)) if given.json else render([*history, run]))
    for line in regressions:
        print(line, file=sys.stderr)
    if regressions:
        sys.exit(1)


if __name__ == "__main__":
    main()
