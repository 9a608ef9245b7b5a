"""Laws of batches: what is known of distances finds its regions. The rest of the collator is tested where it is used, in the trainer."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from smolrgpt.data.collate import Collator
from smolrgpt.data.lengths import known_distances, known_sizes
from smolrgpt.data.worlds import generate_scene, random_generator, scene_samples
from smolrgpt.inference.checkpoints import bundled_checkpoint
from smolrgpt.schema import Region, Sample, Truth


def boxes(*places: tuple[int, int]) -> list:
    regions = []
    for top, left in places:
        mask = np.zeros((60, 80), bool)
        mask[top : top + 10, left : left + 10] = True
        regions.append(Region.from_mask(mask))
    return regions


def sample(value, category="distance", places=((0, 0), (30, 50)), **truth):
    question = "How far is it? " + "<mask> " * len(places)
    image = Image.new("RGB", (80, 60))
    known = Truth(**{name: tuple(map(tuple, rows)) for name, rows in truth.items()}) if truth else None
    return Sample("s", image, question, boxes(*places), answer=str(value), normalized_answer=value, category=category, truth=known)


def test_known_distances_of_our_scenes_are_those_of_the_middles() -> None:
    scene = generate_scene((5, 0))
    middles = {thing.region: thing.center_m for thing in scene.regions}
    for asked in scene_samples(scene, 12, random_generator(5)):
        found = known_distances(asked)
        assert len(found) == len(asked.regions) * (len(asked.regions) - 1)
        for (one, two), metres in found.items():
            assert metres == pytest.approx(np.linalg.norm(middles[one] - middles[two]), abs=0.02)


@pytest.mark.parametrize(
    ("case", "count"),
    [
        (sample(2.5), 2),  # both orders
        (sample(0), 0),  # contact says nothing of the middles
        (sample(2, category="count"), 0),
        (sample(2.5, places=((0, 0), (30, 50), (40, 0))), 0),  # which two of the three is not known
        (sample("left", category="left_right"), 0),
        (sample(2.5, places=((0, 0), (0, 0))), 0),  # twice the same region
        (sample(2, category="count", centers_m=[[0, 0, 0], [3, 4, 0]]), 2),
    ],
)
def test_known_distances_of_other_samples(case, count) -> None:
    found = known_distances(case)
    assert len(found) == count and all(metres in (2.5, 5.0) for metres in found.values())


@pytest.mark.parametrize(
    ("case", "metres"),
    [
        (sample(1.4, "width", ((0, 0),)), [1.4]),
        (sample(2, "height", ((0, 0),)), [2.0]),
        (sample(0, "height", ((0, 0),)), []),
        (sample(None, "width", ((0, 0),)), []),
        (sample(1.4, "distance", ((0, 0),)), []),
        (sample(1.4, "width"), []),  # of which of the two is not known
        (sample(0.5, "vertical"), []),  # only the difference
        (sample("left", "left_right", centers_m=[[1, 2, 0.9], [3, 4, 0.0]], sizes_m=[[1.2, 1.8], [2.0, None]]), [1.2, 1.8, 0.9, 2.0]),
    ],
)
def test_known_sizes(case, metres) -> None:
    assert list(known_sizes(case).values()) == metres


def test_sizes_of_a_batch_point_at_their_regions() -> None:
    from smolrgpt.model import SmolRGPTProcessor

    samples = [sample(2.5), sample(1.5, "width", ((30, 50),)), sample(0.5, "height", ((30, 50),)), sample(3.0, "height", ((0, 0),))]
    samples.append(sample(0.5, "vertical", ((0, 0), (40, 0)), centers_m=[[1, 2, 0.9], [3, 4, 0.4]], sizes_m=[[2, 3], [4, None]]))
    for number, one in enumerate(samples):
        one.id = str(number)
    batch = Collator(SmolRGPTProcessor.from_pretrained(bundled_checkpoint("nano")))([samples])
    rows = dict(zip(batch["size_index"].tolist(), batch["region_size"].nan_to_num(-1).tolist(), strict=True))
    assert rows == {1: [1.5, 0.5, -1], 0: [2.0, 3.0, pytest.approx(0.9)], 2: [4.0, -1, pytest.approx(0.4)]}


def test_pairs_of_a_batch_point_at_their_regions() -> None:
    """Two images, the second one's rows start after the first one's; a question without known distances gives none."""
    from smolrgpt.model import SmolRGPTProcessor

    first, other = sample(2.5), sample(7.0, places=((0, 20), (40, 50)))
    other.id = other.image_key = "t"
    collator = Collator(SmolRGPTProcessor.from_pretrained(bundled_checkpoint("nano")))
    batch = collator([[first], [other]])
    rows = {tuple(pair): metres for pair, metres in zip(batch["pair_index"].tolist(), batch["pair_distance"].tolist(), strict=True)}
    assert rows == {(0, 1): 2.5, (1, 0): 2.5, (2, 3): 7.0, (3, 2): 7.0}
    assert "pair_index" not in collator([[sample("left", category="left_right")]])
