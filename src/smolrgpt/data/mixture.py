"""From samples to what an epoch shows: how often each question, which together, in which batch; all of it index arithmetic, by seed.

Legend: n questions of a source, Q questions drawn, N groups of questions about one image, C classes to balance.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from smolrgpt.schema import Sample
from smolrgpt.tasks.templates import template

Group = list[Sample]  # questions about one image, encoded together
Balance = Literal["category", "template"]


def column(samples: Sequence[Sample], name: str) -> list[Any]:
    """One field of every sample; read from the table where the samples are prepared, so that none of them is built."""
    stored = getattr(samples, "column", None)
    return stored(name) if stored else [getattr(sample, name) for sample in samples]


def tempered(sizes: Mapping[str, int], weights: Mapping[str, float], temperature: float) -> dict[str, float]:
    """Times per epoch under which a source's share is proportional to (weight x size) ** (1 / temperature); as many questions in all.

    1 leaves the weights as they are, larger values bring the shares closer to one another.
    """
    plain = {name: weight * sizes[name] for name, weight in weights.items()}
    shares = {name: count ** (1 / temperature) for name, count in plain.items()}
    scale = sum(plain.values()) / sum(shares.values())
    return {name: scale * share / sizes[name] for name, share in shares.items()}


def balanced(keys: Sequence[Sequence[Any]], times: float, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Class of every question, (n,) int64, and draws of every class, (C,) int64, together about ``times`` x n.

    The values of the first key get the same share each, within each of them those of the second, and so on; but none so much that its
    questions are drawn more than ``limit`` x ``times`` each, and what that leaves over goes to the others.
    """
    rows = np.stack([_codes(key) for key in keys], axis=1)
    table, classes, sizes = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    draws = _spread(table, limit * times * sizes, times * len(rows))
    return classes.reshape(-1), np.rint(draws).astype(np.int64)


def _spread(table: np.ndarray, capacity: np.ndarray, total: float) -> np.ndarray:
    """(C,) float64: ``total`` shared out over the rows of ``table`` (C, keys left), column by column, none above its ``capacity`` (C,)."""
    if table.shape[1] == 0:
        return np.full(len(table), total)
    values, place = np.unique(table[:, 0], return_inverse=True)
    shares = _even(np.bincount(place, weights=capacity), total)
    draws = np.zeros(len(table))
    for value in range(len(values)):
        inside = place == value
        draws[inside] = _spread(table[inside, 1:], capacity[inside], shares[value])
    return draws


def _even(capacity: np.ndarray, total: float) -> np.ndarray:
    """(C,) float64 as even as the capacities allow, the smallest served first."""
    shares, left = np.zeros(len(capacity)), total
    for served, value in enumerate(np.argsort(capacity, kind="stable")):
        shares[value] = min(capacity[value], left / (len(capacity) - served))
        left -= shares[value]
    return shares


def _codes(values: Iterable[Any]) -> np.ndarray:
    """(n,) int64: equal values, equal numbers, in order of first mention."""
    known: dict[Any, int] = {}
    return np.fromiter((known.setdefault(value, len(known)) for value in values), dtype=np.int64)


def _seen_before(codes: np.ndarray) -> np.ndarray:
    """(n,) int64: how many equal codes stand before each."""
    order = np.argsort(codes, kind="stable")
    place, ordered = np.arange(len(codes)), codes[order]
    first = np.append(True, ordered[1:] != ordered[:-1]) if len(codes) else np.zeros(0, dtype=bool)
    seen = np.empty_like(place)
    seen[order] = place - np.maximum.accumulate(np.where(first, place, 0))
    return seen


class _Source:
    """Which image and which class each question of one source has, and how often each class is drawn in an epoch."""

    def __init__(self, samples: Sequence[Sample], times: float, balance: Sequence[Balance], limit: float):
        self.images = _codes(column(samples, "image_key"))
        if balance:
            keys = [_balance_key(samples, name) for name in balance]
            self.classes, self.draws = balanced(keys, times, limit)
        else:
            self.classes = np.zeros(len(samples), dtype=np.int64)
            self.draws = np.array([round(times * len(samples))])

    def passes(self, size: int, rng: np.random.Generator) -> Iterator[list[np.ndarray]]:
        """The epoch's groups, pass by pass: within a pass no question comes twice, and every pass groups anew."""
        left, sizes = self.draws, np.bincount(self.classes, minlength=len(self.draws))
        while (left > 0).any():
            quota = np.minimum(left, sizes)
            yield self._pass(quota, size, rng)
            left = left - quota

    def _pass(self, quota: np.ndarray, size: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Shuffle each image's questions, cut them into groups of ``size``, and keep each class's first ``quota`` in a random group order.

        Thinning whole groups from the end keeps the others full, so that a half of the questions needs about half of the images.
        """
        questions = np.flatnonzero(quota[self.classes])
        questions = questions[np.lexsort((rng.random(len(questions)), self.images[questions]))]
        starts = _seen_before(self.images[questions]) % size == 0
        group = rng.permutation(int(starts.sum()))[np.cumsum(starts) - 1]
        order = np.argsort(group, kind="stable")
        questions, group = questions[order], group[order]
        kept = _seen_before(self.classes[questions]) < quota[self.classes[questions]]
        questions, group = questions[kept], group[kept]
        return np.split(questions, np.flatnonzero(np.diff(group)) + 1)


def _balance_key(samples: Sequence[Sample], name: Balance) -> list[Any]:
    return [template(question) for question in column(samples, "question")] if name == "template" else column(samples, name)


class Mixture(Sequence[Sample]):
    """Several sources as one sequence of questions, and what each epoch shows of it.

    weights: source name -> times per epoch; the fractional part is a random subset, another one every epoch. temperature: see ``tempered``.
    balance, balance_limit: see ``balanced``, within each source. Raises KeyError naming the sources that exist when a weight names another.
    """

    def __init__(
        self,
        sources: Mapping[str, Sequence[Sample]],
        weights: Mapping[str, float],
        questions_per_image: int,
        *,
        temperature: float | None = None,
        balance: Sequence[Balance] = (),
        balance_limit: float = 4.0,
        seed: int = 0,
    ):
        for name in weights:
            if name not in sources:
                raise KeyError(f"the mixture names source {name!r}; available: {', '.join(sorted(sources))}")
        if temperature is not None:
            weights = tempered({name: len(sources[name]) for name in weights}, weights, temperature)
        self.samples = [sources[name] for name in weights]
        self.offsets = np.cumsum([0, *map(len, self.samples)])
        self.questions_per_image, self.seed = questions_per_image, seed
        self._sources = [_Source(sources[name], times, balance, balance_limit) for name, times in weights.items()]

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def __getitem__(self, index: Any) -> Any:
        source = int(np.searchsorted(self.offsets, index, side="right")) - 1
        return self.samples[source][int(index - self.offsets[source])]

    def epoch(self, number: int) -> list[np.ndarray]:
        """The N groups of an epoch in the order they are shown: int64 positions in this sequence, every group about one image."""
        rng = np.random.default_rng((self.seed, number))
        groups = [
            group + offset
            for source, offset in zip(self._sources, self.offsets, strict=False)
            for drawn in source.passes(self.questions_per_image, rng)
            for group in drawn
        ]
        return [groups[i] for i in rng.permutation(len(groups))]


class EpochBatches:
    """The batches of every epoch, for all processes of a run: a batch sampler for ``DataLoader`` that says which groups go together.

    A step shows ``groups_per_step`` groups, dealt evenly to ``processes`` x ``accumulation`` batches. Nothing is shown twice and nothing
    left out: what does not fill a step makes all steps a little smaller. So batches differ by one group at most, none is empty, every
    process has as many as every other, and which groups a step shows does not depend on how many batches share it.
    Batches come step by step; process r of W takes those at r, r + W, ..., which is how accelerate deals them.

    Every epoch has as many batches as the first. An epoch too small for ``accumulation`` is one step of fewer batches.
    Raises ValueError when there is not a group for every process.
    """

    batch_size, drop_last = None, False  # what accelerate asks a batch sampler: sizes vary, nothing is dropped

    def __init__(self, mixture: Mixture, groups_per_step: int, *, accumulation: int = 1, processes: int = 1):
        self.mixture, self.epoch = mixture, 0
        self.num_groups = len(mixture.epoch(0))
        if self.num_groups < processes:
            raise ValueError(
                f"an epoch of {self.num_groups} groups of questions cannot be shared by {processes} processes; use fewer, or more data"
            )
        batches_per_step = processes * min(accumulation, self.num_groups // processes)
        self.num_steps = min(-(-self.num_groups // groups_per_step), self.num_groups // batches_per_step)
        self._length = self.num_steps * batches_per_step

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        groups = _at_least(self._length, self.mixture.epoch(self.epoch))
        bounds = [batch * len(groups) // self._length for batch in range(self._length + 1)]
        for start, end in zip(bounds, bounds[1:], strict=False):
            yield groups[start:end]


def _at_least(count: int, groups: list[np.ndarray]) -> list[np.ndarray]:
    """The groups, the first of several questions halved until there are ``count``: a later epoch may draw fuller groups than the first."""
    for index in range(len(groups)):
        if len(groups) >= count:
            break
        half = len(groups[index]) // 2
        if half:
            groups.append(groups[index][half:])
            groups[index] = groups[index][:half]
    return groups
