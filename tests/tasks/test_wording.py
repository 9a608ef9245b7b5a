"""Laws of questions in plain words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolrgpt.data.worlds import (
    generate_scene,
    random_generator,
)
from smolrgpt.schema import SceneObject
from smolrgpt.tasks import OTHER, recognise
from smolrgpt.tasks.given_lengths import mark_lengths
from smolrgpt.tasks.measures import MEASURES, PLAIN_LENGTHS
from smolrgpt.tasks.nouns import draw_name
from smolrgpt.tasks.relations import contains, distance_m
from smolrgpt.tasks.units import asked_unit
from smolrgpt.tasks.wording import add_typos, ask_in_words, load_wordings, realise, write_given

# ------------------------------------------------------------------------------------------------------------------ plain words
#: What is asked -> wording -> forms, of all families.
FAMILIES = ("side", "distance", "choice", "count", "size", "compare", "clock", "conditions", "places")
FORMS = {asked: forms for family in FAMILIES for asked, forms in load_wordings(family).items()}


def _plain(wording, n=16):
    from smolrgpt.data.worlds.question_sets import plain_questions

    for number in range(n):
        scene = generate_scene((91, number))
        for question in plain_questions(scene.graph, random_generator(91, number, 2), 12, wording):
            yield scene, question


@pytest.mark.parametrize("wording", ["known", "reserved"])
def test_plain_questions_are_true_of_their_scene_and_known_for_what_they_are(wording) -> None:

    seen, recognised = set(), []
    for _, question in _plain(wording):
        assert question.text.count("<mask>") == len(question.objects)
        if question.category != "cannot_tell":  # not all of its reasons are in the words
            recognised.append(recognise(question.text).name == question.category)
        seen.add(question.category)
        things, value = question.objects, question.normalized_answer
        if question.category == "left_right":
            named = [int(number) for number in re.findall(r"\[Region (\d)\]", question.answer)]
            one, two = (things[number] for number in named)
            assert (value == "left") == (one.image_xy[0] < two.image_xy[0])
            assert question.steps == "".join(f"[Region {number}]" for number in named)
        elif question.category == "distance":
            assert value == distance_m(*things)
        elif question.category == "count":
            container = things[int(re.findall(r"\[Region (\d+)\]", question.steps)[1])]
            assert value == sum(bool(contains(container, thing)) for thing in things if thing is not container)
        elif question.category == "mcq":
            assert question.steps.endswith(f"[Region {value}]")
        elif question.category == "vertical":
            one, two = (thing.center_m[2] for thing in things)
            assert value == pytest.approx(abs(one - two), abs=0.006) and value >= 0.05
    assert seen >= {"left_right", "distance", "count", "mcq", "width", "height", "vertical"}
    assert np.mean(recognised) > 0.9, "typos may hide the word that asks"


def test_reserved_wordings_are_never_asked_as_known_ones() -> None:
    def core(form: str) -> str:
        return form.lower().replace("meters", "metres").rstrip("?.")

    for asked, forms in FORMS.items():
        known, reserved = ([core(form) for form in forms[wording]] for wording in ("known", "reserved"))
        assert not set(known) & set(reserved) and min(len(known), len(reserved)) >= 8, asked
        assert len(set(known)) == len(known) and len(set(reserved)) == len(reserved), asked


CONDITIONS = {
    "inside": "list b",
    "on": "list b",
    "within": "list length b",
    "left": "list b",
    "right": "list b",
    "taller": "list length",
    "all": "list",
}
#: Kinds that one field serves: rules need not tell them apart.
ALIKE = {"count_where": "count", "left_right": "relation"}
#: What is asked -> the kind of the questions, and the slots that every frame has; of slots with "|", one.
ASKED = {
    "sides": ("left_right", "a b"),
    "distances": ("distance", "a b"),
    "extremes": ("mcq", "list side|short"),
    "nearest": ("mcq", "a list"),
    "counts": ("count", "b list"),
    "widths": ("width", "a"),
    "heights": ("height", "a"),
    "apart": ("vertical", "a b"),
    "predicates": ("comparison", "a b more|amount"),
    "relations": ("comparison", "a b where"),
    "closer_of_three": ("comparison", "a b c"),
    "thresholds": ("threshold", "a more length"),
    "fits_into": ("fits", "a b"),
    "fits_through": ("fits", "a length"),
    "fits_under": ("fits", "a length"),
    "choices": ("choice_of_two", "a b more|amount"),
    "superlatives": ("superlative", "list most"),
    "farthest": ("superlative", "a list"),
    "differences": ("difference", "a b more"),
    "farther_of_three": ("difference", "a b c"),
    "height_orders": ("order_in_height", "a b"),
    "depth_orders": ("order_in_depth", "a b"),
    "camera_distances": ("camera_distance", "a"),
    "horizontals": ("horizontal", "a b"),
    "facing": ("direction", "a b c"),
    "from": ("direction", "a b"),
    "nth": ("place", "list nth side"),
    "middle": ("place", "list"),
    "between": ("between", "list a b"),
    **{f"c_{condition}": ("count", slots) for condition, slots in CONDITIONS.items()},
    **{f"e_{condition}": ("existence", slots) for condition, slots in CONDITIONS.items() if condition != "all"},
    **{f"p_{condition}": ("relation", slots.replace("list", "a")) for condition, slots in CONDITIONS.items() if slots.endswith("b")},
}
#: Values of slots that are words; of objects, names are drawn.
WORDS = {
    "side": ("leftmost",),
    "short": ("left",),
    "more": tuple(word for measure in PLAIN_LENGTHS for pole in measure.poles for word in pole.comparatives),
    "amount": tuple(word for measure in MEASURES for pole in measure.poles for word in pole.amounts),
    "where": tuple(word for measure in MEASURES for pole in measure.poles for word in pole.places),
    "most": tuple(word for measure in MEASURES for pole in measure.poles for word in pole.superlatives),
    "nth": ("second", "third"),
    "length": ("1.2 m", "80 cm", "4 ft", "1,2 m", "35 inches"),
}


def _slots(form: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", form)


def _is_right(slots: list[str], expected: str) -> bool:
    """Whether a form has each expected slot once, and one of each group of alternatives."""
    groups = [group.split("|") for group in expected.split()]
    return len(slots) == len(groups) and all(sum(slot in group for slot in slots) == 1 for group in groups)


def _fill(form: str, random: Random, nouns: Sequence[str]) -> str:
    mentions = ("<mask>", "the {} <mask>", "{} <mask>", "the object <mask>", "<mask> (the {})", "the {} at <mask>")
    things = {slot: random.choice(mentions).format(random.choice(nouns)) for slot in "abc"}
    listed = ", ".join(random.choice(mentions[:3]).format(random.choice(nouns)) for _ in range(3))
    words = {slot: random.choice(words) for slot, words in WORDS.items()}
    if "{nth}" in form:
        words["side"] = random.choice(("left", "right"))
    return form.format(**things, **words, list=f"{listed} and <mask>")


@pytest.mark.parametrize("asked", list(ASKED))
def test_every_frame_has_its_slots_and_is_recognised_whatever_its_objects_are_called(asked: str) -> None:
    kind, slots = ASKED[asked]
    random = Random(asked)
    nouns = [draw_name(random) for _ in range(200)]
    for form in (form for forms in FORMS[asked].values() for form in forms):
        assert _is_right(_slots(form), slots), form
        for text in (_fill(form, random, nouns) for _ in range(8)):
            name = recognise(text).name
            assert name == kind or ALIKE.get(name) == kind, text


def test_contexts_ask_for_nothing() -> None:
    for wordings in load_wordings("contexts").values():
        assert not set(wordings["known"]) & set(wordings["reserved"])
        for text in (text for texts in wordings.values() for text in texts):
            assert recognise(text) is OTHER and asked_unit(text) == "m", text


@pytest.fixture(scope="module")
def things() -> list[SceneObject]:
    return generate_scene((91, 3)).graph.objects


def test_frames_are_realised_with_a_mask_per_object_in_the_order_of_mention(things: list[SceneObject]) -> None:
    rng = np.random.default_rng(5)
    for form in ("Of {list}, is {a} it?", "Is {a} nearer to {b} than {c}?", "Look at {b}: {list}, {length}!"):
        slots = {"a": things[0], "b": things[1], "c": things[2], "list": things[3:8], "length": 1.234}
        expected = [item for slot in _slots(form) if slot != "length" for item in (slots[slot] if slot == "list" else [slots[slot]])]
        texts = set()
        for _ in range(300):
            text, objects = realise(form, slots, rng)
            assert objects == expected and text.lower().count("<mask>") == text.count("<mask>") == len(objects)
            texts.add(text)
        assert len(texts) > 250


def test_each_kind_is_asked_in_more_than_5000_ways(things: list[SceneObject]) -> None:
    rng = np.random.default_rng(6)
    assert len({ask_in_words("size", "widths", {"a": things[0]}, rng)[0] for _ in range(8000)}) > 5000


@given(st.floats(1e-3, 200), st.integers(0, 1 << 30))
def test_given_lengths_are_read_back(metres: float, seed: int) -> None:
    text, lengths = mark_lengths(f"within {write_given(metres, Random(seed))} of it")
    assert text == "within <length> of it" and lengths == [pytest.approx(metres, rel=0.006)]


@given(st.integers(0, 1 << 30), st.integers(0, 2))
def test_typos_spare_regions_numbers_and_units(seed: int, count: int) -> None:
    text = "Which of the mugs <mask>, <mask> lies within 2.5 metres or three inches of the teapot <mask>?"
    typed = add_typos(text, Random(seed), count)
    changed = [word for word, new in zip(text.split(), typed.split(), strict=True) if word != new]
    assert len(changed) <= count and not {"<mask>,", "<mask>", "<mask>?", "2.5", "metres", "three", "inches"} & set(changed)
