"""The web page: open or draw a scene, mark regions, ask. Layout and events; scene.py has their actions, views.py their images and HTML."""

from __future__ import annotations

import base64
import dataclasses
import functools
import html
import os
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported, which asks then

import gradio as gr
from gradio.components import Component
from PIL import Image

from smolrgpt.apps.page import scene as scenes
from smolrgpt.apps.page import views
from smolrgpt.apps.page.scene import Scene
from smolrgpt.inference.answer import Answer
from smolrgpt.inference.predictor import Predictor
from smolrgpt.schema import DataError, Polarity, Sample
from smolrgpt.schema.depth_meaning import DEPTH_UNITS, StoredKind
from smolrgpt.schema.image_file import image_from_bytes
from smolrgpt.viz.gallery import CHIP_STYLE

_HERE = Path(__file__).parent
MAX_FILE = "64mb"
FIRST_SEED = 7
#: The choice of an option that states nothing of a depth file.
_UNSTATED = "as its type states"
#: A click on an example puts it into the question.
_PUT_QUESTION = """
element.addEventListener('click', event => {
  const button = event.target.closest('button');
  if (!button) return;
  const box = document.querySelector('#question textarea');
  box.value = button.dataset.question;
  box.dispatchEvent(new Event('input', {bubbles: true}));
  box.focus();
});
"""
CSS = f"""
{CHIP_STYLE}
.gradio-container {{ max-width: 1500px !important; }}
#title h1 {{ margin: 0; font-size: 1.35rem; }}
.reply {{ border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 10px 14px; min-height: 60px; }}
.read {{ font-size: .85rem; color: var(--body-text-color-subdued); overflow-wrap: anywhere; }}
.read p {{ margin: 2px 0; }}
.doubt {{ color: var(--body-text-color); border-left: 3px solid #d08700; padding-left: 8px; }}
.reply p {{ margin: 4px 0; overflow-wrap: anywhere; }}
.reply .asked, .reply .about, .none {{ color: var(--body-text-color-subdued); font-size: .9rem; }}
.reply .short {{ font-size: 1.7rem; font-weight: 700; }}
.reply meter {{ width: 70px; vertical-align: middle; }}
.pen {{ display: inline-block; width: .5em; height: 1em; background: currentColor; opacity: .5; vertical-align: text-bottom; }}
.history {{ width: 100%; border-collapse: collapse; }}
.history td, .history th {{ text-align: left; padding: 4px 8px; border-bottom: 1px solid var(--border-color-primary); }}
.examples {{ display: grid; gap: 6px; font-size: .9rem; }}
.examples b {{ color: var(--body-text-color-subdued); font-weight: 500; }}
.examples button {{ text-align: left; padding: 5px 10px; border: 1px solid var(--border-color-primary); border-radius: 8px; cursor: pointer;
  background: var(--background-fill-secondary); color: var(--body-text-color); overflow-wrap: anywhere; }}
.examples button:focus-visible {{ outline: 3px solid var(--color-accent); }}
footer {{ display: none !important; }}
"""


@dataclass(frozen=True)
class Components:
    """The Gradio components of the page that events read or change."""

    scene: gr.State
    marker: gr.HTML
    seed: gr.Number
    origin: gr.Dropdown
    draw: gr.Button
    next_scene: gr.Button
    image: gr.File
    depth: gr.File
    masks: gr.File
    unit: gr.Dropdown
    kind: gr.Radio
    near: gr.Radio
    camera: gr.Textbox
    inputs: gr.HTML
    question: gr.Textbox
    answer: gr.HTML
    examples: gr.HTML
    save_image: gr.Button
    save_sample: gr.Button
    saved: gr.File
    history: gr.HTML
    above_tab: gr.Tab
    above: gr.Plot
    above_note: gr.Markdown
    space_tab: gr.Tab
    space: gr.Plot
    space_note: gr.Markdown

    @property
    def scene_views(self) -> list[Component]:
        """The components that show the scene, in the order of ``_show``."""
        return [self.scene, self.marker, self.inputs, self.examples, self.history, self.above, self.space]

    @property
    def files(self) -> list[Component]:
        """The components that hold what belongs to one image, in the order of ``_show_new``."""
        return [self.depth, self.masks, self.camera]


def make_page(predictor: Predictor, name: str, images: Sequence[Sequence[Sample]] = ()) -> gr.Blocks:
    """Build the page around a predictor.

    Args:
        predictor: answers the questions.
        name: of the model, as the page shows it.
        images: the questions about each image of a data set, which the page then offers.
    """
    origins = ["data set"] * bool(images) + ["known", "reserved"]
    page: gr.Blocks
    with gr.Blocks(title="smolrgpt", fill_width=True) as page:
        scene = gr.State(None)
        gr.Markdown(f"# Ask about regions of an RGB-D image\nmodel **{name}**; its answers can be wrong", elem_id="title")
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                left = _image_column(origins)
            with gr.Column(scale=2, min_width=320):
                right = _question_column()
        parts = Components(scene=scene, **left, **right, **_tabs())
        _connect_scene(page, parts, images)
        _connect_question(parts, predictor)
    return page


def _image_column(origins: list[str]) -> dict[str, Any]:
    """Lay out the image with its marks, and everything that opens another one."""
    marker = gr.HTML(
        {},
        html_template=(_HERE / "marker.html").read_text(encoding="utf-8"),
        css_template=(_HERE / "marker.css").read_text(encoding="utf-8"),
        js_on_load=(_HERE / "marker.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id="marker",
        named=[],
    )
    parts: dict[str, Any] = {"marker": marker, "inputs": gr.HTML("", elem_id="inputs")}
    with gr.Row():
        parts["seed"] = gr.Number(FIRST_SEED, label="Scene", precision=0, minimum=0, min_width=140, elem_id="seed")
        parts["origin"] = gr.Dropdown(origins, value=origins[0], label="From", min_width=110)
        parts["draw"] = gr.Button("Show it", min_width=90, elem_id="draw")
        parts["next_scene"] = gr.Button("Another", min_width=90, elem_id="other")
    with gr.Accordion("Your own files", open=False, elem_id="files"):
        with gr.Row():
            label = "Image (JPEG, PNG), or a sample saved here (JSON and its files)"
            parts["image"] = gr.File(label=label, file_count="multiple")
            parts["depth"] = gr.File(label="Depth: 16-bit mm, float m (.npy, TIFF, EXR), 8-bit relative, or as stated below")
            parts["masks"] = gr.File(label="Masks: a number or colour for each object")
        with gr.Row():
            units: list[Any] = [(_UNSTATED, ""), *DEPTH_UNITS]
            label = "Unit of depth: metres per stored unit"
            parts["unit"] = gr.Dropdown(units, value="", allow_custom_value=True, label=label, elem_id="unit")
            parts["kind"] = gr.Radio([(_UNSTATED, ""), *get_args(StoredKind)], value="", label="Depth is", elem_id="kind")
            parts["near"] = gr.Radio([(_UNSTATED, ""), *get_args(Polarity)], value="", label="In relative depth, near is", elem_id="near")
        with gr.Row():
            label = "Camera: fx, fy, cx, cy in pixels, or the text of a camera file"
            parts["camera"] = gr.Textbox(label=label, placeholder="600, 600, 320, 240", elem_id="camera")
    return parts


def _question_column() -> dict[str, Any]:
    """Lay out the question, its answer, examples and what can be saved."""
    placeholder = "How far is <region 0> from <region 1>?"
    parts: dict[str, Any] = {
        "question": gr.Textbox(label="Question", lines=2, placeholder=placeholder, elem_id="question", submit_btn="Ask"),
        "answer": gr.HTML('<div class="reply"><p class="none">The answer is shown here.</p></div>', elem_id="answer"),
        "examples": gr.HTML("", js_on_load=_PUT_QUESTION, apply_default_css=False, elem_id="examples"),
    }
    with gr.Row():
        parts["save_image"] = gr.Button("Save the image", elem_id="save-image")
        parts["save_sample"] = gr.Button("Save as a sample", elem_id="save-sample")
    return {**parts, "saved": gr.File(label="Saved; click to download", visible=False, elem_id="saved")}


def _tabs() -> dict[str, Any]:
    """Lay out the history and the two views in metres."""
    parts: dict[str, Any] = {}
    with gr.Tabs():
        with gr.Tab("History"):
            parts["history"] = gr.HTML(views.history_html(Scene(Image.new("RGB", (1, 1)))), elem_id="history")
        with gr.Tab("From above") as parts["above_tab"]:
            parts |= {"above": gr.Plot(show_label=False, elem_id="above"), "above_note": gr.Markdown()}
        with gr.Tab("In space") as parts["space_tab"]:
            parts |= {"space": gr.Plot(show_label=False, elem_id="space"), "space_note": gr.Markdown()}
    return parts


# ----------------------------------------------------------------------------------------------------------------------- events
def _connect_scene(page: gr.Blocks, parts: Components, images: Sequence[Sequence[Sample]]) -> None:
    """Connect everything that opens or changes the scene."""

    @_with_messages
    def open_number(number: float | None, origin: str) -> list[Any]:
        index = int(number or 0)
        if origin == "data set":
            return _show_new(scenes.scene_from_samples(images[index % len(images)], f"image-{index}"))
        return _show_new(scenes.draw_scene(index, origin))

    inputs, outputs = [parts.seed, parts.origin], parts.scene_views
    opened = outputs + parts.files
    parts.draw.click(open_number, inputs, opened)
    parts.next_scene.click(lambda number: int(number or 0) + 1, parts.seed, parts.seed).then(open_number, inputs, opened)
    page.load(open_number, inputs, opened)
    parts.marker.select(_with_messages(_mark), parts.scene, outputs)
    parts.image.upload(_with_messages(_open_files), parts.image, opened)
    meaning: list[Any] = [parts.scene, parts.depth, parts.unit, parts.kind, parts.near]
    parts.depth.upload(_changing(scenes.load_depth), meaning, outputs)
    for option in meaning[2:]:
        option.input(_changing(_reload_depth), meaning, outputs)
    parts.masks.upload(_changing(scenes.load_instances), [parts.scene, parts.masks], outputs)
    parts.camera.submit(_changing(scenes.set_camera), [parts.scene, parts.camera], outputs)
    parts.camera.blur(_changing(_set_typed_camera), [parts.scene, parts.camera], outputs)
    for tab, plot, note, draw in (
        (parts.above_tab, parts.above, parts.above_note, views.plot_top_down),
        (parts.space_tab, parts.space, parts.space_note, views.plot_point_cloud),
    ):
        tab.select(_with_messages(functools.partial(_plot, draw)), parts.scene, [plot, note])
    for button, write in ((parts.save_image, scenes.export_image), (parts.save_sample, scenes.export_sample)):
        button.click(_with_messages(functools.partial(_save, write)), parts.scene, parts.saved)


def _connect_question(parts: Components, predictor: Predictor) -> None:
    """Connect the question with the predictor; the answer is shown as it grows."""

    def ask(scene: Scene | None, question: str) -> Iterator[list[Any]]:
        try:
            for text, answer in _stream(predictor, _opened(scene), question):
                marker = gr.HTML(named=views.mentioned_regions(text))
                if answer is None:
                    yield [scene, marker, views.unfinished_answer_html(question, text), gr.skip()]
                else:
                    _opened(scene).history.append((question, answer))
                    yield [scene, marker, views.finished_answer_html(question, answer), views.history_html(_opened(scene))]
        except (ValueError, OSError) as error:
            raise _message(error) from error

    outputs = [parts.scene, parts.marker, parts.answer, parts.history]
    parts.question.submit(ask, [parts.scene, parts.question], outputs, concurrency_limit=1, concurrency_id="model")


def _show(scene: Scene) -> list[Any]:
    """Return the new values of ``Components.scene_views``; the marker takes what marker.js documents."""
    marker = gr.HTML({**views.marker_images(scene), "regions": views.region_overlays(scene)}, named=[])
    read = views.inputs_html(scene.frame.inputs_read(scene.regions))
    return [scene, marker, read, views.example_buttons_html(scene), views.history_html(scene), None, None]


def _show_new(scene: Scene) -> list[Any]:
    """Return the new values of ``scene_views`` and ``files``: depth, masks and camera of the image before do not belong to this one."""
    return [*_show(scene), None, None, ""]


def _opened(scene: Scene | None) -> Scene:
    if scene is None:
        raise DataError("open an image first, or draw a scene")
    return scene


def _changing(change: Callable[..., Any]) -> Callable[..., list[Any]]:
    """Turn ``change(scene, *values)`` into an event that shows the changed scene."""

    def changed(scene: Scene | None, *values: Any) -> list[Any]:
        change(_opened(scene), *values)
        return _show(_opened(scene))

    return _with_messages(changed)


def _mark(scene: Scene | None, event: gr.EventData) -> list[Any]:
    """Apply a gesture on the image, as marker.js sends it."""
    data = dict(event._data)
    if "mask" in data:
        data["mask"] = _brush_image(data["mask"])
    scenes.apply_gesture(_opened(scene), str(data.pop("action")), data)
    return _show(_opened(scene))


def _open_files(paths: list[str]) -> list[Any]:
    """Show an uploaded image, or an uploaded sample with its files."""
    samples = [path for path in paths if path.lower().endswith(".json")]
    return _show_new(_open_sample(samples[0], paths) if samples else scenes.open_image(paths[0]))


def _set_typed_camera(scene: Scene, text: str) -> None:
    """Take the camera that was typed, also without Enter; an empty box leaves the camera as it is."""
    if text.strip():
        scenes.set_camera(scene, text)


def _reload_depth(scene: Scene, path: str | None, *meaning: Any) -> None:
    """Read the opened depth file again, in its new meaning."""
    if path is not None:
        scenes.load_depth(scene, path, *meaning)


def _plot(draw: Callable[[Scene], Any], scene: Scene | None) -> tuple[Any, str]:
    if scene is None or not scene.is_metric:
        return None, "Positions in metres need metric depth and the camera; this image lacks one of them."
    return draw(scene), "  \n".join(["In metres, of the visible surfaces:", *views.describe_regions(scene, views.find_scene_floor(scene))])


def _with_messages(function: Callable[..., Any]) -> Callable[..., Any]:
    """Show the fault of an input as a message on the page; nothing else changes then."""

    @functools.wraps(function)
    def with_messages(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except (ValueError, OSError) as error:
            raise _message(error) from error

    return with_messages


def _message(error: Exception) -> gr.Error:
    return gr.Error(html.escape(" ".join(str(error).split())), duration=12, print_exception=False)  # shown as HTML


def _stream(predictor: Predictor, scene: Scene, question: str) -> Iterator[tuple[str, Answer | None]]:
    """Yield the unfinished answer again and again, with None, and at last the text of the answer with the Answer.

    Raises the same errors as ``Predictor.prepare``.
    """
    started = time.perf_counter()
    regions = scene.regions if "<" in question else []  # on a page, regions may be marked and not mentioned
    inquiry = predictor.prepare(scene.frame, [question], regions=regions)
    parts: queue.Queue[str | Answer | Exception] = queue.Queue()

    def work() -> None:
        try:
            parts.put(predictor.answer([inquiry], lambda i, j, text: parts.put(text))[0][0])
        except Exception as error:
            parts.put(error)

    threading.Thread(target=work, daemon=True).start()
    while isinstance(part := parts.get(), str):
        while parts.qsize() and isinstance(latest := parts.queue[0], str):  # the browser is slower than the model
            part = latest
            parts.get()
        yield part, None
    if isinstance(part, Exception):
        raise part
    yield part.answer, dataclasses.replace(part, seconds=time.perf_counter() - started)


def _brush_image(url: str) -> Image.Image:
    try:
        return image_from_bytes(base64.b64decode(url.partition(",")[2]), ("PNG",))
    except Exception as error:
        raise DataError("this brush stroke did not arrive as an image; paint again") from error


def _open_sample(sample: str, paths: list[str]) -> Scene:
    """Open a saved sample; each uploaded file lies in a folder of its own, so they are put together first."""
    folder = _new_folder()
    for path in paths:
        (folder / Path(path).name).write_bytes(Path(path).read_bytes())
    return scenes.open_sample(folder / Path(sample).name)


def _save(write: Callable[[Scene, Path], list[Path]], scene: Scene | None) -> gr.File:
    return gr.File([str(path) for path in write(_opened(scene), _new_folder())], visible=True)


def _new_folder() -> Path:
    """Make a folder that Gradio serves files from."""
    return Path(tempfile.mkdtemp(prefix="smolrgpt-"))


def launch(predictor: Predictor, name: str, host: str, port: int, open_browser: bool, images: Sequence[Sequence[Sample]] = ()) -> None:
    """Serve the page until it is interrupted; arguments as of ``make_page``. Raises OSError when the port is taken."""
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])  # nothing is fetched
    make_page(predictor, name, images).queue(default_concurrency_limit=4).launch(
        server_name=host,
        server_port=port,
        inbrowser=open_browser,
        max_file_size=MAX_FILE,
        css=CSS,
        theme=theme,
        quiet=True,
        share=False,
        footer_links=[],
        ssr_mode=False,
    )
