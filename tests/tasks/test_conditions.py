"""Laws of counts, existence and predicates by conditions, of places among others, and of directions by the clock.

Every answer is computed again from the scene, by the steps that lead to it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from smolrgpt.data.worlds import generate_scene, random_generator, resolve_layouts
from smolrgpt.inference.answer_kinds import AnswerKinds
from smolrgpt.schema import SceneGraph, SceneObject
from smolrgpt.tasks import TASKS, Task, recognise
from smolrgpt.tasks.direction import DIRECTION, clear_hour, degrees_clockwise
from smolrgpt.tasks.given_lengths import mark_lengths
from smolrgpt.tasks.question import Question
from smolrgpt.tasks.relations import contains, is_on
from smolrgpt.tasks.wording import load_wordings

WORLDS = ("warehouse", "room", "tabletop", "yard")
KINDS = ("count_where", "existence", "relation", "place", "between", "direction")
_REGION = re.compile(r"\[Region (\d+)\]")
FORMS = {
    **{f"conditions:{asked}": forms for asked, forms in load_wordings("conditions").items()},
    **{f"places:{asked}": forms for asked, forms in load_wordings("places").items()},
    **{f"clock:{asked}": forms for asked, forms in load_wordings("clock").items()},
}
_BY_PREFIX = {"c_": "count_where", "e_": "existence", "p_": "relation"}
_BY_NAME = {"nth": "place", "middle": "place", "between": "between", "from": "direction", "facing": "direction"}


def _questions(task: Task, world: str) -> Iterator[tuple[SceneGraph, Question]]:
    for number in range(3):
        graph = generate_scene((17, number), layout=resolve_layouts("known", world)[number]).graph
        rng = random_generator(17, number)
        for _ in range(12):
            for _, ask in task.makers:
                if (question := ask(graph, rng)) is not None:
                    yield graph, question
            for _, ask in task.plain_makers:
                if (question := ask(graph, rng, "known")) is not None:
                    yield graph, question


def _meets(step: str, objects: list[SceneObject], given: list[float]) -> bool:
    """Whether the thing of a step meets the condition that the step names, by another way than the makers'."""
    first, *others = (objects[int(index)] for index in _REGION.findall(step))
    word = step.rpartition("]")[2].strip()
    if step.startswith("[Given]"):
        length = float(first.size_m[2]) if word == "height" else float(np.linalg.norm(first.center_m - others[0].center_m))
        assert max(length, given[0]) / min(length, given[0]) > 1.09
        return length > given[0] if word == "height" else length < given[0]
    if not others:
        return True
    if word in ("left", "right"):
        return (first.image_xy[0] < others[0].image_xy[0]) == (word == "left")
    holds = is_on(first, others[0]) if word == "on" else contains(others[0], first)
    assert holds is not None
    return holds


def _computed(question: Question) -> object:
    """The answer to a question about conditions, from its steps."""
    _, given = mark_lengths(question.text)
    if question.category == "relation":
        return "yes" if _meets(question.steps, question.objects, given) else "no"
    count = 0
    for part in question.steps.split(", "):
        step, _, so_far = part.rpartition(" ")
        count += _meets(step, question.objects, given)
        assert count == int(so_far)
    return ("yes" if count else "no") if question.category == "existence" else count


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("kind", ["count_where", "existence", "relation"])
def test_steps_lead_to_the_answer(kind: str, world: str) -> None:
    values = set()
    for _, question in _questions(TASKS[kind], world):
        assert question.normalized_answer == _computed(question), (question.text, question.steps)
        assert question.text.count("<mask>") == len(question.objects)
        values.add(question.normalized_answer)
    assert len(values) > 1


@pytest.mark.parametrize("world", WORLDS)
def test_places_are_those_of_the_image(world: str) -> None:
    seen = set()
    for _, question in [*_questions(TASKS["place"], world), *_questions(TASKS["between"], world)]:
        x = [item.image_xy[0] for item in question.objects]
        chosen = int(question.normalized_answer)
        assert question.steps.endswith(f"[Region {chosen}]")
        word = re.findall(r"(\w+)\[Region \d+\]", question.steps)[-1]
        seen.add(word)
        rank = sum(other < x[chosen] for other in x)
        if word == "between":
            ends = [int(index) for index in _REGION.findall(question.answer)][1:]
            inner = [k for k in range(len(x)) if k not in ends and min(x[e] for e in ends) < x[k] < max(x[e] for e in ends)]
            assert inner == [chosen]
        elif word == "middle":
            assert (rank, len(x)) == (1, 3)
        else:
            wanted = {"second": 1, "third": 2}[word]
            assert rank == (wanted if "leftmost" in question.steps else len(x) - 1 - wanted)
    assert seen == {"second", "third", "middle", "between"}


@pytest.mark.parametrize("world", WORLDS)
def test_directions_are_those_seen_from_above(world: str) -> None:
    for graph, question in _questions(DIRECTION, world):
        named = [question.objects[int(index)] for index in _REGION.findall(question.steps)]
        towards = complex(*(named[-1].center_m - named[-2].center_m)[:2])
        if len(named) == 4:
            ahead = complex(*(named[1].center_m - named[0].center_m)[:2])
        else:
            forward = graph.pose.axes[2, :2]
            ahead = complex(*(forward if np.linalg.norm(forward) > 0.3 else -graph.pose.axes[1, :2]))
        hours = (-math.degrees(np.angle(towards / ahead)) / 30) % 12
        off = abs(hours - DIRECTION.parse(question.normalized_answer))
        assert min(off, 12 - off) < 0.4


@pytest.mark.parametrize(
    ("towards", "hour"), [((0, 1), 12), ((1, 0), 3), ((0, -1), 6), ((-1, 0), 9), ((1, math.sqrt(3)), 1), ((-1, math.sqrt(3)), 11)]
)
def test_the_clock_goes_round_to_the_right(towards: tuple[float, float], hour: int) -> None:
    assert clear_hour(degrees_clockwise(np.array([0.0, 1.0]), np.array(towards))) == f"{hour} o'clock"
    assert clear_hour(15.0) is None


@pytest.mark.parametrize(("truth", "others"), [(12, {11, 12, 1}), (3, {2, 3, 4}), (1, {12, 1, 2})])
def test_a_direction_is_right_within_an_hour(truth: int, others: set[int]) -> None:
    assert {hour for hour in range(1, 13) if DIRECTION.is_correct(truth, hour)} == others


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("3 o'clock", "3 o'clock"),
        ("12", "12 o'clock"),
        ("[Region 1] is at about 7 o'clock.", "7 o'clock"),
        ("It is at 8:00 o'clock from [Region 0].", "8 o'clock"),
        ("13 o'clock", None),
        ("between 3 o'clock and 5 o'clock", None),
        ("to the left", None),
    ],
)
def test_hours_are_read(text: str, read: str | None) -> None:
    assert DIRECTION.read("", text) == read


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copies", [True, False])
def test_the_text_of_every_answer_shows_its_kind(kind: str, copies: bool) -> None:
    kinds, found = AnswerKinds(copies), set()
    for world in ("warehouse", "room"):
        for _, question in _questions(TASKS[kind], world):
            task = TASKS[question.category]
            assert task.describe_problem(question.normalized_answer, len(question.objects)) is None
            assert task.is_correct(task.parse(question.normalized_answer), task.parse(task.read("", str(question.normalized_answer))))
            text = f"{question.steps}: {question.normalized_answer}"
            found.add(kinds.kind_of(text, TASKS["other"], len(question.objects)).name == question.category)
            assert kinds.kind_of(text, task, len(question.objects)) is task, text
    assert found == {True}


@pytest.mark.parametrize("asked", FORMS)
def test_frames_are_recognised_as_their_kind(asked: str) -> None:
    slots = {"a": "the mug <mask>", "b": "<mask>", "c": "<mask>", "list": "<mask>, <mask> and <mask>", "length": "1.5 m", "side": "left"}
    name = asked.partition(":")[2]
    kind = _BY_NAME.get(name) or _BY_PREFIX[name[:2]]
    kind = {"c_inside": "count", "p_left": "left_right", "p_right": "left_right"}.get(
        name, kind
    )  # sides: whatever the answer is written as
    for form in (*FORMS[asked]["known"], *FORMS[asked]["reserved"]):
        question = form.format(**slots, nth="second")
        found = recognise(question).name
        assert name in ("p_left", "p_right") or found == kind or {found, kind} == {"count", "count_where"}, question


# ------------------------------------------------------------------------------------------------------------------ inside and on top
def _thing(graph: SceneGraph, center: tuple[float, float, float], size: tuple[float, float, float]) -> SceneObject:
    return replace(
        graph.objects[0], kind="thing", center_m=np.array(center), size_m=size, yaw_rad=0.0, points_m=None, drawn_box=None, loaded=None
    )


@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
@pytest.mark.parametrize(
    ("center", "on", "inside"),
    [
        ((0, 0, 1.1), True, False),
        ((0, 0, 0.5), False, True),
        ((0, 0, 0.2), False, True),
        ((3, 0, 0.1), False, False),
        ((0, 0, 1.4), None, False),
        ((0.55, 0, 1.1), None, None),
    ],
)
def test_inside_and_on_top_of_a_box_at_any_scale(scale: float, center: tuple[float, ...], on: bool | None, inside: bool | None) -> None:
    graph = generate_scene((3, 1)).graph
    box = _thing(graph, (0, 0, 0.5 * scale), (scale, scale, scale))
    thing = _thing(graph, tuple(scale * value for value in center), (0.3 * scale, 0.3 * scale, 0.2 * scale))
    assert (is_on(thing, box), contains(box, thing)) == (on, inside)
    assert is_on(box, thing) is not True and contains(thing, box) is not True
