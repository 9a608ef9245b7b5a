# ruff: noqa: E501  (tables of cases read better as tables)
"""Hostile input: whatever is sent, there is an answer or one line that says what to do, in bounded time and memory.

More than 500 cases by name, built from few ingredients, and hypothesis on top. An error that is no ValueError is a failure, as is one without
words or with several lines.
"""

from __future__ import annotations

import io
import itertools
import json
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
from PIL import Image

from smolrgpt.inference.answer import Answer
from smolrgpt.inference.predictor import Predictor
from smolrgpt.schema import Camera, DataError, DepthMap, Region

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
    for one in found if isinstance(found, list) else [found]:
        assert isinstance(one, Answer) and isinstance(one.answer, str) and 0 <= one.confidence <= 1, name
    return None


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


#: How messages begin about a file that can be read and does not fit: they name what the file was passed as.
OTHER_FAULTS = {
    "image": ("the question and its image take",),
    "depth": ("the depth map is ",),
    "mask": ("region 0: its mask is ",),
}


@pytest.mark.parametrize("use", ["image", "depth", "mask"])
def test_image_files(predictor: Predictor, tmp_path: Path, use: str) -> None:
    count = answered = 0
    for name, data in image_files():
        path = tmp_path / f"{count}.bin"
        path.write_bytes(data)
        if use == "image":
            message = check(lambda path=path: predictor.ask(path, "What is this?"), name)
        elif use == "depth":
            message = check(lambda path=path: predictor.ask(Image.fromarray(pixels()), QUESTION, depth=path, regions=BOXES), name)
        else:
            message = check(lambda path=path: predictor.ask(Image.fromarray(pixels()), "How tall is <region 0>?", regions=[path]), name)
        assert message is None or str(path) in message or message.startswith(OTHER_FAULTS[use]), (name, message)
        count, answered = count + 1, answered + (message is None)
        if "whole" in name and use == "image":
            assert message is None, (name, message)
    assert count >= 130 and 10 < answered < count


def test_files_that_are_none(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "ünï cödé 图.png").write_bytes(encoded("PNG"))
    assert check(lambda: predictor.ask(tmp_path / "ünï cödé 图.png", "What is this?"), "unicode") is None
    for path in (tmp_path, tmp_path / "absent.png", "", "\0", "a" * 5000, tmp_path / "absent.npy"):
        assert check(lambda path=path: predictor.ask(path, "What is this?"), repr(path)), path
        assert check(lambda path=path: predictor.ask(Image.fromarray(pixels()), "What?", depth=path or "?"), repr(path)), path


def test_turned_images_and_their_regions_belong_together(predictor: Predictor, tmp_path: Path) -> None:
    """An image with EXIF orientation gets the answers of the same image turned by hand, regions given in upright pixels."""
    (tmp_path / "turned.jpg").write_bytes(oriented(6))
    upright = Image.open(tmp_path / "turned.jpg").transpose(Image.Transpose.ROTATE_270)
    boxes = [(2, 3, 20, 30), (20, 35, 44, 60)]
    by_tag, by_hand = (predictor.ask(image, QUESTION, regions=boxes) for image in (tmp_path / "turned.jpg", upright))
    assert by_tag.answer == by_hand.answer
    assert "outside" in str(check(lambda: predictor.ask(upright, QUESTION, regions=[(50, 3, 60, 30), boxes[0]]), "sideways region"))


# ------------------------------------------------------------------------------------------------------------------------- arrays
def depths() -> Iterator[tuple[str, Any]]:
    shape = (HEIGHT, WIDTH)
    whole = np.random.default_rng(0).uniform(1, 9, shape)
    for kind in (
        "float16",
        "float32",
        "float64",
        "uint8",
        "uint16",
        "int16",
        "int32",
        "int64",
        "uint64",
        "bool",
        "complex64",
        "object",
        "U5",
    ):
        yield f"of {kind}", whole.astype(kind)
    for value in (0.0, -1.0, np.nan, np.inf, -np.inf, 1e-30, 1e30, 3.4e38, 1e-5):
        yield f"all {value}", np.full(shape, value, np.float32)
        partly = whole.astype(np.float32)
        partly[::2] = value
        yield f"half {value}", partly
        corner = whole.astype(np.float32)
        corner[0, 0] = value
        yield f"one {value}", corner
    for value in (0, 1, 65535):
        yield f"integers {value}", np.full(shape, value, np.uint16)
    yield "int64 at its end", np.full(shape, np.iinfo(np.int64).max)
    for other in ((0,), (0, 0), (5,), (1, 1), (HEIGHT, WIDTH, 1), (1, HEIGHT, WIDTH), (HEIGHT, WIDTH, 3), (2, HEIGHT, WIDTH), (WIDTH, HEIGHT),
                  (HEIGHT, WIDTH * 3), (HEIGHT * 4, WIDTH * 4), (HEIGHT // 4, WIDTH // 4), (HEIGHT, 0), (1, HEIGHT, WIDTH, 1)):  # fmt: skip
        yield f"of shape {other}", np.ones(other, np.float32)
    yield "a list", whole.tolist()
    yield "fortran order", np.asfortranarray(whole.astype(np.float32))
    yield "not contiguous", np.ones((HEIGHT * 2, WIDTH * 2), np.float32)[::2, ::2]
    yield "read only", np.broadcast_to(np.float32(2), shape)
    yield "a map", DepthMap(whole.astype(np.float32), "metric")
    yield "relative outside 0 to 1", DepthMap(np.float32(1e9) * whole.astype(np.float32), "relative")
    yield "a number", 5
    yield "a dictionary", {"depth": 1}


def test_depth_arrays(predictor: Predictor) -> None:
    camera = (60.0, 60.0, 32.0, 24.0)
    count = 0
    for name, depth in depths():
        for known in (None, camera):
            check(lambda depth=depth, known=known: predictor.ask(pixels(), QUESTION, depth, BOXES, known), name)
            count += 1
    assert count >= 120


def masks() -> Iterator[tuple[str, Any]]:
    shape = (HEIGHT, WIDTH)
    half = np.zeros(shape, bool)
    half[:, :30] = True
    yield "empty", np.zeros(shape, bool)
    yield "full", np.ones(shape, bool)
    for kind in ("uint8", "int64", "float32", "complex64", "object", "U1"):
        yield f"of {kind}", half.astype(kind)
    yield "one pixel", np.eye(1, WIDTH * HEIGHT, 777, dtype=bool).reshape(shape)
    yield "10,000 components", np.indices((200, 266)).sum(0) % 2 == 0
    yield "noise", np.random.default_rng(0).random(shape) > 0.5
    yield "of NaN", np.full(shape, np.nan)
    for other in ((0, 0), (WIDTH, HEIGHT), (HEIGHT, WIDTH, 1), (5,), (HEIGHT * 10, WIDTH * 10), (3, 4), (HEIGHT, WIDTH * 2)):
        yield f"of shape {other}", np.ones(other, bool)
    for box in ((0, 0, 0, 0), (5, 5, 5, 9), (9, 9, 5, 5), (-50, -50, -1, -1), (100, 100, 120, 120), (-1e9, -1e9, 1e9, 1e9), (0.2, 0.2, 0.4, 0.4),
                (np.nan, 0, 1, 1), (0, 0, np.inf, 5), (1, 2, 3), (1, 2, 3, 4, 5), ("a", 0, 1, 1), (None,) * 4, (63.9, 47.9, 64, 48), (1e308,) * 4):  # fmt: skip
        yield f"box {box}", box
    for counts in ("", "0", "garbage", "\x00", "~~~~~~", "0" * 10_000, "é", "P" * 100, [], [-1], [HEIGHT * WIDTH], [1] * (HEIGHT * WIDTH), [0.5],
                   ["a"], None, 5, [2**70], [1, 2, 3]):  # fmt: skip
        yield f"run lengths {str(counts)[:20]}", {"size": [HEIGHT, WIDTH], "counts": counts}
    good = Region.from_mask(half).counts
    for size in ([0, 0], [-1, 5], [HEIGHT], [HEIGHT, WIDTH, 3], [10**6, 10**6], [2**40, 2**40], ["a", "b"], None, "48x64", [WIDTH, HEIGHT]):
        yield f"run lengths of size {size}", {"size": size, "counts": good}
    for strange in (
        {},
        {"counts": good},
        {"size": [HEIGHT, WIDTH]},
        5,
        None,
        "",
        "no-such.png",
        [],
        object(),
        b"bytes",
        [[1, 2], [3, 4]],
        float("nan"),
        True,
    ):
        yield f"strange {strange!r:.30}", strange
    yield "a region without pixels", Region((HEIGHT, WIDTH), "PPP")
    yield "a region of another shape", Region.from_box([0, 0, 5, 5], 100, 10)


def test_masks(predictor: Predictor) -> None:
    count = 0
    for name, mask in masks():
        check(lambda mask=mask: predictor.ask(pixels(), "How tall is <region 0>?", regions=[mask]), name)
        check(lambda mask=mask: predictor.ask(pixels(), QUESTION, regions=[BOXES[0], mask]), name)
        count += 2
    assert count >= 130


def test_numbers_of_regions(predictor: Predictor) -> None:
    for count in (0, 1, 2, 33, 200):
        table = [BOXES[number % 2] for number in range(count)]  # duplicates, too
        question = "Which of " + " ".join(f"<region {number}>" for number in range(count)) + " is leftmost?"
        check(lambda table=table, question=question: predictor.ask(pixels(), question, regions=table), f"{count} regions")
        check(lambda table=table: predictor.ask(pixels(), "What is it?", regions=table), f"{count} regions, none mentioned")
    assert check(lambda: predictor.ask_many(pixels(), ["Is <region 0> left?"] * 200, regions=BOXES[:1]), "200 questions") is None


CAMERAS = [(0, 0, 0, 0), (1, 1, 1), (-5, 5, 1, 1), (np.nan,) * 4, (np.inf, 1, 1, 1), (1e300,) * 4, (1e-300,) * 4, ("a",) * 4, {}, {"fx": 1}, 5, "x", [],
           Camera(1, 1, 0, 0, 1, 1), Camera(60, 60, 32, 24, 10_000, 1), {"fx": 60, "fy": 60, "cx": 32, "cy": 24, "width": 0, "height": 0},
           {"fx": "60", "fy": 60, "cx": 32, "cy": 24, "width": "many"}, (1, 1, -1e9, 1e9)]  # fmt: skip


@pytest.mark.parametrize("camera", CAMERAS, ids=repr)
def test_cameras(predictor: Predictor, camera: Any) -> None:
    depth = np.random.default_rng(0).uniform(1, 9, (HEIGHT, WIDTH)).astype(np.float32)
    check(lambda: predictor.ask(pixels(), QUESTION, depth, BOXES, camera), "camera")


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
TEXTS = ["", " ", "\n", "\0", "?", "a", "\ud800", "\udfff\ud800", "\u202e desrever", "e\u0301" * 500, "👩‍👩‍👧‍👦" * 50, "𝔘𝔫𝔦", "\ufeff", "\x7f\x1b[31m", "%s %n {} {0}",
         "a" * 9_999, "a " * 6_000, "\n" * 5_000, "<" * 3_000, "<region " * 500, "[" * 3_000, "DROP TABLE", "../../etc/passwd", "null", "<script>alert(1)</script>",
         "<region 0", "<region>", "<region -1>", "<region 1.5>", "<region a>", "<region 2>", "<region 99999999999999999999>", "<region 0x0>", "<REGION 0>", "<region  0 >",
         "<mask>", "<mask><mask>", "<mask> <region 0>", "<mask>" * 50, "<region 0>" * 40, "<region 0><region 1>" * 3, "＜region 0＞"]  # fmt: skip


def test_questions(predictor: Predictor) -> None:
    count = 0
    for text, special in itertools.product(TEXTS, ("", *SPECIAL)):
        check(lambda text=text, special=special: predictor.ask(pixels(), text + special, regions=[]), repr(text + special)[:60])
        count += 1
    for text in TEXTS:
        check(lambda text=text: predictor.ask(pixels(), f"Is <region 0> left of <region 1>? {text}", regions=BOXES), repr(text)[:60])
    for strange in (None, 5, b"bytes", ["How?"], {"a": 1}, float("nan")):
        assert check(lambda strange=strange: predictor.ask(pixels(), strange), repr(strange)), strange
    assert count >= 400


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


def test_region_names_in_text_are_those_of_the_question(tiny_checkpoint: Path) -> None:
    """With names that carry features, a name typed by hand means the question's region of that number, and no other one."""
    predictor = Predictor.from_pretrained("nano")
    predictor.max_new_tokens = 4
    for text in (
        "Is <region 0> left of [Region 1]?",
        "Is <region 0> left of <region 1>? [Region 31] [Region 7]",
        "[Region 0]",
        "[Region 99]",
    ):
        check(lambda text=text: predictor.ask(pixels(), text, regions=BOXES if "<region" in text else []), text)


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


@given(JUNK, JUNK, JUNK)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_junk_in_any_place(predictor: Predictor, region: Any, camera: Any, question: Any) -> None:
    check(lambda: predictor.ask(pixels(), "How tall is <region 0>?", regions=[region]), "region")
    check(lambda: predictor.ask(pixels(), QUESTION, regions=BOXES, camera=camera), "camera")
    check(lambda: predictor.ask(pixels(), question, regions=[]), "question")


def test_the_command_line_says_one_line_and_fails(tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from smolrgpt.cli import main as cli

    good = tmp_path / "good.png"
    good.write_bytes(encoded("PNG"))
    (tmp_path / "rows.json").write_bytes(b"\xff\xfe[]")
    for arguments in (
        [tmp_path / "absent.png", "What?"],
        [good, "Is <region 0> left?"],
        [good, "Is <region 0> left?", "--region", "1,2,3"],
        [good, "Is <region 0> left?", "--region", "a,b,c,d"],
        [good, "Is <region 0> left?", "--region", "polygon:1,2"],
        [good, "Is <region 0> left?", "--region", "0,0,5,5", "--depth", tmp_path / "rows.json"],
        [good, "Is <region 0> left?", "--region", "0,0,5,5", "--camera", "1,2"],
        [good, "Is <region 0> left?", "--region", "0,0,5,5", "--camera", tmp_path / "rows.json"],
        [good, "What?", "--overlay", tmp_path / "rows.json" / "below.png"],
        [good, ""],
    ):
        with pytest.raises(SystemExit) as stop:
            cli.main(["ask", *map(str, arguments), "--model", str(tiny_checkpoint)])
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("error", "Error", "Usage"))]
        assert stop.value.code == 2 and len(errors) == 1, (arguments, errors)


def test_json_of_a_data_set_may_be_anything(tmp_path: Path) -> None:
    from smolrgpt.data.sources.warehouse import read_warehouse

    for text in (
        "",
        "{",
        "[]",
        "[1]",
        "[{}]",
        "null",
        '[{"id": 1}]',
        "[" * 5000,
        '"a"',
        '[{"id": "a", "image": 5, "conversations": []}]',
        "\udcff",
        "NaN",
    ):
        (tmp_path / "val.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        try:
            read_warehouse(tmp_path, "val")
        except (DataError, ValueError) as error:
            assert "val" in str(error) and "\n" not in str(error), text
        json.dumps(text)
