"""Other results to show next to a result: those of stored predictions, of rules, or of another evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smolrgpt.evaluation.predict import Row, predict
from smolrgpt.evaluation.replay import ReplayPredictor
from smolrgpt.evaluation.rules import RULES
from smolrgpt.evaluation.summary import accuracies, s1_difference, score_samples
from smolrgpt.schema import DataError, Sample

#: Prediction rows about the same questions, or {S1, accuracy} of a results.json.
OtherResult = Sequence[Row] | dict[str, Any]


def read_comparison(source: str | Path, samples: Sequence[Sample]) -> OtherResult:
    """Read the predictions or the result that an evaluation is compared with.

    Args:
        source: A name of ``rules.RULES``, a file of predictions about these samples, or the results.json of another evaluation.
        samples: The questions.

    Raises:
        DataError: The file is neither predictions nor a result.
    """
    if source in RULES:
        return predict(RULES[str(source)](), samples, progress=False)
    try:
        result = json.loads(Path(source).read_text(encoding="utf-8"))
        if isinstance(result, dict):
            return {key: result[key] for key in ("S1", "accuracy")}
    except (OSError, KeyError) as error:
        message = f"{source}: nothing to compare with ({error!r}); expected predictions, or the results.json of 'smolrgpt evaluate'"
        raise DataError(message) from None
    except ValueError:
        pass  # JSON lines, or a file that ReplayPredictor refuses with the reason
    return predict(ReplayPredictor(source), samples, progress=False)


def compare(other: OtherResult, samples: Sequence[Sample], predictions: Sequence[Row]) -> dict[str, Any]:
    """Return {S1, accuracy} of the other result, with ``difference`` where it has predictions per question.

    ``difference`` is the 95 % interval of the other S1 minus that of ``predictions``, in percent.
    """
    if isinstance(other, Mapping):
        return dict(other)
    ours, theirs = score_samples(samples, predictions), score_samples(samples, other)
    found = accuracies(theirs)
    return {"S1": found["S1"], "accuracy": found["accuracy"], "difference": s1_difference(ours, theirs)}
