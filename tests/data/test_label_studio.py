"""Laws of the Label Studio reader: shapes cover the pixels they were drawn on, and region numbers follow the question."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources import read_source
from smolrgpt.data.sources.label_studio_shapes import decode_brush
from smolrgpt.schema import DataError

H, W = 40, 80


def brush(inside: np.ndarray, lengths: tuple[int, ...] = (3, 4, 8, 16), literal: bool = False) -> list[int]:
    """The format written the other way round: runs (or, ``literal``, values one by one) of an RGBA picture, seen through only inside."""
    rgba = np.full((*inside.shape, 4), 255, np.uint8)
    rgba[..., 3] *= inside
    values = rgba.flatten().tolist()
    bits = format(len(values), "032b") + format(7, "05b") + "".join(format(size - 1, "04b") for size in lengths)
    index = len(lengths) - 1 if not literal else 1
    most, start = 1 << lengths[index], 0
    while start < len(values):
        end = start + 1
        while end < len(values) and end - start < most and (literal or values[end] == values[start]):
            end += 1
        told = values[start:end] if literal else values[start : start + 1]
        bits += f"{int(not literal)}{index:02b}{end - start - 1:0{lengths[index]}b}" + "".join(format(value, "08b") for value in told)
        start = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def blob(seed: int = 0) -> np.ndarray:
    inside = np.random.default_rng(seed).random((H, W)) < 0.3
    inside[5:20, 30:50] = True
    return inside


def result(kind: str, value: dict[str, Any], number: str = "r", **changes: Any) -> dict[str, Any]:
    return {
        "id": number,
        "type": kind,
        "from_name": "shapes",
        "original_width": W,
        "original_height": H,
        "image_rotation": 0,
        "value": value,
    } | changes


def text(name: str, *lines: str) -> dict[str, Any]:
    return {"id": name, "type": "textarea", "from_name": name, "value": {"text": list(lines)}}


def box(x0: float, y0: float, x1: float, y1: float, **more: Any) -> dict[str, Any]:
    return {"x": x0 / W * 100, "y": y0 / H * 100, "width": (x1 - x0) / W * 100, "height": (y1 - y0) / H * 100, **more}


def task(*results: Any, number: int = 1, image: str = "/data/upload/3/0123abcd-a.jpg", **changes: Any) -> dict[str, Any]:
    return {"id": number, "data": {"image": image}, "annotations": [{"result": list(results), "was_cancelled": False}]} | changes


def write(root: Path, *tasks: Any) -> Path:
    (root / "images" / "hall 1").mkdir(parents=True, exist_ok=True)
    for name in ("a.jpg", "hall 1/b.jpg"):
        Image.new("RGB", (W, H)).save(root / "images" / name)
    (root / "export.json").write_text(json.dumps(tasks))
    return root


def filled(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    inside = np.zeros((H, W), dtype=bool)
    inside[y0:y1, x0:x1] = True
    return inside


CORNERS = [[12.5, 25.0], [37.5, 25.0], [37.5, 75.0], [12.5, 75.0]]  # percent of (10, 10) to (30, 30)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("rectanglelabels", box(8, 4, 24, 20, rotation=0, rectanglelabels=["pallet"]), filled(8, 4, 24, 20)),
        ("rectanglelabels", box(40, 10, 52, 14, rotation=90, rectanglelabels=["pallet"]), filled(36, 10, 40, 22)),
        ("polygonlabels", {"points": CORNERS, "polygonlabels": ["pallet"]}, filled(10, 10, 30, 30)),
        ("brushlabels", {"format": "rle", "rle": brush(blob()), "brushlabels": ["pallet"]}, blob()),
        ("rectangle", box(8, 4, 24, 20), filled(8, 4, 24, 20)),
    ],
)
def test_shapes_cover_what_was_drawn(tmp_path: Path, kind: str, value: dict[str, Any], expected: np.ndarray) -> None:
    labels = [] if "labels" in kind else [result("labels", {"labels": ["pallet"]})]
    root = write(
        tmp_path, task(result(kind, value), *labels, text("question", "What is <region 0>?"), text("answer", "[Region 0] is a pallet."))
    )
    (sample,) = read_source("label_studio", root, "export")
    assert np.array_equal(sample.regions[0].to_mask(), expected)
    assert sample.metadata["region_names"] == ["pallet"]
    assert (sample.id, sample.question, sample.answer) == ("1-0", "What is <mask>?", "[Region 0] is a pallet.")


def test_ellipses_have_their_area_and_turn(tmp_path: Path) -> None:
    upright = {"x": 50.0, "y": 50.0, "radiusX": 20 / W * 100, "radiusY": 8 / H * 100, "ellipselabels": ["drum"]}
    root = write(
        tmp_path,
        task(*(result("ellipselabels", {**upright, "rotation": turn}) for turn in (0, 30, 90)), text("question", "<mask><mask><mask>")),
    )
    flat, slanted, tall = (region.to_mask() for region in read_source("label_studio", root, "export")[0].regions)
    for inside in (flat, slanted, tall):
        assert inside.sum() == pytest.approx(np.pi * 20 * 8, rel=0.06)
    rows, columns = np.nonzero(slanted)
    assert np.corrcoef(rows, columns)[0, 1] > 0.5  # clockwise where y points down: right end lower
    assert np.ptp(np.nonzero(tall)[0]) > np.ptp(np.nonzero(tall)[1])


@pytest.mark.parametrize("lengths", [(3, 4, 8, 16), (1, 5, 7, 11)])
@pytest.mark.parametrize("literal", [False, True])
def test_brush_run_lengths_decode(lengths: tuple[int, ...], literal: bool) -> None:
    for seed in range(3):
        assert np.array_equal(decode_brush(brush(blob(seed), lengths, literal), H, W), blob(seed))


@pytest.mark.parametrize(
    ("damage", "width", "expected"),
    [
        (lambda codes: codes[: len(codes) // 2], W, "end after"),
        (lambda codes: codes[:3], W, "end after"),
        (lambda codes: [*codes[:-1], 999], W, "no bytes"),
        (lambda codes: ["x"], W, "no bytes"),
        (lambda codes: codes, W + 1, "expected 4 x"),
    ],
    ids=["half", "header", "no byte", "letters", "another width"],
)
def test_damaged_brush_run_lengths_are_errors(damage: Callable[[Any], Any], width: int, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        decode_brush(damage(brush(blob())), H, width)


def three() -> list[dict[str, Any]]:
    return [
        result("rectanglelabels", box(x, 4, x + 8, 20, rectanglelabels=[name]), name)
        for x, name in ((2, "one"), (20, "two"), (40, "three"))
    ]


def test_numbers_follow_the_question(tmp_path: Path) -> None:
    questions = text("question", "How far is <region 2> from [Region 0]?", "Which is left, <mask>, <mask> or <mask>?", "Is it dark?")
    answers = text("answer", "Region [2] is 3 m from <region 0>.", "[Region 0] is leftmost.")
    far, leftmost, dark = read_source("label_studio", write(tmp_path, task(*three(), questions, answers)), "export")
    assert far.question == "How far is <mask> from <mask>?" and far.answer == "[Region 0] is 3 m from [Region 1]."
    assert far.metadata["region_names"] == ["three", "one"]
    assert np.array_equal(far.regions[0].to_mask(), filled(40, 4, 48, 20)) and np.array_equal(
        far.regions[1].to_mask(), filled(2, 4, 10, 20)
    )
    assert leftmost.metadata["region_names"] == ["one", "two", "three"] and leftmost.answer == "[Region 0] is leftmost."
    assert (dark.regions, dark.answer) == ([], None)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ("/data/upload/3/0123abcd-a.jpg", "a.jpg"),
        ("a.jpg", "a.jpg"),
        ("https://host/bucket/a.jpg?signature=x", "a.jpg"),
        ("/data/local-files/?d=hall%201/b.jpg", "hall 1/b.jpg"),
    ],
)
def test_pictures_are_found_by_what_the_tool_calls_them(tmp_path: Path, image: str, found: str) -> None:
    root = write(tmp_path, task(text("question", "What is it?"), image=image))
    assert read_source("label_studio", root, "export")[0].image == root / "images" / found


def test_a_task_that_cannot_be_used_costs_itself(tmp_path: Path) -> None:
    asked = text("question", "<region 0>?")
    rectangle = three()[0]
    bad = [
        task(rectangle),
        task(asked),
        task(rectangle, text("question", "<region 0> or <mask>?")),
        task(rectangle, asked, text("answer", "[Region 1].")),
        task(result("rectanglelabels", {"x": 1}), asked),
        task(result("rectanglelabels", box(90, 4, 120, 20)), asked, annotations=[]),
        task(result("brushlabels", {"rle": [1, 2]}), asked),
        task(result("polygonlabels", {"points": [[1, 2], [3]]}), asked),
        task(rectangle | {"image_rotation": 90}, asked),
        task(rectangle | {"original_width": None}, asked),
        task(rectangle, asked, image="gone.jpg"),
        task(rectangle, asked, data={}),
        task(annotations=[{"result": [rectangle, asked], "was_cancelled": True}]),
    ]
    skips = SkipLog(keep=99)
    samples = read_source("label_studio", write(tmp_path, *bad, task(rectangle, asked, number=9)), "export", skips=skips)
    messages = [message for kept in skips.examples.values() for message in kept]
    assert [sample.id for sample in samples] == ["9-0"]
    assert all(any(f"export.json row {index}:" in message for message in messages) for index in range(len(bad))), messages
    assert skips.total == len(bad) and skips.counts["missing image"] == 1


def asked(*results: Any, question: str = "How far is <region 0> from <region 1>?", **changes: Any) -> dict[str, Any]:
    return task(*results, text("question", question), text("answer", "3 m"), **changes)


@pytest.mark.parametrize(
    "kind", ["bitmasklabels", "bitmask", "keypointlabels", "videorectangle", "vectorlabels", "magicwand", "something", None]
)
def test_a_shape_that_is_not_read_makes_the_task_unusable(tmp_path: Path, kind: Any) -> None:
    one, two, three_ = three()
    unread = result(kind, {"x": 1}, "m")
    skips = SkipLog()
    root = write(tmp_path, asked(unread, one, two), asked(one, two, unread), asked(one, two, three_, number=3))
    (sample,) = read_source("label_studio", root, "export", skips=skips)
    name = str(kind).removesuffix("labels")
    assert (
        sample.id == "3-0" and skips.counts == {"unusable row": 2} and f"result 'm': it is a {name}, which is not read" in skips.summary()
    )


def test_results_that_are_no_shapes_move_no_number(tmp_path: Path) -> None:
    others = [{"type": "choices", "from_name": "x", "value": {"choices": ["a"]}}, {"type": "relation", "from_id": "one", "to_id": "two"}]
    (sample,) = read_source("label_studio", write(tmp_path, asked(*others, *three())), "export")
    assert sample.metadata["region_names"] == ["one", "two"]


def drawn_on(tag: Any, page: int | None = None) -> list[dict[str, Any]]:
    return [shape | {"to_name": tag} | ({} if page is None else {"item_index": page}) for shape in three()]


def test_shapes_on_another_image_of_the_task_are_not_of_this_one(tmp_path: Path) -> None:
    data = {"left": "a.jpg", "right": "hall 1/b.jpg", "note": "x"}
    right, left = drawn_on("right")[2:], drawn_on("left")[:2]
    root = write(tmp_path, asked(*right, *left, data=data))
    (sample,) = read_source("label_studio", root, "export", image_field="left")
    assert sample.metadata["region_names"] == ["one", "two"] and sample.image.name == "a.jpg"
    with pytest.raises(DataError, match=r"its images are left, right \(image_field=NAME\)"):
        read_source("label_studio", root, "export")
    with pytest.raises(DataError, match="mentions <region 1>"):
        read_source("label_studio", root, "export", image_field="right")


def test_tags_of_other_names_than_the_fields_have_to_be_stated(tmp_path: Path) -> None:
    data = {"left": "a.jpg", "right": "hall 1/b.jpg"}
    root = write(tmp_path, asked(*drawn_on("img")[:2], data=data), asked(*drawn_on("img2")[:2], *drawn_on("img")[1:], data=data))
    with pytest.raises(DataError, match=r"images left, right and shapes on img; state to_name"):
        read_source("label_studio", root, "export", image_field="left")
    one, two = read_source("label_studio", root, "export", image_field="left", to_name="img")
    assert [one.metadata["region_names"], two.metadata["region_names"]] == [["one", "two"], ["two", "three"]]
    alone = write(tmp_path, asked(*drawn_on("img")[:2], data={"image": "a.jpg", "caption": "a.b"}))  # one image: its tag may have any name
    assert len(read_source("label_studio", alone, "export")) == 1


def test_pages_are_images_of_their_own(tmp_path: Path) -> None:
    pages = [*drawn_on("image", 1)[1:], *drawn_on("image", 0)[:2]]
    root = write(tmp_path, asked(*pages, data={"image": ["a.jpg", "hall 1/b.jpg"]}))
    for index, (names, image) in enumerate(((["one", "two"], "a.jpg"), (["two", "three"], "b.jpg"))):
        (sample,) = read_source("label_studio", root, "export", item_index=index)
        assert sample.metadata["region_names"] == names and sample.image.name == image
    with pytest.raises(DataError, match="lists 2 images"):
        read_source("label_studio", root, "export", item_index=2)
    with pytest.raises(DataError, match="no list of images"):
        read_source("label_studio", write(tmp_path, asked(*pages)), "export", item_index=1)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Region 2 is right of [Region 0].", "[Region 0] is right of [Region 1]."),
        ("region_2 and <region 0> are 3 m apart.", "[Region 0] and [Region 1] are 3 m apart."),
        ("Regions 0 and 2.", "[Region 1] and [Region 0]."),
        ("It is 2 m.", "It is 2 m."),
    ],
)
def test_mentions_without_brackets_are_renumbered_too(tmp_path: Path, answer: str, expected: str) -> None:
    root = write(tmp_path, task(*three(), text("question", "Is region 2 left of <region 0>?"), text("answer", answer)))
    (sample,) = read_source("label_studio", root, "export")
    assert sample.question == "Is <mask> left of <mask>?" and sample.metadata["region_names"] == ["three", "one"]
    assert sample.answer == expected


@pytest.mark.parametrize("answer", ["Region 1 is left.", "[Region 7].", "Region 2.5 is left", "<mask> is left", "<region a>"])
def test_an_answer_that_cannot_be_renumbered_costs_its_task(tmp_path: Path, answer: str) -> None:
    skips = SkipLog()
    bad = task(*three(), text("question", "Is <region 2> left of <region 0>?"), text("answer", answer))
    assert len(read_source("label_studio", write(tmp_path, bad, asked(*three())), "export", skips=skips)) == 1 and skips.total == 1


def test_more_answers_than_questions_and_no_texts_cost_their_task(tmp_path: Path) -> None:
    skips = SkipLog()
    bad = [
        task(*three(), text("question", "Is it <region 0>?"), text("answer", "Yes", "No")),
        task(*three(), {"type": "textarea", "from_name": "question", "value": {"text": None}}),
    ]
    assert len(read_source("label_studio", write(tmp_path, *bad, asked(*three())), "export", skips=skips)) == 1 and skips.total == 2


def test_two_uploads_that_lead_to_one_file_are_not_both_of_it(tmp_path: Path) -> None:
    skips = SkipLog()
    tasks = [
        asked(*three(), image=f"/data/upload/3/{number}-a.jpg", number=k) for k, number in enumerate(("0123abcd", "89abcdef", "0123abcd"))
    ]
    assert [sample.id for sample in read_source("label_studio", write(tmp_path, *tasks), "export", skips=skips)] == ["0-0", "2-0"]
    assert "both lead to" in skips.summary()


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("two_images", {"image_field": "left"}, ["pallet a", "pallet b"]),
        ("two_images", {}, "its images are left, right"),
        ("pages", {}, ["pallet a", "pallet b"]),
        ("bitmask", {}, "result 'm': it is a bitmask, which is not read"),
        ("bare_number", {}, ["pallet b", "pallet a"]),
    ],
)
def test_shared_samples_are_read_or_refused(shared_path: Callable[[str], Path], name: str, options: Any, expected: Any) -> None:
    root = shared_path("samples/inputs/15-label-studio") / name
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected):
            read_source("label_studio", root, "val", **options)
    else:
        (sample,) = read_source("label_studio", root, "val", **options)
        assert sample.metadata["region_names"] == expected
        assert sample.answer == ("[Region 0] is right of [Region 1]" if name == "bare_number" else "1.69 meters")
