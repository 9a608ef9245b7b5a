"""Laws of frames: what was made on the stored pixels of a turned image lies on the upright one, or is refused, by every entrance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from smolrgpt.data.collate import Collator
from smolrgpt.data.frame import Frame
from smolrgpt.data.perturb import perturb
from smolrgpt.data.sources import read_source
from smolrgpt.inference.checkpoints import bundled_checkpoint
from smolrgpt.schema import DataError, DepthMap, Region, Sample
from smolrgpt.schema.image_file import read_upright, turn_upright
from smolrgpt.viz.gallery import draw_cards

H, W = 30, 40
STORED = np.zeros((H, W), bool)
STORED[3:9, 5:25] = True


def turned_image(path: Path, orientation: int) -> Path:
    """Write the object, bright on dark, as a camera stores it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(STORED.astype(np.uint8) * 200).convert("RGB").save(path, exif=exif)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_masks_and_depth_of_the_stored_pixels_turn_with_the_image(tmp_path: Path, orientation: int, name: str) -> None:
    path = turned_image(tmp_path / name, orientation)
    depth = DepthMap(np.where(STORED, 2.0, 5.0).astype(np.float32), "metric")
    for source in (path, Image.open(path)):
        image, found = read_upright(source)
        assert found == orientation
        frame = Frame(image, depth, orientation=found)
        region = frame.fit_region("it", Region.from_mask(STORED))
        inside = np.asarray(image.convert("L")) > 100
        assert (region.size == inside.shape) and (orientation in (2, 3, 4) or (region.to_mask() == inside).mean() > 0.98)
        assert orientation in (2, 3, 4) or ((frame.depth.values == 2) == region.to_mask()).all()  # which way up cannot be told by sizes


@pytest.mark.parametrize("orientation", range(1, 9))
def test_arrays_turn_as_pillow_turns_images(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    image = Image.fromarray(pixels)
    image.info["exif"] = exif.tobytes()
    np.testing.assert_array_equal(turn_upright(pixels, orientation), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("orientation", [1, 3])
def test_what_has_the_sides_of_neither_is_refused(orientation: int) -> None:
    frame = Frame(Image.new("RGB", (W, H)), orientation=orientation)
    with pytest.raises(DataError, match="region 3: its mask is 30x40, the image 40x30"):
        frame.fit_region("region 3", Region.from_mask(STORED.T))
    with pytest.raises(DataError, match="depth map is 30x40"):
        Frame(frame.image, DepthMap(np.ones((W, H), np.float32), "metric"), orientation=orientation)


@pytest.fixture(scope="module")
def processor():
    from smolrgpt.model import SmolRGPTProcessor

    return SmolRGPTProcessor.from_pretrained(bundled_checkpoint("nano"))


def questions(image: Path | Image.Image, *regions: Region) -> list[Sample]:
    return [
        Sample(str(number), image, "How tall is <mask>?", [region], answer="1 m", image_key="it") for number, region in enumerate(regions)
    ]


def test_a_bad_region_costs_its_own_questions_only(processor) -> None:
    good, empty = Region.from_box((2, 2, 20, 20), H, W), Region.from_rle({"size": [H, W], "counts": [H * W]})
    bad = [Region.from_box((2, 2, 20, 20), W, H), Region((H, W), "~broken"), empty]
    samples = questions(Image.new("RGB", (W, H)), good, *bad, good)
    for register in (False, True):
        collator = Collator(processor, cache_gb=1)
        if register:
            collator.register(samples)
        for _ in range(2):  # the second time from the cache
            batch = collator([samples])
            assert len(batch["input_ids"]) == 2 and len(batch["region_masks"]) == 1
        assert collator.skips.counts == {"unusable region": 6}
        with pytest.raises(DataError, match="unusable region"):
            collator([samples[1:4]])


def test_training_sees_the_same_whichever_way_the_camera_was_held(processor, tmp_path: Path) -> None:
    path = turned_image(tmp_path / "a.png", 6)
    image, _ = read_upright(path)
    upright = Region.from_mask(turn_upright(STORED, 6))
    expected = Collator(processor)([questions(image, upright)])
    found = Collator(processor)([questions(path, Region.from_mask(STORED))])
    for name, tensor in expected.items():
        assert (tensor == found[name]).all(), name


def test_galleries_draw_turned_masks(tmp_path: Path) -> None:
    from smolrgpt.data.loading import SkipLog

    path, skips = turned_image(tmp_path / "a.png", 8), SkipLog()
    stored, upright = questions(path, Region.from_mask(STORED), Region.from_mask(turn_upright(STORED, 8)))
    drawn = [card.drawn.tobytes() for card in draw_cards([stored, replace(upright, id="0")], skips, 60)]
    assert drawn[0] == drawn[1] and not skips.total


@pytest.mark.parametrize("factor", ["darker", "wrong image"])
def test_what_is_changed_about_a_turned_image_leaves_its_regions_on_it(tmp_path: Path, factor: str) -> None:
    depth = DepthMap(np.where(STORED, 2.0, 5.0).astype(np.float32), "metric")
    sample = replace(questions(turned_image(tmp_path / "a.png", 6), Region.from_mask(STORED))[0], depth=depth)
    before = Frame.from_sample(sample)
    (changed,) = perturb([sample], factor, {"darker": 2.2, "wrong image": "mirrored"}[factor])
    after = Frame.from_sample(changed)
    assert after.size == before.size and (after.depth.values == before.depth.values).all()
    assert after.fit_region("it", changed.regions[0]) == before.fit_region("it", sample.regions[0])


@pytest.mark.parametrize(
    ("orientation", "size", "region", "words"),
    [
        (6, (W, H), Region.from_mask(STORED | np.eye(H, W, dtype=bool)), None),
        (6, (W, H), Region.from_box((1, 1, 9, 9), W, H), "a box does not tell"),
        (3, (H, W), Region.from_box((1, 1, 9, 9), H, W), "the sizes do not tell"),
        (8, (H, H), Region.from_box((1, 1, 9, 9), H, H), "the sizes do not tell"),
        (1, (H, H), Region.from_box((1, 1, 9, 9), H, H), None),
    ],
)
def test_doubts_where_sizes_cannot_tell(orientation: int, size: tuple[int, int], region: Region, words: str | None) -> None:
    frame = Frame(Image.new("RGB", size[::-1]), orientation=orientation)
    warnings = frame.inputs_read([frame.fit_region("it", region)], has_boxes=region.to_patch()[0].all()).warnings
    assert (words is None and not warnings) or words in warnings[0]


def test_coco_of_an_unturned_image_asks_about_the_upright_one(tmp_path: Path) -> None:
    """What ``smolrgpt data show coco`` and training read: the side of an object is that of the image as people see it."""
    annotations = [{"id": i, "image_id": 1, "bbox": box} for i, box in ((1, [2, 20, 5, 5]), (2, [2, 2, 5, 5]))]
    (tmp_path / "mine").mkdir()
    for orientation, side in ((6, "left"), (8, "right"), (0, "")):
        name = f"{orientation}.png"
        turned_image(tmp_path / "mine" / name, orientation)
        images = [{"id": 1, "file_name": name, "height": H, "width": W if side else H}]
        (tmp_path / "mine.json").write_text(json.dumps({"images": images, "annotations": annotations}))
        if not side:
            with pytest.raises(DataError, match="annotation 1: its mask is 30x30, the image 40x30"):
                read_source("coco", tmp_path, "mine")
            continue
        (sample,) = read_source("coco", tmp_path, "mine")
        assert sample.regions[0].size == (W, H)
        assert (sample.normalized_answer == side) == (sample.metadata["annotation_ids"] == [1, 2])


@pytest.mark.realdata
def test_the_coco_export_of_a_phone_image(shared_path) -> None:
    (sample,) = read_source("coco", shared_path("samples/inputs/13-coco-of-an-unturned-phone-picture"), "val")
    assert sample.regions[0].size == (216, 384)
    assert (sample.normalized_answer == "left") == (sample.metadata["annotation_ids"] == [1, 2])
