"""An epoch shows every question the number of times its weight says, grouped by image, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from smolrgpt.data.mixture import mix
from smolrgpt.data.schema import Sample


def _samples(name, images, questions):
    return [
        Sample(id=f"{name}{i}.{q}", image=Path(f"{name}{i}.png"), question="?", image_key=f"{name}{i}")
        for i in range(images)
        for q in range(questions)
    ]


def test_weights_count_and_groups_share_an_image():
    sources = {"a": _samples("a", 10, 7), "b": _samples("b", 8, 4)}
    epoch = mix(sources, {"a": 2.0, "b": 0.5}, questions_per_image=4, seed=0)
    seen = Counter(sample.id for group in epoch for sample in group)
    assert all(seen[s.id] == 2 for s in sources["a"])
    assert sum(seen[s.id] for s in sources["b"]) == 16 and max(seen[s.id] for s in sources["b"]) == 1
    assert all(len({s.image_key for s in group}) == 1 and len(group) <= 4 for group in epoch)


def test_the_seed_decides():
    def ids(seed):
        return [[s.id for s in group] for group in mix({"a": _samples("a", 5, 6)}, {"a": 0.5}, 4, seed)]

    assert ids(1) == ids(1) != ids(2)


def test_an_unknown_source_names_the_known_ones():
    with pytest.raises(KeyError, match="available: a"):
        mix({"a": _samples("a", 1, 1)}, {"b": 1.0}, 4, 0)
