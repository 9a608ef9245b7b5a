"""Regions, numbers and units in text: written, read and renumbered in one place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolrgpt.tasks import OTHER, TASKS
from smolrgpt.tasks.mentions import read_mentions, write_mentions
from smolrgpt.tasks.region_text import (
    LENGTH_UNITS,
    MARKED_REGION,
    REGION_TAG,
    find_regions,
    number_word,
    region_tag,
    renumber_tags,
    words_to_digits,
)


@pytest.mark.parametrize("spelling", ["[Region {}]", "<region {}>", "Region [{}]", "region {}", "[region {}]", "< Region {} >"])
def test_every_spelling_of_a_region_is_found(spelling: str) -> None:
    text = f"Is {spelling.format(3)} left of {spelling.format(12)}?"
    assert find_regions(text) == [3, 12]


def test_only_marked_spellings_have_brackets() -> None:
    assert find_regions("[Region 1], <region 2>, Region [3] and region 4", MARKED_REGION) == [1, 2, 3]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8))
def test_mentions_are_read_as_they_were_written(indices: list[int]) -> None:
    question = "Is " + " or ".join(["<mask>"] * len(indices)) + " wide?"
    assert read_mentions(write_mentions(question, indices), 31) == (question, indices)


def test_questions_are_written_with_the_labels_given() -> None:
    assert write_mentions("<image>\nIs <mask> left of <mask>?", form=REGION_TAG) == "Is [Region 0] left of [Region 1]?"
    assert write_mentions("Is <mask> left of <mask>?", [5, 2], REGION_TAG) == "Is [Region 5] left of [Region 2]?"


def test_a_wrong_number_of_labels_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 labels for 1 <mask>"):
        write_mentions("Where is <mask>?", ["3", "4"])


@given(st.permutations(range(6)))
def test_renumbering_is_undone_by_the_inverse(indices: list[int]) -> None:
    text = " ".join(region_tag(index) for index in range(6))
    inverse = [indices.index(index) for index in range(6)]
    assert renumber_tags(renumber_tags(text, indices), inverse) == text


@pytest.mark.parametrize("value", range(14))
def test_number_words_are_read_as_they_are_written(value: int) -> None:
    assert words_to_digits(f"there are {number_word(value)} pallets") == f"there are {value} pallets"


def test_tens_and_ones_are_one_number() -> None:
    assert words_to_digits("twenty-five of thirty") == "25 of 30"


def test_units_are_exact() -> None:
    assert LENGTH_UNITS["yd"][0] == pytest.approx(3 * LENGTH_UNITS["ft"][0]) == pytest.approx(36 * LENGTH_UNITS["in"][0])


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("mcq", "nearest pallet[Region 1]: 1", "nearest pallet[Region 1]: 7"),
        ("mcq", "1", "7"),
        ("count", "[Region 2][Region 0] 1: 1", "[Region 2][Region 0] 1: 1"),
        ("distance", "[Region 0][Region 1]: 1", "[Region 0][Region 1]: 1"),
        ("left_right", "[Region 0][Region 1]: left", "[Region 0][Region 1]: left"),
        ("other", "leftmost buffer[Region 1], nearest pallet[Region 1]: 1", "leftmost buffer[Region 1], nearest pallet[Region 1]: 7"),
        ("other", "[Region 2][Region 0] 1, [Region 1][Region 0] 1: 1", "[Region 2][Region 0] 1, [Region 1][Region 0] 1: 1"),
        ("other", "[Region 0][Region 1]: 1", "[Region 0][Region 1]: 1"),
        ("other", "[Region 0] height: 1", "[Region 0] height: 1"),
    ],
)
def test_the_field_of_a_chosen_region_and_no_other_is_renumbered(kind: str, text: str, expected: str) -> None:
    task = TASKS.get(kind, OTHER)
    assert task.renumber_field(text, [4, 7, 9]) == expected
