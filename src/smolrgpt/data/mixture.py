"""From lists of samples to what one epoch shows: questions grouped by image, sources mixed by weight, all by seed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

from smolrgpt.data.schema import Sample

Group = list[Sample]  # questions about one image, encoded together


def group_by_image(samples: Iterable[Sample], questions_per_image: int, rng: random.Random) -> list[Group]:
    """Shuffle each image's questions and cut them into groups of at most ``questions_per_image``."""
    by_image: dict[str, Group] = {}
    for sample in samples:
        by_image.setdefault(sample.image_key, []).append(sample)
    groups: list[Group] = []
    for questions in by_image.values():
        rng.shuffle(questions)
        groups += [questions[i : i + questions_per_image] for i in range(0, len(questions), questions_per_image)]
    return groups


def mix(sources: Mapping[str, Sequence[Sample]], weights: Mapping[str, float], questions_per_image: int, seed: int) -> list[Group]:
    """One epoch: every source's groups ``weight`` times, the fractional part as a random subset. Order is the sampler's business.

    Raises KeyError naming the sources that exist when a weight names another.
    """
    rng = random.Random(seed)
    epoch: list[Group] = []
    for name, times in weights.items():
        if name not in sources:
            raise KeyError(f"the mixture names source {name!r}; available: {', '.join(sorted(sources))}")
        groups = group_by_image(sources[name], questions_per_image, rng)
        whole = int(times)
        epoch += groups * whole + rng.sample(groups, round((times - whole) * len(groups)))
    return epoch
