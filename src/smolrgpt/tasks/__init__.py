"""The kinds of question, each with one home: how it is recognised, worded, decoded, read, scored and shown. Needs no torch."""

from __future__ import annotations

from smolrgpt.tasks.base import FIELD_SEPARATOR, NormalizedAnswer, OtherTask, Task
from smolrgpt.tasks.choice import MCQ
from smolrgpt.tasks.count import COUNT
from smolrgpt.tasks.distance import DISTANCE
from smolrgpt.tasks.order import ABOVE, BEHIND
from smolrgpt.tasks.recognition import Recogniser
from smolrgpt.tasks.side import LEFT_RIGHT
from smolrgpt.tasks.size import HEIGHT, VERTICAL, WIDTH

__all__ = ["EXTRA", "FIELD_SEPARATOR", "OFFICIAL", "OTHER", "TASKS", "NormalizedAnswer", "Task", "read_answer", "recognise", "task_named"]

#: The four kinds that the warehouse score averages, in the order of its reports.
OFFICIAL: tuple[Task, ...] = (LEFT_RIGHT, COUNT, MCQ, DISTANCE)
#: The kinds of a synthetic set's extra questions. The order of two objects is asked in training only.
EXTRA: tuple[Task, ...] = (WIDTH, HEIGHT, VERTICAL, BEHIND, ABOVE)
#: A question of no kind that is known.
OTHER = OtherTask(name="other", title="other")
#: Name -> kind, of all kinds.
TASKS: dict[str, Task] = {task.name: task for task in (*OFFICIAL, WIDTH, HEIGHT, VERTICAL, OTHER)}

_recogniser = Recogniser(TASKS.values(), OTHER)


def recognise(question: str) -> Task:
    """Return the kind of a question from its words alone; ``OTHER`` where no rule knows it."""
    return _recogniser(question)


def task_named(name: str | None) -> Task:
    """Return the kind that data sets call ``name``; ``OTHER`` for None and for a name that no kind has."""
    return TASKS.get(name or "", OTHER)


def read_answer(question: str, text: str, task: Task | None = None) -> NormalizedAnswer:
    """Return the normalised answer that a free text gives; task: the kind of the question, by default recognised from its words."""
    return (task or recognise(question)).read(question, text)
