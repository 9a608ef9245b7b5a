"""Answers a second with one CPU thread and with one for each core, with and without another process that keeps one core busy.

    python -m benchmarks.threads [MODEL]

Each figure is measured in a process of its own, since the wait policy of threads is fixed when torch loads.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

#: Seconds of each measurement.
SECONDS = 8


def measure(model: str) -> None:
    """Time one question at a time about one scene, then 16 at a time about four, both repeated for ``SECONDS``."""
    from smolrgpt.apps.tour import held_out_questions
    from smolrgpt.inference.loading import load_predictor

    predictor = load_predictor(model)
    scenes = [held_out_questions(3, number, 4) for number in range(4)]
    batch = [predictor.prepare(s.image, [s.question], s.depth, s.regions, s.camera) for row in scenes for s in row]
    for asked in (batch[:1], batch):
        predictor.answer(asked)
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < SECONDS:
            predictor.answer(asked)
            count += len(asked)
        print(f"{count / (time.perf_counter() - started):8.1f}", end="", flush=True)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.threads", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="nano", help="'nano', a folder or a hub id (default: nano)")
    parser.add_argument("--measure", action="store_true", help="measure in this process, with its settings of threads, and stop")
    return parser


def main() -> None:
    """Run the command line."""
    given = build_parser().parse_args()
    if given.measure:
        measure(given.model)
        return
    print("threads  waiting  other process   one by one   16 together   (answers a second)")
    for busy in (False, True):
        competitor = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
        for threads, policy in ((os.cpu_count(), "active"), (os.cpu_count(), "passive"), (1, "active")):
            print(f"{threads:7}  {policy:7}  {'one core' if busy else 'none':13} ", end="", flush=True)
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": policy}
            subprocess.run([sys.executable, __file__, "--measure", given.model], env=environment, check=True)
            print()
        if competitor is not None:
            competitor.kill()


if __name__ == "__main__":
    main()
