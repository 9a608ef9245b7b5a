"""A template says how a question is worded, not about which or how many things."""

from __future__ import annotations

import json

import pytest

from smolrgpt.tasks.templates import question_template


def test_number_and_names_of_the_things_do_not_matter():
    three = "Among the pallet <mask>, the pallet <mask>, and the pallet <mask>, which object is leftmost?"
    two = "<image>\nAmong the buffer region <mask>, and the transporter <mask>, which object is leftmost?"
    assert question_template(three) == question_template(two) == "among <r>, which thing is leftmost?"
    assert question_template("Pallets <mask> <mask> within 3.5 m?") == question_template("Pallets <mask> <mask> <mask> within 12 m?")


@pytest.mark.parametrize(
    "other",
    [
        "Among the pallet <mask>, the pallet <mask>, and the pallet <mask>, which object is rightmost?",
        "Which pallet in <mask> <mask> <mask> is best for the transporter in <mask>?",
        "Is the pallet <mask> left of <mask>?",
    ],
)
def test_another_wording_is_another_template(other):
    assert question_template(other) != question_template(
        "Among the pallet <mask>, the pallet <mask>, and the pallet <mask>, which object is leftmost?"
    )


def test_a_template_is_its_own_template():
    once = question_template("Among the pallets <mask> <mask>, what is the distance from the shelf <mask> to the leftmost pallet?")
    assert question_template(once.replace("<r>", "<mask>")) == once


@pytest.mark.realdata
def test_official_wordings_that_differ_in_regions_only_are_one(shared_path):
    questions = [row["question"] for row in json.loads(shared_path("samples/warehouse/qa_text.json").read_text())]
    found = {question_template(question) for question in questions}
    assert len(found) < len(set(questions))
    assert not any("mask" in text or "pallet" in text or "transporter" in text for text in found)
    pickups = {question_template(q) for q in questions if "pick" in q}
    assert pickups and not pickups & {question_template(q) for q in questions if "leftmost?" in q}
