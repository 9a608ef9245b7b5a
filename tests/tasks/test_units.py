"""Units of length: the one that a question asks for, and lengths written in it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolrgpt.evaluation.extractors import stored_answers
from smolrgpt.evaluation.score import score_prediction
from smolrgpt.tasks import TASKS, recognise
from smolrgpt.tasks.official import official_forms
from smolrgpt.tasks.region_text import LENGTH_UNITS
from smolrgpt.tasks.units import FEET_AND_INCHES, ask_in_metres, asked_unit, from_metres, in_metres, without_asked_unit, write_length
from smolrgpt.tasks.wording import load_wordings

SPELLINGS = {
    "mm": ("mm", "millimetres", "millimeters", "MM"),
    "cm": ("cm", "centimetres", "centimeters", "Centimetres"),
    "dm": ("dm", "decimetres"),
    "m": ("m", "metres", "meters"),
    "km": ("km", "kilometres"),
    "in": ("inches", "inch"),
    "ft": ("feet", "ft", "foot"),
    "yd": ("yards", "yd"),
    "mi": ("miles",),
    FEET_AND_INCHES: ("feet and inches", "ft/in", "imperial units", "foot and inch", "ft and in"),
}
FORMS = (
    "How far is <mask> from <mask> in {}?",
    "In {}, how far is <mask> from <mask>?",
    "How far is <mask> from <mask>? Answer in {}.",
    "How far is <mask> from <mask> (in {})?",
    "How far is <mask>, which is 2 m tall, from the 6-inch pipe <mask> in {}?",
    "how many {} is <mask> from <mask>",
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("unit", SPELLINGS)
def test_a_unit_that_is_asked_for_is_found(unit: str, form: str) -> None:
    for spelling in SPELLINGS[unit]:
        assert asked_unit(form.format(spelling)) == unit, spelling


@pytest.mark.parametrize(
    ("question", "unit"),
    [
        ("distance <mask> <mask>, mm please", "mm"),
        ("The centimetres between <mask> and <mask>?", "cm"),
        ("How tall is <mask>? [cm]", "cm"),
        ("How tall is <mask> (in)?", "in"),
        ("How tall is <mask>, in in?", "in"),
        ("How tall is <mask> to the nearest cm?", "cm"),
        ("How tall is <mask> in metres, to the nearest cm?", "m"),
        ("Is <mask> within 2 feet of <mask>?", "m"),
        ("How far is the six inch pipe <mask> from <mask>?", "m"),
        ("How far is <mask> from the foot of the stairs <mask>?", "m"),
        ("How far is <mask> from the yard truck <mask> in the yard?", "m"),
        ("How tall is the box that <mask> is in?", "m"),
        ("How far in front of <mask> is <mask>?", "m"),
        ("How many square feet are between <mask> and <mask>?", "m"),
        ("How far is <mask>, which moves at cm/s?", "m"),
    ],
)
def test_other_units_are_no_request(question: str, unit: str) -> None:
    assert asked_unit(question) == unit


def test_no_wording_of_training_asks_for_another_unit() -> None:
    forms = [form.template for form in official_forms()]
    for family in ("side", "count", "choice", "distance", "size"):
        forms += [form for wordings in load_wordings(family).values() for forms in wordings.values() for form in forms]
    assert {asked_unit(form) for form in forms} == {"m"}


#: What asks for a unit around a plain question.
REQUESTS = (
    "{} in {unit}?",
    "{}, in {unit}?",
    "{} ({unit})?",
    "{} (in {unit})?",
    "{}? Answer in {unit}.",
    "{}? Please give the answer in {unit}.",
)


@pytest.mark.parametrize("family", ["distance", "size"])
@pytest.mark.parametrize("unit", [unit for unit in SPELLINGS if unit != "m"])
def test_a_question_in_another_unit_is_the_plain_question(unit: str, family: str) -> None:
    has_metres = re.compile(r"\b(?:met(?:er|re)s|m)\b")
    forms = [form for wordings in load_wordings(family).values() for forms in wordings.values() for form in forms]
    for form in forms:
        question = form.format(a="<mask>", b="the box <mask>")
        for spelling in SPELLINGS[unit][: 1 if unit == "in" else 2]:
            if has_metres.search(question):
                asked = has_metres.sub(spelling, question)
                assert (asked_unit(asked), ask_in_metres(asked)) == (unit, has_metres.sub("metres", question))
                assert recognise(asked) is recognise(question)
                assert "  " not in without_asked_unit(asked) and not re.search(rf"\b{spelling}\b", without_asked_unit(asked))
            elif question.endswith("?") and question[0].isupper():
                for request in REQUESTS:
                    assert without_asked_unit(request.format(question[:-1], unit=spelling)) == question
                assert without_asked_unit(f"In {spelling}, {question[0].lower()}{question[1:]}") == question


@pytest.mark.parametrize(
    ("asked", "plain"),
    [
        ("How many centimetres tall is <mask>?", "How tall is <mask>?"),
        ("How many feet apart are <mask> and <mask>?", "How far apart are <mask> and <mask>?"),
        ("How many cm separate <mask> and <mask>?", "How many metres separate <mask> and <mask>?"),
        ("How far, in feet, is <mask> from <mask>?", "How far is <mask> from <mask>?"),
        ("What is the height in mm of <mask>?", "What is the height of <mask>?"),
        ("Is <mask> within 2 feet of <mask>?", "Is <mask> within 2 feet of <mask>?"),
        ("How tall is <mask> in metres?", "How tall is <mask> in metres?"),
    ],
)
def test_a_unit_is_left_out_where_the_sentence_can_do_without(asked: str, plain: str) -> None:
    assert without_asked_unit(asked) == plain


@given(st.floats(1e-3, 1e3), st.sampled_from(list(SPELLINGS)))
def test_lengths_are_converted_to_three_digits_and_back(metres: float, unit: str) -> None:
    value, name = from_metres(metres, unit)
    assert in_metres(value, name) == pytest.approx(metres, rel=5e-3)
    assert "e" not in write_length(metres, unit).removesuffix("feet")


@pytest.mark.parametrize(
    ("metres", "unit", "text"),
    [
        (1.69, "cm", "169 cm"),
        (1.69, "mm", "1690 mm"),
        (1.69, "ft", "5.54 ft"),
        (1.69, "in", "66.5 in"),
        (1.69, "km", "0.00169 km"),
        (1.69, FEET_AND_INCHES, "5 ft 7 in"),
        (1.8288, FEET_AND_INCHES, "6 ft"),
        (0.3, FEET_AND_INCHES, "11.8 in"),
        (0, FEET_AND_INCHES, "0 in"),
        (0, "cm", "0 cm"),
    ],
)
def test_lengths_as_they_are_written(metres: float, unit: str, text: str) -> None:
    assert write_length(metres, unit) == text


TEXTS = {
    "[Region 0][Region 1]: 1.69": "[Region 0][Region 1]: {}",
    "1.69": "{}",
    "[Region 1] is the leftmost pallet. They are 1.69 meters apart.": "[Region 1] is the leftmost pallet. They are {} apart.",
}


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.is_length])
@pytest.mark.parametrize("text", TEXTS)
def test_every_length_states_the_unit_that_is_asked_for(text: str, name: str) -> None:
    task = TASKS[name]
    metres = "1.69 meters" if "meters" in text else "1.69 m"
    assert task.in_asked_unit("How far?", text, 1.69) == (TEXTS[text].format(metres), 1.69, "m")
    assert task.in_asked_unit("How many cm?", text, 1.69) == (TEXTS[text].format("169 cm"), 169, "cm")
    assert task.in_asked_unit("In feet and inches?", text, 1.69) == (TEXTS[text].format("5 ft 7 in"), 5.54, "ft")
    assert task.in_asked_unit("In feet?", "One is within the other.", 0) == ("One is within the other.", 0, "ft")
    assert task.in_asked_unit("In feet?", "no idea", None) == ("no idea", None, None)


@pytest.mark.parametrize("question", ["How far?", "How many cm?", "In feet?"])
@pytest.mark.parametrize("text", TEXTS)
def test_an_unfinished_answer_is_the_start_of_the_whole_one(text: str, question: str) -> None:
    task = TASKS["distance"]
    whole, _, _ = task.in_asked_unit(question, text, 1.69)
    for length in range(len(text) + 1):
        assert "[" in text[:length].rpartition("]")[2] or whole.startswith(task.without_unfinished_field(question, text[:length]))


@pytest.mark.parametrize("unit", ["mm", "cm", "ft", "centimetres", "Inches", "m", None])
def test_scores_compare_metres(unit: str | None) -> None:
    metres = in_metres(1.0, unit)
    row = {"id": "a", "category": "distance", "normalized_answer": 1.69 / metres, "unit": unit}
    assert score_prediction("distance", 1.7, row).is_correct and stored_answers([row]) == [pytest.approx(1.69)]
    assert not score_prediction("distance", 1.7, {**row, "unit": "furlongs"}).is_correct
    assert score_prediction("count", 3, {"normalized_answer": 3, "unit": "cm"}).is_correct, "a count has no unit of length"


def test_units_are_those_of_questions_about_lengths_alone() -> None:
    question = "How many of the objects <mask> <mask> are within 50 cm of <mask>?"
    assert recognise(question).in_asked_unit(question, "2", 2) == ("2", 2, None)
    assert set(SPELLINGS) == {*LENGTH_UNITS, FEET_AND_INCHES}
