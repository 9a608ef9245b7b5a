"""Answers that are withheld: what cannot be told, and what the model is not certain enough of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from smolrgpt.inference.answer import Answer
from smolrgpt.inference.inputs import Question
from smolrgpt.tasks import task_named
from smolrgpt.tasks.cannot_tell import CANNOT_TELL, NO_REGION, NO_SCALE, UNSURE, explain, reason_in_words
from smolrgpt.tasks.recognition import plain_words

#: The least confidence of an answer: one for all kinds, or by kind; kinds that are not named have no least confidence.
MinConfidence = float | Mapping[str, float]


def check_min_confidence(value: MinConfidence) -> None:
    """Raise ValueError for what is no confidence from 0 to 1."""
    for confidence in value.values() if isinstance(value, Mapping) else (value,):
        if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
            raise ValueError(f"min_confidence is {confidence!r}; expected a number from 0 (nothing is withheld) to 1")


def reason_of_rules(question: Question) -> str | None:
    """Return the reason for which rules refuse a question, from its words; None where it may be answered.

    For models that know questions about regions but were not trained to refuse.
    """
    if question.task is CANNOT_TELL:
        return reason_in_words(plain_words(question.text))
    return NO_REGION if not question.regions and question.task.cues else None


def refuse(answer: Answer, reason: str) -> Answer:
    """Return an answer that says why it cannot be told, in place of the answer."""
    return replace(answer, answer=explain(reason), normalized_answer=None, category=CANNOT_TELL.name, unit=None, reason=reason)


def withhold(answer: Answer, least: MinConfidence) -> Answer:
    """Refuse an answer of less than the least confidence of its kind: for want of scale where it is a length without metric depth."""
    needed = least.get(answer.category, 0.0) if isinstance(least, Mapping) else least
    if answer.reason is not None or answer.confidence >= needed:
        return answer
    depth = answer.inputs.depth
    has_scale = depth is not None and depth.kind == "metric"
    return refuse(answer, UNSURE if has_scale or not task_named(answer.category).is_length else NO_SCALE)
