"""Lengths of samples' regions, in metres: the targets that distance and size estimates learn from.

Legend: Q questions, N regions of a batch, P pairs with a known distance, S regions with a known size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from smolrgpt.schema import Region, Sample
from smolrgpt.tasks import task_named
from smolrgpt.tasks.distance import DISTANCE
from smolrgpt.tasks.size import HEIGHT, VERTICAL, WIDTH

#: The kinds of question that the columns of ``region_size`` answer: the longer side on the floor, the height, and the height of the
#: centre above the floor, of which a vertical distance is the difference.
SIZE_COLUMNS = (WIDTH, HEIGHT, VERTICAL)


def known_distances(sample: Sample) -> dict[tuple[Region, Region], float]:
    """Return the metres between the centres of two regions' objects, in both orders, where the sample gives them.

    These are all pairs where ``Sample.truth`` has centres, else the two regions of a distance question. A distance of 0 is left out: it
    means contact, not equal centres.
    """
    value = sample.normalized_answer
    if sample.truth is not None and sample.truth.centers_m:
        points = np.asarray(sample.truth.centers_m)
        metres = np.linalg.norm(points[:, None] - points, axis=-1)
        pairs = {(a, b): float(metres[i, j]) for i, a in enumerate(sample.regions) for j, b in enumerate(sample.regions)}
    elif task_named(sample.category) is DISTANCE and len(sample.regions) == 2 and isinstance(value, (int, float)):
        a, b = sample.regions
        pairs = {(a, b): float(value), (b, a): float(value)}
    else:
        return {}
    return {(a, b): metres for (a, b), metres in pairs.items() if a != b and metres > 0}


def known_sizes(sample: Sample) -> dict[tuple[Region, int], float]:
    """Return the metres of regions, by region and column of ``SIZE_COLUMNS``, where the sample gives them.

    These are all sizes where ``Sample.truth`` has sizes and centres, else the one that a question about one region asks for.
    """
    truth, value, task = sample.truth, sample.normalized_answer, task_named(sample.category)
    lengths: list[tuple[Region, int, float | None]] = []
    if truth is not None and truth.sizes_m and truth.centers_m:
        for region, (width, height), (*_, above) in zip(sample.regions, truth.sizes_m, truth.centers_m, strict=True):
            lengths += [(region, column, metres) for column, metres in enumerate((width, height, above))]
    elif task in (WIDTH, HEIGHT) and len(sample.regions) == 1 and isinstance(value, (int, float)):
        lengths.append((sample.regions[0], SIZE_COLUMNS.index(task), value))
    return {(region, column): float(metres) for region, column, metres in lengths if metres is not None and metres > 0}


def length_targets(samples: Sequence[Sample], tables: Mapping[Hashable, Mapping[Region, int]]) -> dict[str, torch.Tensor]:
    """Return the known lengths of a batch's samples, each once, with rows of the joined region table (N).

    ``pair_index`` (P, 2) int64 with ``pair_distance`` (P,) float32, and ``size_index`` (S,) int64 with ``region_size`` (S, 3) float32, NaN
    where unknown; without the keys where nothing is known.

    Args:
        samples: Q questions.
        tables: Image key -> row of each region of the image, for all images of the batch in order.
    """
    starts = dict(zip(tables, itertools.accumulate(map(len, tables.values()), initial=0), strict=False))
    distances: dict[tuple[int, int], float] = {}
    sizes: dict[int, list[float]] = {}
    for sample in samples:
        table, start = tables[sample.image_key], starts[sample.image_key]
        distances |= {(start + table[a], start + table[b]): metres for (a, b), metres in known_distances(sample).items()}
        for (region, column), metres in known_sizes(sample).items():
            sizes.setdefault(start + table[region], [math.nan] * len(SIZE_COLUMNS))[column] = metres
    batch: dict[str, Any] = {}
    if distances:
        batch |= {"pair_index": torch.tensor(list(distances)), "pair_distance": torch.tensor(list(distances.values()), dtype=torch.float32)}
    if sizes:
        batch |= {"size_index": torch.tensor(list(sizes)), "region_size": torch.tensor(list(sizes.values()), dtype=torch.float32)}
    return batch
