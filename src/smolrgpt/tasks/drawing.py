"""Random draws: picking, shuffling, and a balanced sample of questions from several groups of makers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject
from smolrgpt.tasks.question import Maker, Question

T = TypeVar("T")
#: Makers with the weights they are drawn by.
WeightedMakers = Sequence[tuple[float, Maker]]


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """Return one of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def shuffled(items: Sequence[T], rng: np.random.Generator) -> list[T]:
    """Return the items in random order."""
    return [items[k] for k in rng.permutation(len(items))]


def sample_balanced(graph: SceneGraph, rng: np.random.Generator, n: int, groups: Mapping[str, WeightedMakers]) -> list[Question]:
    """Draw at most n different questions, an equal share from every group of makers.

    What a group cannot give, the others fill up to half as much again. The questions are in random order.
    """
    found: list[Question] = []
    drawn: Counter[tuple[Any, ...]] = Counter()
    counts = dict.fromkeys(groups, 0)
    for share in (n / len(groups), 1.5 * n / len(groups)):
        for group in shuffled(list(groups), rng):
            wanted = min(max(1, round(share)) - counts[group], n - len(found))
            new = _draw(graph, rng, wanted, groups[group], drawn)
            counts[group] += len(new)
            found += new
    return shuffled(found, rng)


def _draw(
    graph: SceneGraph, rng: np.random.Generator, wanted: int, makers: WeightedMakers, drawn: Counter[tuple[Any, ...]]
) -> list[Question]:
    """Draw at most ``wanted`` new questions in five times as many tries, makers by weight."""
    found: list[Question] = []
    weights = np.array([weight for weight, _ in makers])
    for choice in rng.choice(len(makers), 5 * max(wanted, 0), p=weights / weights.sum()):
        if len(found) == wanted:
            break
        question = makers[int(choice)][1](graph, rng)
        if question is not None and _is_new(question, drawn):
            found.append(question)
    return found


def _is_new(question: Question, drawn: Counter[tuple[Any, ...]]) -> bool:
    """Refuse the same words about the same objects, and the same fact too often."""
    objects = frozenset(id(item) for item in question.objects)
    fact = (question.category, question.answer.count("[Region"), objects, question.normalized_answer)
    text = (question.text, *(id(item) for item in question.objects))
    if drawn[text] or drawn[fact] >= question.max_same_fact:
        return False
    drawn[text] += 1
    drawn[fact] += 1
    return True


def draw_several(objects: Sequence[SceneObject], rng: np.random.Generator) -> list[SceneObject]:
    """Draw three to ten of the objects, or all where there are fewer."""
    return shuffled(objects, rng)[: int(rng.integers(3, 11))]


def draw_one(graph: SceneGraph, rng: np.random.Generator) -> SceneObject:
    """Draw one object; kinds are equally likely, so that one kind with many objects does not dominate."""
    kinds = sorted({item.kind for item in graph.objects})
    return pick(rng, graph.of_kind(pick(rng, kinds)))
