"""Laws of the readers of annotation tools: one scene written in every format gives the same samples, and nothing vanishes uncounted."""

from __future__ import annotations

import base64
import copy
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources import SOURCES, iter_source, read_source
from smolrgpt.schema import DataError, Region

H, W = 40, 64
POLYGON = [[2.0, 4.0], [14.0, 4.0], [14.0, 30.0], [2.0, 30.0]]
BOX = (24.0, 8.0, 40.0, 20.0)
BLOB = np.random.default_rng(0).random((12, 10)) < 0.6
BLOB[3:9, 2:8] = True
LEFT, TOP = 48, 16


def blob() -> np.ndarray:
    whole = np.zeros((H, W), dtype=bool)
    whole[TOP : TOP + 12, LEFT : LEFT + 10] = BLOB
    return whole


#: A polygon, a box and a mask, from left to right.
MASKS = [Region.from_polygon(POLYGON, H, W).to_mask(), Region.from_box(BOX, H, W).to_mask(), blob()]


def png(mask: np.ndarray) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(mask.astype(np.uint8) * 255).convert("1").save(file, "PNG")
        return file.getvalue()


def images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (W, H)).save(folder / name)


def write_coco(root: Path) -> None:
    images(root / "train", "a.png")
    shapes = [
        {"segmentation": [np.ravel(POLYGON).tolist()]},
        {"bbox": [BOX[0], BOX[1], BOX[2] - BOX[0], BOX[3] - BOX[1]]},
        {"segmentation": Region.from_mask(blob()).to_rle()},
    ]
    file = {
        "images": [{"id": 1, "file_name": "a.png", "height": H, "width": W}],
        "categories": [{"id": 3, "name": "pallet"}],
        "annotations": [{"id": k, "image_id": 1, "category_id": 3} | shape for k, shape in enumerate(shapes)],
    }
    (root / "train" / "_annotations.coco.json").write_text("\ufeff" + json.dumps(file), encoding="utf-8")
    ask(root / "train")


def outline(mask: np.ndarray) -> list[list[float]]:
    """Corners around each pixel of a mask, as one polygon that goes along its columns."""
    return [[float(x), float(y)] for x, y in zip(*np.nonzero(mask.T), strict=True)]


def write_yolo(root: Path) -> None:
    images(root / "images" / "train", "a.png")
    (root / "labels" / "train").mkdir(parents=True)
    x0, y0, x1, y1 = BOX
    lines = [
        "0 " + " ".join(f"{x / W:.8f} {y / H:.8f}" for x, y in POLYGON),
        f"0 {(x0 + x1) / 2 / W} {(y0 + y1) / 2 / H} {(x1 - x0) / W} {(y1 - y0) / H}",
    ]
    (root / "labels" / "train" / "a.txt").write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n").encode())
    (root / "data.yaml").write_text("\ufefftrain: images/train\nnames: {0: pallet}\n", encoding="utf-8")
    ask(root)


def write_labelme(root: Path) -> None:
    images(root / "images", "a.png")
    mask = base64.b64encode(png(BLOB)).decode()
    shapes = [
        {"label": "pallet", "points": POLYGON, "shape_type": "polygon", "group_id": None, "flags": {}},
        {"label": "pallet", "points": [[BOX[2], BOX[1]], [BOX[0], BOX[3]]], "shape_type": "rectangle"},
        {"label": "pallet", "points": [[LEFT, TOP], [LEFT + 9, TOP + 11]], "shape_type": "mask", "mask": mask},
    ]
    file = {"version": "5.5.0", "shapes": shapes, "imagePath": "..\\images\\a.png", "imageData": None, "imageHeight": H, "imageWidth": W}
    (root / "train").mkdir()
    (root / "train" / "a.json").write_text("\ufeff" + json.dumps(file, indent=2).replace("\n", "\r\n"), encoding="utf-8")
    ask(root)


def write_cvat(root: Path) -> None:
    images(root / "images", "hall/a.png")
    flat = np.concatenate(([0], BLOB.ravel().astype(int), [-1]))
    ends = np.flatnonzero(np.diff(flat))
    runs = ", ".join(map(str, np.diff(np.concatenate(([0], ends))).tolist()))
    x0, y0, x1, y1 = BOX
    (root / "annotations.xml").write_text(
        f"""\ufeff<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><name>x</name></task></meta>
<image id="0" name="hall/a.png" width="{W}" height="{H}">
<polygon label="pallet" source="manual" occluded="0" points="{";".join(f"{x:.2f},{y:.2f}" for x, y in POLYGON)}" z_order="0"></polygon>
<box label="pallet" xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}"><attribute name="id">3</attribute></box>
<mask label="pallet" rle="{runs}" left="{LEFT}" top="{TOP}" width="10" height="12" z_order="0"></mask>
<tag label="indoor"></tag>
</image></annotations>""",
        encoding="utf-8",
    )
    ask(root, "hall/a.png")


def write_supervisely(root: Path) -> None:
    images(root / "train" / "img", "a.png")
    data = base64.b64encode(zlib.compress(png(BLOB))).decode()
    objects = [
        {"id": 0, "geometryType": "polygon", "points": {"exterior": POLYGON, "interior": []}},
        {"id": 1, "geometryType": "rectangle", "points": {"exterior": [[24, 8], [39, 19]], "interior": []}},
        {"id": 2, "geometryType": "bitmap", "bitmap": {"data": data, "origin": [LEFT, TOP]}},
    ]
    (root / "train" / "ann").mkdir()
    file = {"size": {"height": H, "width": W}, "objects": [item | {"classTitle": "pallet"} for item in objects], "tags": []}
    (root / "train" / "ann" / "a.png.json").write_text(json.dumps(file))
    ask(root)


def write_voc(root: Path) -> None:
    images(root / "JPEGImages", "a.png")
    polygon = "".join(f"<x{k}>{x}</x{k}><y{k}>{y}</y{k}>" for k, (x, y) in enumerate(POLYGON, 1))
    box = "".join(f"<{name}>{value}</{name}>" for name, value in zip(("xmin", "ymin", "xmax", "ymax"), BOX, strict=True))
    outlines = [f"<bndbox/><polygon>{polygon}</polygon>", f"<bndbox>{box}</bndbox>", "<robndbox><cx>3</cx></robndbox>"]
    objects = "".join(f"<object><name>pallet</name><truncated>0</truncated>{outline}</object>" for outline in outlines)
    size = f"<size><width>{W}</width><height>{H}</height><depth>3</depth></size>"
    (root / "Annotations").mkdir()
    text = f"<annotation><filename>a.png</filename>{size}{objects}</annotation>"
    (root / "Annotations" / "a.xml").write_text("\ufeff" + text, encoding="utf-8")
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\r\n")
    ask(root)


def ask(folder: Path, image: str = "a.png") -> None:
    """Write one question about each object, unless the file is there."""
    rows = [{"image": image, "question": "What is <mask>?", "annotation_ids": [number]} for number in range(3)]
    (folder / "questions_train.jsonl").write_text("\n".join(map(json.dumps, rows)))


WRITERS: dict[str, Callable[[Path], None]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "labelme": write_labelme,
    "cvat": write_cvat,
    "supervisely": write_supervisely,
    "voc": write_voc,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_scene_is_the_same_in_every_format(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITERS[name](tmp_path)
    skips = SkipLog()
    asked = list(iter_source(name, tmp_path, "train", skips=skips))
    monkeypatch.chdir(tmp_path.parent)
    relative = iter_source(name, tmp_path.name, "train", skips=SkipLog())
    assert [sample.regions for sample in relative] == [sample.regions for sample in asked]
    expected = MASKS[:2] if name in ("yolo", "voc") else MASKS  # those have no masks
    unread = 2 if name == "voc" else 3 - len(expected)  # the rotated box, and the question about it
    assert len(asked) == len(expected) and skips.total == unread, skips.summary()
    for sample, mask in zip(asked, expected, strict=True):
        np.testing.assert_array_equal(sample.regions[0].to_mask(), mask)
        assert sample.metadata["region_names"] == ["pallet"] and sample.image.name == "a.png"
    next(tmp_path.rglob("questions_train.jsonl")).unlink()
    sides = list(iter_source(name, tmp_path, "train", skips=SkipLog()))
    assert len(sides) == len(expected) * (len(expected) - 1) / 2
    for sample in sides:
        first, second = sample.metadata["annotation_ids"]
        assert sample.normalized_answer == ("left" if first < second else "right")


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_files_are_counted_or_refused(tmp_path: Path, name: str) -> None:
    """Cut off, overwritten and shuffled files: a DataError, or samples and counts, and never anything else."""
    WRITERS[name](tmp_path)
    path = next(path for path in tmp_path.rglob("*") if path.suffix in (".xml", ".txt", ".json"))
    data, rng = path.read_bytes(), np.random.default_rng(1)
    for attempt in range(150):
        damaged = bytearray(data[: rng.integers(0, len(data))] if attempt % 3 == 0 else data)
        for place in rng.integers(0, max(len(damaged), 1), 3 if damaged and attempt % 3 else 0):
            damaged[place] = rng.choice(list(b'09-.,"<>{}[]ex \n\x00\xff'))
        path.write_bytes(bytes(damaged))
        try:
            for sample in iter_source(name, tmp_path, "train", skips=SkipLog()):
                assert all(region.area for region in sample.regions)
        except DataError:
            continue


JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    1e30,
    float("nan"),
    "",
    "x",
    "1",
    [],
    [[]],
    [None],
    {},
    {"a": 1},
    [1, 2],
    "\ud800",
    "a\x00b",
    "a" * 999,
]


def replaced(value: Any, junk: Any) -> Iterator[Any]:
    """The value with each of its parts, at every depth, replaced."""
    for key in value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        changed = copy.copy(value)
        changed[key] = junk
        yield changed
        for part in replaced(value[key], junk):
            changed = copy.copy(value)
            changed[key] = part
            yield changed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["labelme", "supervisely"])
def test_no_field_ends_the_reading(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path)
    path = next(path for path in tmp_path.rglob("*.json"))
    good = json.loads(path.read_text(encoding="utf-8-sig"))
    for junk in JUNK:
        for damaged in replaced(good, junk):
            path.write_text(json.dumps(damaged))
            skips = SkipLog()
            samples = list(iter_source(name, tmp_path, "train", skips=skips))
            assert len(samples) + skips.total >= 3


# ------------------------------------------------------------------------------------------------------------------------- YOLO
def yolo(root: Path, *lines: str, image: str = "a.png", yaml: str = "names: [pallet, drum]") -> tuple[list[Any], SkipLog]:
    images(root / "train" / "images", image)
    (root / "train" / "labels").mkdir(parents=True, exist_ok=True)
    (root / "train" / "labels" / "a.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text(yaml)
    skips = SkipLog(keep=99)
    return list(iter_source("yolo", root, "train", skips=skips)), skips


GOOD = ("0 0.2 0.5 0.1 0.2", "1 0.8 0.5 0.1 0.2")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 0.2 0.5 0.1", "3 numbers follow"),
        ("0 0.2 0.5 0.1 0.2 0.9", "5 numbers follow"),
        ("0 0.2 0.5 0.1 0.2 0.9 0.3 0.3", "7 numbers follow"),
        ("0 20 50 10 20", "no shares"),
        ("0 0.2 nan 0.1 0.2", "no shares"),
        ("2 0.2 0.5 0.1 0.2", "class 2 is none of the 2"),
        ("0.5 0.2 0.5 0.1 0.2", "class 0.5"),
        ("nan 0.2 0.5 0.1 0.2", "class nan"),
        ("pallet 0.2 0.5 0.1 0.2", "no number"),
        ("0 0.2 0.5 0.0 0.0", "empty"),
        ("0 0.2 0.5 0.2 0.5 0.2 0.5", "no pixel"),
    ],
)
def test_a_line_that_cannot_be_used_is_counted(tmp_path: Path, line: str, expected: str) -> None:
    samples, skips = yolo(tmp_path, GOOD[0], line, GOOD[1])
    assert len(samples) == 1 and skips.counts == {"unusable row": 1} and expected in skips.summary()
    assert sorted(samples[0].metadata["annotation_ids"]) == [0, 2]


def test_shares_with_six_decimals_make_no_box_larger(tmp_path: Path) -> None:
    boxes = [(x, y, x + 7, y + 9) for x, y in ((1, 2), (10, 3), (30, 11), (50, 27))]
    lines = [f"0 {(a + c) / 2 / W:.6f} {(b + d) / 2 / H:.6f} {(c - a) / W:.6f} {(d - b) / H:.6f}" for a, b, c, d in boxes]
    samples, _ = yolo(tmp_path, *lines)
    assert {region.area for sample in samples for region in sample.regions} == {63}


def test_keypoints_behind_a_box_are_no_polygon(tmp_path: Path) -> None:
    lines = [f"{line} 0.2 0.5 2 0.3 0.5 1" for line in GOOD]
    (sample,), skips = yolo(tmp_path, *lines, yaml="names: {0: a, 1: b}\nkpt_shape: [2, 3]")
    assert not skips.total and {region.area for region in sample.regions} == {7 * 8}


def test_label_files_without_an_image_and_with_two_are_counted(tmp_path: Path) -> None:
    (tmp_path / "train" / "labels").mkdir(parents=True)
    for stem in ("b", "gone"):
        (tmp_path / "train" / "labels" / f"{stem}.txt").write_text("\n".join(GOOD))
    images(tmp_path / "train" / "images", "b.png", "b.jpg")
    samples, skips = yolo(tmp_path, *GOOD)
    assert len(samples) == 1 and skips.counts == {"missing image": 1, "unusable row": 1} and "b.jpg or b.png" in skips.summary()


@pytest.mark.parametrize("yaml", ["names: 5", "- a", "names: {x: y}", "{", "a: b", "names: [a]\nkpt_shape: x"])
def test_names_that_cannot_be_read_are_an_error(tmp_path: Path, yaml: str) -> None:
    with pytest.raises(DataError, match="no names of classes"):
        yolo(tmp_path, *GOOD, yaml=yaml)


def test_a_split_that_is_a_list_of_images_holds_those_alone(tmp_path: Path) -> None:
    images(tmp_path / "images", "a.png", "sub/b.png")
    (tmp_path / "labels" / "sub").mkdir(parents=True)
    for name in ("a", "sub/b", "gone"):
        (tmp_path / "labels" / f"{name}.txt").write_text("\n".join(GOOD))
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "t.txt").write_text("\ufeff./images/a.png\r\n\r\ndata/images/gone.png\r\n", encoding="utf-8")
    (tmp_path / "val.txt").write_text("C:\\x\\images\\sub\\b.png\n")
    (tmp_path / "coco8.yaml").write_text("path: .\ntrain: lists/t.txt\ntest: [images, more]\nnames: [pallet, drum]\n")
    for split, name, missing in (("train", "a.png", 1), ("val", "b.png", 0)):
        skips = SkipLog()
        (sample,) = iter_source("yolo", tmp_path, split, skips=skips)
        assert sample.image.name == name and skips.total == missing and set(sample.metadata["region_names"]) == {"pallet", "drum"}
    with pytest.raises(DataError, match="2 entries"):
        read_source("yolo", tmp_path, "test")


@pytest.mark.parametrize("orientation", [3, 6])
def test_shares_of_a_turned_image_need_a_word(tmp_path: Path, orientation: int) -> None:
    yolo(tmp_path, "0 0.2 0.3 0.1 0.2", "1 0.8 0.6 0.1 0.2")
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (W, H)).save(tmp_path / "train" / "images" / "a.png", exif=exif)
    skips = SkipLog()
    assert not list(iter_source("yolo", tmp_path, "train", skips=skips)) and "annotated=upright" in skips.summary()
    for pixels in ("upright", "stored"):
        (sample,) = read_source("yolo", tmp_path, "train", annotated=pixels)
        by_id = dict(zip(sample.metadata["annotation_ids"], sample.regions, strict=True))
        height, width = by_id[0].size
        assert (height, width) == ((W, H) if orientation == 6 else (H, W))
        y, x = (np.nonzero(by_id[0].to_mask())[axis].mean() / side for axis, side in ((0, height), (1, width)))
        expected = {("upright", 3): (0.2, 0.3), ("upright", 6): (0.2, 0.3), ("stored", 3): (0.8, 0.7), ("stored", 6): (0.7, 0.2)}
        assert (x, y) == pytest.approx(expected[pixels, orientation], abs=0.03)
    with pytest.raises(DataError, match="upright or stored"):
        read_source("yolo", tmp_path, "train", annotated="turned")


# ------------------------------------------------------------------------------------------------- LabelMe, CVAT, COCO and VOC
def test_a_project_of_cvat_has_a_folder_for_each_subset(tmp_path: Path) -> None:
    write_cvat(tmp_path)
    path = tmp_path / "annotations.xml"
    path.write_text(path.read_text(encoding="utf-8").replace('<image id="0"', '<image id="0" subset="Train"'), encoding="utf-8")
    (tmp_path / "images" / "Train").mkdir()
    (tmp_path / "images" / "hall").rename(tmp_path / "images" / "Train" / "hall")
    assert len(read_source("cvat", tmp_path, "train")) == 3


@pytest.mark.parametrize("name", ["result.json", "annotations/instances_default.json"])
def test_a_coco_file_without_splits_is_read_whole_and_ids_of_pandas_are_whole(tmp_path: Path, name: str) -> None:
    write_coco(tmp_path)
    (tmp_path / "train").rename(tmp_path / "images")
    exported, path = tmp_path / "images" / "_annotations.coco.json", tmp_path / name
    path.parent.mkdir(exist_ok=True)
    file = json.loads(exported.read_text(encoding="utf-8-sig"))
    exported.unlink()
    file["annotations"] = [{**entry, "id": float(entry["id"]), "image_id": 1.0, "category_id": 3.0} for entry in file["annotations"]]
    path.write_text(json.dumps(file))
    samples = read_source("coco", tmp_path, "train")
    assert len(samples) == 3 and {*samples[0].metadata["annotation_ids"]} < {0, 1, 2}
    assert samples[0].metadata["region_names"] == ["pallet", "pallet"]
    (tmp_path / "annotations").mkdir(exist_ok=True)
    (tmp_path / "annotations" / "instances_val.json").write_text(path.read_text())
    with pytest.raises(DataError, match="no annotations of the split 'train'"):
        read_source("coco", tmp_path, "train")


def test_a_list_of_voc_names_a_split(tmp_path: Path) -> None:
    write_voc(tmp_path)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("gone 1\n")
    skips = SkipLog()
    assert not list(iter_source("voc", tmp_path, "train", skips=skips)) and "'gone'" in skips.summary()
    with pytest.raises(DataError, match="expected one of train"):
        read_source("voc", tmp_path, "val")


def test_circles_have_their_area(tmp_path: Path) -> None:
    write_labelme(tmp_path)
    path = tmp_path / "train" / "a.json"
    file = json.loads(path.read_text(encoding="utf-8-sig"))
    file["shapes"] = [
        {"label": "drum", "points": [[20, 20], [32, 20]], "shape_type": "circle"},
        {"label": "part", "points": POLYGON, "shape_type": None, "group_id": 4},
        {"label": "part", "points": [[40, 4], [50, 14]], "shape_type": "rectangle", "group_id": 4},
        {"label": "other", "points": [[1, 2], [3, 4]], "shape_type": "line"},
    ]
    path.write_text(json.dumps(file))
    skips = SkipLog()
    drum, part = iter_source("labelme", tmp_path, "train", skips=skips)
    assert drum.regions[0].area == pytest.approx(np.pi * 12**2, rel=0.04)
    assert part.regions[0].area == MASKS[0].sum() + 100
    assert skips.counts == {"unread shape": 1, "unusable row": 1} and "shapes[3]: it is a line" in skips.summary()


def cvat(root: Path, *shapes: str, image: str = "", text: str | None = None) -> tuple[list[Any], SkipLog]:
    images(root / "images", "a.png")
    body = f'<annotations><image id="0" name="a.png" width="{W}" height="{H}" {image}>{"".join(shapes)}</image></annotations>'
    (root / "annotations.xml").write_text(body if text is None else text)
    skips = SkipLog(keep=99)
    return list(iter_source("cvat", root, "train", skips=skips)), skips


CVAT_BOXES = '<box label="a" xtl="2" ytl="4" xbr="10" ybr="20"/>', '<box label="b" xtl="50" ytl="4" xbr="60" ybr="20"/>'


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ('<polyline label="a" points="1,2;3,4;5,6"/>', "unread shape"),
        ('<points label="a" points="1,2"/>', "unread shape"),
        ('<skeleton label="a"><points label="b" points="1,2"/></skeleton>', "unread shape"),
        ('<cuboid label="a" xtl1="1"/>', "unread shape"),
        ('<polygon label="a" points="1,2;3"/>', "unusable row"),
        ('<polygon label="a"/>', "unusable row"),
        ('<box label="a" xtl="2" ytl="4" xbr="x" ybr="20"/>', "unusable row"),
        ('<box label="a" xtl="9" ytl="4" xbr="2" ybr="20"/>', "unusable row"),
        ('<mask label="a" rle="3, 4" left="0" top="0" width="3" height="3"/>', "unusable row"),
        ('<mask label="a" rle="0, 999999" left="0" top="0" width="999999" height="1"/>', "unusable row"),
        ('<mask label="a" rle="0, 9" left="99" top="0" width="3" height="3"/>', "unusable row"),
        ('<mask label="a" rle="" left="0" top="0" width="3" height="3"/>', "unusable row"),
    ],
)
def test_a_shape_of_cvat_that_is_not_read_moves_no_number(tmp_path: Path, shape: str, reason: str) -> None:
    samples, skips = cvat(tmp_path, CVAT_BOXES[0], shape, CVAT_BOXES[1])
    assert len(samples) == 1 and sorted(samples[0].metadata["annotation_ids"]) == [0, 2] and skips.counts == {reason: 1}


def test_boxes_and_ellipses_of_cvat_turn_clockwise(tmp_path: Path) -> None:
    shapes = [
        '<box label="a" xtl="20" ytl="18" xbr="40" ybr="22" rotation="90.0"/>',
        '<ellipse label="a" cx="30" cy="20" rx="15" ry="6" rotation="30"/>',
        '<polygon label="a" points="1,1;5,1;5,5;1,5" group_id="7"/>',
        '<polygon label="a" points="11,1;15,1;15,5;11,5" group_id="7"/>',
    ]
    ask(tmp_path)
    (tall, slanted, both), skips = cvat(tmp_path, *shapes)
    assert np.array_equal(tall.regions[0].to_mask(), Region.from_box((28, 10, 32, 30), H, W).to_mask())
    rows, columns = np.nonzero(slanted.regions[0].to_mask())
    assert np.corrcoef(rows, columns)[0, 1] > 0.5 and len(rows) == pytest.approx(np.pi * 15 * 6, rel=0.06)
    assert both.regions[0].area == 32 and not skips.total


def test_subsets_of_cvat_are_splits(tmp_path: Path) -> None:
    assert len(cvat(tmp_path, *CVAT_BOXES, image='subset="Train"')[0]) == 1
    with pytest.raises(DataError, match=r"its subsets are Validation \(1\)"):
        cvat(tmp_path, *CVAT_BOXES, image='subset="Validation"')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<!DOCTYPE a [<!ENTITY x "y"><!ENTITY z "&x;&x;">]><annotations>&z;</annotations>', "damaged XML"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>', "damaged XML"),
        ('<annotations><track id="0" label="a"><box frame="0"/></track></annotations>', "tracks of a video"),
        ("<annotation><object/></annotation>", "expected annotations"),
        ("<annotations><image", "damaged XML"),
        ("", "damaged XML"),
    ],
)
def test_other_xml_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        cvat(tmp_path, text=text)


def test_holes_of_supervisely_are_outside(tmp_path: Path) -> None:
    write_supervisely(tmp_path)
    path = tmp_path / "train" / "ann" / "a.png.json"
    file = json.loads(path.read_text())
    file["objects"][0]["points"]["interior"] = [[[4, 8], [8, 8], [8, 12], [4, 12]]]
    file["objects"][1]["geometryType"] = "line"
    path.write_text(json.dumps(file))
    skips = SkipLog()
    samples = list(iter_source("supervisely", tmp_path, "train", skips=skips))
    assert [sample.regions[0].area for sample in samples] == [MASKS[0].sum() - 16, blob().sum()]
    assert skips.counts == {"unread shape": 1, "unusable row": 1}


def test_every_reader_of_annotations_takes_the_same_options() -> None:
    assert set(WRITERS) < set(SOURCES)
    for name in WRITERS:
        with pytest.raises(DataError, match="max_pairs"):
            iter_source(name, Path("."), "train", skips=SkipLog(), max_pair=3)


@pytest.mark.parametrize("name", ["yolo", "labelme", "supervisely", "coco"])
def test_another_split_is_not_read_for_the_one_that_is_missing(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path)
    with pytest.raises(DataError):
        read_source(name, tmp_path, "val")


def test_a_set_without_splits_is_read_whole_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_labelme(tmp_path / "labelme")
    (tmp_path / "labelme" / "train" / "a.json").rename(tmp_path / "labelme" / "a.json")
    (tmp_path / "labelme" / "train").rmdir()
    write_yolo(tmp_path / "yolo")
    for kind in ("images", "labels"):
        (tmp_path / "yolo" / kind / "train").rename(tmp_path / "yolo" / "moved")
        (tmp_path / "yolo" / kind).rmdir()
        (tmp_path / "yolo" / "moved").rename(tmp_path / "yolo" / kind)
    for name in ("labelme", "yolo"):
        caplog.clear()
        assert read_source(name, tmp_path / name, "val") and "it has no splits, so all of it is read as 'val'" in caplog.text
