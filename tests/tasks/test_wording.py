"""Laws of questions in plain words."""

from __future__ import annotations

import re

import pytest

from smolrgpt.data.worlds import (
    generate_scene,
    random_generator,
)
from smolrgpt.tasks import recognise
from smolrgpt.tasks.relations import distance_m, stands_in
from smolrgpt.tasks.wording import load_wordings

# ------------------------------------------------------------------------------------------------------------------ plain words
#: What is asked -> wording -> forms, of all families.
FORMS = {asked: forms for family in ("side", "distance", "choice", "count", "size") for asked, forms in load_wordings(family).items()}


def _plain(wording, n=6):
    from smolrgpt.data.worlds.question_sets import plain_questions

    for number in range(n):
        scene = generate_scene((91, number))
        for question in plain_questions(scene.graph, random_generator(91, number, 2), 12, wording):
            yield scene, question


@pytest.mark.parametrize("wording", ["known", "reserved"])
def test_plain_questions_are_true_of_their_scene_and_known_for_what_they_are(wording) -> None:

    seen = set()
    for _, question in _plain(wording):
        assert question.text.count("<mask>") == len(question.objects)
        assert wording == "reserved" or recognise(question.text).name == question.category, question.text
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
            (buffer,) = [thing for thing in things if thing.kind == "buffer"]
            assert value == sum(stands_in(thing, buffer) for thing in things if thing is not buffer)
        elif question.category == "mcq":
            assert question.steps.endswith(f"[Region {value}]")
        elif question.category == "vertical":
            one, two = (thing.center_m[2] for thing in things)
            assert value == pytest.approx(abs(one - two), abs=0.006) and value >= 0.05
    assert seen == {"left_right", "distance", "count", "mcq", "width", "height", "vertical"}


def test_reserved_wordings_are_never_asked_as_known_ones() -> None:
    def core(form: str) -> str:
        return form.lower().replace("meters", "metres").rstrip("?.")

    for asked, forms in FORMS.items():
        known, reserved = ([core(form) for form in forms[wording]] for wording in ("known", "reserved"))
        assert not set(known) & set(reserved) and min(len(known), len(reserved)) >= 8, asked
        assert len(set(known)) == len(known) and len(set(reserved)) == len(reserved), asked


@pytest.mark.parametrize(
    ("asked", "category", "places"),
    [
        ("sides", "left_right", ["{a}{b}"]),
        ("distances", "distance", ["{a}{b}"]),
        ("extremes", "mcq", ["{list}{side}", "{list}{short}"]),
        ("nearest", "mcq", ["{a}{list}"]),
        ("counts", "count", ["{b}{list}"]),
        ("widths", "width", ["{a}"]),
        ("heights", "height", ["{a}"]),
        ("apart", "vertical", ["{a}{b}"]),
    ],
)
def test_wordings_have_their_places_and_words_that_tell_what_is_wanted(asked: str, category: str, places: list[str]) -> None:
    """All of them where the rules were written with them at hand; all but two of each kind where they were not."""
    things = {"a": "the pallet <mask>", "b": "the buffer <mask>" if asked == "counts" else "<mask>", "list": "<mask>, <mask> and <mask>"}
    right = {wording: [] for wording in FORMS[asked]}
    for wording, forms in FORMS[asked].items():
        for form in forms:
            assert "".join(sorted(re.findall(r"\{\w+\}", form))) in places, form
            right[wording].append(recognise(form.format(**things, side="leftmost", short="left")).name == category)
    assert all(right["known"]), [form for form, good in zip(FORMS[asked]["known"], right["known"], strict=True) if not good]
    assert sum(right["reserved"]) >= len(right["reserved"]) - 2
