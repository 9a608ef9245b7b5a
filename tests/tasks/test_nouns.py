"""Laws of the names of objects in questions."""

from __future__ import annotations

from random import Random

import pytest

from smolrgpt.tasks import OTHER, recognise
from smolrgpt.tasks.nouns import draw_name, invent_noun, load_vocabulary, plural
from smolrgpt.tasks.units import asked_unit


def test_names_ask_for_nothing() -> None:
    words = load_vocabulary()
    names = [*words.nouns, *map(plural, words.nouns), *(f"{modifier} thing" for modifier in words.modifiers)]
    texts = [f"the {name} <mask>" for name in [*names, *(invent_noun(Random(seed)) for seed in range(500))]]
    assert [text for text in texts if recognise(text) is not OTHER or asked_unit(text) != "m"] == []


def test_the_vocabulary_is_large_and_has_no_word_twice() -> None:
    words = load_vocabulary()
    assert len(words.nouns) > 1400 and len(words.modifiers) >= 150
    for group in (words.nouns, words.modifiers):
        assert len(set(group)) == len(group) and all(word == " ".join(word.split()) for word in group)


@pytest.mark.parametrize(
    ("noun", "several"),
    [("mug", "mugs"), ("tea box", "tea boxes"), ("bread knife", "bread knives"), ("battery", "batteries"), ("tray", "trays")],
)
def test_plurals(noun: str, several: str) -> None:
    assert plural(noun) == several


def test_names_are_of_the_class_where_one_is_given_and_of_many_others_where_none_is() -> None:
    random = Random(1)
    assert all(draw_name(random, "pallet").endswith("pallet") for _ in range(100))
    assert len({draw_name(random) for _ in range(1000)}) > 800
