"""The kinds of question, each with one home: how it is recognised, worded, decoded, read, scored and shown. Needs no torch."""

from __future__ import annotations

import importlib
import pkgutil

from smolrgpt.schema.text import plain_text
from smolrgpt.tasks.base import FIELD_SEPARATOR, NormalizedAnswer, OtherTask, Task
from smolrgpt.tasks.choice import MCQ
from smolrgpt.tasks.count import COUNT
from smolrgpt.tasks.distance import DISTANCE
from smolrgpt.tasks.recognition import Recogniser
from smolrgpt.tasks.side import LEFT_RIGHT
from smolrgpt.tasks.units import ask_in_metres

__all__ = ["FIELD_SEPARATOR", "OFFICIAL", "OTHER", "TASKS", "NormalizedAnswer", "Task", "read_answer", "recognise", "task_named"]

#: The four kinds that the warehouse score averages, in the order of its reports.
OFFICIAL: tuple[Task, ...] = (LEFT_RIGHT, COUNT, MCQ, DISTANCE)
#: A question of no kind that is known.
OTHER = OtherTask(name="other", title="other")


def _find_tasks() -> dict[str, Task]:
    """Return the kinds by name: the official ones, then those of every module of this package. A new kind is found without being listed.

    Raises ValueError when two kinds have one name.
    """
    found = {task.name: task for task in OFFICIAL}
    for module in pkgutil.iter_modules(__path__):
        for value in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if isinstance(value, Task) and found.setdefault(value.name, value) is not value:
                raise ValueError(f"two kinds of question are named {value.name!r}; the second is in tasks/{module.name}.py")
    return {**found, OTHER.name: OTHER}


#: Name -> kind, of all kinds.
TASKS: dict[str, Task] = _find_tasks()

_recogniser = Recogniser(TASKS.values(), OTHER)


def recognise(question: str) -> Task:
    """Return the kind of a question from its words alone, whatever unit it asks for; ``OTHER`` where no rule matches."""
    return _recogniser(ask_in_metres(plain_text(question)))


def task_named(name: str | None) -> Task:
    """Return the kind that data sets call ``name``; ``OTHER`` for None and for a name that no kind has."""
    return TASKS.get(name or "", OTHER)


def read_answer(question: str, text: str, task: Task | None = None) -> NormalizedAnswer:
    """Return the normalised answer that a free text gives; task: the kind of the question, by default recognised from its words."""
    return (task or recognise(question)).read(question, text)
