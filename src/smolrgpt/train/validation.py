"""The score of a validation: accuracy by set of scenes and by kind of question, official or not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smolrgpt.evaluation.extractors import stored_value
from smolrgpt.evaluation.report.markdown import markdown_table
from smolrgpt.evaluation.score import true_answer
from smolrgpt.schema import Sample
from smolrgpt.tasks import task_named
from smolrgpt.train.sources import SET


@dataclass(frozen=True)
class Validation:
    """Accuracies in percent.

    Attributes:
        by_set: Set -> kind of question -> accuracy.
        accuracy: Kind -> accuracy over the questions of all sets.
        num_questions: Questions that were scored: those with a short answer.
    """

    by_set: Mapping[str, Mapping[str, float]]
    accuracy: Mapping[str, float]
    num_questions: int

    @property
    def s1(self) -> float:
        """The mean over the sets of the mean over a set's kinds; S1 where there is one set with the official kinds."""
        return _mean(_mean(kinds.values()) for kinds in self.by_set.values())

    def table(self) -> str:
        """Format the accuracies as a Markdown table, a row for each kind."""
        rows = [[kind, *(_cell(kinds.get(kind)) for kinds in self.by_set.values()), _cell(found)] for kind, found in self.accuracy.items()]
        rows.append(["mean", *(_cell(_mean(kinds.values())) for kinds in self.by_set.values()), _cell(self.s1)])
        return markdown_table(["", *self.by_set, "all"], rows)


def score_validation(samples: Sequence[Sample], predictions: Iterable[Mapping[str, Any]]) -> Validation:
    """Score predictions {id, normalized_answer, unit?}; a missing or unreadable answer is wrong, a question without a short one left out.

    Raises ValueError when no question has a short answer.
    """
    rows = {row["id"]: row for row in predictions}
    by_set: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    by_kind: dict[str, list[bool]] = defaultdict(list)
    for sample in samples:
        task = task_named(sample.category)
        truth = task.parse_or_none(true_answer(sample))
        if truth is None:
            continue
        row = rows.get(sample.id)
        answer = None if row is None else task.parse_or_none(stored_value(row, task))
        is_correct = answer is not None and task.is_correct(truth, answer)
        by_set[sample.metadata.get(SET, "validation")][task.name].append(is_correct)
        by_kind[task.name].append(is_correct)
    if not by_kind:
        raise ValueError(f"none of the {len(samples)} validation questions has a short answer; expected some that can be scored")
    shares = {name: {kind: _percent(found) for kind, found in sorted(kinds.items())} for name, kinds in by_set.items()}
    return Validation(shares, {kind: _percent(found) for kind, found in sorted(by_kind.items())}, sum(map(len, by_kind.values())))


def _percent(found: Sequence[bool]) -> float:
    return 100.0 * sum(found) / len(found)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
