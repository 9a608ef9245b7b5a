"""Laws of cameras: one camera means the same in every form in which a program writes it; what it cannot be is refused, the odd is said."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from smolrgpt.data.frame import Frame, fit_camera
from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.samples import iter_sample_rows
from smolrgpt.schema import Camera, DataError, DepthMap
from smolrgpt.schema.camera_forms import _FIELDS

WIDTH, HEIGHT = 640, 480
FX, FY, CX, CY = 517.25, 518.5, 318.75, 242.25
CAMERA = Camera(FX, FY, CX, CY, WIDTH, HEIGHT)
K = [[FX, 0.0, CX], [0.0, FY, CY], [0.0, 0.0, 1.0]]
ROWS, COLUMNS = np.array(K).ravel().tolist(), np.array(K).T.ravel().tolist()
P = np.hstack([K, [[-30.0], [0], [0]]])
SIZE = {"width": WIDTH, "height": HEIGHT}
FIELDS = {"fx": FX, "fy": FY, "cx": CX, "cy": CY}

VALUES: dict[str, Any] = {
    "four numbers": (FX, FY, CX, CY),
    "four texts": [str(n) for n in (FX, FY, CX, CY)],
    "six numbers": (FX, FY, CX, CY, WIDTH, HEIGHT),
    "array of four": np.array([FX, FY, CX, CY], np.float32),
    "K": np.array(K),
    "K transposed": np.array(K).T,
    "K nested": K,
    "K of a batch": np.array(K)[None],
    "K as a tensor": torch.tensor(K, dtype=torch.float64, requires_grad=True),
    "nine, row-major": ROWS,
    "nine, column-major": COLUMNS,
    "P": P,
    "twelve, row-major": P.ravel().tolist(),
    "4x4": np.block([[np.array(K), np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]]),
    "mapping": FIELDS,
    "upper case": {name.upper(): value for name, value in FIELDS.items()},
    "object": SimpleNamespace(**SIZE, ppx=CX, ppy=CY, fx=FX, fy=FY, model="distortion.brown_conrady", coeffs=[0.0] * 5),
    "ROS 1": {"header": {"seq": 1}, **SIZE, "distortion_model": "plumb_bob", "D": [0.0] * 5, "K": ROWS, "R": [1], "P": P.ravel().tolist()},
    "ROS 2": {**SIZE, "d": [], "k": ROWS, "roi": {"x_offset": 0, "y_offset": 0, "width": 0, "height": 0, "do_rectify": False}},
    "ROS P": {**SIZE, "P": P.ravel().tolist()},
    "Open3D": {**SIZE, "intrinsic_matrix": COLUMNS},
    "Open3D nested": {**SIZE, "intrinsic_matrix": K},
    "Record3D": {"w": WIDTH, "h": HEIGHT, "fps": 60, "K": COLUMNS, "poses": [[0, 0, 0, 1, 0, 0, 0]]},
    "ARKit": {"cameraIntrinsics": COLUMNS, "imageResolution": [WIDTH, HEIGHT]},
    "ARKit, columns": {"intrinsics": {"columns": np.array(K).T.tolist()}, "imageResolution": {"height": HEIGHT, "width": WIDTH}},
    "points": {"focalLength": {"y": FY, "x": FX}, "principalPoint": {"x": CX, "y": CY}, "resolution": "640x480", "distortion": "None"},
    "ARKit, named": {"intrinsics": {**FIELDS}, "resolution": {"width": WIDTH, "height": HEIGHT}},
    "nerfstudio": {
        "camera_model": "OPENCV",
        "fl_x": FX,
        "fl_y": FY,
        "cx": CX,
        "cy": CY,
        "w": WIDTH,
        "h": HEIGHT,
        "k1": 0.0,
        "frames": [{}],
    },
    "Kalibr": {"cam0": {"intrinsics": [FX, FY, CX, CY], "resolution": [WIDTH, HEIGHT], "distortion_model": "radtan"}},
    "Replica": {"camera": {"w": WIDTH, "h": HEIGHT, **FIELDS, "scale": 6553.5}},
    "BOP": {"0": {"cam_K": ROWS, "depth_scale": 0.1}, "1": {"cam_K": ROWS, "depth_scale": 0.1}},
    "pairs": {"focal_length": [FX, FY], "principal_point": [CX, CY], "image_size": [WIDTH, HEIGHT]},
    "JSON null": {**FIELDS, "width": None, "height": None},
    "our own": json.loads(json.dumps(dataclasses.asdict(CAMERA))),
}

TEXTS = {
    "commas": f"{FX},{FY},{CX},{CY}",
    "spaces": f"  {FX} {FY}\t{CX} {CY}\n",
    "JSON": json.dumps(FIELDS),
    "JSON list": json.dumps(K),
    "printed array": str(np.array(K)),
    "rows of numbers": "\n".join(" ".join(map(str, row)) for row in K),
    "csv with a comment": "# fx 0 cx\n" + "\n".join(", ".join(map(str, row)) for row in K),
    "YAML": f"K: {ROWS}\nwidth: {WIDTH}\nheight: {HEIGHT}\n",
    "assignments": f"Camera(fx={FX}, fy={FY}, cx={CX}, cy={CY})",
    "YAML pairs": f"fx: {FX}\nfy: {FY}\ncx: {CX}\ncy: {CY}",
    "ros2 topic echo": f"header:\n  id: x\nheight: {HEIGHT}\nwidth: {WIDTH}\nd: []\nk:\n" + "".join(f"- {n}\n" for n in ROWS) + "---\n",
    "ROS calibration": f"image_width: {WIDTH}\nimage_height: {HEIGHT}\ncamera_matrix:\n  rows: 3\n  cols: 3\n  data: {ROWS}\n"
    "distortion_model: plumb_bob\ndistortion_coefficients:\n  rows: 1\n  cols: 5\n  data: [0, 0, 0, 0, 0]\n",
    "OpenCV": f"%YAML:1.0\n---\nimage_width: {WIDTH}\nimage_height: {HEIGHT}\ncamera_matrix: !!opencv-matrix\n   rows: 3\n   cols: 3\n"
    f"   dt: d\n   data: [ 5.1725e+02, 0., {CX}, 0., {FY},\n       {CY}, 0., 0., 1. ]\n",
}


@pytest.mark.parametrize("form", VALUES)
def test_every_form_is_the_same_camera(form: str) -> None:
    found = Camera.from_any(VALUES[form], HEIGHT, WIDTH)
    assert (found.fx, found.fy, found.cx, found.cy, found.width, found.height) == (FX, FY, CX, CY, WIDTH, HEIGHT)
    assert found.doubts() == [] and hash(found) == hash(dataclasses.replace(found))


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("write", [str.encode, lambda text: text.replace("\n", "\r\n").encode("utf-8-sig")], ids=["utf-8", "BOM"])
def test_texts_and_their_files_are_the_same_camera(form: str, write: Callable[[str], bytes], tmp_path: Path) -> None:
    path = tmp_path / "camera.txt"
    path.write_bytes(write(TEXTS[form]))
    found = [Camera.from_any(value, HEIGHT, WIDTH, folder) for value, folder in ((path, None), (str(path), None), ("camera.txt", tmp_path))]
    found += [Camera.from_text(TEXTS[form], HEIGHT, WIDTH), Camera.from_any(TEXTS[form], HEIGHT, WIDTH)]
    assert {(c.fx, c.fy, c.cx, c.cy, c.width, c.height) for c in found} == {(FX, FY, CX, CY, WIDTH, HEIGHT)}


def test_numpy_files(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", np.array(K))
    np.savez(tmp_path / "calibration.npz", mtx=np.array(K), dist=np.zeros((1, 5)), rvecs=np.zeros(3))
    assert all(
        (c := Camera.from_any(tmp_path / name, HEIGHT, WIDTH)).cx == CX and not any(c.distortion) for name in ("k.npy", "calibration.npz")
    )


@given(st.floats(50, 5000), st.floats(50, 5000), st.floats(0.1, 0.9), st.floats(0.1, 0.9))
def test_what_is_written_is_read(fx: float, fy: float, x: float, y: float) -> None:
    camera = Camera(fx, fy, x * WIDTH, y * HEIGHT, WIDTH, HEIGHT, (0.1, -0.2), "plumb_bob")
    assert Camera.from_any(json.loads(json.dumps(dataclasses.asdict(camera)))) == camera
    assert Camera.guess(HEIGHT, WIDTH) == Camera.from_any(json.loads(json.dumps(dataclasses.asdict(Camera.guess(HEIGHT, WIDTH)))))


REFUSED = {
    "expected fx,fy,cx,cy": [
        [1.0, 2.0, 3.0],
        "x",
        "600",
        "1,2",
        {},
        {"fx": 1},
        {"focal": 600},
        5,
        None,
        [],
        "a: [1",
        "[" * 3000,
    ],
    "there are 2 cameras": [{"color": FIELDS, "depth": {**FIELDS, "fx": 400}}],
    "two values of fx": [{**FIELDS, "fl_x": 3}, {**FIELDS, "fx": 600, "K": K}],
    "no intrinsic matrix": [list(range(1, 10)), np.arange(12).reshape(3, 4), np.eye(4)[::-1], [[FX, 0, 0], [0, FY, 0], [CX, 0, 1]][::-1]],
    "shares of the sides": [(0.8, 1.1, 0.5, 0.5), [[0.8, 0, 0.5], [0, 1.1, 0.5], [0, 0, 1]]],
    "outside; give the width and height": [(2000, 2000, 980, 540), (WIDTH, HEIGHT, FX * 2, FY)],
    "all zeros": [{**SIZE, "K": [0.0] * 9}],
    "finite and above 0": [
        [None] * 4,
        (-FX, FY, CX, CY),
        (float("nan"),) * 4,
        {**FIELDS, "width": 0, "height": 0},
        {**FIELDS, "d": [float("nan")]},
    ],
    "one of width and height": [{**FIELDS, "width": 640}],
    "part of the sensor": [{**SIZE, "K": ROWS, "roi": {"x_offset": 100, "y_offset": 0, "width": 200, "height": 200}}],
    "expected": [
        {**SIZE, "K": "fx"},
        {**SIZE, "K": [[1], [1, 2]]},
        {**SIZE, "K": {"data": "x"}},
    ],
}


@pytest.mark.parametrize(("value", "message"), [(value, message) for message, values in REFUSED.items() for value in values], ids=repr)
def test_what_is_no_camera_is_refused_in_one_line(value: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        Camera.from_any(value, HEIGHT, WIDTH)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


_NAMES = sorted({*_FIELDS, "data", "columns", "rows", "cam0", "x", "y"})
_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.just(ROWS) | st.just(FIELDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_NAMES) | st.text(max_size=4), inner, max_size=6),
    max_leaves=12,
)


@given(_JUNK)
@settings(max_examples=200, deadline=None)
def test_junk_is_a_camera_or_refused(value: Any) -> None:
    with contextlib.suppress(DataError):
        assert all(isinstance(doubt, str) for doubt in Camera.from_any(value, HEIGHT, WIDTH).doubts())
    with contextlib.suppress(DataError):
        Camera.from_text(json.dumps(value), HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (json.dumps(FIELDS).encode("utf-16"), "UTF-16"),
        (b"\xff\xd8\xff\xe0 JPEG", "UTF-8"),
        (b"<?xml version='1.0'?><opencv_storage/>", "XML"),
        (b"a: &a [1]\nK: [*a, *a]", "expected"),
        (b"", "expected"),
    ],
)
def test_files_that_are_no_camera_are_named(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "camera.json"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        Camera.from_any(path, HEIGHT, WIDTH)
    assert "camera.json" in str(caught.value)


DOUBTED = {
    "principal point": [Camera(FX, FX, 0, 0, 640, 480), Camera(FX, FX, 480, 270, 640, 480), Camera(FX, FX, 240, 320, 640, 480)],
    "middle of an image of about 480x640": [Camera(FX, FX, 240, 320, 640, 480)],
    "middle of an image of about 640x480": [Camera(FX, FY, 320, 240, *size) for size in ((800, 600), (480, 360))],
    "focal lengths differ": [Camera(400, 320, 320, 240, 640, 480), Camera(320, 400, 320, 240, 640, 480)],
    "field of view": [Camera(50, 50, 320, 240, 640, 480), Camera(2500, 2500, 320, 240, 640, 480)],
    "distortion": [dataclasses.replace(CAMERA, distortion=(-0.4, 0.2, 0, 0, 0)), dataclasses.replace(CAMERA, distortion=(0, 0, 0.05))],
    "model": [dataclasses.replace(CAMERA, distortion_model=name) for name in ("equidistant", "OPENCV_FISHEYE", "pinhole equi")],
    "no camera was given": [Camera.guess(480, 640)],
}


@pytest.mark.parametrize(("camera", "doubt"), [(camera, doubt) for doubt, cameras in DOUBTED.items() for camera in cameras], ids=repr)
def test_odd_cameras_are_doubted_in_one_sentence(camera: Camera, doubt: str) -> None:
    assert any(doubt in sentence for sentence in camera.doubts())
    assert all(not sentence.endswith(".") and "\n" not in sentence for sentence in camera.doubts())


@pytest.mark.parametrize(
    "camera",
    [
        Camera(721.5, 721.5, 609.6, 172.9, 1242, 375),  # KITTI
        Camera(1081.4, 1081.4, 959.5, 539.5, 1920, 1080, (0.0412, -0.0427, 0, 0, 0.0089)),  # Kinect v2, colour
        Camera(1598.9, 1598.9, 961.6, 719.3, 1920, 1440),  # ARKit
        Camera(615.9, 616.2, 326.1, 241.2, 640, 480, (0.0,) * 5, "Inverse Brown Conrady"),  # RealSense
    ],
    ids=repr,
)
def test_real_cameras_are_not_doubted(camera: Camera) -> None:
    assert camera.doubts() == []


# ------------------------------------------------------------------------------------------------------------------- in a frame
def _depth(kind: Any = "metric", size: tuple[int, int] = (HEIGHT, WIDTH)) -> DepthMap:
    return DepthMap(np.full(size, 0.5, np.float32), kind)


def test_a_camera_of_another_aspect_is_refused_and_of_another_size_is_not() -> None:
    image = Image.new("RGB", (WIDTH, HEIGHT))
    assert Frame(image, None, CAMERA.resized(1920, 1440)).camera == CAMERA.resized(1920, 1440)
    for camera, words in ((CAMERA.resized(1920, 1080), "cropped"), (CAMERA.turned(6), "exchange fx and fy")):
        with pytest.raises(DataError, match=words):
            Frame(image, None, camera)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_camera_of_the_stored_pixels_is_turned_with_them(orientation: int) -> None:
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[100, 500] = 255
    stored = Image.fromarray(pixels)
    exif = stored.getexif()
    exif[0x0112] = orientation
    upright = ImageOps.exif_transpose(stored)
    (y,), (x,) = np.nonzero(np.asarray(upright))
    turned = fit_camera(Camera(FX, FY, 500, 100, WIDTH, HEIGHT), (WIDTH, HEIGHT), orientation)
    assert (turned.fx, turned.fy, turned.cx, turned.cy, turned.width, turned.height) == (FY, FX, x, y, HEIGHT, WIDTH)


@pytest.mark.parametrize(("depth", "is_guessed"), [(_depth(), True), (_depth("relative"), False), (None, False)])
def test_a_camera_is_guessed_for_metric_depth_alone_and_said(depth: DepthMap | None, is_guessed: bool) -> None:
    frame = Frame(Image.new("RGB", (WIDTH, HEIGHT)), depth)
    assert (frame.camera is not None) == is_guessed
    assert any("no camera was given" in warning for warning in frame.inputs_read([]).warnings) == is_guessed
    assert not any("no camera" in warning for warning in Frame(frame.image, depth, CAMERA).inputs_read([]).warnings)


def test_a_guessed_camera_keeps_its_view_when_the_image_is_turned() -> None:
    assert Camera.guess(HEIGHT, WIDTH).turned(6) == Camera.guess(WIDTH, HEIGHT)


def test_rows_and_data_sets_refuse_and_turn_cameras_as_ask_does(tmp_path: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.png")
    photo = Image.new("RGB", (WIDTH, HEIGHT))
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(tmp_path / "b.jpg", exif=exif)
    (tmp_path / "camera.json").write_text(json.dumps(dataclasses.asdict(CAMERA)))
    cameras = [
        ("a.png", "camera.json"),
        ("b.jpg", "camera.json"),
        ("a.png", dataclasses.asdict(CAMERA.turned(6))),
        ("a.png", [2000, 2000, 980, 540]),
    ]
    rows = [{"image": image, "camera": camera, "question": "What is this?"} for image, camera in cameras]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    skips = SkipLog()
    samples = list(iter_sample_rows(tmp_path / "rows.jsonl", skips=skips))
    assert [sample.camera for sample in samples] == [CAMERA, CAMERA.turned(6)] and skips.total == 2
    assert [Frame.from_sample(sample).camera for sample in samples] == [CAMERA, CAMERA.turned(6)]
    with pytest.raises(DataError, match=r"a\.png: the camera is of 480x640"):
        Frame.from_sample(dataclasses.replace(samples[0], camera=CAMERA.turned(6)))


# ------------------------------------------------------------------------------------------------------------------- real files
SAMPLES = {
    "open3d.json": "same", "row_major.json": "same", "nested.json": "same", "ros.yaml.json": "same", "bom.json": "same",
    "portrait.json": "refused", "four_by_three.json": "refused", "far_middle.json": "refused",
    "swapped_fields.json": "focal lengths differ", "distorted.json": "distortion",
}  # fmt: skip


@pytest.mark.realdata
@pytest.mark.parametrize("name", SAMPLES)
def test_sample_files(shared_path: Callable[[str], Path], name: str) -> None:
    folder = shared_path("samples/inputs/00-scene").parent
    image = Image.open(folder / "00-scene" / "rgb.png").convert("RGB")
    truth = Camera.from_any(folder / "00-scene" / "camera.json")
    path = folder / "11-camera-files" / name
    try:
        camera = Frame(image, None, Camera.from_any(path, image.height, image.width)).camera
    except DataError:
        assert SAMPLES[name] == "refused"
        return
    assert camera is not None and SAMPLES[name] != "refused"
    if SAMPLES[name] == "same":
        assert (camera.fx, camera.fy, camera.cx, camera.cy) == (truth.fx, truth.fy, truth.cx, truth.cy) and camera.doubts() == []
    else:
        assert any(SAMPLES[name] in doubt for doubt in camera.doubts())
