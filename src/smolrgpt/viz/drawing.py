"""Pictures for people: numbered regions on an image, depth beside it, questions and answers below; and the training curve."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from smolrgpt.data.io import atomic_path
from smolrgpt.data.regions import to_mask
from smolrgpt.schema import REGION_PLACEHOLDER, DepthMap, Region

#: Steps of hue between neighbouring numbers: the golden angle keeps any run of colours apart.
_HUE_STEP = 0.381966
_TINT = 0.38
#: Depth colours from near to far (yellow, orange, purple, dark blue): lightness falls monotonously, so it reads in grey as well.
_DEPTH_COLOURS = ((252, 253, 191), (254, 159, 109), (222, 73, 104), (140, 41, 129), (59, 15, 112), (10, 8, 40))
_NO_DEPTH = (120, 120, 120)
_PAPER, _INK, _RIGHT, _WRONG = (255, 255, 255), (25, 25, 25), (20, 130, 60), (200, 40, 40)
_MIN_CAPTION_WIDTH = 320  #: a tall, narrow picture gets white beside it, so that its caption has words to a line
_MIN_SIDE = 640  #: small pictures are enlarged to this long side, so that the numbers can be read


def region_colour(index: int) -> tuple[int, int, int]:
    """The RGB colour (0..255) of region ``index``."""
    lightness = (0.55, 0.45, 0.65)[index // 8 % 3]
    red, green, blue = colorsys.hls_to_rgb(0.02 + index * _HUE_STEP % 1.0, lightness, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def ink_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever reads better on ``colour``."""
    return (0, 0, 0) if np.dot(colour, (0.299, 0.587, 0.114)) > 125 else (255, 255, 255)


def draw_regions(
    image: Image.Image,
    regions: Sequence[Region | np.ndarray],
    labels: Sequence[str] | None = None,
    depth: DepthMap | None = None,
    answer: str | Sequence[Mapping[str, Any]] | None = None,
    tag_scale: float = 1.0,
) -> Image.Image:
    """An overlay of numbered, coloured regions.

    regions: run lengths or bool (H, W) masks, of any size with the image's proportions (others are stretched onto it); ``labels``: one
    per region, default "0", "1", .... depth: shown on the right, near is bright. answer: text below the picture, or a list of
    {question, answer, truth?, right?, regions?}: ``right`` True or False marks the answer, ``regions`` are the labels of the question's
    ``<mask>`` in order (default: 0, 1, ...). tag_scale: size of the numbers, above 1 for a picture that will be shown small.
    Returns RGB, at least 640 pixels on the long side.
    Raises ValueError when labels and regions differ in number.
    """
    if labels is not None and len(labels) != len(regions):
        raise ValueError(f"{len(labels)} labels were given for {len(regions)} regions; expected one label per region")
    picture = _enlarged(image.convert("RGB"))
    masks = [scaled_mask(region, picture.size) for region in regions]
    panels = [_overlay(picture, masks, labels or [str(index) for index in range(len(masks))], tag_scale)]
    if depth is not None:
        panels.append(_outlined(depth_picture(depth).resize(picture.size, Image.Resampling.NEAREST), masks))
    width = sum(panel.width for panel in panels)
    width = max(width, _MIN_CAPTION_WIDTH) if answer else width
    caption = _caption(answer, width) if answer else None
    canvas = Image.new("RGB", (width, picture.height + (caption.height if caption else 0)), _PAPER)
    for index, panel in enumerate(panels):
        canvas.paste(panel, (index * picture.width, 0))
    if caption:
        canvas.paste(caption, (0, picture.height))
    return canvas


def depth_picture(depth: DepthMap) -> Image.Image:
    """Depth in colours, near bright and far dark, stretched over its own range without outliers; grey where there is no measurement."""
    valid = np.isfinite(depth.values)
    if not valid.any():
        return Image.new("RGB", depth.values.shape[::-1], _NO_DEPTH)
    near, far = np.percentile(depth.values[valid], (0.5, 99.5))
    share = np.clip((np.where(valid, depth.values, near) - near) / max(far - near, 1e-6), 0, 1)  # (H, W)
    stops = np.linspace(0, 1, len(_DEPTH_COLOURS))
    colours = np.stack([np.interp(share, stops, channel) for channel in np.transpose(_DEPTH_COLOURS)], axis=-1)  # (H, W, 3)
    return Image.fromarray(np.where(valid[..., None], colours, _NO_DEPTH).astype(np.uint8))


def _enlarged(image: Image.Image) -> Image.Image:
    scale = _MIN_SIDE / max(image.size)
    return image if scale <= 1 else image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def scaled_mask(region: Region | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bool (H, W) at ``size`` = (width, height)."""
    mask = to_mask(region) if isinstance(region, Region) else np.asarray(region, dtype=bool)
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST), dtype=bool)


def mask_border(mask: np.ndarray, thickness: int) -> np.ndarray:
    """The pixels of a mask within ``thickness`` of its edge, bool (H, W); the picture's edge is no edge of the mask."""
    inner = mask.copy()
    for _ in range(thickness):
        padded = np.pad(inner, 1, mode="edge")
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _thickness(picture: Image.Image) -> int:
    return max(1, round(max(picture.size) / 640))


def _outlined(picture: Image.Image, masks: Sequence[np.ndarray]) -> Image.Image:
    pixels = np.array(picture)
    for index, mask in enumerate(masks):
        pixels[mask_border(mask, _thickness(picture))] = region_colour(index)
    return Image.fromarray(pixels)


def _overlay(picture: Image.Image, masks: Sequence[np.ndarray], labels: Sequence[str], tag_scale: float) -> Image.Image:
    pixels = np.array(picture, dtype=np.float32)
    for index, mask in enumerate(masks):
        pixels[mask] += _TINT * (np.array(region_colour(index), dtype=np.float32) - pixels[mask])
    tinted = _outlined(Image.fromarray(pixels.astype(np.uint8)), masks)
    _draw_tags(tinted, masks, labels, tag_scale)
    return tinted


def _draw_tags(picture: Image.Image, masks: Sequence[np.ndarray], labels: Sequence[str], scale: float) -> None:
    """A tag on every region: its colour, a black and white rim and letters in the colour that contrasts, so that it reads on anything."""
    draw = ImageDraw.Draw(picture)
    size = round(scale * max(13, round(max(picture.size) / 55)))
    font, pad = ImageFont.load_default(size), size * 0.25
    taken: list[tuple[float, float, float, float]] = []
    for index, (mask, label) in enumerate(zip(masks, labels, strict=True)):
        if not mask.any():
            continue
        text_width = draw.textlength(label, font=font)
        width, height = text_width + 2 * pad + 2, size + 2 * pad
        x, y = _free_place(mask_anchor(mask), (width, height), picture.size, taken)
        taken.append((x, y, x + width, y + height))
        colour = region_colour(index)
        draw.rounded_rectangle((x - 2, y - 2, x + width + 2, y + height + 2), pad + 2, fill=(255, 255, 255))
        draw.rounded_rectangle((x - 1, y - 1, x + width + 1, y + height + 1), pad + 1, fill=(0, 0, 0))
        draw.rounded_rectangle((x, y, x + width, y + height), pad, fill=colour)
        draw.text((x + width / 2, y + height / 2), label, fill=ink_on(colour), font=font, anchor="mm")


def mask_anchor(mask: np.ndarray) -> tuple[float, float]:
    """(x, y) of the mask's own pixel nearest to its centroid: inside even when the mask is a ring or in pieces."""
    rows, columns = np.nonzero(mask)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return float(columns[nearest]), float(rows[nearest])


def _free_place(
    centre: tuple[float, float], size: tuple[float, float], bounds: tuple[int, int], taken: Sequence[tuple[float, float, float, float]]
) -> tuple[float, float]:
    """Upper left corner near ``centre``, inside the picture, on no other tag if there is room within three tag sizes."""
    width, height = size
    offsets = sorted(((dx, dy) for dx in range(-3, 4) for dy in range(-3, 4)), key=lambda step: step[0] ** 2 + step[1] ** 2)
    places = [
        (
            min(max(centre[0] - width / 2 + dx * (width + 6) / 2, 3), bounds[0] - width - 3),
            min(max(centre[1] - height / 2 + dy * (height + 6) / 2, 3), bounds[1] - height - 3),
        )
        for dx, dy in offsets
    ]
    free = (p for p in places if not any(_overlap((p[0], p[1], p[0] + width, p[1] + height), box) for box in taken))
    return next(free, places[0])


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] + 4 and b[0] < a[2] + 4 and a[1] < b[3] + 4 and b[1] < a[3] + 4


def _caption(answer: str | Sequence[Mapping[str, Any]], width: int) -> Image.Image:
    """Wrapped lines of text on white, ``width`` pixels wide."""
    size = max(14, round(width / 75))
    font = ImageFont.load_default(size)
    margin = size
    lines: list[tuple[str, tuple[int, int, int], int]] = []  # text, colour, indent
    for text, colour, indent in _caption_texts(answer, size):
        lines += [(line, colour, indent) for line in _wrap(text, font, width - 2 * margin - indent)]
    pitch = round(size * 1.4)
    picture = Image.new("RGB", (width, 2 * margin + pitch * len(lines)), _PAPER)
    draw = ImageDraw.Draw(picture)
    for number, (line, colour, indent) in enumerate(lines):
        draw.text((margin + indent, margin + number * pitch), line, fill=colour, font=font)
    return picture


def _caption_texts(answer: str | Sequence[Mapping[str, Any]], size: int) -> list[tuple[str, tuple[int, int, int], int]]:
    if isinstance(answer, str):
        return [(line, _INK, 0) for line in answer.splitlines()]
    texts: list[tuple[str, tuple[int, int, int], int]] = []
    for number, row in enumerate(answer, 1):
        verdict, colour = ("", _INK) if row.get("right") is None else ("correct: ", _RIGHT) if row["right"] else ("wrong: ", _WRONG)
        truth = f"   (truth: {row['truth']})" if row.get("truth") is not None else ""
        question = number_regions(row["question"], row.get("regions"))
        texts += [(f"{number}. {question}", _INK, 0), (f"{verdict}{row['answer']}{truth}", colour, 2 * size)]
    return texts


def number_regions(question: str, labels: Sequence[str | int] | None = None) -> str:
    """The question with each ``<mask>`` as "[Region i]", so that it names what the picture numbers."""
    first, *rest = question.replace("<image>", "").strip().split(REGION_PLACEHOLDER)
    names = list(labels if labels is not None else range(len(rest)))
    if len(names) != len(rest):
        raise ValueError(f"{len(names)} labels for {len(rest)} {REGION_PLACEHOLDER} in {question!r}; expected one label each")
    return first + "".join(f"[Region {name}]{text}" for name, text in zip(names, rest, strict=True))


def _wrap(text: str, font: Any, width: float) -> list[str]:
    """Break a line at spaces, and inside a word only where the word alone is too wide."""
    lines, line = [], ""
    for word in text.split():
        while font.getlength(word) > width and len(word) > 1:
            cut = next((n for n in range(len(word) - 1, 1, -1) if font.getlength(word[:n]) <= width), 1)
            lines += [line] if line else []
            lines.append(word[:cut])
            line, word = "", word[cut:]
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]


#: Ratios that ``train/signatures.py`` measures -> what the picture calls them.
SIGNATURES = {
    "depth_permuted": "loss with another picture's depth / with the true one",
    "validation_rise": "validation loss / its lowest, while the training loss falls",
    "perplexity": "perplexity of English / before the run",
}


def plot_curve(rows: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """S1 and the accuracies (percent) against training minutes, and below them the ratios that show failures, where they were measured.

    rows: {minutes, S1, accuracy {category: %}?} in order of time, as training writes them; a row with an ``event`` and no S1, such as the
    end of a stage, becomes a dashed line; of a row with ``signatures`` {name: value}, those of ``SIGNATURES`` are drawn. The file's ending
    chooses the format. Returns ``path``.
    Raises ValueError when no row has an S1 and ImportError, saying what to install, without matplotlib.
    """
    measured = [row for row in rows if "S1" in row]
    if not measured:
        raise ValueError(f"none of the curve's {len(rows)} rows has an S1; expected at least one {{minutes, S1}}")
    watched = [row for row in rows if SIGNATURES.keys() & row.get("signatures", {}).keys()]
    figure = _figure((7, 6.2 if watched else 4.2))
    axes, *below = figure.subplots(1 + bool(watched), sharex=True, squeeze=False, height_ratios=[2.1, 1][: 1 + bool(watched)])[:, 0]
    minutes = [row["minutes"] for row in measured]
    for category in sorted({name for row in measured for name in row.get("accuracy", {})}):
        axes.plot(
            minutes, [row.get("accuracy", {}).get(category, float("nan")) for row in measured], linewidth=1, alpha=0.7, label=category
        )
    axes.plot(minutes, [row["S1"] for row in measured], color="black", linewidth=2.5, marker="o", markersize=3, label="S1")
    for row in rows:
        if "S1" not in row and "event" in row:
            axes.axvline(row["minutes"], color="grey", linestyle="--", linewidth=0.8)
            text = f" {row.get('stage', '')} {row['event']}".rstrip()
            axes.text(row["minutes"], 1, text, rotation=90, va="bottom", ha="right", fontsize=7, color="grey")
    axes.set(xlabel="training minutes", ylabel="held-out accuracy (%)", xlim=(0, None), ylim=(0, 102))
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize=8)
    for panel in below:
        _plot_signatures(panel, watched)
        axes.set(xlabel=None)
    return _save(figure, path)


def plot_statistics(splits: Mapping[str, Mapping[str, Any]], path: str | Path) -> Path:
    """``data.stats.statistics`` of one or more splits side by side, as shares of each split in percent.

    splits: name -> statistics. The file's ending chooses the format. Returns ``path``. Raises ValueError without splits and ImportError,
    saying what to install, without matplotlib.
    """
    if not splits:
        raise ValueError("no split to draw; expected at least one {split: statistics}")
    figure = _figure((12, 11))
    top, bottom = figure.subfigures(2, 1, height_ratios=(7, 4.4))
    axes = top.subplots(3, 3).flat
    panels = {
        "categories": lambda found: found["categories"],
        "regions in a question": lambda found: found["regions_per_question"],
        "left_right: answer": lambda found: found["answers"].get("left_right", {}),
        "count: answer": lambda found: found["answers"].get("count", {}),
        "mcq: answered region": lambda found: found["answers"].get("mcq", {}),
        "distance (m, from)": lambda found: _binned(found["distance"], "edges_m"),
        "mask area (% of the image, from)": lambda found: _binned(found["mask_area"], "edges_percent"),
    }
    for title, select in panels.items():
        _plot_shares(next(axes), {name: select(found) for name, found in splits.items()}, title)
    for spare in axes:
        spare.axis("off")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    top.axes[7].legend(handles, [f"{label}: {splits[label]['questions']:,} questions" for label in labels], loc="center left", fontsize=9)
    _plot_templates(bottom.subplots(), splits)
    return _save(figure, path)


def plot_intervals(values: Mapping[str, tuple[float, float | None]], measure: str, path: str | Path) -> Path:
    """A dot for each name, from the top down, with half of its interval to both sides where it has one. Returns ``path``.

    Raises ImportError when matplotlib is missing.
    """
    figure = _figure((8, 1 + 0.45 * len(values)))
    axes = figure.add_subplot()
    for place, (mean, half) in enumerate(values.values()):
        axes.errorbar(mean, -place, xerr=half, fmt="o", color="black", capsize=4)
        axes.annotate(f"{mean:.1f}", (mean, -place), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8)
    axes.set_yticks([-place for place in range(len(values))], list(values))
    axes.set_ylim(-len(values) + 0.4, 0.6)
    axes.set_xlabel(measure)
    axes.grid(axis="x", alpha=0.3)
    return _save(figure, path)


def plot_factors(curves: Mapping[str, Sequence[Mapping[str, Any]]], about: Mapping[str, str], path: str | Path) -> Path:
    """A small panel a factor: S1 with its interval, and the accuracies in percent, against the levels. Returns ``path``.

    curves: as of ``evaluation.robustness``; about: what a factor's levels are. Raises ImportError when matplotlib is missing.
    """
    shown = {name: curve for name, curve in curves.items() if curve}
    columns = min(4, max(1, len(shown)))
    rows = -(-len(shown) // columns)
    figure = _figure((3.2 * columns, 2.6 * rows))
    panels = figure.subplots(max(1, rows), columns, squeeze=False, sharey=True).flatten()
    for panel, (name, curve) in zip(panels, shown.items(), strict=False):
        places, levels = (
            range(len(curve)),
            [f"{point['level']:g}" if isinstance(point["level"], float) else point["level"] for point in curve],
        )
        for category in dict.fromkeys(category for point in curve for category in point["accuracy"]):
            panel.plot(places, [point["accuracy"].get(category) for point in curve], linewidth=1, alpha=0.8, label=category)
        panel.fill_between(places, *zip(*(point["interval"] for point in curve), strict=True), color="black", alpha=0.12)
        panel.plot(places, [point["S1"] for point in curve], color="black", linewidth=2, marker="o", markersize=3, label="S1")
        panel.set_title(name, fontsize=10)
        panel.set_xlabel(about[name], fontsize=7)
        panel.set_xticks(list(places), levels, fontsize=7)
        panel.set_ylim(0, 102)
        panel.grid(alpha=0.25)
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    if shown:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=5, fontsize=8)
    return _save(figure, path)


def plot_scaling(curves: Mapping[str, Sequence[tuple[int, float]]], about: Mapping[str, str], path: str | Path) -> Path:
    """A small panel a factor: questions a second against its values, both axes logarithmic but where a value is 0.

    curves: factor -> points; about: what a factor's values are. Returns ``path``. Raises ImportError when matplotlib is missing.
    """
    columns, rows = min(3, max(1, len(curves))), -(-len(curves) // 3)
    figure = _figure((3.6 * columns, 2.8 * max(1, rows)))
    panels = figure.subplots(max(1, rows), columns, squeeze=False, sharey=True).flatten()
    rates = [rate for points in curves.values() for _, rate in points]
    round_rates = [digit * 10**power for power in range(-3, 5) for digit in (1, 2, 5)]
    ticks = [rate for rate in round_rates if min(rates) / 2 < rate < max(rates) * 2]
    for panel, (name, points) in zip(panels, curves.items(), strict=False):
        values = [value for value, _ in points]
        panel.plot(*zip(*points, strict=True), color="black", marker="o", markersize=3)
        panel.set_xscale("symlog" if values[0] == 0 else "log", **({"linthresh": values[1]} if values[0] == 0 else {}))
        panel.set_yscale("log")
        panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=7)
        panel.set_xticks(values, [str(value) for value in values], fontsize=7)
        panel.minorticks_off()
        panel.set_xlabel(about[name], fontsize=8)
        panel.set_ylabel("questions a second", fontsize=8)
        panel.grid(alpha=0.25)
    for panel in panels[len(curves) :]:
        panel.set_visible(False)
    return _save(figure, path)


def _figure(size_inches: tuple[float, float]) -> Any:
    """A matplotlib figure that needs no display. Raises ImportError, saying what to install."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("drawing this needs matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=size_inches, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: str | Path) -> Path:
    path = Path(path)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format=path.suffix[1:] or "png")
    return path


def _binned(found: Mapping[str, Any] | None, edges: str) -> dict[str, int]:
    """{lower edge of the bin: number}."""
    return {f"{edge:g}": count for edge, count in zip(found[edges], found["counts"], strict=False)} if found else {}


def _plot_shares(axes: Any, counts: Mapping[str, Mapping[str, int]], title: str) -> None:
    """Grouped bars, one group a value, one bar a split, in percent of the split."""
    names = list(dict.fromkeys(name for found in counts.values() for name in found))
    names = sorted(names, key=lambda name: float(name) if name.replace(".", "", 1).isdigit() else float("inf"))
    width = 0.8 / len(counts)
    for index, (split, found) in enumerate(counts.items()):
        total = sum(found.values()) or 1
        places = [place + (index - (len(counts) - 1) / 2) * width for place in range(len(names))]
        axes.bar(places, [100 * found.get(name, 0) / total for name in names], width, label=split)
    crowded = sum(map(len, names)) > 28
    axes.set_xticks(range(len(names)), names, fontsize=8, rotation=40 if crowded else 0, ha="right" if crowded else "center")
    axes.set_title(title, fontsize=10)
    axes.set_ylabel("%", fontsize=8)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    if not names:
        axes.text(0.5, 0.5, "none", ha="center", transform=axes.transAxes, color="grey")
        axes.set_yticks([])


def _plot_templates(axes: Any, splits: Mapping[str, Mapping[str, Any]], number: int = 12, width: int = 105) -> None:
    """The wordings that are most frequent in any split, in percent of each."""
    shares = {name: {row["template"]: 100 * row["share"] for row in found["templates"]["top"]} for name, found in splits.items()}
    largest = {text: max(found.get(text, 0) for found in shares.values()) for found in shares.values() for text in found}
    texts = sorted(largest, key=lambda text: -largest[text])[:number]
    height = 0.8 / len(splits)
    for index, found in enumerate(shares.values()):
        places = [place + (index - (len(splits) - 1) / 2) * height for place in range(len(texts))]
        axes.barh(places, [found.get(text, 0) for text in texts], height)
    axes.set_yticks(range(len(texts)), [text if len(text) <= width else text[: width - 3] + "..." for text in texts], fontsize=7)
    axes.invert_yaxis()
    axes.set_title("most frequent wordings (% of the split)", fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def _plot_signatures(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    for name, label in SIGNATURES.items():
        points = [(row["minutes"], row["signatures"][name]) for row in rows if name in row["signatures"]]
        if points:
            axes.plot(*zip(*points, strict=True), linewidth=1.2, marker="o", markersize=3, label=label)
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set(xlabel="training minutes", ylabel="ratio", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize=7)
