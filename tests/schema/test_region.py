"""Laws of the region conversions: lossless, clipped, never a silent empty or corrupt mask."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from smolrgpt.model.image_processing_smolrgpt import SmolRGPTImageProcessor
from smolrgpt.schema import DataError, Region

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
MASKS = hnp.arrays(bool, SIZES).filter(np.any)


@st.composite
def boxes_in_frames(draw: st.DrawFn) -> np.ndarray:
    """Up to three boxes in a frame, overlapping or apart: what regions look like, and never what independent pixels do."""
    height, width = draw(SIZES)
    mask = np.zeros((height, width), bool)
    for _ in range(draw(st.integers(0, 3))):
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        mask[top : draw(st.integers(top + 1, height)), left : draw(st.integers(left + 1, width))] = True
    return mask


#: Empty, full, single pixels, runs that go from one column's foot to the next one's head, and everything between.
ANY_MASK = st.one_of(
    boxes_in_frames(), hnp.arrays(bool, SIZES), SIZES.map(lambda size: np.ones(size, bool)), SIZES.map(lambda size: np.zeros(size, bool))
)


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_mask_and_run_lengths_are_inverse(mask: np.ndarray) -> None:
    region = Region.from_mask(mask)
    assert region.size == mask.shape
    np.testing.assert_array_equal(region.to_mask(), mask)
    assert Region.from_rle(region.to_rle()) == region


def _region_of(mask: np.ndarray) -> Region:
    """``from_mask`` for empty masks too, which data sets ship."""
    changes = np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=False))
    runs = np.diff(np.concatenate(([0], changes, [mask.size]))).tolist()
    return Region.from_rle({"size": list(mask.shape), "counts": runs})


@settings(max_examples=200, deadline=None)
@given(ANY_MASK)
def test_a_patch_is_the_mask_without_its_empty_border(mask: np.ndarray) -> None:
    pixels, top, left, height, width = _region_of(mask).to_patch()
    assert (height, width) == mask.shape
    whole = np.zeros_like(mask)
    whole[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    np.testing.assert_array_equal(whole, mask)
    assert pixels.shape == (0, 0) or all(edge.any() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


@settings(max_examples=200, deadline=None)
@given(ANY_MASK, st.integers(1, 17), st.sampled_from(["area", "bilinear"]), st.sampled_from([None, "metric", "relative"]))
def test_a_region_prepared_from_its_runs_is_the_one_prepared_from_its_mask(mask, grid, resize, kind) -> None:
    processor = SmolRGPTImageProcessor(size=8, grid_size=grid, mask_resize=resize)
    depth = np.random.default_rng(0).uniform(0.2, 1.0, (13, 11)).astype(np.float32) if kind else None
    image, camera = Image.new("RGB", (9, 7)), (9.0, 9.0, 4.0, 3.0, 9, 7)
    masks = processor.preprocess_image(image, depth, kind, [mask, mask], camera)
    patches = processor.preprocess_image(image, depth, kind, [_region_of(mask).to_patch()] * 2, camera)
    np.testing.assert_array_equal(patches["region_geometry"], masks["region_geometry"])
    np.testing.assert_allclose(patches["region_masks"], masks["region_masks"], atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_uncompressed_counts_are_the_same_region(mask: np.ndarray) -> None:
    flat = np.concatenate(([False], mask.ravel(order="F")))
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(np.concatenate(([0], changes, [mask.size]))).tolist()
    assert Region.from_rle({"size": list(mask.shape), "counts": runs}) == Region.from_mask(mask)


@settings(max_examples=100, deadline=None)
@given(MASKS, st.integers(0, 30), st.integers(33, 126))
def test_a_damaged_string_is_an_error_or_a_mask_of_the_same_size(mask: np.ndarray, place: int, code: int) -> None:
    counts = Region.from_mask(mask).counts
    place %= len(counts)
    damaged = Region(mask.shape, counts[:place] + chr(code) + counts[place + 1 :])
    for decode, size in ((Region.to_mask, lambda found: found.shape), (Region.to_patch, lambda found: found[3:])):
        try:
            assert size(decode(damaged)) == mask.shape
        except DataError as error:
            assert "corrupt run lengths" in str(error)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.text(max_size=20), st.integers(1, 9), st.integers(1, 9))
def test_arbitrary_text_never_crashes_the_decoder(counts: str, height: int, width: int) -> None:
    with contextlib.suppress(DataError):
        assert Region((height, width), counts).to_mask().shape == (height, width)


@pytest.mark.parametrize("cut", [1, 3])
def test_truncated_run_lengths_are_an_error(cut: int) -> None:
    counts = Region.from_box((10, 20, 300, 400), 480, 640).counts
    with pytest.raises(DataError, match="corrupt run lengths"):
        Region((480, 640), counts[:-cut]).to_mask()


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        *((rle, "are not {'size'") for rle in ({}, {"size": [4, 4]}, None)),
        *(
            ({"size": size, "counts": "0"}, "run lengths have size")
            for size in ([0, 4], [4, 4, 1], 4, "44", ["4", 4], [4.0, 4.0], [[4, 4]], [True, 4])
        ),
        *(({"size": size, "counts": "0"}, "too large") for size in ([10**5, 10**5], [2**62, 4])),
        *(({"size": [4, 4], "counts": counts}, "do not sum to 4 x 4") for counts in ([3, 3], [-1, 17])),
        ({"size": [4, 4], "counts": 7}, "counts of type int"),
    ],
)
def test_malformed_rle_is_an_error(rle: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Region.from_rle(rle, check=False)


def test_box_is_half_open_clipped_and_covers_what_it_touches() -> None:
    mask = Region.from_box((1, 2, 3, 5), 8, 10).to_mask()
    assert mask.sum() == 6 and mask[2:5, 1:3].all()
    assert Region.from_box((-5, -5, 100, 100), 8, 10).to_mask().all()
    assert Region.from_box((0.5, 0.5, 1.5, 0.7), 4, 4).to_mask().sum() == 2


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((3, 3, 3, 5), "empty or inverted"),
        ((5, 1, 3, 4), "empty or inverted"),
        ((10, 0, 12, 4), "outside"),
        ((-4, 0, 0, 4), "outside"),
        ((0, 0, float("nan"), 4), "not finite"),
        ((0, 0, float("inf"), 4), "not finite"),
        ((0, 0, 4), "not four numbers"),
        ("abcd", "no number"),
    ],
)
def test_bad_boxes_say_what_is_wrong(box: tuple, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Region.from_box(box, 8, 10)


def test_polygon_forms_agree_and_match_the_box() -> None:
    points = [(2, 1), (8, 1), (8, 6), (2, 6)]
    flat = [number for point in points for number in point]
    region = Region.from_polygon(points, 8, 10)
    assert region == Region.from_polygon(flat, 8, 10) == Region.from_polygon([flat], 8, 10) == Region.from_polygon(np.array(points), 8, 10)
    assert region == Region.from_box((2, 1, 8, 6), 8, 10)


def test_polygons_of_one_region_are_united() -> None:
    left, right = [0, 0, 3, 0, 3, 3, 0, 3], [6, 4, 9, 4, 9, 8, 6, 8]
    union = Region.from_polygon([left], 8, 10).to_mask() | Region.from_polygon([right], 8, 10).to_mask()
    np.testing.assert_array_equal(Region.from_polygon([left, right], 8, 10).to_mask(), union)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "has 0 numbers"),
        ([(0, 0), (4, 4)], "has 4 numbers"),
        ([0, 0, 4], "has 3 numbers"),
        ([(0, 0), (1e9, 0), (0, 5)], "far outside"),
        ([(50, 50), (60, 50), (60, 60)], "covers no pixel"),
        (["x", "y"], "no number"),
    ],
)
def test_bad_polygons_are_errors(points: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Region.from_polygon(points, 8, 10)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((4, 4), bool), "holds no pixel"),
        (np.ones((2, 2, 3), bool), r"mask is bool \(2, 2, 3\)"),
        (np.ones(4, bool), r"mask is bool \(4,\)"),
        (np.array([["a"]]), "mask is <U1"),
    ],
)
def test_empty_or_misshapen_masks_are_errors(mask: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Region.from_mask(mask)


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGB", "RGBA", "LA", "P", "cutout"])
def test_mask_images_of_every_mode(tmp_path: Path, mode: str) -> None:
    mask = np.zeros((12, 16), bool)
    mask[3:7, 2:9] = True
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    if mode == "cutout":  # a dark object on transparency: alpha decides, not colour
        grey.putalpha(grey.copy())
        image = Image.merge("LA", (Image.new("L", grey.size, 0), grey.getchannel("A")))
    elif mode == "P":
        image = Image.fromarray(mask.astype(np.uint8))
        image.putpalette([0, 0, 0] * 256)
    else:
        image = Image.fromarray(mask.astype(np.uint16)) if mode == "I;16" else grey.convert(mode)
    path = tmp_path / "mask.png"
    image.save(path)
    np.testing.assert_array_equal(Region.from_file(path).to_mask(), mask)


@pytest.mark.parametrize("name", ["black.png", "text.png", "absent.png"])
def test_bad_mask_images_name_the_file(tmp_path: Path, name: str) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "black.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=name):
        Region.from_file(tmp_path / name)


@pytest.mark.realdata
def test_real_run_lengths_survive_unchanged() -> None:
    from smolrgpt.data.io import read_rows

    folder = Path(__file__).parents[2] / "../shared/samples/warehouse"
    if not folder.is_dir():
        pytest.skip("no real samples here")
    for name in ("records.json", "records_partial.json"):
        for row in read_rows(folder / name):
            for rle in row["rle"]:
                region = Region.from_rle(rle)
                mask = region.to_mask()
                assert mask.shape == (1080, 1920) and mask.any()
                assert Region.from_mask(mask).to_rle() == rle


POINTS = [(0.1, 0.2), (0.7, 0.2), (0.7, 0.9), (0.1, 0.9)]


@pytest.mark.parametrize(("units", "largest"), [("normalized", 1), ("thousandths", 1000)])
def test_coordinates_in_other_units_are_those_in_pixels(units: str, largest: int) -> None:
    height, width = 80, 100
    box = [number * largest for number in (*POINTS[0], *POINTS[2])]
    polygon = [[x * largest, y * largest] for x, y in POINTS]
    flat = [number for point in polygon for number in point]
    expected = Region.from_box((10, 16, 70, 72), height, width)
    text = ",".join(map(str, box)), ",".join(map(str, flat))
    for region in (
        Region.from_box(box, height, width, units),
        Region.from_polygon(polygon, height, width, units),
        Region.from_json({"box": box, "units": units}, height, width),
        Region.from_json({"box": dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)), "units": units}, height, width),
        Region.from_json({"polygon": [flat], "units": units}, height, width),
        Region.from_any(f"{units}:{text[0]}", height, width),
        Region.from_any(f"{units}:polygon:{text[1]}", height, width),
    ):
        assert region == expected


@pytest.mark.parametrize("form", [[*POINTS[0], *POINTS[2]], POINTS, {"box": [0, 0, 1, 1]}, "0.1,0.2,0.7,0.9", {"polygon": POINTS}])
def test_coordinates_that_seem_normalised_are_refused_with_what_to_do(form: object) -> None:
    with pytest.raises(DataError, match=r'no coordinate above 1.*multiply it.*\(100, 80\).*"units": "normalized".*normalized:x0'):
        Region.from_any(form, 80, 100)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"box": [10, 20, 70, 90], "units": "normalized"}, "normalized coordinates reaches beyond 0 to 1"),
        ({"box": [0.1, 0.2, 0.7, 0.9], "units": "thousandths"}, "no coordinate above 1"),
        ({"box": [10, 20, 3000, 90], "units": "thousandths"}, "beyond 0 to 1000"),
        ({"box": [10, 20, 70, 90], "units": "percent"}, "units are 'percent'; expected one of pixels, normalized, thousandths"),
        ({"box": [10, 20, 70, 90], "unit": "pixels"}, "has a field 'unit'; expected beside box: units"),
        ({"box": [50, 50, 20, 30]}, "x, y, width, height"),
    ],
)
def test_boxes_of_other_units_or_orders_are_refused(form: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Region.from_any(form, 80, 100)


def test_outlines_of_every_library_are_the_same_polygon() -> None:
    points = [(20, 10), (80, 10), (80, 60), (20, 60)]
    expected, array = Region.from_polygon(points, 80, 100), np.array(points)
    flat = array.reshape(-1).tolist()
    for form in (
        points,
        array,
        array.astype(np.float32),
        array[:, None],
        [flat],
        flat,
        [array],
        [array[:, None]],
        {"segmentation": [flat]},
    ):
        assert Region.from_any(form, 80, 100) == expected


def test_a_region_that_fills_the_image_or_holds_two_objects_is_doubted() -> None:
    one, other = Region.from_box((5, 5, 20, 30), 60, 100).to_mask(), Region.from_box((50, 8, 70, 30), 60, 100).to_mask()
    assert "fills 100% of the image" in Region.from_mask(np.ones((60, 100))).doubts()[0]
    assert "as if it were inverted" in Region.from_mask(~one).doubts()[0]
    assert "2 parts far" in Region.from_mask(one | other).doubts()[0]
    speck, pole = Region.from_box((60, 50, 64, 54), 60, 100).to_mask(), np.zeros((60, 100), bool)
    pole[:, 10:13] = True
    for mask in (one, one | speck, one & ~pole):
        assert not Region.from_mask(mask).doubts()


def test_what_is_no_box_and_no_outline_is_refused_with_words() -> None:
    with pytest.raises(DataError, match="normalised"):
        Region.from_any([0.1, 0.1, 1.02, 0.9], 48, 64)
    mask = np.zeros((48, 64), dtype=bool)
    mask[4:20, 7:30] = True
    for pixels in (np.argwhere(mask), np.argwhere(mask)[:, ::-1]):
        with pytest.raises(DataError, match="pass the mask"):
            Region.from_any(pixels, 48, 64)
