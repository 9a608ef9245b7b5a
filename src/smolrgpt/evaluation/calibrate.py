"""The least confidence of each kind of question, chosen on answers whose truth is known. Needs no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

#: Share of the right answers of a kind that may be withheld.
MAX_RIGHT_WITHHELD = 0.01
#: Kinds with fewer right answers keep no least confidence: one answer would be more than the share.
MIN_RIGHT = 100


def choose_min_confidence(
    answers: Iterable[tuple[str, float, bool]], max_withheld: float = MAX_RIGHT_WITHHELD, min_right: int = MIN_RIGHT
) -> dict[str, float]:
    """Return kind -> the largest least confidence that withholds at most a share of the kind's right answers.

    An answer below the least confidence is withheld (``Predictor.ask_many``). Kinds where that is no wrong answer are left out.

    Args:
        answers: (kind, confidence from 0 to 1, whether the answer is right), of validation worlds.
        max_withheld: share of right answers, 0 to 1.
        min_right: right answers that a kind needs.
    """
    right, wrong = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for kind, confidence, is_right in answers:
        (right if is_right else wrong)[kind].append(confidence)
    chosen = {}
    for kind, confidences in sorted(right.items()):
        if len(confidences) < min_right:
            continue
        least = sorted(confidences)[int(max_withheld * len(confidences))]
        if any(confidence < least for confidence in wrong[kind]):
            chosen[kind] = round(least, 4) if round(least, 4) <= least else least
    return chosen
