"""The brief form says what the full answer says: the rules read the same normalised answer out of both."""

from __future__ import annotations

import re

import pytest

from smolrgpt.data.synthetic import generate_scene, random_generator, scene_samples
from smolrgpt.evaluation.extract import extract
from smolrgpt.evaluation.score import score_row
from smolrgpt.train.answers import brief_answer, restyle


@pytest.fixture(scope="module")
def samples():
    return [s for seed in range(4) for s in scene_samples(generate_scene(seed, size=(192, 108)), 24, random_generator(seed))]


def test_brief_and_full_answers_are_read_alike(samples):
    assert len({s.category for s in samples}) == 4
    for sample in samples:
        read = extract(sample.question, brief_answer(sample), sample.category)
        assert score_row(sample.category, sample.normalized_answer, read), (sample.answer, brief_answer(sample), read)


def test_the_chain_is_kept_where_there_is_one(samples):
    for sample in samples:
        named = re.findall(r"\[Region \d+\]", brief_answer(sample))
        assert named == (list(dict.fromkeys(re.findall(r"\[Region \d+\]", sample.answer))) if len(sample.regions) > 2 else [])


def test_official_style_changes_nothing_and_an_unknown_one_is_refused(samples):
    assert restyle(samples, "official") == samples
    with pytest.raises(KeyError):
        restyle(samples, "verbose")
