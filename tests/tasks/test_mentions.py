"""Mentions of regions in questions: every usual spelling is read, and what only looks like one is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolrgpt.schema.text import plain_text
from smolrgpt.tasks.mentions import read_mentions, write_mentions
from smolrgpt.tasks.official import official_forms
from smolrgpt.tasks.region_text import REGION_TAG, number_word
from smolrgpt.tasks.wording import load_wordings

NOUNS = ("region", "Region", "REGION", "mask", "obj", "object", "segment", "box", "bbox", "roi")
BRACKETS = ("<>", "[]", "{}", ("< ", " >"), ("<|", "|>"), ("[[", "]]"), ("&lt;", "&gt;"), (r"\[", r"\]"), "()", "＜＞", "【】", ("", ""))
JOINS = ("{} {}", "{}{}", "{}_{}", "{}-{}", "{} #{}", "{}: {}", "{} no. {}", "{} number {}", "{}\u00a0{}", "{}\u200b {}")
#: With {0} and {1} for the spelling of a region each.
SENTENCES = ("How far is {0} from {1}?", "{0}, {1}: how far apart?", "Is the pallet {0} left of the box {1}, within 2 m, or 3 boxes away?")


@pytest.mark.parametrize("sentence", SENTENCES)
@pytest.mark.parametrize("noun", NOUNS)
def test_every_spelling_is_the_same_question(noun: str, sentence: str) -> None:
    expected = sentence.format("<mask>", "<mask>")
    for (start, end), join in itertools.product(BRACKETS, JOINS):
        left, right = (f"{start}{join.format(noun, number)}{end}" for number in (7, 12))
        assert read_mentions(sentence.format(left, right), 13) == (expected, [7, 12]), left


@pytest.mark.parametrize("spelling", ["[{}]", "<{}>", "#{}", "[#{}]", "<mask> <depth>", "<mask_rgb><mask_depth>", "< Mask >"])
def test_marks_without_a_noun(spelling: str) -> None:
    question = f"How far is {spelling.format(0)} from {spelling.format(1)}?"
    assert read_mentions(question, 2) == ("How far is <mask> from <mask>?", [0, 1])


@pytest.mark.parametrize("value", range(13))
def test_numbers_in_words(value: int) -> None:
    assert read_mentions(f"How tall is region {number_word(value)}?", 13) == ("How tall is <mask>?", [value])


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How far apart are regions 0 and 2?", "How far apart are <mask> and <mask>?"),
        ("Is Region 0 or 2 taller?", "Is <mask> or <mask> taller?"),
        ("How far is object 0 from 2?", "How far is <mask> from <mask>?"),
        ("masks 0/2, which is nearer", "<mask>/<mask>, which is nearer"),
        ("How far is <region 0 from <region 2>?", "How far is <mask> from <mask>?"),
        ("Is region 0's top above region 2's?", "Is <mask>'s top above <mask>'s?"),
    ],
)
def test_lists_and_careless_spellings(question: str, expected: str) -> None:
    assert read_mentions(question, 3) == (expected, [0, 2])


@pytest.mark.parametrize(
    "rest",
    [
        "within 2 m of it",
        "among 2 pallets and 3 boxes",
        "and 2 pallets",
        "or the object 2 m away",
        "or the object two metres away",
        "or the objects 2.5 metres away",
        "in the region one can see",
        "in aisle 3",
        "near mask2former",
        "in the region of the masks",
    ],
)
def test_other_numbers_and_nouns_stay(rest: str) -> None:
    assert read_mentions(f"Is <region 0> {rest}?", 4) == (f"Is <mask> {rest}?", [0])


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("How far is <region a>?", "<region a>"),
        ("How far is <region>?", "<region>"),
        ("How far is [region ?]?", "[region ?]"),
        ("How far is <obj>?", "<obj>"),
        ("How far apart are <region 0, 1>?", "<region 0, 1>"),
        ("How far apart are [Region 0, Region 1]?", "[Region 0, Region 1]"),
        ("How far apart are regions [0, 1]?", "regions [0, 1]"),
        ("Which of regions 0-2 is nearest?", "<region 0>-2"),
        ("Which of regions 0 to 2 is nearest?", "<region 0> to 2"),
        ("Is region -1 left of region 0?", "region -1"),
        ("Is region 1.5 left of region 0?", "region 1.5"),
        ("How far is <region 0> from 1?", "<region 0> from 1"),
        ("Is <region 0> taller than 1?", "than 1"),
    ],
)
def test_what_cannot_be_read_is_quoted_and_the_form_is_named(question: str, found: str) -> None:
    with pytest.raises(ValueError, match="write regions as <region NUMBER>, available: <region 0>, <region 1>") as raised:
        read_mentions(question, 3)
    assert repr(found) in str(raised.value) and "\ue000" not in str(raised.value)


@pytest.mark.parametrize("spelling", ["<region {}>", "region {}", "[Region_{}]", "<obj{}>", "[{}]"])
def test_numbers_from_one_are_refused_in_words(spelling: str) -> None:
    with pytest.raises(ValueError, match="mentions <region 2>, but regions are numbered from 0, so the first is <region 0>"):
        read_mentions(f"How far is {spelling.format(1)} from {spelling.format(2)}?", 2)
    with pytest.raises(ValueError, match="mixes numbered regions and <mask>"):
        read_mentions(f"How far is <mask> from {spelling.format(1)}?", 2)


SPACES = " \t\n\r\u00a0\u1680\u2002\u2009\u200a\u202f\u205f\u3000\u2028\ufeff\u200b\u200d\u2060\u00ad\u200e\u2800"


@given(st.lists(st.text(SPACES, min_size=1, max_size=3).filter(lambda gap: plain_text(f"a{gap}b") == "a b"), min_size=7, max_size=7))
def test_white_space_of_any_kind_is_the_same_question(gaps: list[str]) -> None:
    words = ["\ufeffHow", "far", "is", "<region", "0>", "from", "region", "1\u2009?"]
    question = "".join(word + gap for word, gap in zip(words, [*gaps, ""], strict=True))
    assert read_mentions(f" {question}\r\n", 2) == ("How far is <mask> from <mask>?", [0, 1])


def test_typographic_characters_are_ascii_and_letters_stay() -> None:
    assert plain_text("“What’s” the area in m² – Größe, ½?") == '"What\'s" the area in m² - Größe, ½?'
    assert plain_text("Gro\u0308ße") == "Größe"


@pytest.mark.parametrize("label", ["<region {}>", REGION_TAG])
def test_the_texts_of_training_are_unchanged(label: str) -> None:
    frames = [form.template.replace("[MASKS]", "<mask> <mask>").replace("OBJ", "the pallet <mask>") for form in official_forms()]
    for family in ("side", "count", "choice", "distance", "size"):
        for wordings in load_wordings(family).values():
            for form in (form for forms in wordings.values() for form in forms):
                names = {name: f"{noun} <mask>" for name, noun in (("a", "region"), ("b", "the object"), ("list", "objects <mask>,"))}
                frames.append(form.format(**names, side="leftmost", short="left"))
    for frame in frames:
        count = frame.count("<mask>")
        assert plain_text(frame) == frame
        assert read_mentions(write_mentions(frame, form=label), count) == (frame, list(range(count)))


@pytest.mark.parametrize("form", ["**region {}**", "`<region {}>`", '"region {}"', "\u00abregion {}\u00bb", "__[Region {}]__"])
def test_emphasis_changes_nothing(form: str) -> None:
    asked = f"How far is {form.format(1)} from {form.format(0)}?"
    assert read_mentions(asked, 2) == ("How far is <mask> from <mask>?", [1, 0])


@pytest.mark.parametrize("other", ["<regoin 1>", "<r1>", "<item 1>", "[area 1]", "regoin 1", "reigon_1", "<Region 1/>"])
def test_a_question_is_not_half_read(other: str) -> None:
    for asked in (f"How far is <region 0> from {other}?", f"How far is {other} from region 0?"):
        with pytest.raises(ValueError, match="cannot read"):
            read_mentions(asked, 2)
