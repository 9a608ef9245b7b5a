"""The kind of an answer, read from its text: for models that were trained to recognise what is asked (``kinds_from_text``).

Such a model writes ``STEPS: FIELD`` for a kind of its own choice. The rules' kind, from the words of the question, stands where steps and
field fit it; else the answer is of the first kind whose steps and field they are. Legend: R regions of a question.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import regex

from smolrgpt.model.processing_smolrgpt import LENGTH_TOKEN
from smolrgpt.tasks import FIELD_SEPARATOR, OTHER, TASKS, Task
from smolrgpt.tasks.cannot_tell import CANNOT_TELL

#: Answer field of a length that is copied; an object that contains or touches the other is at 0.
COPIED_FIELD = rf" ?(?:{regex.escape(LENGTH_TOKEN)}|0)"


@dataclass(frozen=True)
class AnswerKinds:
    """The answer fields of all kinds.

    Attributes:
        copies_lengths: whether a length in an answer is a token that is copied.
    """

    copies_lengths: bool

    def field_pattern(self, task: Task, num_regions: int) -> str | None:
        """Return the pattern of a kind's answer field, as of ``Task.field_pattern``, with copied lengths where the model copies them."""
        return COPIED_FIELD if self.copies_lengths and task.is_length else task.field_pattern(num_regions)

    def any_field_pattern(self, num_regions: int) -> str:
        """Return the pattern of the fields of all kinds but refusals, which have their own words before the separator."""
        return _union(self, num_regions)

    def kind_of(self, text: str, asked: Task, num_regions: int) -> Task:
        """Return the kind of an answer text.

        Args:
            text: as the model wrote it, with its length tokens.
            asked: the kind that rules recognised in the question.
            num_regions: R.
        """
        steps, _, field = text.rpartition(FIELD_SEPARATOR)
        for task in (CANNOT_TELL, asked, *TASKS.values()):
            pattern = self.field_pattern(task, num_regions)
            if pattern is None or not regex.fullmatch(pattern, field):
                continue
            if task.steps_pattern is None or not steps:
                if task is asked:
                    return task
            elif regex.fullmatch(task.steps_pattern, steps.strip()):
                return task
        return OTHER


@functools.lru_cache(maxsize=64)
def _union(kinds: AnswerKinds, num_regions: int) -> str:
    fields = (kinds.field_pattern(task, num_regions) for task in TASKS.values() if task is not CANNOT_TELL)
    return "|".join(dict.fromkeys(f"(?:{pattern})" for pattern in fields if pattern is not None))
