"""An interpreter of the step language of comparisons and lengths, which knows nothing of the makers.

It reads every length from the scene graph, checks every word of comparison on the way, and computes the field that the steps lead to.
"""

from __future__ import annotations

import re

import numpy as np

from smolrgpt.schema import SceneGraph
from smolrgpt.tasks.answer_text import digits, stated_lengths
from smolrgpt.tasks.question import Question

_LENGTH = re.compile(r"\[Given\]|\[Region (\d+)\] (height|width|size|elevation|range)|\[Region (\d+)\]\[Region (\d+)\](?: (up|across))?")
_CHOOSES = re.compile(r"(.* |)([a-z]+)\[Region (\d+)\]")
_MORE = {"taller", "wider", "bigger", "higher", "farther"}
_LESS = {"shorter", "narrower", "smaller", "lower", "nearer"}
#: Words of a question that ask for less of a measure, as whole words; every other question asks for more.
_ASKS_LESS = re.compile(
    r"\b(?:shorter|narrower|thinner|smaller|lower|below|closer|nearer|less|fit|enough|in front|shortest|narrowest|thinnest|smallest|lowest"
    r"|nearest|closest)\b"
)


def lengths_of(graph: SceneGraph, question: Question, text: str) -> list[tuple[float, set[int]]]:
    """Return the lengths that steps name, in metres and in order, with the regions that they are of."""
    given = stated_lengths(digits(question.text.lower()))
    found: list[tuple[float, set[int]]] = []
    for match in _LENGTH.finditer(text):
        one, measure, first, second, along = match.groups()
        if one is not None:
            found.append((_of_one(graph, question, int(one), measure), {int(one)}))
        elif first is not None:
            gap = question.objects[int(first)].center_m - question.objects[int(second)].center_m
            kept = gap[{"up": [2], "across": [0, 1]}.get(along, [0, 1, 2])]
            found.append((float(np.sqrt((kept**2).sum())), {int(first), int(second)}))
        else:
            found.append((given[0], set()))
    return found


def _of_one(graph: SceneGraph, question: Question, index: int, measure: str) -> float:
    item = question.objects[index]
    length, width, height = item.size_m
    values = {"height": height, "width": max(length, width), "size": (length * width * height) ** (1 / 3), "elevation": item.center_m[2]}
    return float(np.linalg.norm(item.center_m - graph.pose.position)) if measure == "range" else float(values[measure])


def chosen_by(graph: SceneGraph, question: Question) -> int:
    """Return the region that a scan or a choice ends with, after checking each of its comparisons with the scene."""
    best: int | None = None
    asks_less = _ASKS_LESS.search(question.text.lower()) is not None
    steps = question.steps.split(", ")
    for step in steps:
        matched = _CHOOSES.fullmatch(step)
        assert matched, step
        before, word, named = matched[1], matched[2], int(matched[3])
        if "[" not in before:
            assert best == named, f"the last step names another region: {question.steps}"
            continue
        if word in ("left", "right"):
            first, second = (int(k) for k in re.findall(r"\[Region (\d+)\]", before))
            is_left = question.objects[first].image_xy[0] < question.objects[second].image_xy[0]
            assert is_left == (word == "left"), step
            assert named == (first if ("leftmost" in steps[-1]) == is_left else second), step
        else:
            (u, a), (v, b) = lengths_of(graph, question, before)
            is_tie = abs(u - v) <= 1e-6 * u  # of those that are not the best, two may be equal
            assert word in _MORE | _LESS and (is_tie or (u > v) == (word in _MORE)), step
            (first,), (second,) = a - b, b - a
            fewer = asks_less if "nearest" not in steps[-1] else True
            assert named in (first, second) and (is_tie or named == (first if (u < v) == fewer else second)), step
        assert best in (None, first), f"a scan goes on with the better region: {question.steps}"
        best = named
    assert best is not None
    return best


def field_of(graph: SceneGraph, question: Question) -> str | float:
    """Return the field that the steps of a comparison or a length lead to."""
    steps = question.steps
    if _CHOOSES.fullmatch(steps.rsplit(", ", 1)[-1]):
        return str(chosen_by(graph, question))
    lengths = [value for value, _ in lengths_of(graph, question, steps)]
    if steps.endswith(" difference"):
        return abs(lengths[-1] - lengths[-2])
    if len(lengths) == 1:
        return lengths[0]
    first, second = lengths
    if steps.endswith("elevation"):
        return "above" if first > second else "below"
    if steps.endswith("range"):
        return "behind" if first > second else "in front"
    text = question.text.lower()
    subject, other = (second, first) if re.search(r"\bfit\b|\benough\b", text) or steps.startswith("[Given]") else (first, second)
    return "yes" if (subject < other) == (_ASKS_LESS.search(text) is not None) else "no"
