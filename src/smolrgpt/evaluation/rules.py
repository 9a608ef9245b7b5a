"""Predictors that answer by rules: on the true or the visible geometry of synthetic scenes, or on measured points of any frame."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from smolrgpt.data.worlds.oracle import ObjectFacts, answer, true_geometry, visible_geometry
from smolrgpt.data.worlds.scene import Scene
from smolrgpt.data.worlds.writer import SETTINGS_FILE, draw_scene
from smolrgpt.evaluation.measured import MeasuringPredictor
from smolrgpt.evaluation.predict import SamplePredictor
from smolrgpt.schema import Answer, DataError, Region, Sample

#: Name -> which geometry of a scene the rules use. "rules-visible": centers of the objects from mask, depth and intrinsics.
GEOMETRIES: dict[str, Callable[[Scene], Mapping[Region, ObjectFacts]]] = {"rules-truth": true_geometry, "rules-visible": visible_geometry}


class RulesPredictor:
    """Answers questions about synthetic scenes by geometric rules, without a model.

    It needs sets that ``smolrgpt synth`` wrote, because each scene is drawn again from its seed. name: one of ``GEOMETRIES``.
    """

    def __init__(self, name: str):
        self._geometry = functools.lru_cache(maxsize=4)(functools.partial(_geometry, name))

    def predict_samples(self, samples: Sequence[Sample], batch_size: int = 64) -> list[Answer]:
        """Return short answers as text and value. Raises DataError for a sample that is not of such a set."""
        answers = []
        for sample in samples:
            if not isinstance(sample.image, Path) or not (settings := sample.image.parents[1] / SETTINGS_FILE).is_file():
                raise DataError(f"sample {sample.id!r}: its image lies in no set of 'smolrgpt synth'; the rules need the scenes themselves")
            started = time.perf_counter()
            value = answer(sample.question, sample.regions, self._geometry(settings, int(sample.image.stem)))
            answers.append(Answer(str(value), value, sample.category or "", time.perf_counter() - started, confidence=1.0))
        return answers


def _geometry(name: str, settings: Path, index: int) -> Mapping[Region, ObjectFacts]:
    return GEOMETRIES[name](draw_scene(json.loads(settings.read_text(encoding="utf-8")), index)[0])


#: Name on the command line -> what answers by these rules.
RULES: dict[str, Callable[[], SamplePredictor]] = {
    **{name: functools.partial(RulesPredictor, name) for name in GEOMETRIES},
    "rules-measured": MeasuringPredictor,
}
