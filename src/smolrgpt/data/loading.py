"""From a Sample's paths to pixels, and the count of what could not be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from PIL import Image

from smolrgpt.schema import DataError, DepthMap, Sample
from smolrgpt.schema.image_file import decode_image, read_image, to_rgb

#: ``Sample.metadata`` key by which a source says how its relative depth files are polarised ("dark", the default, or "bright").
DEPTH_NEAR = "depth_near"
#: And whether they are "metric" or "relative", where the file's type does not say.
DEPTH_KIND = "depth_kind"


@dataclass
class SkipLog:
    """Counts what was left out, by reason, and keeps the first ``keep`` messages of each reason."""

    keep: int = 5
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, message: str, count: int = 1) -> None:
        self.counts[reason] += count
        kept = self.examples.setdefault(reason, [])
        if len(kept) < self.keep:
            kept.append(message)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def __len__(self) -> int:
        return self.total

    def __bool__(self) -> bool:
        """A log is always true, so that ``skips or SkipLog()`` keeps the caller's empty one."""
        return True

    def merge(self, other: SkipLog) -> None:
        """Add what another log (a loader's, a worker's) counted."""
        for reason, count in other.counts.items():
            self.counts[reason] += count
            kept = self.examples.setdefault(reason, [])
            kept += other.examples.get(reason, [])[: self.keep - len(kept)]

    def summary(self) -> str:
        """One line: how many, why, and one example each; "nothing skipped" when that is so."""
        if not self.total:
            return "nothing skipped"
        parts = [f"{count} x {reason} (e.g. {self.examples[reason][0]})" for reason, count in self.counts.most_common()]
        return f"skipped {self.total}: " + "; ".join(parts)


@dataclass(frozen=True)
class LoadedImage:
    """One image, its depth and all questions about it."""

    image: Image.Image
    depth: DepthMap | None
    samples: list[Sample]


def load_image(sample: Sample) -> Image.Image:
    """The sample's picture as 8-bit RGB, upright. Raises DataError naming the file, or the sample when it holds the picture itself."""
    try:
        if not isinstance(sample.image, Image.Image):
            return to_rgb(read_image(sample.image))
        return to_rgb(decode_image(sample.image))
    except DataError as error:
        name = str(sample.image) if not isinstance(sample.image, Image.Image) else f"image of sample {sample.id!r}"
        raise error if name in str(error) else DataError(f"{name}: {error}") from error


def load_sample_depth(sample: Sample) -> DepthMap | None:
    """The sample's depth map, None when it has none. Raises DataError naming the file."""
    if sample.depth is None or isinstance(sample.depth, DepthMap):
        return sample.depth
    return DepthMap.from_file(sample.depth, near=sample.metadata.get(DEPTH_NEAR, "dark"), kind=sample.metadata.get(DEPTH_KIND))


def iter_loaded(samples: Iterable[Sample], skips: SkipLog) -> Iterator[LoadedImage]:
    """Every image once with its questions, in order of first mention. Unreadable images or depths are counted per question and left out."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.image_key, []).append(sample)
    for group in groups.values():
        try:
            loaded = LoadedImage(load_image(group[0]), load_sample_depth(group[0]), group)
        except DataError as error:
            skips.add("unreadable image", str(error), len(group))
            continue
        yield loaded
