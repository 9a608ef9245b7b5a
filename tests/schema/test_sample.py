"""A sample's lists fit its regions, and its image key tells what has to be encoded apart."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smolrgpt.schema import Camera, DataError, DepthFile, DepthMap, DepthMeaning, Region, Sample, TarMember, Truth

REGIONS = [Region((4, 6), "0"), Region((4, 6), "1")]
CAMERA = Camera(10.0, 10.0, 3.0, 2.0, 6, 4)
DEPTH = DepthFile(Path("data/depths/a.png"))


def sample(**changes: Any) -> Sample:
    fields = {"id": "q", "image": Path("data/images/a.png"), "question": "<mask> or <mask>?", "regions": REGIONS, "depth": DEPTH}
    return Sample(**{**fields, "camera": CAMERA, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": "<mask>?"}, "1 <mask> but 2 regions"),
        ({"regions": []}, "2 <mask> but 0 regions"),
        ({"region_indices": (1,)}, "region_indices has 1 entries"),
        ({"truth": Truth(centers_m=((0.0, 0.0, 0.0),))}, "centers_m has 1 entries"),
        ({"truth": Truth(sizes_m=((1.0, None),) * 3)}, "sizes_m has 3 entries"),
    ],
)
def test_lists_that_do_not_fit_the_regions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        sample(**changes)


def test_questions_about_the_same_files_share_a_key() -> None:
    other = sample(id="other", question="What?", regions=[], answer="It is.", region_indices=(), truth=Truth("a"), wording="known")
    assert other.image_key == sample().image_key and hash(other.image_key) == hash(sample().image_key)


@pytest.mark.parametrize(
    "changes",
    [
        {"image": Path("data/images/b.png")},
        {"image": TarMember(Path("data.tar"), "a.png", 0, 9)},
        {"depth": None},
        {"depth": dataclasses.replace(DEPTH, meaning=DepthMeaning("bright"))},
        {"depth": dataclasses.replace(DEPTH, relative_near="bright")},
        {"depth": DepthMap(np.ones((4, 6), np.float32), "metric")},
        {"camera": None},
        {"image": Image.new("RGB", (6, 4))},
    ],
)
def test_another_image_depth_or_camera_has_another_key(changes: dict[str, Any]) -> None:
    assert sample(**changes).image_key != sample().image_key


def test_images_in_memory_are_shared_only_where_a_key_says_so() -> None:
    image = Image.new("RGB", (6, 4))
    first, second = (sample(id=name, image=image) for name in "ab")
    assert first.image_key != second.image_key
    assert sample(id="a", image=image, image_key="x").image_key == sample(id="b", image=image, image_key="x").image_key


def test_the_checksum_of_an_image_depends_on_its_name_alone() -> None:
    """Random draws per image are the same in every process, for every question and wherever the data set lies."""
    moved = sample(id="other", image=Path("/elsewhere/a.png"), depth=None, camera=None)
    assert moved.image_checksum == sample().image_checksum != sample(image=Path("data/images/b.png")).image_checksum
    code = "from pathlib import Path; from smolrgpt.schema import Sample; print(Sample('q', Path('x/a.png'), '?').image_checksum)"
    environment = {"PYTHONPATH": ":".join(entry for entry in sys.path if entry), "PYTHONHASHSEED": "7"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    assert int(found) == sample().image_checksum
