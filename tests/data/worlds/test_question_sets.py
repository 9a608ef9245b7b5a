"""Laws of the questions of a set: right, unguessable, with steps that lead to the answer, readable by the official reader."""

from __future__ import annotations

import collections
import re

import numpy as np
import pytest

from smolrgpt.data.worlds import (
    random_generator,
)
from smolrgpt.data.worlds.captions import caption
from smolrgpt.data.worlds.question_sets import extra_questions, warmup_questions
from smolrgpt.tasks import read_answer, recognise, task_named
from smolrgpt.tasks.relations import distance_m, stands_in


def test_answers_read_back(asked):
    """The answer text says the normalised answer, types included, and the words give the category away."""
    for _, questions in asked:
        for question in questions:
            read = read_answer(question.text, question.answer, task_named(question.category))
            assert read == question.normalized_answer and type(read) is type(question.normalized_answer)
            assert recognise(question.text).name == question.category
            assert max(map(int, re.findall(r"\[Region (\d+)\]", question.answer))) < len(question.objects)


_REGIONS = re.compile(r"\[Region (\d+)\]")


def _named(question, step):
    return [question.objects[int(name)] for name in _REGIONS.findall(step)]


def test_the_steps_lead_to_the_answer(asked):
    """Each kind of answer, worked out from what the steps state and nothing else."""
    for question in (question for _, questions in asked for question in questions):
        last = question.steps.split(", ")[-1]
        if question.category == "count":
            assert int(last.split("]")[-1]) == question.normalized_answer
        elif question.category == "mcq":
            assert _REGIONS.findall(last)[-1] == question.normalized_answer
        else:
            one, two = _named(question, last)
            if question.category == "distance":
                assert distance_m(one, two) == question.normalized_answer
            else:
                assert question.normalized_answer == ("left" if one.image_xy[0] < two.image_xy[0] else "right")


def test_steps_are_true_and_each_goes_on_where_the_last_one_ended(asked):
    """A comparison's word is true of its two, its winner meets the next one, and what a chain finds is what it says of all it compared."""
    found = collections.Counter()
    for question in (question for _, questions in asked for question in questions):
        compared, winner = [], None
        for step in question.steps.split(", "):
            words = _REGIONS.sub(" ", step).split()
            if not words or words[0] not in ("left", "right", "nearer", "farther", "leftmost", "rightmost", "middle", "nearest"):
                continue
            found[words[0]] += 1
            things = _named(question, step)
            if len(words) == 2:
                chosen, column = things[0], [thing.image_xy[0] for thing in compared]
                rank = sorted(column).index(chosen.image_xy[0]) if words[0] != "nearest" else None
                nearest = words[0] == "nearest" and chosen is min(
                    compared, key=lambda thing: np.linalg.norm(thing.center_m - anchor.center_m)
                )
                assert nearest or rank == {"leftmost": 0, "middle": 1, "rightmost": len(set(column)) - 1}[words[0]]
                assert chosen.kind == words[1] and (chosen is winner or words[0] == "middle")
                compared, winner = [], None
                continue
            *pair, better = things
            if len(pair) == 4:
                anchor, best, _, other = pair
                assert (words[0] == "nearer") == (
                    np.linalg.norm(best.center_m - anchor.center_m) < np.linalg.norm(other.center_m - anchor.center_m)
                )
                assert better is (best if words[0] == "nearer" else other)
            else:
                best, other = pair
                assert (words[0] == "left") == (best.image_xy[0] < other.image_xy[0]) and better in pair
            assert winner is None or best is winner or best is compared[0]  # "middle" starts again for its other end
            winner = better
            compared += [thing for thing in (best, other) if thing not in compared]
    assert len(found) == 8, found


def test_surveys_state_one_fact_per_region(scenes):
    found = collections.Counter()
    for k, scene in enumerate(scenes):
        for question in warmup_questions(scene.graph, random_generator(13, k), 18):
            if question.normalized_answer is not None:
                continue
            found[question.category] += 1
            steps = question.steps.split(", ")
            anchored = "[Region 0][Region " in steps[0]
            assert len(steps) == len(question.objects) - anchored
            for k_, (step, thing) in enumerate(zip(steps, question.objects, strict=False)):
                assert step.startswith(f"[Region {k_}]")
                value, anchor = step.split("] ")[-1].split("]")[-1].strip(), question.objects[-1]
                if question.category == "distances":
                    assert float(value) == pytest.approx(distance_m(thing, anchor), abs=0.051)
                elif question.category == "insides":
                    assert (value == "in") == stands_in(thing, anchor)
                elif question.category == "sides":
                    assert (value == "left") == (thing.image_xy[0] < anchor.image_xy[0])
                elif question.category == "loads":
                    assert value == ("loaded" if thing.loaded else "empty")
    assert set(found) == {"positions", "depths", "kinds", "distances", "sides", "insides", "loads"}


def test_question_shares(asked):
    questions = [question for _, questions in asked for question in questions]
    shares = collections.Counter(question.category for question in questions)
    assert all(0.17 < share / len(questions) < 0.33 for share in shares.values()) and len(shares) == 4
    distances = [question for question in questions if question.category == "distance"]
    assert 0.02 < np.mean([question.normalized_answer == 0 for question in distances]) < 0.12
    assert all(isinstance(question.normalized_answer, float) or question.normalized_answer == 0 for question in distances)
    assert 0.5 < np.mean([len(question.objects) == 2 for question in distances]) < 0.8
    counts = collections.Counter(question.normalized_answer for question in questions if question.category == "count")
    assert set(counts) == {1, 2, 3, 4} and max(counts.values()) < 0.45 * sum(counts.values())
    assert {len(question.objects) for question in questions} <= set(range(2, 16))
    assert all(question.text.count("<mask>") == len(question.objects) for question in questions)


def test_guessing_scores_near_chance(asked, is_right):
    """Best constant answer for each kind of wording and number of masks, fitted on one half, scored on the other."""

    def wording(question):
        kinds = "".join(thing.kind[0] for thing in question.objects)
        asks = " ".join(re.findall(r"\b(?:left|middle|right)\w*|shel\w+", question.text))
        return [(question.category, kinds, asks), (question.category, kinds), (question.category,)]

    fitted = collections.defaultdict(list)
    for _, questions in asked[::2]:
        for question in questions:
            for key in wording(question):
                fitted[key].append(question.normalized_answer)
    right = collections.defaultdict(list)
    for _, questions in asked[1::2]:
        for question in questions:
            known = next(fitted[key] for key in wording(question) if len(fitted[key]) >= 10 or len(key) == 1)
            guess = max(set(known), key=lambda value: sum(is_right(truth, value) for truth in known))
            right[question.category].append(is_right(question.normalized_answer, guess))
    rates = {category: 100 * np.mean(values) for category, values in right.items()}
    assert np.mean(list(rates.values())) <= 36, rates  # about 31 on large sets; the slack is this small sample's


def test_warmup_and_extra(scenes):
    for k, scene in enumerate(scenes[:9]):
        questions = warmup_questions(scene.graph, random_generator(13, k), 18) + extra_questions(scene.graph, random_generator(14, k), 6)
        assert len(questions) > 15
        assert all(question.text.count("<mask>") == len(question.objects) and question.answer for question in questions)
        assert caption(scene.graph).startswith("A warehouse with")
