"""Laws of the processors: what is measured is true, what is unknown is flagged, text stays text, a batch is its parts."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import AutoProcessor, PreTrainedTokenizerFast

from smolrgpt.model import REGION_GEOMETRY_FEATURES, SmolRGPTImageProcessor, SmolRGPTProcessor
from smolrgpt.model.image_processing_smolrgpt import DEPTH_ENCODINGS, resize_depth
from smolrgpt.model.region_geometry import measure_region

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image|>", "<mask_rgb>", "<mask_depth>", "<mask_geo>"]
CAMERA = (300.0, 310.0, 191.5, 107.5, 384, 216)


def build_tokenizer(special: list[str] = SPECIAL) -> PreTrainedTokenizerFast:
    """Byte-level BPE without a merge: 256 bytes and the special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([], trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>", unk_token="<|endoftext|>"
    )


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


def build(tokenizer, region_tokens=("rgb", "depth"), region_labels=False, num_image_tokens=4, **image_options) -> SmolRGPTProcessor:
    image_processor = SmolRGPTImageProcessor(**{"size": 32, "grid_size": 16, **image_options})
    return SmolRGPTProcessor(image_processor, tokenizer, region_tokens, region_labels, num_image_tokens)


def picture(seed: int = 0, height: int = 216, width: int = 384) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def box_mask(top: int, left: int, bottom: int, right: int, height: int = 216, width: int = 384) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def named(geometry: np.ndarray) -> dict[str, float]:
    return dict(zip(REGION_GEOMETRY_FEATURES, geometry.tolist(), strict=True))


# ------------------------------------------------------------------------------------------------------------------------ masks
def exact_coverage(mask: np.ndarray, grid: int) -> np.ndarray:
    """By brute force: every pixel cut into grid x grid pieces, every piece in exactly one cell."""
    pieces = mask.repeat(grid, axis=0).repeat(grid, axis=1).astype(np.float64)
    return pieces.reshape(grid, mask.shape[0], grid, mask.shape[1]).mean(axis=(1, 3))


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), density=st.sampled_from([0.0, 0.02, 0.5, 1.0]), seed=st.integers(0, 999))
def test_area_coverage_is_exact(height, width, density, seed):
    mask = np.random.default_rng(seed).random((height, width)) < density
    found = SmolRGPTImageProcessor(grid_size=16).resize_mask(mask)
    assert found.dtype == np.float32 and np.allclose(found, exact_coverage(mask, 16), atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 200), width=st.integers(1, 200), seed=st.integers(0, 999))
def test_bilinear_is_what_the_released_program_computes(height, width, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.4
    found = SmolRGPTImageProcessor(grid_size=16, mask_resize="bilinear").resize_mask(mask)
    wanted = functional.interpolate(torch.from_numpy(mask)[None, None].float(), size=(16, 16), mode="bilinear", align_corners=False)
    assert np.allclose(found, wanted[0, 0].numpy(), atol=1e-4)


def test_a_tiny_region_survives_area_but_not_bilinear():
    mask = box_mask(501, 1003, 502, 1004, 1080, 1920)
    assert SmolRGPTImageProcessor(mask_resize="area").resize_mask(mask).sum() == pytest.approx(64 * 64 / mask.size, rel=1e-4)
    assert SmolRGPTImageProcessor(mask_resize="bilinear").resize_mask(mask).sum() == 0


def test_full_hd_masks_are_cheap():
    """The target is 60 ms for 15; a shared machine gets room."""
    processor, masks = SmolRGPTImageProcessor(), [box_mask(60 * i, 100 * i, 60 * i + 200, 100 * i + 300, 1080, 1920) for i in range(15)]
    processor.resize_mask(masks[0])
    start = time.perf_counter()
    for mask in masks:
        processor.resize_mask(mask)
    assert time.perf_counter() - start < 0.3


# ------------------------------------------------------------------------------------------------------------- picture and depth
def test_picture_is_stretched_and_normalised():
    values = SmolRGPTImageProcessor(size=32).encode_image(Image.new("L", (50, 20), 255))
    assert values.shape == (3, 32, 32) and values.dtype == np.float32 and (values == 1.0).all()


@pytest.mark.parametrize("name", DEPTH_ENCODINGS)
@pytest.mark.parametrize("kind", ["metric", "relative"])
def test_depth_encodings_keep_order_and_range(name, kind):
    depth = np.linspace(0.01, 1.0, 32 * 32, dtype=np.float32).reshape(32, 32) * (30.0 if kind == "metric" else 1.0)
    depth[0, 0] = np.nan
    values = SmolRGPTImageProcessor(size=32, depth_encoding=name).encode_depth(depth, kind)
    assert values.shape == (3, 32, 32) and values.dtype == np.float32 and np.isfinite(values).all()
    assert values.min() >= -1 and values.max() <= 1
    steps = np.diff(values[0].reshape(-1)[1:])
    assert (steps > 0).all()
    assert values[0, 0, 0] == 1.0  # not measured = far


def test_depth_kind_and_holes_are_told_apart_in_minmax_log():
    depth = np.full((32, 32), 5.0, dtype=np.float32)
    depth[:16] = np.nan
    encode = SmolRGPTImageProcessor(size=32, depth_encoding="minmax_log").encode_depth
    assert (encode(depth, "metric")[2, :16] == -1).all() and (encode(depth, "metric")[2, 16:] == 1).all()
    assert (encode(depth / 10, "relative")[2, 16:] == 0).all()


def test_no_depth_is_zeros():
    processor = SmolRGPTImageProcessor(size=32)
    for depth in (None, np.full((8, 8), np.nan, dtype=np.float32), np.zeros((8, 8), dtype=np.float32)):
        assert not processor.preprocess_image(picture(), depth, "metric")["depth_values"].any()


def test_holes_do_not_bleed_into_resized_depth():
    depth = np.full((90, 70), 4.0, dtype=np.float32)
    depth[20:60, 10:50] = np.nan
    resized = resize_depth(depth, 32)
    assert np.isnan(resized).any() and np.allclose(resized[~np.isnan(resized)], 4.0, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": np.ones((4, 4), np.float32)}, "depth_kind is None"),
        ({"depth": np.ones((4, 4), np.uint16), "depth_kind": "metric"}, "depth is uint16"),
        ({"masks": [np.ones((4, 4), np.float32)]}, "region mask is float32"),
        ({"image": Image.new("I;16", (4, 4))}, "mode I;16"),
        ({"image": np.ones((4, 4, 3), np.float32)}, "image is float32"),
        ({"image": "a.png"}, "image is a str"),
    ],
)
def test_wrong_inputs_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        SmolRGPTImageProcessor().preprocess_image(**{"image": picture(), **arguments})


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="mask_resize is 'nearest'; expected one of area, bilinear"):
        SmolRGPTImageProcessor(mask_resize="nearest")


# --------------------------------------------------------------------------------------------------------------------- geometry
def plane_depth(normal: np.ndarray, distance: float, height: int, width: int) -> np.ndarray:
    """Depth (H, W) of the plane normal . p = distance seen by CAMERA."""
    fx, fy, cx, cy, camera_width, camera_height = CAMERA
    u = (np.arange(width) + 0.5) * camera_width / width - 0.5
    v = (np.arange(height) + 0.5) * camera_height / height - 0.5
    rays = np.stack(np.broadcast_arrays(((u - cx) / fx)[None], ((v - cy) / fy)[:, None], np.ones((1, 1))), axis=-1)
    return (distance / (rays @ normal)).astype(np.float32)


@pytest.mark.parametrize("mask_scale", [1, 2, 5])
def test_points_of_a_plane_lie_on_it(mask_scale):
    """Whatever the mask's size: the mean of points of a plane is on the plane, and right of and below the axis where the mask is."""
    normal = np.array([0.0, 0.6, 0.8])
    height, width = 216 * mask_scale, 384 * mask_scale
    mask = box_mask(height // 2, width * 3 // 4, height * 3 // 4, width * 7 // 8, height, width)
    found = named(measure_region(mask, plane_depth(normal, 4.0, 216, 384), "metric", CAMERA))
    point = 10 * np.array([found["x_m"], found["y_m"], found["z_m"]])
    assert point @ normal == pytest.approx(4.0, rel=5e-3)
    assert point[0] > 0 and point[1] > 0
    assert found["range_m"] == pytest.approx(np.linalg.norm(point) / 10, rel=1e-4)


def test_a_fronto_parallel_box_has_its_size_and_place():
    depth = np.full((216, 384), 6.0, dtype=np.float32)
    fx, fy, cx, cy = CAMERA[:4]
    found = named(measure_region(box_mask(50, 100, 150, 260), depth, "metric", CAMERA))
    assert found["x_m"] == pytest.approx((179.5 - cx) / fx * 0.6, abs=1e-3)
    assert found["y_m"] == pytest.approx((99.5 - cy) / fy * 0.6, abs=1e-3)
    assert found["z_m"] == pytest.approx(0.6)
    assert found["extent_x_m"] == pytest.approx(0.99 * 160 / fx * 0.6, rel=0.02)  # q99.5 - q0.5
    assert found["extent_y_m"] == pytest.approx(0.99 * 100 / fy * 0.6, rel=0.02)
    assert found["extent_z_m"] == 0 and found["depth_spread"] == 0
    assert found["box_cx"] == pytest.approx(2 * 180 / 384 - 1) and found["box_h"] == pytest.approx(2 * 100 / 216 - 1)
    assert found["centroid_x"] == pytest.approx(found["box_cx"], abs=0.01)
    assert found["sqrt_area"] == pytest.approx(2 * (160 * 100 / (216 * 384)) ** 0.5 - 1, rel=1e-4)
    assert found["depth_q50"] == pytest.approx(2 * np.log1p(6.0) / np.log(51.0) - 1)
    assert [found[name] for name in ("has_depth", "is_metric", "has_camera")] == [1, 1, 1]


def test_background_at_the_border_does_not_move_the_middle():
    mask = box_mask(50, 100, 150, 260)
    depth = np.full((216, 384), 6.0, dtype=np.float32)
    depth[50:54, 100:260] = 30.0
    clean = measure_region(mask, np.full_like(depth, 6.0), "metric", CAMERA)
    assert named(measure_region(mask, depth, "metric", CAMERA))["z_m"] == pytest.approx(named(clean)["z_m"], abs=1e-4)


METRIC = [name for name in REGION_GEOMETRY_FEATURES if name.endswith("_m") and not name.startswith("floor_")]
DEPTH = [name for name in REGION_GEOMETRY_FEATURES if name.startswith("depth_")]


@pytest.mark.parametrize(
    ("kind", "camera", "flags"),
    [(None, CAMERA, (0, 0, 0)), ("relative", CAMERA, (1, 0, 0)), ("metric", None, (1, 1, 0)), ("metric", CAMERA, (1, 1, 1))],
)
def test_what_is_unknown_is_zero_and_flagged(kind, camera, flags):
    depth = None if kind is None else np.linspace(0.2, 0.9, 216 * 384, dtype=np.float32).reshape(216, 384)
    found = named(measure_region(box_mask(50, 100, 150, 260), depth, kind, camera))
    assert tuple(found[name] for name in ("has_depth", "is_metric", "has_camera")) == flags
    assert all((found[name] != 0) == bool(flags[0]) for name in DEPTH)
    assert all((found[name] != 0) == bool(flags[2]) for name in METRIC)
    assert found["box_cx"] != 0


def test_a_region_without_measurements_counts_as_without_depth():
    depth = np.full((216, 384), 5.0, dtype=np.float32)
    depth[50:150] = np.nan
    assert np.array_equal(measure_region(box_mask(50, 100, 150, 260), depth, "metric", CAMERA), measure_region(box_mask(50, 100, 150, 260)))


def test_an_empty_mask_is_zeros():
    out = SmolRGPTImageProcessor().preprocess_image(picture(), np.ones((9, 9), np.float32), "metric", [box_mask(0, 0, 0, 0)], CAMERA)
    assert not out["region_masks"].any() and not out["region_geometry"].any()


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 300), width=st.integers(1, 300), scale=st.sampled_from([1, 3, 40]), seed=st.integers(0, 999))
def test_geometry_is_finite_and_in_range(height, width, scale, seed):
    """Any mask on any depth grid; thin diagonals fall between sampled pixels and must still be found."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), dtype=bool)
    mask[rng.integers(0, height, 30), rng.integers(0, width, 30)] = True
    depth = rng.uniform(0.3, 40, (max(1, height // scale), max(1, width // scale))).astype(np.float32)
    found = measure_region(mask, depth, "metric", CAMERA)
    values = named(found)
    assert found.dtype == np.float32 and np.isfinite(found).all() and values["has_camera"] == 1
    assert all(-1 <= values[name] <= 1 for name in REGION_GEOMETRY_FEATURES if not name.endswith("_m") and name != "depth_spread")


# ------------------------------------------------------------------------------------------------------------------------- text
def test_prompt_is_the_released_one(tokenizer):
    ids = build(tokenizer).encode_text("<image>\nHow far is <mask> from <mask>?", 2, "4.5 m")["input_ids"]
    assert tokenizer.decode(ids) == (
        "<|im_start|>user\n<|image|><|image|><|image|><|image|>How far is <mask_rgb><mask_depth> from <mask_rgb><mask_depth>?<|im_end|>\n"
        "<|im_start|>assistant\n4.5 m<|im_end|>\n"
    )


def test_labels_cover_the_answer_and_its_end(tokenizer):
    processor = build(tokenizer)
    text = processor.encode_text("Count <mask>", 1, "two")
    prompt = processor.encode_text("Count <mask>", 1)
    assert text["input_ids"][: len(prompt["input_ids"])] == prompt["input_ids"]
    assert set(prompt["labels"]) == {-100} and text["labels"][: len(prompt["labels"])] == prompt["labels"]
    assert tokenizer.decode(text["labels"][len(prompt["labels"]) :]) == "two<|im_end|>\n"


def test_region_labels_and_token_choice(tokenizer):
    processor = build(tokenizer, ("rgb", "geo"), region_labels=True)
    text = tokenizer.decode(processor.encode_text("<mask>, <mask>!", 2, with_image=False)["input_ids"])
    assert "user\n[Region 0]<mask_rgb><mask_geo>, [Region 1]<mask_rgb><mask_geo>!<|im_end|>" in text


def test_a_region_may_be_written_as_its_name_alone():
    tokenizer = build_tokenizer()
    tokenizer.add_tokens([f"[Region {i}]" for i in range(3)])
    processor = SmolRGPTProcessor(SmolRGPTImageProcessor(size=32, grid_size=16), tokenizer, ("rgb", "geo"), region_fusion="name")
    ids = processor.encode_text("<mask>, <mask>!", 2, with_image=False)["input_ids"]
    assert "user\n[Region 0], [Region 1]!<|im_end|>" in tokenizer.decode(ids)
    assert [ids.count(i) for i in tokenizer.convert_tokens_to_ids([f"[Region {i}]" for i in range(3)])] == [1, 1, 0]
    with pytest.raises(ValueError, match="4 regions, this model has names for 3"):
        processor.encode_text("<mask>" * 4, 4)
    with pytest.raises(ValueError, match="region_fusion is 'sum'"):
        SmolRGPTProcessor(SmolRGPTImageProcessor(), tokenizer, region_fusion="sum")


def test_blind_prompt_has_no_placeholder(tokenizer):
    processor = build(tokenizer, region_tokens=(), num_image_tokens=0)
    text = processor.encode_text("Is <mask> left?", 1)
    assert tokenizer.decode(text["input_ids"]).startswith("<|im_start|>user\nIs  left?<|im_end|>")
    batch = processor([picture()], "Is <mask> left?", regions=[[box_mask(0, 0, 9, 9)]])
    assert set(batch) == {"input_ids", "attention_mask"}


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(st.sampled_from([*SPECIAL, "a", " ", "\n", "<mask_", "é"]), max_size=8))
def test_user_text_never_becomes_a_placeholder(tokenizer, parts):
    processor, text = build(tokenizer, ("rgb", "depth", "geo")), "".join(parts)
    clean = processor.encode_text("<mask>x", 1, "y")["input_ids"]
    ids = processor.encode_text("<mask>" + text, 1, text)["input_ids"]
    special = set(range(len(SPECIAL)))
    assert [i for i in ids if i in special] == [i for i in clean if i in special]
    assert text in tokenizer.decode(ids)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_question_and_masks_must_match(tokenizer, count):
    with pytest.raises(ValueError, match=f"2 <mask> but {count} regions"):
        build(tokenizer).encode_text("<mask> and <mask>", count)


def test_missing_tokens_are_named():
    with pytest.raises(ValueError, match="no token '<mask_geo>'"):
        build(build_tokenizer(SPECIAL[:-1]), ("rgb", "geo"))
    build(build_tokenizer(SPECIAL[:-1]))


def test_encoding_again_is_the_same_and_cheap(tokenizer):
    processor = build(tokenizer)
    first = processor.encode_text("How far is <mask>?", 1, "far")
    first_copy = {name: list(ids) for name, ids in first.items()}
    first["input_ids"].append(0)  # a caller's change must not reach the cache
    start = time.perf_counter()
    for _ in range(1000):
        again = processor.encode_text("How far is <mask>?", 1, "far")
    assert again == first_copy and time.perf_counter() - start < 0.2


def test_answers_end_at_the_turn(tokenizer):
    processor = build(tokenizer)
    ids = [*tokenizer(" 4.5 m ").input_ids, 2, *tokenizer("rubbish").input_ids]
    assert processor.post_process(ids) == "4.5 m" == processor.post_process(torch.tensor(ids))


# ------------------------------------------------------------------------------------------------------------------------ batch
def prepared(processor: SmolRGPTProcessor, seed: int, num_regions: int) -> dict[str, np.ndarray]:
    masks = [box_mask(10 * i, 20 * i, 10 * i + 30, 20 * i + 50) for i in range(num_regions)]
    depth = np.random.default_rng(seed).uniform(1, 9, (216, 384)).astype(np.float32)
    return processor.image_processor.preprocess_image(picture(seed), depth, "metric", masks, CAMERA)


def test_batch_shapes_dtypes_and_padding(tokenizer):
    processor = build(tokenizer)
    images = [prepared(processor, 0, 3), prepared(processor, 1, 0), prepared(processor, 2, 2)]
    texts = [processor.encode_text("<mask> <mask> longer", 2, "a"), processor.encode_text("x", 0), processor.encode_text("<mask>", 1, "b")]
    batch = processor.collate(images, texts, [2, 1, 0], [[1, 0], [], [2]])
    length, features = max(len(text["input_ids"]) for text in texts), len(REGION_GEOMETRY_FEATURES)
    shapes = {
        "input_ids": (3, length),
        "attention_mask": (3, length),
        "labels": (3, length),
        "image_index": (3,),
        "region_index": (3, 2),
        "pixel_values": (3, 3, 32, 32),
        "depth_values": (3, 3, 32, 32),
        "region_masks": (5, 16, 16),
        "region_geometry": (5, features),
        "region_image_index": (5,),
    }
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == shapes
    floats = ("pixel_values", "depth_values", "region_masks", "region_geometry")
    assert all(tensor.dtype == (torch.float32 if name in floats else torch.int64) for name, tensor in batch.items())
    assert batch["region_index"].tolist() == [[4, 3], [-1, -1], [2, -1]]
    assert batch["region_image_index"].tolist() == [0, 0, 0, 2, 2]
    for row, text in enumerate(texts):
        pad = length - len(text["input_ids"])
        assert batch["attention_mask"][row].tolist() == [0] * pad + [1] * (length - pad)
        assert batch["input_ids"][row].tolist() == [tokenizer.pad_token_id] * pad + text["input_ids"]
        assert batch["labels"][row].tolist() == [-100] * pad + text["labels"]


def test_a_batch_is_its_questions_one_by_one(tokenizer):
    processor = build(tokenizer, ("rgb", "depth", "geo"))
    images = [prepared(processor, seed, 3) for seed in range(2)]
    questions = [("How far is <mask> from <mask>?", [2, 0], 0, "7 m"), ("Count them", [], 1, "3"), ("<mask>?", [1], 1, "yes, long")]
    texts = [processor.encode_text(question, len(rows), answer) for question, rows, _, answer in questions]
    batch = processor.collate(images, texts, [q[2] for q in questions], [q[1] for q in questions])
    for row, (_, rows, image, _) in enumerate(questions):
        one = processor.collate([images[image]], [texts[row]], [0], [rows])
        length = one["input_ids"].shape[1]
        for name in ("input_ids", "attention_mask", "labels"):
            assert torch.equal(batch[name][row, -length:], one[name][0])
        assert torch.equal(batch["pixel_values"][batch["image_index"][row]], one["pixel_values"][0])
        points = batch["region_index"][row][: len(rows)]
        assert (batch["region_image_index"][points] == image).all()
        for name in ("region_masks", "region_geometry"):
            assert torch.equal(batch[name][points], one[name][one["region_index"][0][: len(rows)]])


def test_batches_without_regions_answers_or_images(tokenizer):
    processor = build(tokenizer)
    batch = processor(picture(), "What is this?")
    assert batch["region_index"].shape == (1, 0) and batch["region_masks"].shape == (0, 16, 16) and "labels" not in batch
    assert batch["region_geometry"].shape == (0, len(REGION_GEOMETRY_FEATURES)) and not batch["depth_values"].any()
    text_only = processor(text=["Hello", "Hello you"])
    assert set(text_only) == {"input_ids", "attention_mask"} and not (text_only["input_ids"] == processor.image_token_id).any()
    with pytest.raises(ValueError, match="no image"):
        processor(text="<mask>", region_index=[[0]])


def test_call_is_the_three_steps_together(tokenizer):
    processor = build(tokenizer)
    masks = [box_mask(0, 0, 30, 50), box_mask(10, 20, 40, 70)]
    depth = np.random.default_rng(0).uniform(1, 9, (216, 384)).astype(np.float32)
    found = processor(
        picture(0),
        ["<mask> or <mask>", "only <mask>"],
        depths=depth,
        depth_kinds="metric",
        cameras=CAMERA,
        regions=masks,
        region_index=[[0, 1], [1]],
        answers=["a", "b"],
    )
    texts = [processor.encode_text("<mask> or <mask>", 2, "a"), processor.encode_text("only <mask>", 1, "b")]
    wanted = processor.collate([prepared(processor, 0, 2)], texts, [0, 0], [[0, 1], [1]])
    assert set(found) == set(wanted) and all(torch.equal(found[name], wanted[name]) for name in wanted)
    several = processor(
        [picture(0), picture(1)], ["<mask>", "x"], regions=[masks[:1], []], depths=[depth, None], depth_kinds=["metric", None]
    )
    assert several["region_index"].tolist() == [[0], [-1]] and several["image_index"].tolist() == [0, 1]
    assert several["depth_values"][0].any() and not several["depth_values"][1].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": ["a", "b", "c"]}, "3 questions about 2 images"),
        ({"text": ["<mask>", "b"]}, "1 <mask> but 0 regions"),
        ({"text": ["a", "b"], "depths": [None]}, "depths has 1 entries for 2 images"),
        ({"text": ["a", "b"], "image_index": [0, 2]}, "points at image 2"),
        ({"text": ["a", "<mask>"], "image_index": [0, 1], "region_index": [[], [1]]}, "image 1 has 0 regions"),
        ({"text": []}, "no text"),
    ],
)
def test_wrong_batches_are_named(tokenizer, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(tokenizer)([picture(0), picture(1)], **arguments)


# -------------------------------------------------------------------------------------------------------------------- save, load
def settings(processor):
    """What a processor is made of, without the note where saved code lies."""

    def strip(node):
        return {k: strip(v) for k, v in node.items() if k != "auto_map"} if isinstance(node, dict) else node

    return strip(processor.to_dict())


def test_save_and_load(tokenizer, tmp_path):
    processor = build(
        tokenizer, ("rgb", "geo"), region_labels=True, num_image_tokens=9, mask_resize="bilinear", depth_encoding="minmax_log"
    )
    processor.encode_text("cached", 0)
    processor.save_pretrained(tmp_path)
    arguments = {"text": "<mask>?", "regions": [box_mask(3, 4, 50, 60)], "answers": "yes"}
    wanted = processor(picture(), **arguments)
    for loaded in (SmolRGPTProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is SmolRGPTProcessor and settings(loaded) == settings(processor)
        assert loaded.chat_template == processor.chat_template
        found = loaded(picture(), **arguments)
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_conversations_and_calls_agree(tokenizer):
    processor = build(tokenizer)
    image, mask = picture(), box_mask(3, 4, 50, 60)
    turn = {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "What is <mask>?"}]}
    options = {"tokenize": True, "return_dict": True, "processor_kwargs": {"regions": [[mask]]}}
    found = processor.apply_chat_template([turn], add_generation_prompt=True, **options)
    wanted = processor(image, "What is <mask>?", regions=[mask])
    assert set(found) == set(wanted) and all(torch.equal(found[name], wanted[name]) for name in wanted)
    answered = processor.apply_chat_template([turn, {"role": "assistant", "content": "a pallet"}], **options)
    assert torch.equal(answered["labels"], processor(image, "What is <mask>?", regions=[mask], answers="a pallet")["labels"])
    text = processor.apply_chat_template([turn], add_generation_prompt=True)
    assert text == "<|im_start|>user\n<|image|>What is <mask>?<|im_end|>\n<|im_start|>assistant\n"
    with pytest.raises(ValueError, match="roles"):
        processor.apply_chat_template([{"role": "system", "content": "x"}, turn], **options)
