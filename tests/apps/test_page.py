"""Laws of the web page: what gestures mark, what files do, what is shown; and once in a real browser, where there is one."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smolrgpt.apps.page import scene as scenes
from smolrgpt.apps.page import views
from smolrgpt.apps.page.scene import Scene
from smolrgpt.data.loading import load_sample_depth
from smolrgpt.data.sources import read_source
from smolrgpt.inference.answer import Answer
from smolrgpt.schema import Camera, DataError, DepthMap, Region
from smolrgpt.schema.depth_map import DepthReading
from smolrgpt.schema.inputs_read import InputsRead

WIDTH, HEIGHT = 80, 60
ANSWER = Answer("[Region 0][Region 1]: 2.5", 2.5, "distance", 0.1, 0.9)


def blank() -> Scene:
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Scene(Image.fromarray(pixels))


def metric() -> Scene:
    """A camera 2 m above a floor, looking along it, a box standing on it."""
    scene = blank()
    rows = np.arange(HEIGHT)[:, None] + np.zeros((1, WIDTH))
    depth = np.where(rows > 32, 2.0 * 60 / np.maximum(rows - 30, 1), 40.0).astype(np.float32)
    depth[20:50, 30:50] = 6.0
    scene.depth, scene.camera = DepthMap(depth, "metric"), Camera(60.0, 60.0, WIDTH / 2, 30.0, WIDTH, HEIGHT)
    scene.regions = [Region.from_box([30, 20, 50, 50], HEIGHT, WIDTH)]
    return scene


# --------------------------------------------------------------------------------------------------------------------- gestures
def test_gestures_mark_what_they_cover() -> None:
    scene = blank()
    scenes.apply_gesture(scene, "box", {"box": [0.25, 0.5, 0.5, 1.0]})
    assert scene.regions == [Region.from_box([20, 30, 40, 60], HEIGHT, WIDTH)]
    scenes.apply_gesture(scene, "polygon", {"points": [[0.0, 0.0], [0.5, 0.0], [0.5, 0.5], [0.0, 0.5]]})
    assert scene.regions[1].to_mask()[: HEIGHT // 2, : WIDTH // 2].mean() > 0.95
    painted = Image.new("RGBA", (WIDTH // 2, HEIGHT // 2))
    painted.paste((255, 140, 0, 255), (0, 0, 10, 10))
    scenes.apply_gesture(scene, "brush", {"mask": painted})
    assert scene.regions[2].to_mask().sum() == 20 * 20
    assert any("<region 2>" in question for question in scene.examples)
    scenes.apply_gesture(scene, "delete", {"number": 0})
    scenes.apply_gesture(scene, "undo", {})
    assert len(scene.regions) == 1 and scene.regions[0].to_mask()[0, 0]
    scenes.apply_gesture(scene, "clear", {})
    scenes.apply_gesture(scene, "undo", {})
    scenes.apply_gesture(scene, "delete", {"number": 7})
    assert (scene.regions, scene.examples) == ([], [])


@pytest.mark.parametrize(
    ("action", "data", "expected"),
    [
        ("box", {"box": [0.5, 0.5, 0.5, 0.6]}, "empty"),
        ("polygon", {"points": [[0, 0], [1, 1]]}, "three points"),
        ("brush", {"mask": Image.new("RGBA", (8, 8))}, "no pixel"),
        ("pick", {"x": 0.5, "y": 0.5}, "no masks to pick from"),
    ],
)
def test_what_cannot_be_marked_says_why(action: str, data: dict[str, Any], expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        scenes.apply_gesture(blank(), action, data)


def test_a_scene_has_a_largest_number_of_regions() -> None:
    scene = blank()
    for _ in range(scenes.MAX_REGIONS):
        scenes.apply_gesture(scene, "box", {"box": [0, 0, 1, 1]})
    with pytest.raises(DataError, match="take one away"):
        scenes.apply_gesture(scene, "box", {"box": [0, 0, 1, 1]})


def test_instances_of_a_mask_file_are_picked_by_clicking(tmp_path: Path) -> None:
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels[10:20, 10:30], labels[40:50, 50:70] = 7, 200
    colours = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    colours[labels == 7], colours[labels == 200] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    Image.fromarray(colours).save(tmp_path / "colours.png")
    for name in ("labels.png", "colours.png"):
        scene = blank()
        assert scenes.load_instances(scene, tmp_path / name) == 2
        scenes.apply_gesture(scene, "pick", {"x": 60 / WIDTH, "y": 45 / HEIGHT})
        assert scene.regions == [Region.from_mask(labels == 200)]
        with pytest.raises(DataError, match="region 0 already"):
            scenes.apply_gesture(scene, "pick", {"x": 55 / WIDTH, "y": 41 / HEIGHT})
        with pytest.raises(DataError, match="no instance at this position"):
            scenes.apply_gesture(scene, "pick", {"x": 0.999, "y": 0.999})
    one = Image.fromarray(np.uint8(labels == 200) * 255)
    one.save(tmp_path / "one.jpg", quality=75)  # its edges ring
    one.convert("P", palette=Image.Palette.ADAPTIVE, colors=2).save(tmp_path / "palette.png")
    for name in ("one.jpg", "palette.png"):
        scene = blank()
        assert scenes.load_instances(scene, tmp_path / name) == 1
        scenes.apply_gesture(scene, "pick", {"x": 60 / WIDTH, "y": 45 / HEIGHT})
        assert abs(scene.regions[0].area - 200) <= 4
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    with pytest.raises(DataError, match="expected one for each object"):
        scenes.load_instances(blank(), tmp_path / "photo.png")
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "empty.png")
    Image.new("L", (WIDTH, WIDTH), 1).save(tmp_path / "square.png")
    for name, expected in (("empty.png", "holds no instance"), ("square.png", "expected masks of the whole image")):
        with pytest.raises(DataError, match=expected):
            scenes.load_instances(blank(), tmp_path / name)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda scene, folder: scenes.open_image(folder / "broken.png"), r"broken\.png"),
        (lambda scene, folder: scenes.load_depth(scene, folder / "broken.png"), r"broken\.png"),
        (lambda scene, folder: scenes.load_depth(scene, folder / "square.npy"), "50x50"),
        (lambda scene, folder: scenes.set_camera(scene, "1, 2"), "camera"),
        (lambda scene, folder: scenes.set_camera(scene, "a b c d"), "camera"),
        (lambda scene, folder: scenes.set_camera(scene, "0, 1, 2, 3"), "camera"),
        (lambda scene, folder: scenes.open_sample(folder / "list.json"), r"list\.json"),
    ],
    ids=["image", "depth", "shape of depth", "two numbers", "no numbers", "focal length 0", "sample"],
)
def test_bad_files_change_nothing(tmp_path: Path, call: Callable[..., Any], expected: str) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (tmp_path / "list.json").write_text("[]")
    np.save(tmp_path / "square.npy", np.ones((50, 50), np.float32))
    scene = blank()
    with pytest.raises(DataError, match=expected):
        call(scene, tmp_path)
    assert (scene.depth, scene.camera) == (None, None)


def test_a_saved_sample_opens_as_it_was(tmp_path: Path) -> None:
    scene = metric()
    scene.history = [("How tall is <region 0>?", ANSWER)]
    paths = scenes.export_sample(scene, tmp_path)
    assert all(path.is_file() for path in paths)
    again = scenes.open_sample(paths[0])
    assert (again.regions, again.camera) == (scene.regions, scene.camera)
    assert again.depth is not None and scene.depth is not None and again.depth.kind == "metric"
    assert np.array_equal(again.depth.values, scene.depth.values)
    scene.depth = DepthMap(scene.depth.values / 40, "relative")
    (path, *_) = scenes.export_sample(scene, tmp_path)
    reopened = scenes.open_sample(path).depth
    assert reopened is not None and reopened.kind == "relative"
    (sample,) = read_source("samples", path, "")
    read = load_sample_depth(sample)
    assert read is not None and read.kind == "relative", "what a .npy of floats does not say"
    assert np.array_equal(np.asarray(again.image), np.asarray(scene.image))
    assert json.loads(paths[0].read_text())["normalized_answer"] == 2.5
    with Image.open(*scenes.export_image(scene, tmp_path)) as image:
        assert image.width > 600


def test_drawn_scenes_come_with_regions_and_questions_and_are_repeatable() -> None:
    one, two, other = scenes.draw_scene(3), scenes.draw_scene(3), scenes.draw_scene(4, "reserved")
    assert np.array_equal(np.asarray(one.image), np.asarray(two.image)) and one.examples == two.examples
    assert not np.array_equal(np.asarray(one.image), np.asarray(other.image))
    assert one.is_metric and len(one.regions) >= 2 and all("<region" in question for question in one.examples)


def test_depth_and_masks_of_stored_pixels_follow_an_image_that_exif_turns(tmp_path: Path) -> None:
    turn = Image.Exif()
    turn[0x0112] = 6  # to be turned by a quarter to the right
    blank().image.save(tmp_path / "image.png", exif=turn)
    depth = np.random.default_rng(0).uniform(1, 5, (HEIGHT, WIDTH)).astype(np.float32)
    np.save(tmp_path / "depth.npy", depth)
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels[10:20, 10:30] = 7
    Image.fromarray(labels).save(tmp_path / "labels.png")
    scene = scenes.open_image(tmp_path / "image.png")
    scenes.load_depth(scene, tmp_path / "depth.npy")
    scenes.load_instances(scene, tmp_path / "labels.png")
    upright = np.rot90(labels, -1)
    assert scene.depth is not None and np.array_equal(scene.depth.values, np.rot90(depth, -1))
    row, column = np.argwhere(upright)[0]
    scenes.apply_gesture(scene, "pick", {"x": (column + 0.5) / HEIGHT, "y": (row + 0.5) / WIDTH})
    assert scene.regions == [Region.from_mask(upright > 0)]


def test_images_of_a_data_set_come_with_their_questions(tmp_path: Path) -> None:
    from smolrgpt.data.sources import read_source
    from smolrgpt.data.worlds import write_dataset

    write_dataset(tmp_path, "val", 1, seed=4, workers=1, progress=False)
    samples = read_source("warehouse", tmp_path, "val")
    scene = scenes.scene_from_samples(samples, "one")
    assert scene.is_metric and {region for sample in samples for region in sample.regions} == set(scene.regions)
    assert len(scene.examples) == len(samples) and "<mask>" not in "".join(scene.examples)


# ------------------------------------------------------------------------------------------------------------------------- shown
def test_marks_lie_where_their_regions_are() -> None:
    scene = blank()
    scene.regions = [Region.from_box([20, 30, 40, 60], HEIGHT, WIDTH), Region.from_box([0, 0, 2, 2], HEIGHT, WIDTH)]
    first, tiny = views.region_overlays(scene)
    assert first["box"] == [25.0, 50.0, 25.0, 50.0] and first["mask"].startswith("data:image/png")
    assert 25 < first["anchor"][0] < 50 and 50 < first["anchor"][1] < 100
    assert (tiny["number"], tiny["box"][:2]) == (1, [0.0, 0.0])
    large = Scene(Image.new("RGB", (4000, 3000)), regions=[Region.from_box([0, 0, 2, 2], 3000, 4000)])
    assert views.region_overlays(large)[0]["box"][2] > 0, "what is thinner than a shown pixel is still there"
    assert views.marker_images(large)["width"] == views.BROWSER_SIDE


def test_answers_are_escaped_and_name_regions() -> None:
    text = views.finished_answer_html("Is <region 1> <b>?", ANSWER)
    assert "<b>" not in text and "2.5 m" in text and 'class="chip"' in text
    assert views.mentioned_regions("[Region 3] [Region 0][Region 3]") == [0, 3]
    assert "<script>" not in views.unfinished_answer_html("<script>", "<script>")


def test_the_page_shows_how_inputs_were_read_and_each_doubt() -> None:
    read = InputsRead(DepthReading("metric", "1 mm", 0.0003, 0.002, 0.25, 640, 480), None, ("region 1: <b> fills the image",))
    for shown in (views.inputs_html(read), views.finished_answer_html("?", dataclasses.replace(ANSWER, inputs=read))):
        assert "<b> fills" not in shown and "fills the image" in shown and 'class="doubt"' in shown
    assert "640x480" in views.inputs_html(read) and "1 mm" in views.inputs_html(read)
    assert "doubt" not in views.inputs_html(metric().frame.inputs_read(metric().regions))


def test_space_is_measured_from_the_floor() -> None:
    scene = metric()
    floor = views.find_scene_floor(scene)
    assert floor is not None and floor.height_m == pytest.approx(2.0, abs=0.05)
    (line,) = views.describe_regions(scene, floor)
    top = float(line.rpartition("top at ")[2].removesuffix(" m"))
    assert top == pytest.approx(2.0 + 10 / 60 * 6, abs=0.15), "a pixel ten rows above the horizon, six metres away"
    for figure in (views.plot_top_down(scene), views.plot_point_cloud(scene)):
        assert len(figure.data) >= 3 and json.loads(figure.to_json())["layout"]


# ------------------------------------------------------------------------------------------------------------------- in a browser
def _chromium() -> str | None:
    return next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    """The bundled model's page in a browser; skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    if _chromium() is None:
        pytest.skip("no Chromium on this machine")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "smolrgpt", "demo", "--no-open", "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            _wait_for(f"http://127.0.0.1:{port}", process)
            with playwright.sync_playwright() as driver:
                quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
                browser = driver.chromium.launch(executable_path=_chromium(), args=quiet)
                page = browser.new_page(viewport={"width": 1300, "height": 900})
                page.set_default_timeout(60_000)
                requested: list[str] = []
                page.on("request", lambda request: requested.append(request.url))
                page.goto(f"http://127.0.0.1:{port}")
                page.wait_for_selector(".chips .one")
                yield page
                browser.close()
                outside = [url for url in requested if not url.startswith((f"http://127.0.0.1:{port}", "data:", "blob:"))]
                assert not outside, "the page works without the network"
        finally:
            process.terminate()


def _wait_for(url: str, process: subprocess.Popen[str]) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            time.sleep(0.5)
    raise TimeoutError(url)


def _drag(page: Any, box: tuple[float, float, float, float]) -> None:
    frame = page.locator(".view canvas").first.bounding_box()
    at = [(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in (box[:2], box[2:])]
    page.mouse.move(*at[0])
    page.mouse.down()
    page.mouse.move(*at[1], steps=4)
    page.mouse.up()


@pytest.mark.slow
def test_a_person_marks_two_boxes_asks_and_reads_the_answer(page: Any, tmp_path: Path) -> None:
    page.click("[data-act=clear]")
    page.wait_for_selector(".chips .none")
    _drag(page, (0.1, 0.4, 0.3, 0.8))
    page.wait_for_function("document.querySelectorAll('.chips .one').length == 1")
    page.locator(".view canvas").first.focus()  # the second one with the keyboard, from where the first began
    for _ in range(8):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    for key in ("Shift+ArrowRight", "Shift+ArrowDown", "Shift+ArrowRight", "Shift+ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.wait_for_function("document.querySelectorAll('.chips .one').length == 2")
    page.fill("#question textarea", "Is ")
    page.click(".chips .one >> nth=0 >> button >> nth=0")
    page.keyboard.type(" to the left or right of")
    page.click(".chips .one >> nth=1 >> button >> nth=0")
    page.keyboard.type("?")
    assert page.input_value("#question textarea") == "Is <region 0> to the left or right of <region 1>?"
    page.click("#question button")
    page.wait_for_selector(".reply .short")
    assert page.inner_text(".reply .short") == "left"
    page.wait_for_selector(".history td")
    assert page.locator(".view[data-view=image] .marks img.named").count() == 2, "the regions that the answer names are highlighted"
    page.click("button[role=tab]:has-text('From above')")
    page.wait_for_selector("#above .js-plotly-plot")

    page.click("#save-image")
    with page.expect_download() as download:
        page.click("#saved a >> nth=0")
    download.value.save_as(tmp_path / "saved.png")
    with Image.open(tmp_path / "saved.png") as saved:
        assert saved.width >= 1280, "image and depth next to one another"

    page.fill("#question textarea", "How tall is <region 9>?")
    page.click("#question button")
    page.wait_for_selector("text=the question mentions <region 9>")

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    page.click("#files button >> nth=0")
    page.set_input_files("#files input[type=file] >> nth=0", str(broken))
    page.wait_for_selector("text=cannot read this image")
    assert page.locator(".chips .one").count() == 2, "what was there is still there"
