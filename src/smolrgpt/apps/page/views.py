"""The views of a scene on the web page: images for the browser, the answer as HTML, a map from above and a point cloud."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
from PIL import Image

from smolrgpt.apps.page.scene import Scene
from smolrgpt.data.geometry import backproject
from smolrgpt.inference.answer import Answer
from smolrgpt.model.floor import Floor, find_floor, floor_rectangle
from smolrgpt.schema import Region
from smolrgpt.schema.inputs_read import InputsRead
from smolrgpt.tasks import task_named
from smolrgpt.tasks.region_text import TAG, find_regions
from smolrgpt.viz.drawing import contrast_colour, depth_image, mask_anchor, mask_border, region_colour, scaled_mask
from smolrgpt.viz.gallery import encode_data_url, html_with_region_chips

#: Longest side of an image sent to the browser, in pixels.
BROWSER_SIDE = 1280
_JPEG_QUALITY = 88
#: Points of a cloud at most.
CLOUD_POINTS = 12_000


# ----------------------------------------------------------------------------------------------------------------------- images
def shrink_for_browser(image: Image.Image) -> Image.Image:
    """Shrink an image to at most ``BROWSER_SIDE`` pixels a side; a smaller one is returned unchanged."""
    scale = BROWSER_SIDE / max(image.size)
    return image if scale >= 1 else image.resize((round(image.width * scale), round(image.height * scale)))


def marker_images(scene: Scene) -> dict[str, Any]:
    """Return the RGB and depth images that regions are marked on, as data URLs, and their size: the input of marker.js."""
    image = shrink_for_browser(scene.image)
    depth = None
    if scene.depth is not None:
        depth = encode_data_url(depth_image(scene.depth).resize(image.size, Image.Resampling.NEAREST), quality=_JPEG_QUALITY)
    return {"image": encode_data_url(image, quality=_JPEG_QUALITY), "depth": depth, "width": image.width, "height": image.height}


def region_overlays(scene: Scene) -> list[dict[str, Any]]:
    """Return each region as a tinted PNG of its bounding box, with the positions of box and number in percent of the image."""
    size = shrink_for_browser(scene.image).size
    return [_mark(region, number, size) for number, region in enumerate(scene.regions)]


def _mark(region: Region, number: int, size: tuple[int, int]) -> dict[str, Any]:
    width, height = size
    mask, colour = scaled_mask(region, size), region_colour(number)
    if not mask.any():  # thinner than a pixel of the shown image
        mask[min(height - 1, height // 2), min(width - 1, width // 2)] = True
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    part = mask[top:bottom, left:right]
    pixels = np.zeros((*part.shape, 4), dtype=np.uint8)
    pixels[part] = (*colour, 90)
    pixels[mask_border(mask, max(1, round(max(size) / 500)))[top:bottom, left:right]] = (*colour, 255)
    x, y = mask_anchor(mask)
    return {
        "number": number,
        "colour": f"rgb{colour}",
        "ink": f"rgb{contrast_colour(colour)}",
        "mask": encode_data_url(Image.fromarray(pixels), "PNG"),
        "box": [100 * left / width, 100 * top / height, 100 * (right - left) / width, 100 * (bottom - top) / height],
        "anchor": [100 * (x + 0.5) / width, 100 * (y + 0.5) / height],
    }


# ----------------------------------------------------------------------------------------------------------------------- answer
def mentioned_regions(text: str) -> list[int]:
    """Return the indices k of all ``[Region k]`` in a text, sorted, each once."""
    return sorted(set(find_regions(text, TAG)))


def answer_html(answer: Answer) -> str:
    """Return the HTML of a normalised answer, with its unit."""
    return html_with_region_chips(task_named(answer.category).format_answer(answer.normalized_answer, answer.unit))


def inputs_html(inputs: InputsRead) -> str:
    """Return the HTML of how depth and camera were read, and of what is doubtful about the inputs."""
    return f'<div class="read"><p>{html.escape(inputs.describe())}</p>{_doubts_html(inputs)}</div>'


def _doubts_html(inputs: InputsRead) -> str:
    return "".join(f'<p class="doubt">{html_with_region_chips(warning)}</p>' for warning in inputs.warnings)


def unfinished_answer_html(question: str, text: str) -> str:
    """Return the HTML of an unfinished answer."""
    grown = f'<p class="text">{html_with_region_chips(text)}<span class="pen"></span></p>'
    return f'<div class="reply"><p class="asked">{html_with_region_chips(question)}</p>{grown}</div>'


def finished_answer_html(question: str, answer: Answer) -> str:
    """Return the HTML of an answer with its confidence and time."""
    percent = f"{100 * answer.confidence:.0f} %"
    meter = (
        f'<meter min="0" max="1" low="0.5" high="0.8" optimum="1" value="{answer.confidence:.3f}" aria-label="confidence">{percent}</meter>'
    )
    about = f"{html.escape(answer.category)} · {percent} sure {meter} · {answer.seconds:.2f} s"
    return (
        f'<div class="reply"><p class="asked">{html_with_region_chips(question)}</p><p class="short">{answer_html(answer)}</p>'
        f'<p class="text">{html_with_region_chips(answer.answer)}</p><p class="about">{about}</p>{_doubts_html(answer.inputs)}</div>'
    )


def example_buttons_html(scene: Scene) -> str:
    """Return the HTML of a button for each example question of the scene."""
    buttons = [
        f'<button type="button" data-question="{html.escape(question, quote=True)}">{html_with_region_chips(question)}</button>'
        for question in scene.examples
    ]
    return f'<div class="examples"><b>Questions that fit</b>{"".join(buttons)}</div>' if buttons else ""


def history_html(scene: Scene) -> str:
    """Return the HTML of all questions about the image and their answers, the latest first."""
    rows = [
        f"<tr><td>{html_with_region_chips(question)}</td><td>{answer_html(answer)}</td><td>{100 * answer.confidence:.0f} %</td></tr>"
        for question, answer in reversed(scene.history)
    ]
    head = "<tr><th>question</th><th>answer</th><th>sure</th></tr>"
    return f'<table class="history">{head}{"".join(rows)}</table>' if rows else '<p class="none">Nothing has been asked yet.</p>'


# ------------------------------------------------------------------------------------------------------------------------ space
def find_scene_floor(scene: Scene) -> Floor | None:
    """Find the floor of a metric scene; None where there is none."""
    assert scene.depth is not None and scene.camera is not None
    return find_floor(backproject(scene.depth.values, scene.camera).T)


def _region_points(scene: Scene, region: Region) -> np.ndarray:
    """Return the visible points of a region, (3, N) metres in the camera frame."""
    assert scene.depth is not None and scene.camera is not None
    height, width = scene.depth.values.shape
    mask = np.asarray(Image.fromarray(region.to_mask()).resize((width, height), Image.Resampling.NEAREST))
    return backproject(scene.depth.values, scene.camera, mask).T.astype(np.float64)


def describe_regions(scene: Scene, floor: Floor | None) -> list[str]:
    """Describe each region's visible surface in metres: distance from the camera; over a floor, also its sides and its top."""
    lines = []
    for number, region in enumerate(scene.regions):
        points = _region_points(scene, region)
        if points.shape[1] < 10:
            lines.append(f"{number}: no depth")
            continue
        away = np.linalg.norm(np.median(points, 1))
        text = f"{number}: {away:.2f} m away"
        if floor is not None:
            long, wide = floor_rectangle(floor.along(points))
            text += f", visible {long:.2f} x {wide:.2f} m, top at {np.quantile(floor.above(points), 0.98):.2f} m"
        lines.append(text)
    return lines


def _level(points: np.ndarray, floor: Floor | None) -> np.ndarray:
    """Turn (3, N) points of the camera frame to x right, y away, z up; z = 0 on the floor, else at the camera."""
    up = np.array([0.0, -1.0, 0.0]) if floor is None else floor.up
    away = np.array([0.0, 0.0, 1.0]) - up[2] * up
    away /= np.linalg.norm(away)
    height = 0.0 if floor is None else floor.height_m
    return np.stack([np.cross(away, up) @ points, away @ points, up @ points + height])


def plot_top_down(scene: Scene) -> Any:
    """Plot the scene's points and regions from above, in metres to the right of and away from the camera."""
    import plotly.graph_objects as go

    floor = find_scene_floor(scene)
    points, colours = _cloud(scene, floor)
    figure = go.Figure(go.Scattergl(x=points[0], y=points[1], mode="markers", marker={"size": 2, "color": colours}, hoverinfo="skip"))
    for number, (region, line) in enumerate(zip(scene.regions, describe_regions(scene, floor), strict=True)):
        visible = _level(_region_points(scene, region), floor)[:, :: max(1, len(scene.regions))]
        if not visible.shape[1]:
            continue
        x, y = np.median(visible[:2], 1)
        colour = f"rgb{region_colour(number)}"
        marker = {"size": 22, "color": colour, "line": {"width": 1, "color": "black"}}
        ink = {"color": f"rgb{contrast_colour(region_colour(number))}"}
        text = {"text": [str(number)], "textfont": ink, "hovertext": line, "hoverinfo": "text"}
        figure.add_scatter(x=[x], y=[y], mode="markers+text", marker=marker, **text)
    figure.add_scatter(x=[0], y=[0], mode="markers+text", text=["camera"], textposition="bottom center", marker={"symbol": "triangle-up"})
    figure.update_layout(_LAYOUT, xaxis_title="metres to the right", yaxis_title="metres away", yaxis_scaleanchor="x")
    return figure


def plot_point_cloud(scene: Scene) -> Any:
    """Plot the scene as coloured points in metres, with a box around each region's visible surface."""
    import plotly.graph_objects as go

    floor = find_scene_floor(scene)
    points, colours = _cloud(scene, floor)
    x, y, z = points
    figure = go.Figure(go.Scatter3d(x=x, y=y, z=z, mode="markers", marker={"size": 1.6, "color": colours}, hoverinfo="skip"))
    for number, (region, line) in enumerate(zip(scene.regions, describe_regions(scene, floor), strict=True)):
        visible = _level(_region_points(scene, region), floor)
        if visible.shape[1] < 10:
            continue
        low, high = np.quantile(visible, (0.02, 0.98), axis=1)
        x, y, z = np.where(_EDGES == 1, high, np.where(_EDGES == 0, low, np.nan)).T
        colour = f"rgb{region_colour(number)}"
        figure.add_scatter3d(
            x=x, y=y, z=z, mode="lines", line={"color": colour, "width": 5}, hovertext=line, hoverinfo="text", name=str(number)
        )
        corner = {"x": [high[0]], "y": [low[1]], "z": [high[2]]}
        figure.add_scatter3d(**corner, mode="text", text=[str(number)], textfont={"color": colour, "size": 16}, hoverinfo="skip")
    camera = {"eye": {"x": 0.0, "y": -1.4, "z": 0.7}, "center": {"x": 0, "y": 0, "z": -0.2}}
    axes = {"xaxis_title": "right, m", "yaxis_title": "away, m", "zaxis_title": "up, m"}
    figure.update_layout(_LAYOUT, scene={**axes, "aspectmode": "data", "camera": camera})
    return figure


#: The twelve edges of a box as one line: corners as low (0) or high (1) along x, y, z; -1 lifts the pen.
_EDGES = np.array(
    [
        corner
        for axis in range(3)
        for first in (0, 1)
        for second in (0, 1)
        for corner in (*(tuple(np.insert((first, second), axis, end)) for end in (0, 1)), (-1, -1, -1))
    ]
)
_LAYOUT: dict[str, Any] = {
    "showlegend": False,
    "margin": {"l": 0, "r": 0, "t": 10, "b": 0},
    "height": 520,
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": "#808088"},
}


def _cloud(scene: Scene, floor: Floor | None) -> tuple[np.ndarray, np.ndarray]:
    """Return (3, N) level points and their colours, at most ``CLOUD_POINTS`` of them."""
    assert scene.depth is not None and scene.camera is not None
    height, width = scene.depth.values.shape
    pixels = np.asarray(scene.image.resize((width, height)))[np.isfinite(scene.depth.values) & (scene.depth.values > 0)]
    points = backproject(scene.depth.values, scene.camera).T
    step = max(1, points.shape[1] // CLOUD_POINTS)
    names = np.array([f"rgb({r},{g},{b})" for r, g, b in pixels[::step]])
    return _level(points[:, ::step].astype(np.float64), floor), names
