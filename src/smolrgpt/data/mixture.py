"""The questions of an epoch, their frequency, groups and batches: index arithmetic that depends on a seed alone.

Legend: n questions of a source, N groups of questions about one image, C classes to balance.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from smolrgpt.schema import Sample
from smolrgpt.tasks.templates import question_template

Group = list[Sample]  # questions about one image, encoded together
Balance = Literal["category", "template"]


@runtime_checkable
class HasColumns(Protocol):
    """Samples stored as a table whose columns can be read without building samples, such as ``data.prepared.Prepared``."""

    def column(self, name: str) -> list[Any]:
        """Return one field of every sample."""
        ...


def column(samples: Sequence[Sample], name: str) -> list[Any]:
    """Return one field of every sample; prepared samples give it from their table, without being built."""
    if isinstance(samples, HasColumns):
        return samples.column(name)
    return [getattr(sample, name) for sample in samples]


def tempered_weights(sizes: Mapping[str, int], weights: Mapping[str, float], temperature: float) -> dict[str, float]:
    """Return times per epoch, {source: times}, with which a source's share is proportional to (weight x size) ** (1 / temperature).

    The number of questions in all stays the same. 1 leaves the weights unchanged, larger values make the shares more equal.
    """
    plain = {name: weight * sizes[name] for name, weight in weights.items()}
    shares = {name: count ** (1 / temperature) for name, count in plain.items()}
    scale = sum(plain.values()) / sum(shares.values())
    return {name: scale * share / sizes[name] for name, share in shares.items()}


def balanced_draws(keys: Sequence[Sequence[Any]], times: float, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of every question, (n,) int64, and the draws of every class, (C,) int64, in all about ``times`` x n.

    The values of the first key get equal shares, within each of them those of the second, and so on; but no class so much that each of its
    questions is drawn more than ``limit`` x ``times``, and the rest goes to the other classes.
    """
    rows = np.stack([_codes(key) for key in keys], axis=1)
    table, classes, sizes = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    draws = _spread(table, limit * times * sizes, times * len(rows))
    return classes.reshape(-1), np.rint(draws).astype(np.int64)


def _spread(table: np.ndarray, capacity: np.ndarray, total: float) -> np.ndarray:
    """Divide ``total`` over the rows of ``table`` (C, remaining keys), column by column, none above its ``capacity`` (C,); (C,) float64."""
    if table.shape[1] == 0:
        return np.full(len(table), total)
    values, row_of = np.unique(table[:, 0], return_inverse=True)
    shares = _even(np.bincount(row_of, weights=capacity), total)
    draws = np.zeros(len(table))
    for value in range(len(values)):
        inside = row_of == value
        draws[inside] = _spread(table[inside, 1:], capacity[inside], shares[value])
    return draws


def _even(capacity: np.ndarray, total: float) -> np.ndarray:
    """Divide ``total`` as evenly as the capacities (C,) allow, the smallest first; (C,) float64."""
    shares, left = np.zeros(len(capacity)), total
    for served, value in enumerate(np.argsort(capacity, kind="stable")):
        shares[value] = min(capacity[value], left / (len(capacity) - served))
        left -= shares[value]
    return shares


def _codes(values: Iterable[Any]) -> np.ndarray:
    """Number values (n,) int64 in order of first mention; equal values get equal numbers."""
    known: dict[Any, int] = {}
    return np.fromiter((known.setdefault(value, len(known)) for value in values), dtype=np.int64)


def _count_previous(codes: np.ndarray) -> np.ndarray:
    """Return how many equal codes precede each, (n,) int64."""
    order = np.argsort(codes, kind="stable")
    position, ordered = np.arange(len(codes)), codes[order]
    is_first = np.append(True, ordered[1:] != ordered[:-1]) if len(codes) else np.zeros(0, dtype=bool)
    previous = np.empty_like(position)
    previous[order] = position - np.maximum.accumulate(np.where(is_first, position, 0))
    return previous


class _Source:
    """The image and the class of each question of one source, and how often each class is drawn in an epoch."""

    def __init__(self, samples: Sequence[Sample], times: float, balance: Sequence[Balance], limit: float):
        self.images = _codes(column(samples, "image_key"))
        if balance:
            keys = [_balance_key(samples, name) for name in balance]
            self.classes, self.draws = balanced_draws(keys, times, limit)
        else:
            self.classes = np.zeros(len(samples), dtype=np.int64)
            self.draws = np.array([round(times * len(samples))])

    def passes(self, size: int, rng: np.random.Generator) -> Iterator[list[np.ndarray]]:
        """Yield the epoch's groups, pass by pass: no question occurs twice in a pass, and every pass makes new groups."""
        left, sizes = self.draws, np.bincount(self.classes, minlength=len(self.draws))
        while (left > 0).any():
            quota = np.minimum(left, sizes)
            yield self._pass(quota, size, rng)
            left = left - quota

    def _pass(self, quota: np.ndarray, size: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Shuffle each image's questions, cut them into groups of ``size``, and keep each class's first ``quota`` in a random group order.

        Removing questions from the last groups keeps the others full, so that half of the questions needs about half of the images.
        """
        questions = np.flatnonzero(quota[self.classes])
        questions = questions[np.lexsort((rng.random(len(questions)), self.images[questions]))]
        starts = _count_previous(self.images[questions]) % size == 0
        group = rng.permutation(int(starts.sum()))[np.cumsum(starts) - 1]
        order = np.argsort(group, kind="stable")
        questions, group = questions[order], group[order]
        kept = _count_previous(self.classes[questions]) < quota[self.classes[questions]]
        questions, group = questions[kept], group[kept]
        return np.split(questions, np.flatnonzero(np.diff(group)) + 1)


def _balance_key(samples: Sequence[Sample], name: Balance) -> list[Any]:
    return [question_template(question) for question in column(samples, "question")] if name == "template" else column(samples, name)


class Mixture(Sequence[Sample]):
    """Several sources as one sequence of questions, and the groups that each epoch shows of it.

    Args:
        sources: Name -> samples.
        weights: Source name -> times per epoch; the fractional part is a random subset that differs between epochs.
        questions_per_image: The size of a group.
        temperature: See ``tempered_weights``.
        balance: The keys of ``balanced_draws``, within each source.
        balance_limit: See ``balanced_draws``.
        seed: Of the draws of all epochs.

    Raises:
        KeyError: When a weight names a source that does not exist; the message names those that do.
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
            weights = tempered_weights({name: len(sources[name]) for name in weights}, weights, temperature)
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
        """Return the N groups of an epoch in the order they are shown: int64 positions in this sequence, each group about one image."""
        rng = np.random.default_rng((self.seed, number))
        groups = [
            group + offset
            for source, offset in zip(self._sources, self.offsets, strict=False)
            for drawn in source.passes(self.questions_per_image, rng)
            for group in drawn
        ]
        return [groups[i] for i in rng.permutation(len(groups))]


class EpochBatches:
    """The batches of every epoch, for all processes of a run: a batch sampler for ``DataLoader``.

    A step shows ``groups_per_step`` groups, divided evenly over ``processes`` x ``accumulation`` batches. Every group is shown once: where
    the last step would not be full, all steps are a little smaller. So batches differ by one group at most, none is empty, all processes
    have equally many, and which groups a step shows does not depend on the number of batches that share it. Batches come step by step;
    process r of W takes those at r, r + W, ..., as accelerate distributes them.

    Every epoch has as many batches as the first. An epoch too small for ``accumulation`` is one step of fewer batches.
    Raises ValueError when there are fewer groups than processes.
    """

    batch_size, drop_last = None, False  # accelerate reads these of a batch sampler: sizes vary, nothing is dropped

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
        """Select the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        groups = _at_least(self._length, self.mixture.epoch(self.epoch))
        bounds = [batch * len(groups) // self._length for batch in range(self._length + 1)]
        for start, end in itertools.pairwise(bounds):
            yield groups[start:end]


def _at_least(count: int, groups: list[np.ndarray]) -> list[np.ndarray]:
    """Split the first groups of several questions until there are ``count`` groups: a later epoch may draw fewer than the first."""
    for index in range(len(groups)):
        if len(groups) >= count:
            break
        half = len(groups[index]) // 2
        if half:
            groups.append(groups[index][half:])
            groups[index] = groups[index][:half]
    return groups
