# ruff: noqa: E501  (tables of cases read better as tables)
"""Hostile input: whatever is sent, there is an answer or one line that says what to do, in bounded time and memory.

More than 500 cases by name, built from few ingredients, and hypothesis on top. An error that is no ValueError is a failure, as is one without
words or with several lines.
"""

from __future__ import annotations

import io
import re
import resource
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from smolrgpt.inference.answer import Answer
from smolrgpt.inference.predictor import Predictor
from smolrgpt.schema import Camera, DepthMap, Region

pytestmark = pytest.mark.slow  # many cases, each short

WIDTH, HEIGHT = 64, 48
QUESTION = "How far is <region 0> from <region 1>?"
BOXES = [(2, 3, 20, 30), (30, 5, 60, 40)]
MAX_SECONDS, MAX_NEW_MB = 20.0, 1500.0


@pytest.fixture(scope="module")
def predictor(tiny_checkpoint: Path) -> Predictor:
    predictor = Predictor.from_pretrained(tiny_checkpoint, dtype=torch.float32, device="cpu")
    predictor.max_new_tokens = 2
    return predictor


def pixels(seed: int = 0, shape: tuple[int, ...] = (HEIGHT, WIDTH, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


def encoded(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image or Image.fromarray(pixels())).save(buffer, format=kind, **options)
    return buffer.getvalue()


def check(call: Callable[[], Any], name: str) -> str | None:
    """An answer (None), or the one line of a ValueError."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        found = call()
    except ValueError as error:  # a DataError is one
        message = str(error)
        assert message and "\n" not in message.strip() and len(message) < 600, (name, message)
        return message
    finally:
        assert time.perf_counter() - started < MAX_SECONDS, name
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3 < MAX_NEW_MB, name
    for answer in found if isinstance(found, list) else [found]:
        assert isinstance(answer, Answer) and isinstance(answer.answer, str) and 0 <= answer.confidence <= 1, name
    return None


def assert_outcome(call: Callable[[], Any], name: str, expected: str | None) -> None:
    """``call`` is answered (``expected`` is None), or refused in a line that holds ``expected``."""
    message = check(call, name)
    assert (message is None) if expected is None else (message is not None and expected in message), (name, message, expected)


def named(cases: Iterator[tuple[Any, ...]]) -> list[Any]:
    """Cases as parameters, each with its name as its id."""
    return [pytest.param(*case, id=case[0]) for case in cases]


# ------------------------------------------------------------------------------------------------------------------------ images
def lying_png(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """A small PNG whose header says otherwise, with the right checksum."""
    data = bytearray(encoded("PNG"))
    data[16:26] = struct.pack(">IIBB", width, height, depth, colour)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def oriented(number: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = number
    return encoded("JPEG", exif=exif)


def animated(kind: str) -> bytes:
    frames = [Image.fromarray(pixels(seed)) for seed in range(3)]
    return encoded(kind, frames[0], save_all=True, append_images=frames[1:])


def image_files() -> Iterator[tuple[str, bytes]]:
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"):
        whole = encoded(kind)
        yield f"{kind} whole", whole
        for share in (0.0, 0.01, 0.1, 0.5, 0.9, 0.99):
            yield f"{kind} cut at {share}", whole[: int(share * len(whole))]
        for seed in range(8):
            damaged = bytearray(whole)
            for place in np.random.default_rng(seed).integers(0, len(whole), 1 + seed):
                damaged[place] ^= 1 << seed
            yield f"{kind} flipped {seed}", bytes(damaged)
        yield f"{kind} twice", whole + whole
        yield f"{kind} zeroed", whole[:40] + bytes(len(whole) - 40)
    for mode in ("1", "L", "LA", "P", "RGBA", "I", "I;16"):
        yield f"PNG mode {mode}", encoded("PNG", Image.fromarray(pixels()).convert("L").convert(mode if mode != "I;16" else "I"))
    for mode in ("CMYK", "YCbCr", "LAB", "F"):
        yield f"TIFF mode {mode}", encoded("TIFF", Image.fromarray(pixels()).convert("L" if mode == "F" else "RGB").convert(mode))
    yield "JPEG CMYK", encoded("JPEG", Image.fromarray(pixels()).convert("CMYK"))
    yield "palette with transparency", encoded("PNG", Image.fromarray(pixels()).convert("P"), transparency=3)
    for size in ((1, 1), (1, 2000), (2000, 1), (20_000, 3), (3, 20_000), (2, 2), (64, 47)):
        yield f"PNG {size[0]}x{size[1]}", encoded("PNG", Image.new("RGB", size))
    for size in ((0, 0), (0, 48), (64, 0), (64, 4800), (20_000, 20_000), (2**31 - 1, 2**31 - 1), (2**31, 5)):
        yield f"PNG that says {size[0]}x{size[1]}", lying_png(*size)
    for depth, colour in ((16, 2), (1, 0), (7, 9), (8, 3)):
        yield f"PNG that says depth {depth} colour {colour}", lying_png(WIDTH, HEIGHT, depth, colour)
    for number in (*range(10), 65535):
        yield f"JPEG turned {number}", oriented(number)
    for kind in ("GIF", "WEBP", "PNG"):
        yield f"animated {kind}", animated(kind)
    junk = {"nothing": b"", "text": b"hello", "html": b"<html>", "zip": b"PK\x03\x04" + bytes(100), "noise": bytes(pixels(3))}
    yield from junk.items()


IMAGE_FILES = named(image_files())
#: Files that are an image, and files that are ruined, whatever they are passed as; the rest may be either.
IS_IMAGE = r"\w+ (whole|twice)|PNG mode .+|TIFF mode (CMYK|LAB)|JPEG CMYK|palette .+|PNG \d+x\d+|JPEG turned .+|animated .+"
IS_RUINED = r"\w+ cut at .+|PNG (flipped|zeroed).*|PNG that says (?!64x4800).+|nothing|text|html|zip|noise"
#: How messages begin about a file that can be read and does not fit: they name what the file was passed as.
OTHER_FAULTS = {
    "image": ("the question and its image take",),
    "depth": ("the depth map is ",),
    "mask": ("region 0: its mask is ",),
}


@pytest.mark.parametrize("use", ["image", "depth", "mask"])
@pytest.mark.parametrize(("name", "data"), IMAGE_FILES)
def test_image_files(predictor: Predictor, tmp_path: Path, name: str, data: bytes, use: str) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(data)
    calls = {
        "image": lambda: predictor.ask(path, "What is this?"),
        "depth": lambda: predictor.ask(Image.fromarray(pixels()), QUESTION, depth=path, regions=BOXES),
        "mask": lambda: predictor.ask(Image.fromarray(pixels()), "How tall is <region 0>?", regions=[path]),
    }
    message = check(calls[use], name)
    assert message is None or str(path) in message or message.startswith(OTHER_FAULTS[use]), message
    if re.fullmatch(IS_RUINED, name):
        assert message is not None
    elif use == "image" and re.fullmatch(IS_IMAGE, name):
        assert message is None


def test_a_path_may_hold_any_letter(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "ünï cödé 图.png").write_bytes(encoded("PNG"))
    assert_outcome(lambda: predictor.ask(tmp_path / "ünï cödé 图.png", "What is this?"), "unicode", None)


@pytest.mark.parametrize("use", ["image", "depth"])
@pytest.mark.parametrize("name", [".", "absent.png", "", "\0", "a" * 5000, "absent.npy"], ids=lambda name: repr(name)[:20])
def test_paths_without_a_file(predictor: Predictor, tmp_path: Path, name: str, use: str) -> None:
    path = tmp_path / name if name.startswith(("absent", ".")) else name
    image, depth = (path, None) if use == "image" else (Image.fromarray(pixels()), path or "?")
    assert check(lambda: predictor.ask(image, "What is this?", depth=depth), name)


def test_turned_images_and_their_regions_belong_together(predictor: Predictor, tmp_path: Path) -> None:
    """An image with EXIF orientation gets the answers of the same image turned by hand, regions given in upright pixels."""
    (tmp_path / "turned.jpg").write_bytes(oriented(6))
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "turned.jpg"))
    boxes = [(2, 3, 20, 30), (20, 35, 44, 60)]
    by_tag, by_hand = (predictor.ask(image, QUESTION, regions=boxes) for image in (tmp_path / "turned.jpg", upright))
    assert by_tag.answer == by_hand.answer
    assert "outside" in str(check(lambda: predictor.ask(upright, QUESTION, regions=[(50, 3, 60, 30), boxes[0]]), "sideways region"))


# ------------------------------------------------------------------------------------------------------------------------- arrays
def depths() -> Iterator[tuple[str, Any, str | None]]:
    """(name, depth, what the message holds; None if it is answered)."""
    shape = (HEIGHT, WIDTH)
    whole = np.random.default_rng(0).uniform(1, 9, shape)
    for kind in ("float16", "float32", "float64", "uint8", "uint16", "int16", "int32", "int64", "uint64"):
        yield f"of {kind}", whole.astype(kind), None
    for kind in ("bool", "complex64", "object", "U5"):
        yield f"of {kind}", whole.astype(kind), "(48, 64); expected numbers of shape (H, W)"
    unmeasured = {-1.0: "negate the map", 1e30: "state the unit", 3.4e38: "state the unit"}
    for value in (0.0, -1.0, np.nan, np.inf, -np.inf, 1e-30, 1e30, 3.4e38, 1e-5):
        yield f"all {value}", np.full(shape, value, np.float32), unmeasured.get(value, None if 0 < value < 1e4 else "nothing is measured")
        partly = whole.astype(np.float32)
        partly[::2] = value
        yield f"half {value}", partly, None
        corner = whole.astype(np.float32)
        corner[0, 0] = value
        yield f"corner {value}", corner, None
    for value in (0, 1, 65535):
        yield f"integers {value}", np.full(shape, value, np.uint16), None if value == 1 else "nothing is measured"
    yield "int64 at its end", np.full(shape, np.iinfo(np.int64).max), "state the unit"
    one = (HEIGHT, WIDTH, 1), (HEIGHT, WIDTH, 3), (1, HEIGHT, WIDTH), (1, HEIGHT, WIDTH, 1)
    for other in ((1, 1), *one, (HEIGHT * 4, WIDTH * 4), (HEIGHT // 4, WIDTH // 4)):
        yield f"of shape {other}", np.ones(other, np.float32), None
    for other in ((0,), (0, 0), (5,), (HEIGHT, WIDTH, 5), (2, HEIGHT, WIDTH), (HEIGHT, 0), (2, HEIGHT, WIDTH, 1)):
        yield f"of shape {other}", np.ones(other, np.float32), "expected numbers of shape (H, W)"
    for other in ((WIDTH, HEIGHT), (HEIGHT, WIDTH * 3)):
        yield f"of shape {other}", np.ones(other, np.float32), f"the depth map is {other[1]}x{other[0]}, the image 64x48"
    yield "a list", whole.tolist(), "depth is a list; expected a path"
    yield "fortran order", np.asfortranarray(whole.astype(np.float32)), None
    yield "not contiguous", np.ones((HEIGHT * 2, WIDTH * 2), np.float32)[::2, ::2], None
    yield "read only", np.broadcast_to(np.float32(2), shape), None
    yield "a map", DepthMap(whole.astype(np.float32), "metric"), None
    yield "relative outside 0 to 1", DepthMap(np.float32(1e9) * whole.astype(np.float32), "relative"), None
    yield "a number", 5, "depth is a int; expected a path"
    yield "a dictionary", {"depth": 1}, "depth is a dict; expected a path"


DEPTHS = named(depths())


@pytest.mark.parametrize("camera", [None, (60.0, 60.0, 32.0, 24.0)], ids=["no camera", "camera"])
@pytest.mark.parametrize(("name", "depth", "expected"), DEPTHS)
def test_depth_arrays(predictor: Predictor, name: str, depth: Any, expected: str | None, camera: Any) -> None:
    assert_outcome(lambda: predictor.ask(pixels(), QUESTION, depth, BOXES, camera), name, expected)


def masks() -> Iterator[tuple[str, Any, str | None]]:
    """(name, region, what the message holds; None if it is answered)."""
    shape = (HEIGHT, WIDTH)
    half = np.zeros(shape, bool)
    half[:, :30] = True
    yield "empty", np.zeros(shape, bool), "holds no pixel"
    yield "full", np.ones(shape, bool), None
    for kind in ("uint8", "int64", "float32"):
        yield f"of {kind}", half.astype(kind), None
    for kind in ("complex64", "object", "U1"):
        yield f"of {kind}", half.astype(kind), "expected a numeric or boolean array (H, W)"
    yield "one pixel", np.eye(1, WIDTH * HEIGHT, 777, dtype=bool).reshape(shape), None
    yield "10,000 components", np.indices((200, 266)).sum(0) % 2 == 0, None
    yield "noise", np.random.default_rng(0).random(shape) > 0.5, None
    yield "of NaN", np.full(shape, np.nan), "holds no pixel"
    yield "of shape (0, 0)", np.ones((0, 0), bool), "holds no pixel"
    for other in ((HEIGHT * 10, WIDTH * 10), (3, 4)):
        yield f"of shape {other}", np.ones(other, bool), None
    for other in ((WIDTH, HEIGHT), (HEIGHT, WIDTH * 2)):
        yield f"of shape {other}", np.ones(other, bool), f"mask is {other[1]}x{other[0]}, the image 64x48"
    yield "of shape (48, 64, 1)", half[..., None], None
    yield "of shape (5,)", np.ones(5, bool), "is not four numbers"
    yield from boxes()
    yield from run_lengths(Region.from_mask(half).counts)
    good = Region.from_mask(half).counts
    for strange in ({}, {"counts": good}, {"size": [HEIGHT, WIDTH]}):
        yield f"strange {strange}", strange, "is none of"
    for strange in (5, None, b"bytes", float("nan"), True):
        yield f"strange {strange}", strange, "expected a box (x0, y0, x1, y1), a mask (H, W), a mask image or run lengths"
    yield "an object", object(), "a region is a object"
    for strange in ("", "no-such.png"):
        yield f"strange {strange!r}", strange, "no such file"
    for strange in ([], [[1, 2], [3, 4]]):
        yield f"strange {strange}", strange, "is not four numbers"
    yield "a region without pixels", Region((HEIGHT, WIDTH), "PPP"), "corrupt run lengths"
    yield "a region of another shape", Region.from_box([0, 0, 5, 5], 100, 10), "its mask is 10x100"


def boxes() -> Iterator[tuple[str, Any, str | None]]:
    """As ``masks``."""
    outcomes = {
        None: ((-1e9, -1e9, 1e9, 1e9), (0.2, 0.2, 3.4, 0.4), (63.9, 47.9, 64, 48)),
        "as if it were normalised": ((0.2, 0.2, 0.4, 0.4), (0, 0, 1, 1), (0.2, 0.2, 1.4, 0.4)),
        "is empty or inverted": ((0, 0, 0, 0), (5, 5, 5, 9), (9, 9, 5, 5), (1e308,) * 4),
        "lies outside the image": ((-50, -50, -1, -1), (100, 100, 120, 120)),
        "is not finite": ((np.nan, 0, 1, 1), (0, 0, np.inf, 5), (None,) * 4),
        "is not four numbers": ((1, 2, 3), (1, 2, 3, 4, 5)),
        "is no number": (("a", 0, 1, 1),),
    }
    for expected, cases in outcomes.items():
        for box in cases:
            yield f"box {box}", box, expected


def run_lengths(good: str) -> Iterator[tuple[str, Any, str | None]]:
    """As ``masks``; ``good``: run lengths of the image's size."""
    counts = {
        None: ([1] * (HEIGHT * WIDTH),),
        "corrupt run lengths": ("", "0", "garbage", "\x00", "~~~~~~", "0" * 10_000, "é", "P" * 100),
        "uncompressed run lengths": ([], [-1], [0.5], ["a"], [2**70], [1, 2, 3]),
        "its mask is empty": ([HEIGHT * WIDTH],),
        "run lengths have counts of type": (None, 5),
    }
    sizes = {
        "run lengths have size": ([0, 0], [-1, 5], [HEIGHT, WIDTH, 3], "48x64"),
        "are not {'size': [H, W], 'counts': ...}": ([HEIGHT], ["a", "b"], None),
        "is too large": ([10**6, 10**6], [2**40, 2**40]),
        "its mask is 48x64": ([WIDTH, HEIGHT],),
    }
    for expected, cases in counts.items():
        for case in cases:
            yield f"run lengths {str(case)[:20]}", {"size": [HEIGHT, WIDTH], "counts": case}, expected
    for expected, cases in sizes.items():
        for case in cases:
            yield f"run lengths of size {case}", {"size": case, "counts": good}, expected


MASKS = named(masks())


@pytest.mark.parametrize("question", ["How tall is <region 0>?", QUESTION], ids=["one region", "two regions"])
@pytest.mark.parametrize(("name", "mask", "expected"), MASKS)
def test_masks(predictor: Predictor, name: str, mask: Any, expected: str | None, question: str) -> None:
    regions = [mask] if question != QUESTION else [BOXES[0], mask]
    expected = expected.replace("region 0", "region 1") if expected and question == QUESTION else expected
    assert_outcome(lambda: predictor.ask(pixels(), question, regions=regions), name, expected)


def test_there_are_hundreds_of_files_and_arrays() -> None:
    assert len(IMAGE_FILES) >= 130
    assert 2 * len(DEPTHS) >= 120
    assert 2 * len(MASKS) >= 130


@pytest.mark.parametrize("count", [0, 1, 2, 33, 200])
def test_numbers_of_regions(predictor: Predictor, count: int) -> None:
    table = [BOXES[number % 2] for number in range(count)]  # duplicates, too
    question = "Which of " + " ".join(f"<region {number}>" for number in range(count)) + " is leftmost?"
    check(lambda: predictor.ask(pixels(), question, regions=table), f"{count} regions")
    check(lambda: predictor.ask(pixels(), "What is it?", regions=table), f"{count} regions, none mentioned")


def test_many_questions_about_one_image(predictor: Predictor) -> None:
    assert_outcome(lambda: predictor.ask_many(pixels(), ["Is <region 0> left?"] * 200, regions=BOXES[:1]), "200 questions", None)


CAMERAS = {
    None: [Camera(1, 1, 0, 0, 1, 1), Camera(60, 60, 32, 24, WIDTH, HEIGHT)],
    "the camera is of 10000x1": [Camera(60, 60, 32, 24, 10_000, 1)],
    "focal lengths and size must be finite and above 0": [
        (0, 0, 0, 0),
        (-5, 5, 1, 1),
        (np.nan,) * 4,
        (np.inf, 1, 1, 1),
        {"fx": 60, "fy": 60, "cx": 32, "cy": 24, "width": 0, "height": 0},
    ],
    "no camera is like this": [(1e300,) * 4, (1, 1, -1e9, 1e9)],
    "shares of the sides": [(1e-300,) * 4],
    "one of width and height": [{"fx": "60", "fy": 60, "cx": 32, "cy": 24, "width": "many"}],
    "is not fx, fy, cx, cy in pixels": [{"fx": "60", "fy": 60, "cx": 32, "cy": 24, "width": "many", "height": 3}],
    "expected fx,fy,cx,cy in pixels": ["x", (1, 1, 1), {}, {"fx": 1}, 5, []],
    "expected numbers": [("a",) * 4],
}


@pytest.mark.parametrize(("camera", "expected"), [(camera, expected) for expected, cases in CAMERAS.items() for camera in cases], ids=repr)
def test_cameras(predictor: Predictor, camera: Any, expected: str | None) -> None:
    depth = np.random.default_rng(0).uniform(1, 9, (HEIGHT, WIDTH)).astype(np.float32)
    assert_outcome(lambda: predictor.ask(pixels(), QUESTION, depth, BOXES, camera), repr(camera), expected)


# ---------------------------------------------------------------------------------------------------------------------- questions
SPECIAL = (
    "<|image|>",
    "<mask_rgb>",
    "<mask_depth>",
    "<mask_geo>",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<image>",
    "[Region 0]",
    "[Region 31]",
)
#: Questions about an image without regions, by what the message holds; None if they are answered.
OUTCOMES = {
    None: ["\0", "?", "a", "\ud800", "\udfff\ud800", "\u202e desrever", "𝔘𝔫𝔦", "\x7f\x1b[31m", "%s %n {} {0}", "DROP TABLE", "../../etc/passwd",
           "null", "<script>alert(1)</script>"],
    "the question is empty": ["", " ", "\ufeff", "\u200b\u00a0", "\n", "\n" * 5_000],
    "tokens, this model reads": ["e\u0301" * 500, "👩‍👩‍👧‍👦" * 50, "a" * 9_999, "<" * 3_000, "<region " * 500, "[" * 3_000],
    "characters; expected at most 10000": ["a " * 6_000],
    "write regions as <region NUMBER>": ["<region>", "<region -1>", "<region 1.5>", "<region a>", "<region 0x0>", "regions [0, 1]"],
    "; no region was given": ["<region 2>", "<region 0", "＜region 0＞", "region 1", "[Region_0]", "#1", "<region 99999999999999999999>", "<REGION 0>", "<region  0 >", "<region 0>" * 40, "<region 0><region 1>" * 3],
    "<mask> but 0 regions were given": ["<mask>", "<mask><mask>", "<mask>" * 50],
    "the question mixes numbered regions and <mask>": ["<mask> <region 0>"],
}  # fmt: skip
TEXTS = [(text, expected) for expected, texts in OUTCOMES.items() for text in texts]


def short(value: object) -> str:
    """An id of a case."""
    return ascii(value)[:30]


@pytest.mark.parametrize(("text", "expected"), TEXTS, ids=short)
def test_questions(predictor: Predictor, text: str, expected: str | None) -> None:
    assert_outcome(lambda: predictor.ask(pixels(), text, regions=[]), short(text), expected)
    check(lambda: predictor.ask(pixels(), f"Is <region 0> left of <region 1>? {text}", regions=BOXES), short(text))


@pytest.mark.slow
@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("text", [text for text, _ in TEXTS], ids=short)
def test_questions_with_special_tokens(predictor: Predictor, text: str, special: str) -> None:
    check(lambda: predictor.ask(pixels(), text + special, regions=[]), short(text + special))


@pytest.mark.parametrize("question", [None, 5, b"bytes", ["How?"], {"a": 1}, float("nan")], ids=repr)
def test_a_question_is_a_string(predictor: Predictor, question: Any) -> None:
    assert_outcome(lambda: predictor.ask(pixels(), question), repr(question), "expected a string")


@pytest.mark.slow
@given(st.text(max_size=200), st.lists(st.sampled_from(SPECIAL), max_size=6), st.integers(0, 3))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_special_tokens_in_text_never_become_placeholders(predictor: Predictor, text: str, special: list[str], num_regions: int) -> None:
    processor = predictor.processor
    question = " ".join([text.replace("<mask>", ""), *special, *["<mask>"] * num_regions])
    if question.count("<mask>") != num_regions:
        return
    ids = processor.encode_text(question, num_regions)["input_ids"]
    for token in processor.region_token_ids.values():
        assert ids.count(token) == num_regions
    assert ids.count(processor.image_token_id) == processor.num_image_tokens
    turns = [processor.tokenizer.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<|im_end|>")]
    assert [ids.count(turn) for turn in turns] == [2, 1]


@pytest.fixture(scope="module")
def nano() -> Predictor:
    predictor = Predictor.from_pretrained("nano")
    predictor.max_new_tokens = 4
    return predictor


@pytest.mark.parametrize(
    "text",
    ["Is <region 0> left of [Region 1]?", "Is <region 0> left of <region 1>? [Region 31] [Region 7]", "[Region 0]", "[Region 99]"],
)
def test_region_names_in_text_are_those_of_the_question(nano: Predictor, text: str) -> None:
    """With names that carry features, a name typed by hand means the question's region of that number, and no other one."""
    check(lambda: nano.ask(pixels(), text, regions=BOXES if "<region" in text else []), text)


# ----------------------------------------------------------------------------------------------------------------- command and data
@given(st.binary(max_size=400))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_are_no_image_depth_or_mask(predictor: Predictor, tmp_path: Path, data: bytes) -> None:
    for name in ("a.png", "a.npy", "a.tiff"):
        (tmp_path / name).write_bytes(data)
        assert check(lambda name=name: predictor.ask(tmp_path / name, "What?"), name)
        assert check(lambda name=name: predictor.ask(pixels(), "What?", depth=tmp_path / name), name)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["size", "counts", "box", "polygon", "rle", "fx", "x"]) | st.text(max_size=5), inner, max_size=4), max_leaves=12)  # fmt: skip


@pytest.mark.slow
@given(JUNK, JUNK, JUNK)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_junk_in_any_place(predictor: Predictor, region: Any, camera: Any, question: Any) -> None:
    check(lambda: predictor.ask(pixels(), "How tall is <region 0>?", regions=[region]), "region")
    check(lambda: predictor.ask(pixels(), QUESTION, regions=BOXES, camera=camera), "camera")
    check(lambda: predictor.ask(pixels(), question, regions=[]), "question")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["absent.png", "What?"], "absent.png"),
        (["good.png", "Is <region 0> left?"], "; no region was given"),
        (["good.png", "Is <region 0> left?", "--region", "1,2,3"], "--region: box [1.0, 2.0, 3.0] is not four numbers"),
        (["good.png", "Is <region 0> left?", "--region", "a,b,c,d"], "--region: region a,b,c,d: no such file"),
        (["good.png", "Is <region 0> left?", "--region", "polygon:1,2"], "--region: polygon [1.0, 2.0] has 2 numbers"),
        (["good.png", "Is <region 0> left?", "--region", "0,0,5,5", "--depth", "rows.json"], "rows.json"),
        (
            ["good.png", "Is <region 0> left?", "--region", "0,0,5,5", "--camera", "1,2"],
            "--camera: camera [1.0, 2.0]: expected fx,fy,cx,cy",
        ),
        (["good.png", "Is <region 0> left?", "--region", "0,0,5,5", "--camera", "rows.json"], "rows.json"),
        (["good.png", "What?", "--overlay", "rows.json/below.png"], "rows.json"),
        (["good.png", ""], "the question is empty"),
    ],
)
def test_the_command_line_says_one_line_and_fails(
    tiny_checkpoint: Path, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.png").write_bytes(encoded("PNG"))
    Path("rows.json").write_bytes(b"\xff\xfe[]")
    code, _, errors = command("ask", *arguments, "--model", tiny_checkpoint)
    lines = [line for line in errors.splitlines() if line.startswith(("error", "Error", "Usage"))]
    assert code == 2 and len(lines) == 1, errors
    assert expected in errors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "row 0: damaged: not JSON"),
        ("\udcff", "row 0: damaged: not JSON"),
        ("[" * 100_000, "row 0: damaged: lists or objects"),
        ("[1]", "it is a int; expected an object"),
        ("[{}]", "id None and image None; expected both as strings"),
        ("null", "it is a NoneType; expected an object"),
        ('[{"id": 1}]', "id 1 and image None; expected both as strings"),
        ('"a"', "it is a str; expected an object"),
        ('[{"id": "a", "image": 5, "conversations": []}]', "id 'a' and image 5; expected both as strings"),
        ("NaN", "it is a float; expected an object"),
    ],
    ids=short,
)
def test_json_of_a_data_set_may_be_anything(tmp_path: Path, text: str, expected: str) -> None:
    from smolrgpt.data.sources.warehouse import read_warehouse

    (tmp_path / "val" / "images").mkdir(parents=True)
    (tmp_path / "val" / "images" / "a.png").write_bytes(encoded("PNG"))
    (tmp_path / "val.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match="val") as error:  # a DataError is one
        read_warehouse(tmp_path, "val")
    assert expected in str(error.value) and "\n" not in str(error.value)
