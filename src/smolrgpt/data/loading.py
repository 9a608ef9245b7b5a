"""From a Sample's files to pixels, and the count of what could not be used."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Self

from PIL import Image

from smolrgpt.schema import DepthFile, DepthMap, Sample, naming
from smolrgpt.schema.image_file import read_upright

_NUMBER = re.compile(r"\d[\d.,]*(?:e[+-]?\d+)?")


@dataclass
class SkipLog:
    """Counts skipped rows and files by reason, and keeps the first ``keep`` messages of each reason."""

    keep: int = 5
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, message: str, count: int = 1) -> None:
        """Count ``count`` more for a reason; ``message`` describes the first of them."""
        self.counts[reason] += count
        kept = self.examples.setdefault(reason, [])
        if len(kept) < self.keep:
            kept.append(message)

    @property
    def total(self) -> int:
        """The number of samples left out, over all reasons."""
        return sum(self.counts.values())

    def merge(self, other: SkipLog) -> None:
        """Add what another log (a loader's, a worker's) counted."""
        for reason, count in other.counts.items():
            self.counts[reason] += count
            kept = self.examples.setdefault(reason, [])
            kept += other.examples.get(reason, [])[: self.keep - len(kept)]

    def take(self) -> Self:
        """Return what was counted so far as a log of its own, and count from zero again."""
        taken = type(self)(self.keep, self.counts, self.examples)
        self.counts, self.examples = Counter(), {}
        return taken

    def reasons(self) -> str:
        """Return every reason with its count and one example."""
        return "; ".join(f"{count} x {reason} (e.g. {self.examples[reason][0]})" for reason, count in self.counts.most_common())

    def summary(self) -> str:
        """Return one line: how many, why, and one example of each reason; "nothing skipped" for an empty log."""
        return f"skipped {self.total}: {self.reasons()}" if self.total else "nothing skipped"


@dataclass
class DoubtLog(SkipLog):
    """Counts doubts about the inputs of images by kind: doubts that differ in their numbers alone are of one kind."""

    def add_warnings(self, image: str, warnings: Iterable[str]) -> None:
        """Count the warnings about one image, whose name the examples give."""
        for warning in warnings:
            self.add(_NUMBER.sub("N", warning), f"{image}: {warning}")

    def summary(self) -> str:
        """Return one line: the kinds of doubts, how many images have each, and one example of each."""
        return f"doubtful inputs: {self.reasons()}" if self.total else "no doubtful inputs"


def load_image(sample: Sample) -> Image.Image:
    """Return the sample's image as 8-bit RGB, upright. Raises DataError naming the file, or the sample when the image is in memory."""
    return load_upright(sample)[0]


def load_upright(sample: Sample) -> tuple[Image.Image, int]:
    """Return the sample's image as of ``load_image``, and the EXIF orientation (1 to 8) of its stored pixels. Raises DataError."""
    with naming(sample.image_name):
        return read_upright(sample.image)


def load_sample_depth(sample: Sample) -> DepthMap | None:
    """Return the sample's depth map, None when it has none. Raises DataError naming the file."""
    depth = sample.depth
    return depth.load() if isinstance(depth, DepthFile) else depth


def group_by_image(samples: Iterable[Sample]) -> dict[Hashable, list[Sample]]:
    """Return the samples of every image key, in order of first mention."""
    groups: dict[Hashable, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.image_key, []).append(sample)
    return groups
