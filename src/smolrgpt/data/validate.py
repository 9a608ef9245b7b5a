"""Check every row and every file of a data set before training: kinds of damage, their counts and first examples.

A question's text and short answer are checked as the rows are read; then each image is opened once, with its depth map and all masks of its
questions, several at a time. No problem stops the check of the rest.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from smolrgpt.data.frame import Frame, fit_camera
from smolrgpt.data.loading import DoubtLog, SkipLog, load_sample_depth, load_upright
from smolrgpt.schema import DataError, DepthFile, DepthMap, Region, Sample
from smolrgpt.tasks import OFFICIAL, task_named
from smolrgpt.tasks.region_text import MARKED_REGION, find_regions

#: Problem -> the counted items, and its effect on training. The first are those that the readers count.
PROBLEMS: dict[str, str] = {
    "unusable row": "rows; left out",
    "damaged row": "rows; left out",
    "unread shape": "shapes, or parts of an object; left out, and what else is annotated in the image is used",
    "missing image": "rows; left out",
    "missing depth": "rows; left out",
    "damaged file": "files; no later row of it can be read",
    "duplicate id": "questions; answers could not be told apart in scoring",
    "answer names no region": "questions; the answer mentions a [Region n] that the question does not have",
    "wrong short answer": "questions; normalized_answer does not fit its category, and would be scored as it is",
    "unreadable image": "images; all their questions are left out",
    "unreadable depth": "images; all their questions are left out",
    "no depth map": "images; used without depth, although others of the set have it",
    "depth of another shape": "images; all their questions are left out",
    "empty depth": "images; no pixel was measured",
    "constant depth": "images; one value everywhere holds no information",
    "camera of another shape": "images; all their questions are left out",
    "corrupt mask": "masks; the questions about them are left out",
    "empty mask": "masks; the questions about them are left out",
    "mask of another shape": "masks; the questions about them are left out",
}
#: Memory for samples whose image is not checked yet; a larger set is checked in parts of this size.
MAX_HELD_BYTES = 1 << 30
_SAMPLE_BYTES = 1500  # of a sample without its masks; paths are shared, texts are not


@dataclass
class Validation:
    """The result of a validation: numbers of checked items and of problems.

    Attributes:
        problems: The problems found, by the names of ``PROBLEMS``.
        doubts: What is implausible about the inputs of usable images, which is no problem.
        num_questions: By split.
        num_images: Unique images.
        num_depth: Depth maps by kind: metric, relative, unreadable.
        num_masks: Masks, each once per image.
        num_scaled_masks: Masks with the image's aspect ratio at another size, which is no problem.
    """

    problems: SkipLog
    doubts: DoubtLog = field(default_factory=DoubtLog)
    num_questions: Counter[str] = field(default_factory=Counter)
    num_images: int = 0
    num_depth: Counter[str] = field(default_factory=Counter)
    num_masks: int = 0
    num_scaled_masks: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: the fields, with {problem: {count, means, examples}} in the order of ``PROBLEMS``."""
        names = sorted(self.problems.counts, key=lambda name: list(PROBLEMS).index(name) if name in PROBLEMS else len(PROBLEMS))
        found = {
            name: {"count": self.problems.counts[name], "means": PROBLEMS.get(name, "rows"), "examples": self.problems.examples[name]}
            for name in names
        }
        return {
            "num_questions": dict(self.num_questions),
            "num_images": self.num_images,
            "num_depth": dict(self.num_depth),
            "num_masks": self.num_masks,
            "num_scaled_masks": self.num_scaled_masks,
            "num_problems": self.problems.total,
            "problems": found,
            "doubts": {kind: {"count": count, "examples": self.doubts.examples[kind]} for kind, count in self.doubts.counts.most_common()},
        }


@dataclass
class _Checked:
    """The result of one image; ``depth`` is the kind of its map, "unreadable", or None without one."""

    problems: SkipLog
    doubts: DoubtLog
    depth: str | None = None
    num_masks: int = 0
    num_scaled_masks: int = 0


def validate(
    splits: Mapping[str, Iterable[Sample]], problems: SkipLog | None = None, *, workers: int | None = None, progress: bool = True
) -> Validation:
    """Check every sample of every split.

    An image of several splits is opened once, as long as the samples fit into ``MAX_HELD_BYTES``.

    Args:
        splits: Name -> samples, read as they are needed. A DataError that a reader raises ends its split only.
        problems: The log into which the readers count, so that the rows they skip are in the result.
        workers: Number of processes; by default one per core.
        progress: Whether to show progress bars.
    """
    result = Validation(SkipLog() if problems is None else problems)
    rows = tqdm(_checked_rows(splits, result), desc="reading rows", unit="question", file=sys.stderr, disable=not progress)
    with tqdm(total=0, desc="checking files", unit="image", file=sys.stderr, disable=not progress) as bar:
        for images in _windows(rows):
            bar.total += len(images)
            bar.refresh()
            for checked in _run(check_image, images, workers):
                result.problems.merge(checked.problems)
                result.doubts.merge(checked.doubts)
                result.num_images += 1
                result.num_depth.update([checked.depth] if checked.depth else [])
                result.num_masks += checked.num_masks
                result.num_scaled_masks += checked.num_scaled_masks
                bar.update()
    if not result.num_depth:  # a set without any depth is in order
        result.problems.counts.pop("no depth map", None)
        result.problems.examples.pop("no depth map", None)
    return result


def _checked_rows(splits: Mapping[str, Iterable[Sample]], result: Validation) -> Iterator[Sample]:
    for split, samples in splits.items():
        ids: set[int] = set()  # hashes: ten million texts would not fit in memory together with the samples
        try:
            for sample in samples:
                result.num_questions[split] += 1
                check_text(sample, result.problems)
                if hash(sample.id) in ids:
                    result.problems.add("duplicate id", f"{split}: id {sample.id!r} occurs again")
                ids.add(hash(sample.id))
                yield sample
        except DataError as error:
            result.problems.add("damaged file", f"{split}: {error}")


def _windows(samples: Iterable[Sample]) -> Iterator[list[list[Sample]]]:
    """Yield all samples as groups of one image each, as many groups at a time as fit into ``MAX_HELD_BYTES``."""
    groups: dict[Hashable, list[Sample]] = {}
    masks: dict[Region, Region] = {}  # questions share masks, which are nearly all of the memory
    held = 0
    for sample in samples:
        held += _SAMPLE_BYTES + sum(len(region.counts) for region in sample.regions if region not in masks)
        sample.regions = [masks.setdefault(region, region) for region in sample.regions]
        groups.setdefault(sample.image_key, []).append(sample)
        if held > MAX_HELD_BYTES:
            yield list(groups.values())
            groups, masks, held = {}, {}, 0
    if groups:
        yield list(groups.values())


def _run(check: Callable[[list[Sample]], _Checked], images: list[list[Sample]], workers: int | None) -> Iterator[_Checked]:
    """Yield results in order, so that the first example of a problem is always the same one."""
    count = min(workers if workers is not None else os.cpu_count() or 1, max(1, len(images) // 8))
    if count <= 1:
        yield from map(check, images)
        return
    # not fork: the caller may hold torch's threads, which do not survive one
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        yield from pool.imap(check, images, chunksize=4)


# ------------------------------------------------------------------------------------------------------------------------- rows
def check_text(sample: Sample, problems: SkipLog) -> None:
    """Check the region indices of the answer, and type and range of the short answer."""
    named = set(find_regions(sample.answer or "", MARKED_REGION))
    outside = sorted(number for number in named if number >= len(sample.regions))
    if outside:
        problems.add(
            "answer names no region",
            f"sample {sample.id!r}: the answer names region {', '.join(map(str, outside))}; the question has {len(sample.regions)}, from 0",
        )
    task = task_named(sample.category)
    expected = task.describe_problem(sample.normalized_answer, len(sample.regions)) if task in OFFICIAL else None
    if expected:
        problems.add(
            "wrong short answer",
            f"sample {sample.id!r} ({sample.category}): normalized_answer is {sample.normalized_answer!r}; expected {expected}",
        )


# ------------------------------------------------------------------------------------------------------------------------ files
def check_image(samples: Sequence[Sample]) -> _Checked:
    """Check one image, decoded in full, its depth map and every mask of ``samples``, which are all about this image."""
    found = _Checked(SkipLog(), DoubtLog())
    frame = None
    try:
        image, orientation = load_upright(samples[0])
        frame = Frame(image, orientation=orientation)
    except DataError as error:
        found.problems.add("unreadable image", str(error))
    found.depth, depth = _check_depth(samples[0], frame, found.problems)
    named = functools.partial(_name, samples)
    regions = list(dict.fromkeys(region for sample in samples for region in sample.regions))
    for region in regions:
        found.num_masks += 1
        found.num_scaled_masks += frame is not None and region.size != frame.size
        _check_mask(region, frame, named, found.problems)
    if frame is not None and samples[0].camera is not None:
        try:
            fit_camera(samples[0].camera, frame.size, frame.orientation)
        except DataError as error:
            found.problems.add("camera of another shape", f"{samples[0].image_name}: {error}")
    if frame is not None:
        with contextlib.suppress(DataError):  # a file or mask that cannot be used is counted above
            whole = replace(frame, depth=depth, camera=samples[0].camera)
            found.doubts.add_warnings(samples[0].image_name, whole.inputs_read(regions).warnings)
    return found


def _check_depth(sample: Sample, frame: Frame | None, problems: SkipLog) -> tuple[str | None, DepthMap | None]:
    """Return the map's kind, or "unreadable", and the map; None where there is none."""
    name = str(sample.depth.source) if isinstance(sample.depth, DepthFile) else f"depth of sample {sample.id!r}"
    try:
        depth = load_sample_depth(sample)
    except DataError as error:
        problems.add("unreadable depth", str(error))
        return "unreadable", None
    if depth is None:
        problems.add("no depth map", f"{sample.image_name}: no depth map")
        return None, None
    try:
        depth = depth if frame is None else frame.fit_depth(depth)
    except DataError as error:
        problems.add("depth of another shape", f"{name}: {error}")
    measured = depth.values[np.isfinite(depth.values)]
    if not measured.size:
        problems.add("empty depth", f"{name}: no pixel was measured")
    elif measured.min() == measured.max():
        problems.add("constant depth", f"{name}: {measured[0]:g} everywhere")
    return depth.kind, depth


def _check_mask(region: Region, frame: Frame | None, named: Callable[[Region], str], problems: SkipLog) -> None:
    try:
        pixels = region.area
    except DataError as error:
        problems.add("corrupt mask", f"{named(region)}: {error}")
        return
    if not pixels:
        problems.add("empty mask", f"{named(region)}: no pixel inside")
        return
    try:
        _ = None if frame is None else frame.fit_region(named(region), region)
    except DataError as error:
        problems.add("mask of another shape", str(error))


def _name(samples: Sequence[Sample], region: Region) -> str:
    """Return the first question about the region, and the region's index there."""
    sample = next(sample for sample in samples if region in sample.regions)
    return f"sample {sample.id!r}, region {sample.regions.index(region)} of {sample.image_name}"


def format_validation(result: Mapping[str, Any], name: str) -> str:
    """Return ``Validation.to_dict`` as text; ``name`` is that of the data set."""
    splits = ", ".join(f"{split} {number:,}" for split, number in result["num_questions"].items()) or "none"
    depth = ", ".join(f"{number:,} {kind}" for kind, number in result["num_depth"].items()) or "no"
    lines = [
        f"{name}: {sum(result['num_questions'].values()):,} questions ({splits}), {result['num_images']:,} images, "
        f"{depth} depth maps, {result['num_masks']:,} masks"
        + (f" ({result['num_scaled_masks']:,} at another scale than their image)" if result["num_scaled_masks"] else "")
    ]
    for problem, found in result["problems"].items():
        lines.append(f"  {found['count']:>7,} x {problem} ({found['means']})")
        lines += [f"              {example}" for example in found["examples"]]
    for kind, found in result["doubts"].items():
        lines += [f"  {found['count']:>7,} x doubtful input: {kind}", f"              {found['examples'][0]}"]
    total = result["num_problems"]
    verdict = (
        f"{total:,} problems" if total else "no problem found" if any(result["num_questions"].values()) else "there is nothing to check"
    )
    return "\n".join([*lines, verdict])
