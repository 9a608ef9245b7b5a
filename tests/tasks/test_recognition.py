"""Kinds of question are told by words, in any spelling of the same words."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from smolrgpt.tasks import recognise
from smolrgpt.tasks.recognition import plain_words

SAMPLES = Path(__file__).parents[2] / "../shared/samples/warehouse"
QUESTIONS = {
    "Is the pallet <mask> to the left or right of the pallet <mask>?": "left_right",
    "How many pallets are in the leftmost buffer region, given the buffer masks <mask> <mask> and pallet masks <mask> <mask>?": "count",
    "Which pallet in <mask> <mask> should be assigned to an idle transporter in <mask> <mask>?": "mcq",
    "How far apart are the leftmost pallet and the rightmost pallet among the pallets <mask> <mask> <mask>?": "distance",
    "Can you provide the distance measurement between the leftmost pallet and the rightmost pallet among <mask> <mask>?": "distance",
    "How wide is <mask>?": "width",
    "How tall is <mask>?": "height",
    "What is the vertical distance between <mask> and <mask>?": "vertical",
    "Describe the image.": "other",
}
SPELLINGS = {
    "capitals": lambda text: text.upper().replace("<MASK>", "<mask>"),
    "lower case": str.lower,
    "wide spaces": lambda text: text.replace(" ", "   "),
    "line breaks": lambda text: text.replace(" ", "\n"),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "no punctuation": lambda text: re.sub(r"[?.,]", "", text),
    "exclamation marks": lambda text: text.rstrip("?.") + "!!!",
    "quotation marks": lambda text: f'"{text}"',
    "curly quotation marks": lambda text: re.sub(r"\b(left|right|many|far|tall|wide|distance|pallets)\b", "\u201c\\1\u201d", text),
    "single quotation marks": lambda text: re.sub(r"\b(left|right|many|far|tall|wide|distance|pallets)\b", r"'\1'", text),
    "region numbers": lambda text: text.replace("<mask>", "<region 2>"),
    "region tags": lambda text: text.replace("<mask>", "[Region 2]"),
    "a wish for a number": lambda text: text + " Number only.",
    "a wish for one word": lambda text: "Answer in one word: " + text,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(("question", "kind"), QUESTIONS.items())
def test_spelling_does_not_change_the_kind(question: str, kind: str, spelling: str) -> None:
    assert recognise(SPELLINGS[spelling](question)).name == kind


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("How tall is <mask>? Number only.", "height"),
        ("How tall is the person who stands at <mask>?", "height"),
        ("How tall is <mask>, which stands left of <mask>?", "height"),
        ("Just a number: how far is <mask> from <mask>?", "distance"),
        ("Give me the number of metres between <mask> and <mask>.", "distance"),
        ("Only give me the number of pallets in <mask>.", "count"),
        ("Which of <mask> <mask> has the greatest height?", "mcq"),
        ("How many pallets are as wide as <mask>?", "count"),
        ("Who is that?", "other"),
        ("What colour is <mask>?", "cannot_tell"),
        ("How many feet are between <mask> and <mask>?", "distance"),
    ],
)
def test_a_word_of_another_kind_does_not_mislead(question: str, kind: str) -> None:
    assert recognise(question).name == kind


def test_plain_words_are_words_and_masks() -> None:
    assert (
        plain_words("<image>\nIs \u201c<region 0>\u201d left, or right, of [Region 1]'s pallet?")
        == "is <mask> left or right of <mask> s pallet"
    )


@pytest.mark.realdata
@pytest.mark.skipif(not SAMPLES.exists(), reason="the real samples are not here")
@pytest.mark.parametrize("noun", ["pallet", "buffer region", "transporter", "shelf"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_every_official_template_is_recognised(split: str, noun: str) -> None:
    for row in json.loads((SAMPLES / f"templates_{split}.json").read_text())["templates"]:
        text = row["text"].replace("OBJ", f"the {noun} <mask>").replace("[MASKS]", "<mask> <mask> <mask>")
        assert recognise(text).name == row["category"], text


@pytest.mark.parametrize(
    "question",
    [
        "left " * 1000 + "or " * 1600,
        "or " * 3300,
        "left or " * 1250,
        "how many m " * 900,
        "far very " * 1100,
        "how long from " * 700,
        "answer with " * 900,
        "region " * 1400,
        "<" * 10_000,
    ],
)
def test_no_question_takes_the_rules_long(question: str) -> None:
    """Rules that look for words at any distance of one another take hours for the first of these."""
    started = time.process_time()
    recognise(question[:10_000])
    assert time.process_time() - started < 5
