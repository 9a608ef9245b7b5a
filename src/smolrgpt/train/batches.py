"""A stage's batches: which groups of questions a step shows, collated here or in workers, with a count of what could not be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch.utils.data import Dataset

from smolrgpt.data.collate import Collator
from smolrgpt.data.loading import DoubtLog, SkipLog
from smolrgpt.data.mixture import EpochBatches, Group
from smolrgpt.schema import DataError, Sample

#: Questions that are tried before a run gives up on finding an image that can be read.
MAX_SUBSTITUTES = 1000


class GroupDataset(Dataset[Group]):
    """Groups of samples about one image, by the positions of their questions in a mixture; ``batches`` is the batch sampler."""

    def __init__(self, batches: EpochBatches):
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches.mixture)

    def __getitem__(self, positions: Any) -> Group:
        return [self.batches.mixture[position] for position in positions]

    def set_epoch(self, epoch: int) -> None:
        """Draw the groups of this epoch; accelerate calls this on the data set, as it wraps the batch sampler."""
        self.batches.set_epoch(epoch)


@dataclass(frozen=True)
class LoadedBatch:
    """The model's inputs, the log of the questions that had to be left out of them, and that of doubtful images in them."""

    inputs: dict[str, Any]
    skips: SkipLog
    doubts: DoubtLog

    def to(self, device: torch.device | str, non_blocking: bool = False) -> LoadedBatch:
        """Return the batch with its tensors on this device; accelerate calls it."""
        return replace(self, inputs=send_to_device(self.inputs, device, non_blocking=non_blocking))

    def pin_memory(self) -> LoadedBatch:
        """Return the batch with its tensors in page-locked memory; ``DataLoader`` calls it."""
        pinned = {name: value.pin_memory() if isinstance(value, torch.Tensor) else value for name, value in self.inputs.items()}
        return replace(self, inputs=pinned)


class GroupCollator:
    """Groups of samples -> ``LoadedBatch``, in this process or in a worker.

    Every process must take part in every step, so a batch without any readable image is replaced by one of ``substitutes`` without labels,
    which teaches nothing.
    """

    def __init__(self, collator: Collator, substitutes: Sequence[Sample]):
        self.collator, self.substitutes = collator, substitutes
        self._unlabelled: dict[str, Any] = {}

    def __call__(self, groups: Sequence[Group]) -> LoadedBatch:
        """Collate the groups; the questions that were skipped in it are counted in the batch."""
        try:
            inputs = self.collator(groups)
        except DataError:
            inputs = self._unlabelled = self._unlabelled or self._substitute()
        return LoadedBatch(inputs, self.collator.skips.take(), self.collator.doubts.take())

    def _substitute(self) -> dict[str, Any]:
        """Return the first readable question as a batch without labels. Raises DataError when none can be read."""
        collator = Collator(self.collator.processor)
        for sample in islice(self.substitutes, MAX_SUBSTITUTES):
            try:
                batch = collator([[sample]])
            except DataError:
                continue
            return {**batch, "labels": torch.full_like(batch["labels"], -100)}
        raise DataError(f"no image of the first {MAX_SUBSTITUTES} questions can be read: {collator.skips.summary()}")
