"""The folder of a run on disk: its settings, a folder per stage with checkpoints, the finished model.

<out>/run.json          the settings; another run is refused
<out>/curve.jsonl       validations, see ``callbacks``
<out>/1-align/          checkpoint-<step>/ while the stage trains, final/ when it has ended
<out>/final/            the finished model, with its run.json
"""

from __future__ import annotations

import json
import logging
import shutil
from itertools import takewhile
from pathlib import Path

from smolrgpt.data.io import atomic_path
from smolrgpt.model import SmolRGPTForConditionalGeneration, SmolRGPTProcessor
from smolrgpt.train.config import Run

logger = logging.getLogger(__name__)
RUN_FILE, FINAL = "run.json", "final"


def claim_folder(config: Run, resume: bool) -> None:
    """Write the run's settings into its folder.

    Raises ValueError when the folder holds another run, or, without ``resume``, this one.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    record = config.out / RUN_FILE
    if record.exists() and not _is_same_run(record.read_text(), config):
        raise ValueError(f"{config.out} holds a run with other settings ({record}); choose another --out, or remove that folder")
    if record.exists() and not resume:
        raise ValueError(f"{config.out} holds this run already; leave out --no-resume to go on with it, or choose another --out")
    record.write_text(config.to_json())


def _is_same_run(text: str, config: Run) -> bool:
    try:
        return Run.from_json(text) == Run.from_json(config.to_json())
    except ValueError:
        return False


def stage_folders(config: Run) -> list[Path]:
    """Return one folder per stage, numbered from 1."""
    return [config.out / f"{index + 1}-{stage.name}" for index, stage in enumerate(config.stages)]


def count_finished(folders: list[Path]) -> int:
    """Count the stages, from the first, that have a finished model."""
    return sum(1 for _ in takewhile(lambda folder: (folder / FINAL / "config.json").exists(), folders))


def remove_unfinished_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a stage that were being written when the process was killed: their state, written last, is missing."""
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())
        except (OSError, ValueError):
            logger.warning("%s was not written to its end; the run continues from the checkpoint before it", checkpoint)
            shutil.rmtree(checkpoint)


def save_model(model: SmolRGPTForConditionalGeneration, processor: SmolRGPTProcessor, folder: Path) -> None:
    """Write model and processor to the folder, both or nothing: a half-written model is never taken for a finished one."""
    with atomic_path(folder) as temporary:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
