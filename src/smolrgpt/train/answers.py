"""Styles of the answers that a model learns: the data set's sentences, or shorter forms with the same facts.

The official sentences word the same fact in many ways. A small model spends its short training on the wording, which cannot be predicted,
and too little on the fact. The shorter styles write facts only, and ``tasks`` parses all of them:

    official  The pallets [Region 1] [Region 4] are in the buffer region [Region 0]. Therefore, the buffer [Region 0] has two pallets.
    brief     [Region 1] [Region 4] [Region 0]: 2
    steps     [Region 0][Region 6] left[Region 0], leftmost buffer[Region 0], [Region 1][Region 0] 1, [Region 4][Region 0] 2: 2

The last one compares the best region so far with each next one and names the better one (here: which buffer is leftmost), names the
result, then counts pallet by pallet. A length has its name before it: ``[Region 0] height: 1.29``, ``[Region 0][Region 1] up: 0.45``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from smolrgpt.model.processing_smolrgpt import LENGTH_TOKEN, MEASURE_WORDS, SIZE_WORDS
from smolrgpt.schema import Sample
from smolrgpt.tasks import task_named
from smolrgpt.tasks.question import brief_metres

_REGION = re.compile(r"\[Region \d+\]")


def brief_answer(sample: Sample) -> str | None:
    """Return the regions that the full answer names, in order of mention, then the normalised answer.

    The regions are left out when the question has two or fewer. A sample without a normalised answer keeps its answer.
    """
    short = _short(sample)
    if short is None or sample.answer is None:
        return sample.answer
    chain = list(dict.fromkeys(_REGION.findall(sample.answer)))
    return f"{' '.join(chain)}: {short}" if chain and len(sample.regions) > 2 else short


def stepwise_answer(sample: Sample) -> str | None:
    """Return the steps of ``Sample.truth``, then the normalised answer if there is one; without steps the brief answer."""
    steps, short = sample.truth and sample.truth.steps, _short(sample)
    if sample.category in SIZE_WORDS and short is not None:
        steps = "".join(f"[Region {number}]" for number in range(len(sample.regions))) + SIZE_WORDS[sample.category]
    if not steps:
        return brief_answer(sample)
    return steps if short is None else f"{steps}: {short}"


def _short(sample: Sample) -> str | None:
    """Return the normalised answer as text, None where there is none; lengths are rounded as in the steps."""
    value = sample.normalized_answer
    if value is None or not sample.regions:
        return None
    return brief_metres(value) if isinstance(value, float) else str(value)


#: A length in the steps of a survey: between a pair, "[Region 0][Region 3] 2.35", or from the camera, "[Region 2] 4.1".
_SURVEYED = re.compile(r"(\[Region \d+\])(\[Region \d+\])? (\d+\.\d+)\b")


def _copy_surveyed(match: re.Match[str]) -> str:
    word = "" if match[2] else MEASURE_WORDS["range"]
    return f"{match[1]}{match[2] or ''}{word} {LENGTH_TOKEN if float(match[3]) else 0}"


def copied_answer(sample: Sample) -> str | None:
    """Return the stepwise answer with a token in place of each length, which is copied from the estimate that stands there.

    Lengths are asked for in the words of ``MEASURE_WORDS``. Steps that have such tokens stay as they are.
    """
    steps, value = sample.truth and sample.truth.steps, sample.normalized_answer
    if steps and LENGTH_TOKEN in steps and isinstance(value, float):
        return f"{steps}: {LENGTH_TOKEN}"
    if isinstance(value, float) or (task_named(sample.category).is_length and value is not None):
        names = "".join(f"[Region {number}]" for number in range(len(sample.regions)))
        word = MEASURE_WORDS.get(str(sample.category), "" if len(sample.regions) > 1 else MEASURE_WORDS["range"])
        return f"{names + word if word or not steps else steps}: {LENGTH_TOKEN if float(value) > 0 else 0}"
    text = stepwise_answer(sample)
    return text and _SURVEYED.sub(_copy_surveyed, text)


def official_answer(sample: Sample) -> str | None:
    """Return the data set's own answer."""
    return sample.answer


ANSWER_STYLES: dict[str, Callable[[Sample], str | None]] = {
    "official": official_answer,
    "brief": brief_answer,
    "steps": stepwise_answer,
    "copied": copied_answer,
}


def restyle(samples: Sequence[Sample], style: str) -> Sequence[Sample]:
    """Return the samples with their answers in a style of ``ANSWER_STYLES``; the same sequence for "official".

    Raises KeyError for another style.
    """
    write = ANSWER_STYLES[style]
    return samples if write is official_answer else [replace(sample, answer=write(sample)) for sample in samples]
