"""The web page: open or draw a scene, mark regions, ask. Layout and events; what they do is in scene.py, what they show in views.py."""

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
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported, which asks then

import gradio as gr
from PIL import Image

from smolrgpt.apps.page import scene as scenes
from smolrgpt.apps.page import views
from smolrgpt.apps.page.scene import Scene
from smolrgpt.inference.predictor import Predictor
from smolrgpt.schema import DataError, Sample
from smolrgpt.schema.image_file import image_from_bytes
from smolrgpt.viz.gallery import CHIP_STYLE

_HERE = Path(__file__).parent
MAX_FILE = "64mb"
FIRST_SEED = 7
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
.said {{ border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 10px 14px; min-height: 60px; }}
.said p {{ margin: 4px 0; overflow-wrap: anywhere; }}
.said .asked, .said .about, .none {{ color: var(--body-text-color-subdued); font-size: .9rem; }}
.said .short {{ font-size: 1.7rem; font-weight: 700; }}
.said meter {{ width: 70px; vertical-align: middle; }}
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


def make_page(predictor: Predictor, name: str, pictures: Sequence[Sequence[Sample]] = ()) -> gr.Blocks:
    """The page around a predictor; ``name`` is what it says of the model. pictures: of a data set, the questions about each."""
    origins = ["data set"] * bool(pictures) + ["known", "reserved"]

    def scene_number(number: float | None, origin: str) -> Scene:
        place = int(number or 0)
        if origin == "data set":
            return scenes.scene_of(pictures[place % len(pictures)], f"picture-{place}")
        return scenes.draw_scene(place, origin)

    with gr.Blocks(title="smolrgpt", fill_width=True) as page:
        state = gr.State(None)
        gr.Markdown(f"# Ask about regions of an RGB-D picture\nmodel **{name}**; its answers can be wrong", elem_id="title")
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                marker = gr.HTML(
                    {},
                    html_template=(_HERE / "marker.html").read_text(encoding="utf-8"),
                    css_template=(_HERE / "marker.css").read_text(encoding="utf-8"),
                    js_on_load=(_HERE / "marker.js").read_text(encoding="utf-8"),
                    apply_default_css=False,
                    elem_id="marker",
                    named=[],
                )
                with gr.Row():
                    seed = gr.Number(FIRST_SEED, label="Scene", precision=0, minimum=0, min_width=140, elem_id="seed")
                    layouts = gr.Dropdown(origins, value=origins[0], label="From", min_width=110)
                    draw = gr.Button("Show it", min_width=90, elem_id="draw")
                    other = gr.Button("Another", min_width=90, elem_id="other")
                with gr.Accordion("Your own files", open=False, elem_id="files"):
                    with gr.Row():
                        picture = gr.File(label="Picture (JPEG, PNG), or a sample saved here (JSON and its files)", file_count="multiple")
                        depth = gr.File(label="Depth: 16-bit mm, float m (.npy, TIFF), 8-bit relative")
                        masks = gr.File(label="Masks: a number or colour for each object")
                    with gr.Row():
                        near = gr.Radio(["dark", "bright"], value="dark", label="In relative depth, near is")
                        camera = gr.Textbox(label="Camera: fx, fy, cx, cy in pixels", placeholder="600, 600, 320, 240", elem_id="camera")
            with gr.Column(scale=2, min_width=320):
                question = gr.Textbox(
                    label="Question", lines=2, placeholder="How far is <region 0> from <region 1>?", elem_id="question", submit_btn="Ask"
                )
                answer = gr.HTML('<div class="said"><p class="none">The answer comes here.</p></div>', elem_id="answer")
                examples = gr.HTML("", js_on_load=_PUT_QUESTION, apply_default_css=False, elem_id="examples")
                with gr.Row():
                    save_picture = gr.Button("Save the picture", elem_id="save-picture")
                    save_sample = gr.Button("Save as a sample", elem_id="save-sample")
                saved = gr.File(label="Saved; click to download", visible=False, elem_id="saved")
        with gr.Tabs():
            with gr.Tab("History"):
                past = gr.HTML(views.history(Scene(Image.new("RGB", (1, 1)))), elem_id="history")
            with gr.Tab("From above") as above_tab:
                above = gr.Plot(show_label=False, elem_id="above")
                above_note = gr.Markdown()
            with gr.Tab("In space") as space_tab:
                space = gr.Plot(show_label=False, elem_id="space")
                space_note = gr.Markdown()

        shown = [state, marker, examples, past, above, space]

        def show(scene: Scene) -> list[Any]:
            pictures_and_marks = {**views.stage(scene), "regions": views.marks(scene)}  # what marker.js shows
            return [scene, gr.HTML(pictures_and_marks, named=[]), views.examples(scene), views.history(scene), None, None]

        def open_files(paths: list[str]) -> list[Any]:
            samples = [path for path in paths if path.lower().endswith(".json")]
            if not samples:
                return show(scenes.open_picture(paths[0]))
            return show(_open_sample(samples[0], paths))

        def changed(scene: Scene | None, change: Callable[[Scene], Any]) -> list[Any]:
            if scene is None:
                raise DataError("open a picture first, or draw a scene")
            change(scene)
            return show(scene)

        def gesture(scene: Scene | None, event: gr.EventData) -> list[Any]:
            data = dict(event._data)
            if "mask" in data:
                data["mask"] = _painted(data["mask"])
            return changed(scene, lambda one: scenes.mark(one, str(data.pop("action")), data))

        draw_inputs = [seed, layouts]
        drawn = _told(lambda number, kind: show(scene_number(number, kind)))
        draw.click(drawn, draw_inputs, shown)
        other.click(lambda number: int(number or 0) + 1, seed, seed).then(drawn, draw_inputs, shown)
        page.load(drawn, draw_inputs, shown)
        marker.select(_told(gesture), state, shown)
        picture.upload(_told(open_files), picture, shown)
        depth.upload(_told(lambda one, path, end: changed(one, lambda s: scenes.with_depth(s, path, end))), [state, depth, near], shown)
        masks.upload(_told(lambda one, path: changed(one, lambda s: scenes.with_instances(s, path))), [state, masks], shown)
        camera.submit(_told(lambda one, text: changed(one, lambda s: scenes.with_camera(s, text))), [state, camera], shown)

        def ask(scene: Scene | None, text: str) -> Iterator[list[Any]]:
            if scene is None:
                raise DataError("open a picture first, or draw a scene")
            for said, finished in _written(predictor, scene, text):
                lit = gr.HTML(named=views.named(said))
                if finished is None:
                    yield [scene, lit, views.growing(text, said), gr.skip()]
                else:
                    scene.history.append((text, finished))
                    yield [scene, lit, views.finished(text, finished), views.history(scene)]

        question.submit(_told_while(ask), [state, question], [state, marker, answer, past], concurrency_limit=1, concurrency_id="model")

        def plotted(draw: Callable[[Scene], Any], scene: Scene | None) -> tuple[Any, str]:
            if scene is None or not scene.is_metric:
                return None, "Places in metres need metric depth and the camera; this picture has not got both."
            return draw(scene), "  \n".join(["In metres, of what is seen:", *views.measured(scene, views.floor_of(scene))])

        above_tab.select(_told(lambda scene: plotted(views.top_down, scene)), state, [above, above_note])
        space_tab.select(_told(lambda scene: plotted(views.cloud, scene)), state, [space, space_note])
        for button, write in ((save_picture, scenes.export_picture), (save_sample, scenes.export_sample)):
            button.click(_told(functools.partial(_saved, write)), state, saved)
    return page


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    """What is wrong with an input becomes a message on the page, in words, and changes nothing."""

    @functools.wraps(function)
    def told(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except (ValueError, OSError) as error:
            raise _message(error) from error

    return told


def _told_while(function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    @functools.wraps(function)
    def told(*arguments: Any) -> Iterator[Any]:
        try:
            yield from function(*arguments)
        except (ValueError, OSError) as error:
            raise _message(error) from error

    return told


def _message(error: Exception) -> gr.Error:
    return gr.Error(html.escape(" ".join(str(error).split())), duration=12, print_exception=False)  # shown as HTML


def _written(predictor: Predictor, scene: Scene, question: str) -> Iterator[tuple[str, Any]]:
    """The answer as far as it is written, with None, and at last with the Answer. Raises what ``Predictor.prepare`` raises."""
    started = time.perf_counter()
    inquiry = predictor.prepare(scene.image, [question], scene.depth, _mentioned(scene, question), scene.camera)
    told: queue.Queue[Any] = queue.Queue()

    def work() -> None:
        try:
            told.put(predictor.answer([inquiry], lambda i, j, text: told.put(text))[0][0])
        except Exception as error:
            told.put(error)

    threading.Thread(target=work, daemon=True).start()
    while isinstance(part := told.get(), str):
        while told.qsize() and isinstance(told.queue[0], str):  # the browser is behind
            part = told.get()
        yield part, None
    if isinstance(part, Exception):
        raise part
    yield part.answer, dataclasses.replace(part, seconds=time.perf_counter() - started)


def _mentioned(scene: Scene, question: str) -> list[Any]:
    """All regions, or none for a question that mentions none: on a page, regions may lie unused."""
    return scene.regions if "<" in question else []


def _painted(url: str) -> Image.Image:
    try:
        return image_from_bytes(base64.b64decode(url.partition(",")[2]), ("PNG",))
    except Exception as error:
        raise DataError("this brush stroke did not arrive as a picture; paint again") from error


def _open_sample(sample: str, paths: list[str]) -> Scene:
    """A saved sample from uploads, which lie in folders of their own."""
    folder = _folder()
    for path in paths:
        (folder / Path(path).name).write_bytes(Path(path).read_bytes())
    return scenes.open_sample(folder / Path(sample).name)


def _saved(write: Callable[[Scene, Path], list[Path]], scene: Scene | None) -> gr.File:
    if scene is None:
        raise DataError("there is nothing to save yet; open a picture first, or draw a scene")
    return gr.File([str(path) for path in write(scene, _folder())], visible=True)


def _folder() -> Path:
    """A new folder that Gradio serves files from."""
    return Path(tempfile.mkdtemp(prefix="smolrgpt-"))


def launch(predictor: Predictor, name: str, host: str, port: int, open_browser: bool, pictures: Sequence[Sequence[Sample]] = ()) -> None:
    """Show the page until it is interrupted. Raises OSError when the port is taken."""
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])  # nothing is fetched
    make_page(predictor, name, pictures).queue(default_concurrency_limit=4).launch(
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
