"""The short styles hold the facts of the full answer: the same normalised answer is parsed from all of them."""

from __future__ import annotations

import dataclasses
import re

import pytest

from smolrgpt.data.worlds import generate_scene, random_generator, scene_samples
from smolrgpt.evaluation.score import score_answer
from smolrgpt.schema import Truth
from smolrgpt.tasks import read_answer, task_named
from smolrgpt.train.answers import brief_answer, restyle, stepwise_answer


@pytest.fixture(scope="module")
def samples():
    return [s for seed in range(4) for s in scene_samples(generate_scene(seed, size=(192, 108)), 24, random_generator(seed))]


@pytest.mark.parametrize("write", [brief_answer, stepwise_answer])
def test_short_and_full_answers_are_read_alike(samples, write):
    assert len({s.category for s in samples}) == 4
    for sample in samples:
        read = read_answer(sample.question, write(sample), task_named(sample.category))
        assert score_answer(sample.category, sample.normalized_answer, read).is_correct, (sample.answer, write(sample), read)


def test_without_steps_the_brief_answer_is_given(samples):
    for sample in samples:
        bare = dataclasses.replace(sample, truth=None)
        assert stepwise_answer(bare) == brief_answer(sample) != stepwise_answer(sample)
    listed = dataclasses.replace(samples[0], normalized_answer=None, truth=Truth("[Region 0] 12"))
    assert stepwise_answer(listed) == "[Region 0] 12"


def test_a_length_has_its_name_before_it(samples):
    one = {"question": "How tall is <mask>?", "category": "height", "regions": samples[0].regions[:1], "normalized_answer": 1.29}
    asked = dataclasses.replace(samples[0], **one, truth=None)
    assert stepwise_answer(asked) == "[Region 0] height: 1.29"
    assert read_answer("How tall is it?", stepwise_answer(asked), task_named("height")) == 1.29
    two = {"question": "<mask> above <mask>?", "category": "vertical", "regions": samples[0].regions[:1] * 2, "normalized_answer": 0.45}
    apart = dataclasses.replace(samples[0], **two, truth=None)
    assert stepwise_answer(apart) == "[Region 0][Region 1] up: 0.45"
    assert read_answer("How far up is it?", stepwise_answer(apart), task_named("vertical")) == 0.45


def test_a_brief_answer_names_the_regions_of_the_full_one(samples):
    for sample in samples:
        named = re.findall(r"\[Region \d+\]", brief_answer(sample))
        assert named == (list(dict.fromkeys(re.findall(r"\[Region \d+\]", sample.answer))) if len(sample.regions) > 2 else [])


def test_official_style_changes_nothing_and_an_unknown_one_is_refused(samples):
    assert restyle(samples, "official") == samples
    with pytest.raises(KeyError, match="verbose"):
        restyle(samples, "verbose")
