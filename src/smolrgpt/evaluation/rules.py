"""What rules reach on a synthetic set, as predictors: the oracle on the scenes' own geometry, and the ceiling on what their cameras see."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smolrgpt.data.worlds.oracle import ObjectFacts, answer, true_geometry, visible_geometry
from smolrgpt.data.worlds.scene import Scene
from smolrgpt.data.worlds.writer import SETTINGS_FILE, draw_scene
from smolrgpt.schema import DataError, Region, Sample

#: Name -> what the rules are told of a scene. "visible": middles of the objects from mask, depth and intrinsics.
FACTS: dict[str, Callable[[Scene], Mapping[Region, ObjectFacts]]] = {"rules-truth": true_geometry, "rules-visible": visible_geometry}


@dataclass(frozen=True)
class RuleAnswer:
    """What evaluation wants of an answer; the text is the short form."""

    answer: str
    normalized_answer: str | int | float
    category: str
    seconds: float
    confidence: float = 1.0


class RulesPredictor:
    """Answers questions of sets that ``smolrgpt synth`` wrote; each scene is drawn again from its seed. name: one of ``FACTS``."""

    def __init__(self, name: str):
        self._facts = functools.lru_cache(maxsize=4)(functools.partial(_facts, name))

    def predict_samples(self, samples: Sequence[Sample], batch_size: int = 64) -> list[RuleAnswer]:
        """Raises DataError for a sample that is of no such set."""
        answers = []
        for sample in samples:
            if not isinstance(sample.image, Path) or not (folder := sample.image.parents[1] / SETTINGS_FILE).is_file():
                raise DataError(
                    f"sample {sample.id!r}: its picture lies in no set of 'smolrgpt synth'; the rules need the scenes themselves"
                )
            started = time.perf_counter()
            value = answer(sample.question, sample.regions, self._facts(folder, int(sample.image.stem)))
            answers.append(RuleAnswer(str(value), value, sample.category or "", time.perf_counter() - started))
        return answers


def _facts(name: str, settings: Path, index: int) -> Mapping[Region, ObjectFacts]:
    return FACTS[name](draw_scene(json.loads(settings.read_text(encoding="utf-8")), index)[0])
