"""What a model is taught to write: the data set's sentences, or a brief form that says the same in few tokens.

The official sentences word the same fact in many ways. A small model spends its few minutes on the wording, which cannot be predicted, and
too little on the fact; the brief form keeps the chain (the regions named, in order) and the short answer, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from smolrgpt.data.schema import Sample

_REGION = re.compile(r"\[Region \d+\]")


def brief_answer(sample: Sample) -> str | None:
    """``[Region 1] [Region 4] [Region 9]: 2``: the regions the full answer names, in order of mention, then the normalised answer.

    Without the chain where it says nothing: two regions or fewer in the question. Samples without a normalised answer keep what they have.
    """
    value = sample.normalized_answer
    if value is None or sample.answer is None or not sample.regions:
        return sample.answer
    short = f"{value:.2f}" if isinstance(value, float) else str(value)
    chain = list(dict.fromkeys(_REGION.findall(sample.answer)))
    return f"{' '.join(chain)}: {short}" if chain and len(sample.regions) > 2 else short


ANSWER_STYLES: dict[str, Callable[[Sample], str | None]] = {"official": lambda sample: sample.answer, "brief": brief_answer}


def restyle(samples: list[Sample], style: str) -> list[Sample]:
    """The samples with their answers written in a style of ``ANSWER_STYLES``. Raises KeyError for another."""
    write = ANSWER_STYLES[style]
    return [replace(sample, answer=write(sample)) for sample in samples]
