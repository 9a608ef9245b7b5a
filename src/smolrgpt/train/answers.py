"""What a model is taught to write: the data set's sentences, or forms that say the same in few tokens.

The official sentences word the same fact in many ways. A small model spends its few minutes on the wording, which cannot be predicted, and
too little on the fact. The shorter styles write facts only, and the rules of ``evaluation/extract.py`` read all of them:

    official  The pallets [Region 1] [Region 4] are in the buffer region [Region 0]. Therefore, the buffer [Region 0] has two pallets.
    brief     [Region 1] [Region 4] [Region 0]: 2
    steps     [Region 0][Region 6] left[Region 0], leftmost buffer[Region 0], [Region 1][Region 0] 1, [Region 4][Region 0] 2: 2

The last one compares the best so far with each next region and names the better one (here: which buffer is leftmost), says what was found,
then counts pallet by pallet. A length is named before it is said: ``[Region 0] height: 1.29``, ``[Region 0][Region 1] up: 0.45``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from smolrgpt.model.processing_smolrgpt import SIZE_WORDS
from smolrgpt.schema import Sample
from smolrgpt.tasks.question import brief_metres

_REGION = re.compile(r"\[Region \d+\]")


def brief_answer(sample: Sample) -> str | None:
    """The regions the full answer names, in order of mention, then the normalised answer.

    Without the chain where it says nothing: two regions or fewer in the question. Samples without a normalised answer keep what they have.
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
    """The normalised answer as text, a distance as the steps write it."""
    value = sample.normalized_answer
    if value is None or not sample.regions:
        return None
    return brief_metres(value) if isinstance(value, float) else str(value)


def official_answer(sample: Sample) -> str | None:
    """The data set's own."""
    return sample.answer


ANSWER_STYLES: dict[str, Callable[[Sample], str | None]] = {
    "official": official_answer,
    "brief": brief_answer,
    "steps": stepwise_answer,
}


def restyle(samples: Sequence[Sample], style: str) -> Sequence[Sample]:
    """The samples with their answers written in a style of ``ANSWER_STYLES``; the sequence itself where nothing changes.

    Raises KeyError for another style.
    """
    write = ANSWER_STYLES[style]
    return samples if write is official_answer else [replace(sample, answer=write(sample)) for sample in samples]
