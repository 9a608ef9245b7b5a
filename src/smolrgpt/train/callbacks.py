"""The curve of a run: validations, checkpoints and health ratios against minutes of training, in ``curve.jsonl``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

CURVE_FILE = "curve.jsonl"


class Curve:
    """One JSON row per validation, checkpoint, health measurement and end of a stage; minutes count on across resumed runs."""

    def __init__(self, path: Path, stage: str):
        self.path, self.stage = path, stage
        self._started = time.monotonic()
        rows = read_curve(path)
        self._minutes_before = rows[-1]["minutes"] if rows else 0.0

    @property
    def minutes(self) -> float:
        """Minutes of training so far, in this process and in earlier ones."""
        return float(self._minutes_before + (time.monotonic() - self._started) / 60)

    def health(self, name: str, this_stage: bool = False) -> list[dict[str, float]]:
        """Return the measurements so far that include ``name`` (see ``train/health.py``), of all stages or of this one."""
        rows = [row for row in read_curve(self.path) if name in row.get("health", {})]
        return [row["health"] for row in rows if row["stage"] == self.stage or not this_stage]

    def add(self, **row: Any) -> None:
        """Append a row with this stage and the minutes so far."""
        with self.path.open("a") as file:
            file.write(json.dumps({"stage": self.stage, "minutes": round(self.minutes, 2), **row}) + "\n")


def read_curve(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a ``curve.jsonl``; none where the file does not exist yet."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{"health" if name == "signatures" else name: value for name, value in row.items()} for row in rows]  # the key's old name


def draw_curve(out: Path) -> None:
    """Draw ``curve.png`` from the validations of all stages; without matplotlib, log a warning."""
    from smolrgpt.viz.plots import plot_curve, plot_if_possible

    rows = [row for row in read_curve(out / CURVE_FILE) if row.get("event") != "checkpoint"]
    if any("S1" in row for row in rows):
        plot_if_possible(plot_curve, rows, out / "curve.png")


class CurveCallback(TrainerCallback):
    """Records every checkpoint and the end of the stage, so that minutes count across interruptions and stages without validation."""

    def __init__(self, curve: Curve):
        self.curve = curve

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add a row for the checkpoint."""
        self._add(state, "checkpoint")

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add a row for the end of the stage."""
        self._add(state, "stage ends")

    def _add(self, state: TrainerState, event: str) -> None:
        if state.is_world_process_zero:
            self.curve.add(step=state.global_step, event=event)
