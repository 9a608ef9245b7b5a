"""Samples to batches: every unique image is prepared once, its regions form one table, questions point at both."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from smolrgpt.data.loading import SkipLog, load_image, load_sample_depth
from smolrgpt.schema import Camera, DataError, DepthMap, Region, Sample


def region_tables(samples: Sequence[Sample]) -> dict[str, dict[Region, int]]:
    """Image key -> row of each region these samples ask about, in order of first mention."""
    tables: dict[str, dict[Region, int]] = {}
    for sample in samples:
        table = tables.setdefault(sample.image_key, {})
        for region in sample.regions:
            table.setdefault(region, len(table))
    return tables


def prepare_image(
    processor: Any, image: Image.Image, depth: DepthMap | None, camera: Camera | None, regions: Sequence[Region]
) -> dict[str, np.ndarray]:
    """``SmolRGPTImageProcessor.preprocess_image`` on our nouns."""
    return processor.image_processor.preprocess_image(
        image,
        None if depth is None else depth.values,
        None if depth is None else depth.kind,
        [region.to_patch() for region in regions],
        None if camera is None else (camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height),
    )


def encode_question(processor: Any, sample: Sample, answer: str | None = None) -> dict[str, list[int]]:
    """``SmolRGPTProcessor.encode_text`` on a sample. Raises DataError naming it, such as for more regions than the model has names for."""
    try:
        return processor.encode_text(sample.question, len(sample.regions), answer)
    except ValueError as error:
        raise DataError(f"sample {sample.id!r}: {error}") from error


def known_distances(sample: Sample) -> dict[tuple[Region, Region], float]:
    """Metres between the middles of two regions' objects, where the sample says them: all pairs of a set that gives the middles
    (``metadata["centers_m"]``, ours does), else the two regions of a distance question. Zero, which means contact, says nothing here.
    """
    centers, value = sample.metadata.get("centers_m"), sample.normalized_answer
    if centers:
        points = np.asarray(centers)
        away = np.linalg.norm(points[:, None] - points, axis=-1)
        pairs = {(a, b): float(away[i, j]) for i, a in enumerate(sample.regions) for j, b in enumerate(sample.regions)}
    elif sample.category == "distance" and len(sample.regions) == 2 and isinstance(value, (int, float)):
        one, two = sample.regions
        pairs = {(one, two): float(value), (two, one): float(value)}
    else:
        return {}
    return {pair: metres for pair, metres in pairs.items() if pair[0] != pair[1] and metres > 0}


#: Categories of questions about lengths of one object, as columns of ``region_size``: across (the longer side of its place on the floor),
#: up, and, of two objects of which it is asked how far apart their middles are vertically, from the floor to the middle.
SIZES = ("width", "height", "vertical")


def known_sizes(sample: Sample) -> dict[tuple[Region, str], float]:
    """Metres of the sample's regions, by region and one of ``SIZES``: all of them of a set that gives them (``metadata["sizes_m"]``, across
    and up, and ``metadata["centers_m"]``, on the floor and above it; ours does), else what a question about one region's size asks for.
    """
    sizes, centers, value = sample.metadata.get("sizes_m"), sample.metadata.get("centers_m"), sample.normalized_answer
    if sizes and centers:
        known = [(region, (*size, above)) for region, size, (*_, above) in zip(sample.regions, sizes, centers, strict=False)]
    elif sample.category in SIZES[:2] and len(sample.regions) == 1 and isinstance(value, (int, float)):
        known = [(sample.regions[0], tuple(value if sample.category == name else None for name in SIZES))]
    else:
        known = []
    lengths = ((region, name, metres) for region, size in known for name, metres in zip(SIZES, size, strict=False))
    return {(region, name): float(metres) for region, name, metres in lengths if metres is not None and metres > 0}


class EncodedImage:
    """What the processor made of one image and its region table. ``arrays`` are kept in float16; ``rows`` finds a region's row."""

    def __init__(self, arrays: dict[str, np.ndarray], rows: dict[Region, int]):
        self.arrays, self.rows = arrays, rows

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())

    def select(self, regions: Sequence[Region]) -> dict[str, np.ndarray]:
        """The processor's arrays with only these regions, in this order."""
        index = np.array([self.rows[region] for region in regions], dtype=np.int64)
        return {name: (array[index] if name.startswith("region_") else array).astype(np.float32) for name, array in self.arrays.items()}


class Collator:
    """Groups of samples -> the model's batch (see ``SmolRGPTProcessor.collate`` for keys, shapes and dtypes).

    An image that cannot be read is counted in ``skips`` and its questions are left out; a batch in which nothing is left is a DataError.
    Prepared images stay in memory up to ``cache_gb``.
    """

    def __init__(self, processor: Any, *, skips: SkipLog | None = None, cache_gb: float = 0.0):
        self.processor, self.skips = processor, skips or SkipLog()
        self._budget = cache_gb * 1e9
        self._cache: dict[str, EncodedImage] = {}
        self._tables: dict[str, list[Region]] = {}

    def register(self, samples: Sequence[Sample]) -> None:
        """Learn each image's whole region table, so that an image is prepared once for all of its questions."""
        tables: dict[str, dict[Region, None]] = {key: dict.fromkeys(regions) for key, regions in self._tables.items()}
        for sample in samples:
            tables.setdefault(sample.image_key, {}).update(dict.fromkeys(sample.regions))
        self._tables = {key: list(table) for key, table in tables.items()}

    def encode_image(self, sample: Sample, regions: Sequence[Region]) -> EncodedImage:
        """The sample's image and depth with these and all registered regions. Raises DataError for unreadable files."""
        found = self._cache.get(sample.image_key)
        if found is not None and all(region in found.rows for region in regions):
            return found
        table = list(dict.fromkeys([*self._tables.get(sample.image_key, []), *regions]))
        arrays = prepare_image(self.processor, load_image(sample), load_sample_depth(sample), sample.camera, table)
        arrays = {name: array if name == "region_geometry" else array.astype(np.float16) for name, array in arrays.items()}
        encoded = EncodedImage(arrays, {region: row for row, region in enumerate(table)})
        if encoded.nbytes <= self._budget:
            self._budget -= encoded.nbytes
            self._cache[sample.image_key] = encoded
        return encoded

    def __call__(self, groups: Sequence[Sequence[Sample]]) -> dict[str, Any]:
        samples = [sample for group in groups for sample in group]
        tables = region_tables(samples)
        images = self._encode_images(samples, tables)
        texts, kept = [], []
        for sample in samples:
            if self.processor.is_blind or sample.image_key in images:
                try:
                    texts.append(encode_question(self.processor, sample, sample.answer))
                    kept.append(sample)
                except DataError as error:
                    self.skips.add("unusable question", str(error))
        if not kept:
            raise DataError(f"no usable question in a batch of {len(groups)} images: {self.skips.summary()}")
        if self.processor.is_blind:
            return dict(self.processor.collate([], texts, [], []))
        order = {key: i for i, key in enumerate(images)}
        batch = self.processor.collate(
            list(images.values()),
            texts,
            [order[s.image_key] for s in kept],
            [[tables[s.image_key][region] for region in s.regions] for s in kept],
        )
        return {**batch, **_lengths(kept, {key: tables[key] for key in images})}

    def _encode_images(self, samples: Sequence[Sample], tables: dict[str, dict[Region, int]]) -> dict[str, dict[str, np.ndarray]]:
        """The processor's arrays per readable image; questions about the others are counted as skipped. Nothing for a blind model."""
        images: dict[str, dict[str, np.ndarray]] = {}
        first = {sample.image_key: sample for sample in reversed(samples)}
        for key, table in () if self.processor.is_blind else tables.items():
            try:
                images[key] = self.encode_image(first[key], list(table)).select(list(table))
            except DataError as error:
                self.skips.add("unreadable image", str(error), sum(sample.image_key == key for sample in samples))
        return images


def _lengths(samples: Sequence[Sample], tables: dict[str, dict[Region, int]]) -> dict[str, Any]:
    """What is known of the regions in metres, as rows of the joined region table, each once: ``pair_index`` (M, 2) int64 with
    ``pair_distance`` (M,) float32, ``size_index`` (M,) int64 with ``region_size`` (M, 3) float32; nothing where nothing is known.
    """
    starts = dict(zip(tables, itertools.accumulate(map(len, tables.values()), initial=0), strict=False))
    metres: dict[tuple[int, int], float] = {}
    sizes: dict[int, list[float]] = {}
    for sample in samples:
        table, start = tables[sample.image_key], starts[sample.image_key]
        metres |= {(start + table[a], start + table[b]): value for (a, b), value in known_distances(sample).items()}
        for (region, side), value in known_sizes(sample).items():
            sizes.setdefault(start + table[region], [math.nan] * len(SIZES))[SIZES.index(side)] = value
    batch: dict[str, Any] = {}
    if metres:
        batch |= {"pair_index": torch.tensor(list(metres)), "pair_distance": torch.tensor(list(metres.values()), dtype=torch.float32)}
    if sizes:
        batch |= {"size_index": torch.tensor(list(sizes)), "region_size": torch.tensor(list(sizes.values()), dtype=torch.float32)}
    return batch
