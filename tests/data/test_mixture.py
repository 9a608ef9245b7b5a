"""An epoch shows every question as often as its weight says, grouped by image, dealt evenly to batches, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolrgpt.data.mixture import EpochBatches, Mixture, balanced_draws, tempered_weights
from smolrgpt.schema import Sample


def _samples(name, images, questions, category="count", question="?"):
    return [
        Sample(id=f"{name}{i}.{q}", image=Path(f"{name}{i}.png"), question=question, image_key=f"{name}{i}", category=category)
        for i in range(images)
        for q in range(questions)
    ]


def _shown(mixture, epoch=0):
    return [[mixture[i] for i in group] for group in mixture.epoch(epoch)]


def test_weights_count_and_groups_share_an_image():
    sources = {"a": _samples("a", 10, 7), "b": _samples("b", 8, 4)}
    epoch = _shown(Mixture(sources, {"a": 2.0, "b": 0.5}, questions_per_image=4))
    seen = Counter(sample.id for group in epoch for sample in group)
    assert all(seen[s.id] == 2 for s in sources["a"])
    assert sum(seen[s.id] for s in sources["b"]) == 16 and max(seen[s.id] for s in sources["b"]) == 1
    assert all(len({s.image_key for s in group}) == 1 and len(group) <= 4 for group in epoch)
    assert all(len({s.id for s in group}) == len(group) for group in epoch), "no group asks a question twice"


def test_part_of_a_source_keeps_its_groups_full():
    epoch = _shown(Mixture({"a": _samples("a", 20, 4)}, {"a": 0.5}, questions_per_image=4))
    assert [len(group) for group in epoch] == [4] * 10


def test_the_seed_and_the_epoch_decide_order_and_grouping():
    def ids(seed, epoch):
        return [[s.id for s in group] for group in _shown(Mixture({"a": _samples("a", 5, 6)}, {"a": 1.0}, 4, seed=seed), epoch)]

    assert ids(1, 0) == ids(1, 0) != ids(2, 0)
    assert {frozenset(group) for group in ids(1, 0)} != {frozenset(group) for group in ids(1, 1)}
    assert sorted(chain.from_iterable(ids(1, 0))) == sorted(chain.from_iterable(ids(1, 1)))


def test_an_unknown_source_names_the_known_ones():
    with pytest.raises(KeyError, match="available: a"):
        Mixture({"a": _samples("a", 1, 1)}, {"b": 1.0}, 4)


def test_temperature_evens_out_the_shares_and_keeps_the_sum():
    sizes = {"large": 900, "small": 100}
    assert tempered_weights(sizes, {"large": 1.0, "small": 1.0}, 1.0) == pytest.approx({"large": 1.0, "small": 1.0})
    warm = tempered_weights(sizes, {"large": 1.0, "small": 1.0}, 2.0)  # shares like 30 : 10
    assert {name: warm[name] * sizes[name] for name in sizes} == pytest.approx({"large": 750, "small": 250})
    mixture = Mixture({"large": _samples("l", 90, 10), "small": _samples("s", 10, 10)}, {"large": 1, "small": 1}, 10, temperature=2.0)
    seen = Counter(sample.id[0] for group in _shown(mixture) for sample in group)
    assert seen == {"l": 750, "s": 250}


def _skewed():
    """Like the real training set: many distances, few mcq, and of those most ask for the leftmost of three."""
    leftmost, transporter = "which object is leftmost?", "which pallet for the transporter?"
    return [
        *_samples("d", 60, 10, "distance", "how far?"),
        *_samples("m", 16, 10, "mcq", leftmost),
        *_samples("t", 4, 10, "mcq", transporter),
    ]


def test_balance_evens_out_categories_and_then_templates():
    def draws(**options):
        mixture = Mixture({"a": _skewed()}, {"a": 1.0}, 4, **options)
        assert sum(len(group) for group in mixture.epoch(0)) == pytest.approx(800, abs=2)
        return Counter(sample.id[0] for group in _shown(mixture) for sample in group)

    assert draws() == {"d": 600, "m": 160, "t": 40}
    by_category = draws(balance=("category",))
    assert by_category["d"] == 400 and by_category["m"] + by_category["t"] == 400 and by_category["m"] > 3 * by_category["t"]
    both = draws(balance=("category", "template"), balance_limit=10.0)
    assert both == {"d": 400, "m": 200, "t": 200}
    limited = draws(balance=("category", "template"), balance_limit=4.0)
    assert limited["t"] == 160, "40 questions at most 4 times"
    assert limited["d"] == 400 and limited["m"] == 240, "the rest goes to the other template of the category"


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60),
    st.floats(1.0, 5.0),
    st.sampled_from([0.5, 1.0, 2.0]),
)
def test_balancing_draws_as_many_and_no_class_beyond_its_limit(pairs, limit, times):
    classes, draws = balanced_draws(list(zip(*pairs, strict=True)), times, limit)
    sizes = np.bincount(classes)
    assert abs(draws.sum() - times * len(pairs)) <= len(draws)
    assert (draws <= limit * times * sizes + 1).all()


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 80), st.integers(1, 8), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3))
def test_every_group_is_dealt_once_and_evenly(images, groups_per_batch, accumulation, processes, epoch):
    mixture, size = Mixture({"a": _samples("a", images, 1)}, {"a": 1.0}, 4), groups_per_batch * accumulation * processes
    if images < processes:
        with pytest.raises(ValueError, match="cannot be shared"):
            EpochBatches(mixture, size, accumulation=accumulation, processes=processes)
        return
    plan = EpochBatches(mixture, size, accumulation=accumulation, processes=processes)
    plan.set_epoch(epoch)
    batches = list(plan)
    sizes = [len(batch) for batch in batches]
    assert len(batches) == len(plan) and len(batches) % processes == 0
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 1
    assert sorted(i for batch in batches for group in batch for i in group) == list(range(images))
    if groups_per_batch > 1 and images >= accumulation * processes:
        assert max(sizes) <= groups_per_batch, "no batch is larger than asked for"


def test_a_step_shows_the_same_groups_however_many_share_it():
    mixture = Mixture({"a": _samples("a", 53, 3)}, {"a": 1.0}, 3)

    def steps(accumulation, processes):
        batches, size = list(EpochBatches(mixture, 8, accumulation=accumulation, processes=processes)), accumulation * processes
        chunks = [batches[i : i + size] for i in range(0, len(batches), size)]
        return [[i for batch in chunk for group in batch for i in group] for chunk in chunks]

    assert steps(1, 1) == steps(2, 1) == steps(1, 2) == steps(2, 2)


def test_a_later_epoch_with_fewer_groups_still_fills_every_batch():
    mixture = Mixture({"a": _samples("a", 5, 2)}, {"a": 1.0}, questions_per_image=1)
    plan = EpochBatches(mixture, 1)
    mixture.questions_per_image = 2  # half as many groups as the first epoch had
    batches = list(plan)
    assert len(mixture.epoch(0)) == 5 and [len(batch) for batch in batches] == [1] * 10 == [1] * len(plan)
    assert sorted(i for batch in batches for group in batch for i in group) == list(range(10))
