"""Changes of known strength: nothing at the first level, the same randomness at every other, questions and truths untouched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smolrgpt.data.loading import load_image, load_sample_depth
from smolrgpt.data.perturb import FACTORS, jitter_masks, perturb
from smolrgpt.schema import Camera, DepthMap, Region, Sample

SIZE = (48, 32)  # width, height
LEVELS = [(name, level) for name, factor in FACTORS.items() for level in factor.levels]


def _samples(tmp_path: Path) -> list[Sample]:
    """Three images with two questions each; the pictures are files."""
    made = []
    for image in range(3):
        rng = np.random.default_rng(image)
        path = tmp_path / f"{image}.png"
        Image.fromarray(rng.integers(40, 220, (SIZE[1], SIZE[0], 3), dtype=np.uint8)).save(path)
        depth = DepthMap(rng.uniform(1, 9, SIZE[::-1]).astype(np.float32), "metric")
        regions = [Region.from_box(box, SIZE[1], SIZE[0]) for box in ((2, 3, 12, 20), (20, 5, 40, 30))] + [_ring()]
        for question in range(2):
            made.append(
                Sample(
                    id=f"{image}-{question}",
                    image=path,
                    question="Which of <mask> <mask> <mask>?",
                    regions=regions,
                    depth=depth,
                    camera=Camera(40, 40, 24, 16, *SIZE),
                    normalized_answer="1",
                    category="mcq",
                    image_key=path,
                )
            )
    return made


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_questions_stay_and_inputs_stay_usable(tmp_path: Path, name: str, level) -> None:
    samples = _samples(tmp_path)
    changed = perturb(samples, name, level)
    for old, new in zip(samples, changed, strict=True):
        assert (new.id, new.question, new.normalized_answer, new.category) == (old.id, old.question, old.normalized_answer, old.category)
        assert load_image(new).size == SIZE
        assert all(region.area > 0 and region.size == SIZE[::-1] for region in new.regions)
        depth = load_sample_depth(new)
        if depth is not None:
            measured = depth.values[np.isfinite(depth.values)]
            assert measured.size and (measured >= 0).all() and (depth.kind == "metric") == (measured.max() > 1)
    again = perturb(samples, name, level)
    assert all(np.array_equal(np.asarray(load_image(a)), np.asarray(load_image(b))) for a, b in zip(changed, again, strict=True))
    assert [sample.regions for sample in changed] == [sample.regions for sample in again]
    if level == FACTORS[name].levels[0]:
        assert all(new is old for new, old in zip(changed, samples, strict=True))
    else:
        assert any(
            (new.regions, new.camera) != (old.regions, old.camera) or new.depth is not old.depth or new.image is not old.image
            for new, old in zip(changed, samples, strict=True)
        )


def test_questions_about_one_image_share_what_was_changed(tmp_path: Path) -> None:
    first, second = perturb(_samples(tmp_path), "depth noise", 0.01)[:2]
    assert first.depth is second.depth


@pytest.mark.parametrize(
    "name", ["depth noise", "depth holes", "depth scale", "grain", "blur", "mask grown", "mask shrunk", "mask shifted"]
)
def test_more_is_more(tmp_path: Path, name: str) -> None:
    samples = _samples(tmp_path)

    def amount(level: float) -> float:
        total = 0.0
        for old, new in zip(samples, perturb(samples, name, level), strict=True):
            total += np.abs(np.asarray(load_image(new), float) - np.asarray(load_image(old), float)).sum()
            total += np.nan_to_num(np.abs(load_sample_depth(new).values - load_sample_depth(old).values), nan=10.0).sum()
            total += sum((a.to_mask() ^ b.to_mask()).sum() for a, b in zip(old.regions, new.regions, strict=True))
        return total

    amounts = [amount(level) for level in FACTORS[name].levels]
    assert amounts[0] == 0 and amounts == sorted(amounts) and amounts[1] > 0


def test_changes_are_what_they_say(tmp_path: Path) -> None:
    samples = _samples(tmp_path)
    holes = perturb(samples, "depth holes", 0.25)[0].depth.values
    assert np.isnan(holes).mean() == pytest.approx(0.25, abs=0.01)
    noise = perturb(samples, "depth noise", 0.005)[0].depth.values - samples[0].depth.values
    assert (noise / samples[0].depth.values ** 2).std() == pytest.approx(0.005, rel=0.1)
    eight = perturb(samples, "depth kind", "8-bit")[0]
    assert (eight.depth.kind, eight.camera) == ("relative", None)
    assert np.allclose(eight.depth.values * 255, np.rint(eight.depth.values * 255), atol=1e-4)
    assert eight.depth.values.ravel()[np.argmin(samples[0].depth.values)] == 0, "near stays small"
    assert len(set(perturb(samples, "wrong regions", "all the same")[0].regions)) == 1
    shuffled = perturb(samples, "wrong regions", "shuffled")[0].regions
    assert sorted(region.counts for region in shuffled) == sorted(region.counts for region in samples[0].regions)
    for one, other in zip(samples, perturb(samples, "wrong depth", "another image's"), strict=True):
        assert one.depth is not other.depth
    box = perturb([Sample("a", samples[0].image, "<mask>", [_ring()])], "mask shape", "box")[0]
    assert box.regions[0].area == 10 * 10 > _ring().area


def _ring() -> Region:
    mask = np.zeros(SIZE[::-1], dtype=bool)
    mask[5:15, 5:15] = True
    mask[8:12, 8:12] = False
    return Region.from_mask(mask)


def test_rough_masks_stand_beside_the_true_ones(tmp_path: Path) -> None:
    samples = _samples(tmp_path)
    changed = jitter_masks(samples)
    assert [sample.id for sample in changed] == [sample.id for sample in samples]
    assert not {sample.image_key for sample in changed} & {sample.image_key for sample in samples}
    assert all(one.regions == two.regions for one, two in zip(changed[::2], changed[1::2], strict=True)), "one way an image"
    assert sum(old.regions != new.regions for old, new in zip(samples, changed, strict=True)) >= 4
    assert changed == jitter_masks(samples)


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'fog'.*depth noise"):
        perturb(_samples(tmp_path), "fog", 1.0)
    with pytest.raises(ValueError, match="no level 7"):
        perturb(_samples(tmp_path), "blur", 7)
