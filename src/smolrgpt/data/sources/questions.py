"""Questions and answers of rows and annotation tools: whose regions are mentioned by number."""

from __future__ import annotations

from collections.abc import Sequence

from smolrgpt.schema import REGION_PLACEHOLDER, DataError, brief
from smolrgpt.tasks import recognise, task_named
from smolrgpt.tasks.base import NormalizedAnswer
from smolrgpt.tasks.mentions import read_mentions, write_mentions
from smolrgpt.tasks.region_text import REGION_TAG


def read_question(question: str, num_regions: int) -> tuple[str, list[int]]:
    """Return the question with ``<mask>``, and the region index of each ``<mask>``. Raises DataError as ``read_mentions`` does."""
    try:
        return read_mentions(question, num_regions)
    except ValueError as error:
        raise DataError(str(error)) from error


def read_answer(answer: str, num_regions: int, indices: Sequence[int]) -> str:
    """Return an answer whose regions are named by their position in the question.

    Args:
        answer: A text that mentions regions as a question does.
        num_regions: The number of regions that may be mentioned.
        indices: The region index of each mention in the question.

    Raises:
        DataError: For a region that the question does not mention, and for a mention that cannot be read.
    """
    if REGION_PLACEHOLDER in answer:
        raise DataError(f"the answer has {REGION_PLACEHOLDER}, which stands for regions of a question: {brief(answer)!r}")
    try:
        text, named = read_mentions(answer, num_regions)
    except ValueError as error:
        raise DataError(str(error).replace("the question", "the answer")) from error
    if unknown := [index for index in named if index not in indices]:
        raise DataError(f"the answer names region {unknown[0]}, which the question does not mention: {brief(answer)!r}")
    return write_mentions(text, [indices.index(index) for index in named], REGION_TAG) if named else answer


def read_short_answer(
    value: NormalizedAnswer, category: str | None, question: str, num_regions: int, indices: Sequence[int]
) -> NormalizedAnswer:
    """Return a normalised answer whose region, if it is one, is given by its position in the question.

    Args:
        value: The short answer, which names a region by its index.
        category: The kind of question; None where the question's words tell.
        question: The question with ``<mask>``.
        num_regions: The number of regions that the index may be of.
        indices: The region index of each mention in the question.

    Raises:
        DataError: For a region that the question does not mention.
    """
    task = task_named(category) if category else recognise(question)
    if not task.names_region or value is None or list(indices) == list(range(num_regions)):
        return value
    index = int(value) if str(value).isdecimal() else None
    if index not in indices:
        raise DataError(f"normalized_answer is {brief(value)!r}; expected a region that the question mentions, as its number")
    return str(indices.index(index))
