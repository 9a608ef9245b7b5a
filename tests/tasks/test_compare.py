"""Laws of questions that compare: what the steps say is true of the scene and leads to the answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from smolrgpt.data.worlds import generate_scene, random_generator
from smolrgpt.data.worlds.generate import WORLDS
from smolrgpt.schema import SceneGraph
from smolrgpt.tasks import TASKS, recognise
from smolrgpt.tasks.compare import CHOICE_OF_TWO, ORDER_IN_DEPTH, ORDER_IN_HEIGHT, SUPERLATIVE_OF_SEVERAL
from smolrgpt.tasks.lengths import CAMERA_DISTANCE, DIFFERENCE, HORIZONTAL
from smolrgpt.tasks.measures import CLEAR_RATIO, MEASURES, RANGE
from smolrgpt.tasks.question import Question
from smolrgpt.tasks.yes_no import COMPARISON, FITS, THRESHOLD
from tests.tasks.step_language import field_of, lengths_of

KINDS = (COMPARISON, THRESHOLD, FITS, CHOICE_OF_TWO, SUPERLATIVE_OF_SEVERAL, ORDER_IN_HEIGHT, ORDER_IN_DEPTH,
         CAMERA_DISTANCE, HORIZONTAL, DIFFERENCE)  # fmt: skip


@pytest.fixture(scope="module", params=list(WORLDS))
def graphs(request: pytest.FixtureRequest) -> list[SceneGraph]:
    known = WORLDS[request.param].known
    return [generate_scene((73, number), known[number % len(known)]).graph for number in range(4)]


def _asked(graphs: list[SceneGraph], name: str, tries: int = 12) -> Iterator[tuple[SceneGraph, Question]]:
    for number, graph in enumerate(graphs):
        rng = random_generator(73, number)
        for _ in range(tries):
            for _, ask in TASKS[name].makers:
                if (question := ask(graph, rng)) is not None:
                    yield graph, question


@pytest.mark.parametrize("task", KINDS, ids=lambda task: task.name)
def test_the_steps_lead_to_the_answer(task, graphs: list[SceneGraph]) -> None:
    for graph, question in _asked(graphs, task.name):
        value = field_of(graph, question)
        truth = question.normalized_answer
        assert value == (truth if isinstance(truth, str) else pytest.approx(truth, rel=0.006)), (question.text, question.steps)


@pytest.mark.parametrize("task", KINDS, ids=lambda task: task.name)
def test_questions_are_known_and_their_answers_read(task, graphs: list[SceneGraph]) -> None:
    for _, question in _asked(graphs, task.name):
        assert recognise(question.text) is task, question.text
        assert task.read(question.text, question.answer) == question.normalized_answer, (question.text, question.answer)
        assert task.describe_problem(question.normalized_answer, len(question.objects)) is None
        assert question.text.count("<mask>") == len(question.objects) == len(set(question.objects))


def test_what_is_compared_is_clearly_different(graphs: list[SceneGraph]) -> None:
    for task in (COMPARISON, THRESHOLD, FITS, CHOICE_OF_TWO, ORDER_IN_HEIGHT, ORDER_IN_DEPTH):
        for graph, question in _asked(graphs, task.name):
            low, high = sorted(value for value, _ in lengths_of(graph, question, question.steps))
            assert high >= (CLEAR_RATIO - 0.005) * low


def test_without_a_plane_only_distances_are_compared(graphs: list[SceneGraph]) -> None:
    flat = [replace(graph, has_plane=False) for graph in graphs]
    assert all(measure is RANGE or measure.value(flat[0], item) is None for measure in MEASURES for item in flat[0].objects)
    for task in KINDS:
        for _, question in _asked(flat, task.name):
            assert not {"height", "width", "size", "elevation", "across"} & set(question.steps.replace(",", "").split()), question.steps


@pytest.mark.parametrize("name", ["mcq"])
def test_the_scans_of_official_choices_are_true(name: str) -> None:
    graphs = [generate_scene((73, number)).graph for number in range(4)]
    for graph, question in _asked(graphs, name):
        scan = [step for step in question.steps.split(", ") if "loaded" not in step and "empty" not in step]
        if sum("most " in step or "nearest " in step for step in scan) == 1:
            assert field_of(graph, replace(question, steps=", ".join(scan))) == question.normalized_answer, question.steps


@pytest.mark.parametrize(
    ("question", "answer", "value"),
    [
        ("Is <mask> taller than <mask>?", "No, it isn't.", "no"),
        ("Is <mask> taller than <mask>?", "[Region 0] is not taller than [Region 1].", "no"),
        ("Is <mask> taller than <mask>?", "[Region 1] is shorter.", "yes"),
        ("Is <mask> taller than <mask>?", "That is correct.", "yes"),
        ("Compared to <mask>, is <mask> wider?", "[Region 1] is wider.", "yes"),
        ("Is <mask> behind <mask>?", "[Region 0] is in front of [Region 1].", "no"),
        ("Which is taller, <mask> or <mask>?", "[Region 0] is shorter than [Region 1].", "1"),
        ("Which is closer to the camera, <mask> or <mask>?", "Region 1 is closer.", "1"),
        ("Is <mask> above or below <mask>?", "[Region 1] is above [Region 0].", "below"),
        ("Is <mask> behind or in front of <mask>?", "It is behind.", "behind"),
        ("Is <mask> taller than 1.2 m?", "It is only 80 cm high.", "no"),
        ("Would <mask> fit through a gap of 80 cm?", "It doesn't fit.", "no"),
        ("How much taller is <mask> than <mask>?", "About 30 cm.", 0.3),
    ],
)
def test_free_answers_are_read(question: str, answer: str, value: str | float) -> None:
    assert recognise(question).read(question, answer) == value
