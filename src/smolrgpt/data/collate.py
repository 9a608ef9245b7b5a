"""Samples to batches: every unique image is prepared once, its regions form one table, questions point at both."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from smolrgpt.data.frame import Frame
from smolrgpt.data.lengths import length_targets
from smolrgpt.data.loading import DoubtLog, SkipLog
from smolrgpt.schema import DataError, Region, Sample
from smolrgpt.tasks import recognise, task_named
from smolrgpt.tasks.given_lengths import mark_lengths
from smolrgpt.tasks.region_text import renumber_tags
from smolrgpt.tasks.units import ask_in_metres, without_asked_unit

#: Image key -> row of each region of the image.
RegionTables = dict[Hashable, dict[Region, int]]


def region_tables(samples: Sequence[Sample]) -> RegionTables:
    """Return the row of each region that these samples ask about, per image and in order of first mention."""
    tables: RegionTables = {}
    for sample in samples:
        table = tables.setdefault(sample.image_key, {})
        for region in sample.regions:
            table.setdefault(region, len(table))
    return tables


def prepare_image(processor: Any, frame: Frame, regions: Sequence[Region]) -> dict[str, np.ndarray]:
    """Call ``SmolRGPTImageProcessor.preprocess_image`` on objects of ``smolrgpt.schema``; regions as of ``Frame.fit_region``."""
    depth, camera = frame.depth, frame.camera
    arrays: dict[str, np.ndarray] = processor.image_processor.preprocess_image(
        frame.image,
        None if depth is None else depth.values,
        None if depth is None else depth.kind,
        [region.to_patch() for region in regions],
        None if camera is None else (camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height),
    )
    return arrays


def encode_question(processor: Any, sample: Sample, answer: str | None = None, first_region: int = 0) -> dict[str, list[int]]:
    """Call ``SmolRGPTProcessor.encode_text`` on a sample. Raises DataError naming it, such as for more regions than the model can name.

    first_region: the k of the first region's name; those in ``answer``, which count from 0, follow it.
    """
    if first_region and answer is not None:
        indices = range(first_region, first_region + len(sample.regions))
        answer = renumber_tags(task_named(sample.category).renumber_field(answer, indices), indices)
    try:
        return encode_words(processor, sample.question, len(sample.regions), answer, first_region)
    except ValueError as error:
        raise DataError(f"sample {sample.id!r}: {error}") from error


def encode_words(processor: Any, question: str, num_regions: int, answer: str | None = None, first_region: int = 0) -> dict[str, list[int]]:
    """Call ``SmolRGPTProcessor.encode_text``, with the lengths of the question as numbers where the model takes them so.

    A question without its answer that asks for a length in another unit is put as the plain question, or in metres where the unit alone
    tells that it asks for a length: models answer in metres.
    """
    if answer is None and (task := recognise(question)).is_length:
        plain = without_asked_unit(question)
        question = plain if recognise(plain) is task else ask_in_metres(question)
    text, metres = mark_lengths(question) if processor.copies_lengths else (question, [])
    encoded: dict[str, list[int]] = processor.encode_text(text, num_regions, answer, given_lengths=metres, first_region=first_region)
    return encoded


class EncodedImage:
    """The processor's arrays of one image and its region table.

    Attributes:
        arrays: By name; kept in float16, region geometry in float32.
        rows: The row of each region in the arrays whose name starts with ``region_``.
        unfit: Regions that cannot be used on this image, each with the reason.
    """

    def __init__(self, arrays: dict[str, np.ndarray], rows: dict[Region, int], unfit: dict[Region, str]):
        self.arrays, self.rows, self.unfit = arrays, rows, unfit

    @property
    def nbytes(self) -> int:
        """Memory of the arrays in bytes."""
        return sum(array.nbytes for array in self.arrays.values())

    def select(self, regions: Sequence[Region]) -> dict[str, np.ndarray]:
        """Return the processor's arrays as float32 with only these regions, in this order."""
        index = np.array([self.rows[region] for region in regions], dtype=np.int64)
        return {name: (array[index] if name.startswith("region_") else array).astype(np.float32) for name, array in self.arrays.items()}


class Collator:
    """Groups of samples -> the model's batch (see ``SmolRGPTProcessor.collate`` for keys, shapes and dtypes).

    Questions about an image that cannot be read, or about a region that does not fit its image, are counted in ``skips`` and left out; a
    batch in which nothing is left is a DataError.
    What is doubtful about the inputs of an image is counted in ``doubts`` when it is read first.
    Prepared images stay in memory up to ``cache_gb``.
    Of the questions, a share ``region_offset_fraction`` names its regions from a random ``[Region k]`` on instead of ``[Region 0]``, by the
    question's id, so that every name that the model has is trained; without effect where regions have no names of their own.
    """

    def __init__(self, processor: Any, *, cache_gb: float = 0.0, region_offset_fraction: float = 0.0):
        self.processor, self.skips, self.doubts = processor, SkipLog(), DoubtLog()
        self.region_offset_fraction = region_offset_fraction
        self._inspected: set[int] = set()  # hashes of the keys of images whose doubts are counted
        self._budget = cache_gb * 1e9
        self._cache: dict[Hashable, EncodedImage] = {}
        self._tables: dict[Hashable, list[Region]] = {}

    def register(self, samples: Sequence[Sample]) -> None:
        """Record each image's whole region table, so that an image is prepared once for all of its questions."""
        tables: dict[Hashable, dict[Region, None]] = {key: dict.fromkeys(regions) for key, regions in self._tables.items()}
        for sample in samples:
            tables.setdefault(sample.image_key, {}).update(dict.fromkeys(sample.regions))
        self._tables = {key: list(table) for key, table in tables.items()}

    def encode_image(self, sample: Sample, regions: Sequence[Region]) -> EncodedImage:
        """Prepare the sample's image and depth with these and all registered regions. Raises DataError for unreadable files."""
        found = self._cache.get(sample.image_key)
        if found is not None and all(region in found.rows or region in found.unfit for region in regions):
            return found
        frame, fitted, unfit = Frame.from_sample(sample), dict[Region, Region](), dict[Region, str]()
        for region in (*self._tables.get(sample.image_key, []), *regions):
            try:
                fitted[region] = frame.fit_region(f"a region of {sample.image_name}", region)
            except DataError as error:
                unfit[region] = str(error)
        arrays = prepare_image(self.processor, frame, list(fitted.values()))
        if hash(sample.image_key) not in self._inspected:
            self._inspected.add(hash(sample.image_key))
            self.doubts.add_warnings(sample.image_name, frame.inputs_read(list(fitted.values())).warnings)
        arrays = {name: array if name == "region_geometry" else array.astype(np.float16) for name, array in arrays.items()}
        encoded = EncodedImage(arrays, {region: row for row, region in enumerate(fitted)}, unfit)
        if encoded.nbytes <= self._budget:
            self._budget -= encoded.nbytes
            self._cache[sample.image_key] = encoded
        return encoded

    def __call__(self, groups: Sequence[Sequence[Sample]]) -> dict[str, Any]:
        """Return the batch of all groups' questions, with the targets of ``length_targets``."""
        samples = [sample for group in groups for sample in group]
        encoded = {} if self.processor.is_blind else self._encode_images(samples)
        texts, kept = self._encode_texts(samples if self.processor.is_blind else self._usable(samples, encoded))
        if not kept:
            raise DataError(f"no usable question in a batch of {len(groups)} images: {self.skips.summary()}")
        if self.processor.is_blind:
            return dict(self.processor.collate([], texts, [], []))
        tables = region_tables(kept)
        order = {key: i for i, key in enumerate(tables)}
        batch = self.processor.collate(
            [encoded[key].select(list(table)) for key, table in tables.items()],
            texts,
            [order[s.image_key] for s in kept],
            [[-1] * self.first_region(s) + [tables[s.image_key][region] for region in s.regions] for s in kept],
        )
        return {**batch, **length_targets(kept, tables)}

    def first_region(self, sample: Sample) -> int:
        """Return the k of the name ``[Region k]`` of the sample's first region."""
        free = (self.processor.num_region_names or 0) - len(sample.regions)
        if free <= 0 or not sample.regions or not self.region_offset_fraction:
            return 0
        rng = random.Random(sample.id)
        return rng.randint(1, free) if rng.random() < self.region_offset_fraction else 0

    def _encode_images(self, samples: Sequence[Sample]) -> dict[Hashable, EncodedImage]:
        """Return each readable image with all regions of its samples; questions about other images are skipped."""
        images: dict[Hashable, EncodedImage] = {}
        first = {sample.image_key: sample for sample in reversed(samples)}
        for key, table in region_tables(samples).items():
            try:
                images[key] = self.encode_image(first[key], list(table))
            except DataError as error:
                self.skips.add("unreadable image", str(error), sum(sample.image_key == key for sample in samples))
        return images

    def _usable(self, samples: Sequence[Sample], images: dict[Hashable, EncodedImage]) -> list[Sample]:
        """Return the samples of these images all of whose regions fit; questions about other regions are skipped."""
        usable = []
        for sample in samples:
            if sample.image_key not in images:
                continue
            unfit = images[sample.image_key].unfit
            if reasons := [unfit[region] for region in sample.regions if region in unfit]:
                self.skips.add("unusable region", f"sample {sample.id!r}: {reasons[0]}")
            else:
                usable.append(sample)
        return usable

    def _encode_texts(self, samples: Sequence[Sample]) -> tuple[list[dict[str, list[int]]], list[Sample]]:
        """Return the encoded questions and their samples; those that cannot be encoded are skipped."""
        texts, kept = [], []
        for sample in samples:
            try:
                texts.append(encode_question(self.processor, sample, sample.answer, self.first_region(sample)))
                kept.append(sample)
            except DataError as error:
                self.skips.add("unusable question", str(error))
        return texts, kept
