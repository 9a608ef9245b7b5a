"""Writes a synthetic set of any world in the official layout of the warehouse data set, plus metric depth, cameras and captions.

    <root>/<split>.json            the four official categories
    <root>/<split>_warmup.json     what and where single regions are, pairs
    <root>/<split>_extra.json      sizes, comparisons by all measures, and lengths of further kinds
    <root>/<split>_plain.json      the official four and lengths in plain words; row["wording"]: known or reserved
    <root>/<split>_templates.json  every official question form; row["template"]: which one
    <root>/<split>_captions.json   one description a scene
    <root>/<split>/                images, depths, depths_metric, cameras.json, settings.json

A set that is not finished is ``<root>/.<split>.partial`` with one record per scene, from which an interrupted run continues.
"""

from __future__ import annotations

import functools
import json
import math
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from smolrgpt.data.io import write_rows, write_text
from smolrgpt.data.worlds.captions import caption_row
from smolrgpt.data.worlds.generate import generate_scene, resolve_layouts, world_of
from smolrgpt.data.worlds.question_sets import extra_questions, plain_questions, scene_questions, template_questions, warmup_questions
from smolrgpt.data.worlds.rows import to_row
from smolrgpt.data.worlds.scene import Scene, random_generator
from smolrgpt.data.worlds.sensors import View, draw_sensor, sensor_named
from smolrgpt.data.worlds.warehouse import SURROUNDINGS, VIEWS
from smolrgpt.schema import DataError
from smolrgpt.tasks.wording import WORDINGS

#: Rises whenever the same seed gives other images or rows, so that an old set is never mistaken for a new one.
GENERATOR_VERSION = 9
SETTINGS_FILE = "settings.json"
#: The sensor of sets in which every scene has one of its own.
MIXED = "mixed"
#: Metres from and up to which depth is stored as 16-bit millimetres; outside of that, as float metres with 13 bits (0.01 %).
_LEAST_MM, _MOST_MM = 1.0, 65.0
_KEPT_BITS = np.int32(-(1 << 10))
_WARMUP_SHARE, _EXTRA_SHARE, _PLAIN_SHARE, _TEMPLATES_SHARE = 0.75, 0.25, 0.5, 2.0
_NAMES = ("", "_warmup", "_extra", "_plain", "_templates", "_captions")


def write_dataset(  # noqa: PLR0913 (the settings of a data set)
    root: Path | str,
    split: str,
    num_scenes: int,
    seed: int,
    layouts: str | Sequence[str] = "known",
    size: tuple[int, int] = (384, 216),
    questions_per_scene: int = 24,
    workers: int | None = None,
    progress: bool = True,
    view: str = "usual",
    surroundings: str = "usual",
    world: str = "warehouse",
    scales: tuple[float, float] = (1.0, 1.0),
    sensor: str = "perfect",
) -> Path:
    """Write ``<root>/<split>`` and its question files; return the split's main file.

    Scene k depends on (seed, k) and the settings only: the bytes are the same for any number of workers. A finished set with the same
    settings is left as it is, an interrupted one is continued.

    Args:
        root: folder of the data set.
        split: name of the split.
        num_scenes: number of scenes, one image each.
        seed: a non-negative number; the same seed gives the same set.
        layouts: as of ``generate.resolve_layouts``.
        size: width and height of the images in pixels.
        questions_per_scene: official questions of a scene at most; the other files have a share or a multiple of it.
        workers: number of processes; by default one per core.
        progress: whether to show a progress bar.
        view: a name of ``warehouse.VIEWS``; other worlds draw their own cameras.
        surroundings: a name of ``warehouse.SURROUNDINGS``.
        world: the world, or worlds, as of ``generate.resolve_layouts``.
        scales: range of the factor that all lengths of a scene are multiplied by.
        sensor: what measures metric depth: a name of ``sensors.SENSORS``, or "mixed", one for each scene that is used in its world.

    Raises:
        ValueError: for bad settings.
        DataError: when a finished set with other settings is there.
    """
    if num_scenes < 1 or questions_per_scene < 1 or seed < 0:
        raise ValueError(f"scenes {num_scenes}, questions per scene {questions_per_scene}, seed {seed}; expected >= 1, >= 1 and >= 0")
    root, names = Path(root), resolve_layouts(layouts, world)
    settings = {"version": GENERATOR_VERSION, "num_scenes": num_scenes, "seed": seed, "layouts": list(names), "size": list(size),
                "questions_per_scene": questions_per_scene}  # fmt: skip
    settings |= _optional_settings(names, view, surroundings, scales, sensor)
    folder, partial = root / split, root / f".{split}.partial"
    if _is_finished(root, split, settings):
        return root / f"{split}.json"
    if folder.exists():
        raise DataError(f"{folder} exists and is no finished set with these settings; remove it or choose another folder")
    _open_partial(partial, settings)
    _draw_scenes(partial, settings, workers, progress, split)
    _join(root, split, partial, settings)
    return root / f"{split}.json"


def _optional_settings(
    layouts: Sequence[str], view: str, surroundings: str, scales: tuple[float, float], sensor: str
) -> dict[str, str | list[float]]:
    """Return the settings that differ from those of a usual set. Raises ValueError for bad ones."""
    found: dict[str, str | list[float]] = {}
    for kind, name, known in (("view", view, VIEWS), ("surroundings", surroundings, SURROUNDINGS)):
        if name not in known:
            raise ValueError(f"there is no {kind} {name!r}; expected one of {', '.join(known)}")
        if name != "usual" and not any(world_of(layout) == "warehouse" for layout in layouts):
            raise ValueError(f"{kind} {name!r} is of the warehouse, and no layout of this set is; expected usual")
        found |= {} if name == "usual" else {kind: name}
    if not 0 < scales[0] <= scales[1] < math.inf:
        raise ValueError(f"scales {scales[0]} to {scales[1]}; expected two factors above 0, the smaller one first")
    if sensor != MIXED and sensor_named(sensor).kind != "metric":
        raise ValueError(f"sensor {sensor!r} measures no metres; every set has relative depth beside metric depth, choose another sensor")
    found |= {} if scales == (1.0, 1.0) else {"scales": list(scales)}
    return found | ({} if sensor == "perfect" else {"sensor": sensor})


def _is_finished(root: Path, split: str, settings: dict[str, Any]) -> bool:
    record = root / split / SETTINGS_FILE
    complete = record.is_file() and all((root / f"{split}{name}.json").is_file() for name in _NAMES)
    return complete and json.loads(record.read_text(encoding="utf-8")) == settings


def _open_partial(partial: Path, settings: dict[str, Any]) -> None:
    """Keep an interrupted run of the same settings, start over from any other."""
    record = partial / SETTINGS_FILE
    if partial.exists() and not (record.is_file() and json.loads(record.read_text(encoding="utf-8")) == settings):
        shutil.rmtree(partial)
    for name in ("images", "depths", "depths_metric", "scenes"):
        (partial / name).mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(settings), encoding="utf-8")


def _draw_scenes(partial: Path, settings: dict[str, Any], workers: int | None, progress: bool, split: str) -> None:
    todo = [k for k in range(settings["num_scenes"]) if not _record(partial, k).is_file()]
    count = min(workers if workers is not None else os.cpu_count() or 1, max(1, len(todo) // 8))
    draw = functools.partial(_write_scene, partial=partial, settings=settings)
    with tqdm(total=len(todo), desc=f"scenes ({split})", unit="scene", file=sys.stderr, disable=not progress) as bar:
        for _ in _run(draw, todo, count):
            bar.update()


def _run(draw: functools.partial[int], todo: list[int], workers: int) -> Iterator[int]:
    if workers <= 1:
        yield from map(draw, todo)
        return
    # not fork: the caller may hold torch's threads, which do not survive one
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(draw, todo, chunksize=4)
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a process that draws scenes has died: out of memory, or a script that does this outside of if __name__ == '__main__'; "
                "what was drawn is kept, run it again to go on"
            ) from error


def _record(partial: Path, index: int) -> Path:
    return partial / "scenes" / f"{index:06d}.json"


def draw_scene(settings: dict[str, Any], index: int) -> tuple[Scene, np.random.Generator]:
    """Return scene number ``index`` of a set with these settings (``settings.json``), and the generator that draws its questions."""
    seed, names = settings["seed"], settings["layouts"]
    rng = random_generator(seed, index, 1)
    layout = names[int(rng.integers(len(names)))]
    names = ("view", "surroundings") if world_of(layout) == "warehouse" else ()
    options = {name: settings[name] for name in (*names, "scales") if name in settings}
    return generate_scene((seed, index), layout, tuple(settings["size"]), **options), rng


def _write_scene(index: int, partial: Path, settings: dict[str, Any]) -> int:
    """Write the images first and the record last: where there is a record, the scene is complete."""
    scene, rng = draw_scene(settings, index)
    stem = f"{index:06d}"
    _write_images(scene, observe_depth(scene, settings, index), partial, stem)
    key = f"{settings['seed']}/{index}"
    rows = _rows(scene, f"{stem}.png", key, settings["questions_per_scene"], rng)
    rows["_plain"] = _plain_rows(scene, f"{stem}.png", settings, index)
    rows["_templates"] = _template_rows(scene, f"{stem}.png", settings, index)
    record = {"image": f"{stem}.png", "camera": _camera(scene), "rows": rows}
    write_text(_record(partial, index), json.dumps(record))
    return index


def observe_depth(scene: Scene, settings: dict[str, Any], index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the metric and the relative depth, float32 (H, W), that scene number ``index`` is stored with; see ``sensors``.

    The draws come from a random stream of their own, on which neither scene nor questions depend.
    """
    view = View(scene.depth_m, scene.instances.astype(np.int64), scene.camera, scene.rgb, scene.scale)
    name, rng = settings.get("sensor", "perfect"), random_generator(settings["seed"], index, 4)
    if name == "perfect":
        depth, seen = scene.depth_m, np.isfinite(scene.depth_m)
        low, high = (float(depth[seen].min()), float(depth[seen].max())) if seen.any() else (1.0, 1.0)
        return depth, (np.where(seen, depth, high) - low) / max(high - low, 1e-6)
    sensor = draw_sensor(rng, scene.world) if name == MIXED else sensor_named(name)
    return sensor(view, rng).values, sensor_named(str(rng.choice(["relative", "inverse"])))(view, rng).values


def _write_images(scene: Scene, observed: tuple[np.ndarray, np.ndarray], folder: Path, stem: str) -> None:
    depth, relative = observed
    Image.fromarray(scene.rgb).save(folder / "images" / f"{stem}.png", compress_level=1)
    Image.fromarray(np.round(relative * 255).astype(np.uint8)).save(folder / "depths" / f"{stem}_depth.png", compress_level=1)
    seen = np.isfinite(depth)
    low, high = (float(depth[seen].min()), float(depth[seen].max())) if seen.any() else (_LEAST_MM, _MOST_MM)
    if low >= _LEAST_MM and high <= _MOST_MM:
        millimetres = np.where(seen, np.clip(np.round(np.where(seen, depth, 0) * 1000), 1, 65534), 0).astype(np.uint16)
        Image.fromarray(millimetres).save(folder / "depths_metric" / f"{stem}_depth.png", compress_level=1)
    else:
        rounded = (depth.view(np.int32) & _KEPT_BITS).view(np.float32)
        Image.fromarray(rounded).save(folder / "depths_metric" / f"{stem}_depth.tiff", compression="tiff_adobe_deflate")


def _rows(scene: Scene, image: str, key: str, count: int, rng: np.random.Generator) -> dict[str, list[dict[str, Any]]]:
    warmup, extra = max(1, round(_WARMUP_SHARE * count)), max(1, round(_EXTRA_SHARE * count))
    asked = {
        "": scene_questions(scene.graph, rng, count),
        "_warmup": warmup_questions(scene.graph, rng, warmup),
        "_extra": extra_questions(scene.graph, rng, extra),
    }
    rows = {
        name: [to_row(question, image, scene.metadata, f"{key}/{name}/{k}", rng) for k, question in enumerate(questions)]
        for name, questions in asked.items()
    }
    return {**rows, "_captions": [caption_row(scene.graph, image, scene.metadata, f"{key}/caption", rng)]}


def _plain_rows(scene: Scene, image: str, settings: dict[str, Any], index: int) -> list[dict[str, Any]]:
    """Return plain questions in both wordings, from a random stream of their own, on which no other question depends."""
    rng, count = random_generator(settings["seed"], index, 2), max(1, round(_PLAIN_SHARE * settings["questions_per_scene"]))
    rows = []
    for wording in WORDINGS:
        for k, question in enumerate(plain_questions(scene.graph, rng, count, wording)):
            row = to_row(question, image, scene.metadata, f"{settings['seed']}/{index}/_plain/{wording}/{k}", rng)
            rows.append({**row, "wording": wording})
    return rows


def _template_rows(scene: Scene, image: str, settings: dict[str, Any], index: int) -> list[dict[str, Any]]:
    """Return questions of the official forms, from a random stream of their own; ``row["template"]`` is the form."""
    rng, count = random_generator(settings["seed"], index, 3), max(1, round(_TEMPLATES_SHARE * settings["questions_per_scene"]))
    questions = template_questions(scene.graph, rng, count)
    return [
        {
            **to_row(question, image, scene.metadata, f"{settings['seed']}/{index}/_templates/{k}", rng),
            "template": question.official_template,
        }
        for k, question in enumerate(questions)
    ]


def _camera(scene: Scene) -> dict[str, float]:
    camera = scene.camera
    focal = {name: round(getattr(camera, name), 4) for name in ("fx", "fy", "cx", "cy")}
    return {**focal, "width": camera.width, "height": camera.height}


def _join(root: Path, split: str, partial: Path, settings: dict[str, Any]) -> None:
    """Write the question files, then give the folder its name: a folder without question files never looks finished."""
    records = [json.loads(_record(partial, k).read_text(encoding="utf-8")) for k in range(settings["num_scenes"])]
    cameras = {record["image"]: record["camera"] for record in records}
    (partial / "cameras.json").write_text(json.dumps(cameras, indent=0), encoding="utf-8")
    for name in _NAMES:
        rows = [row for record in records for row in record["rows"][name]]
        write_rows(root / f"{split}{name}.json", rows)
    partial.replace(root / split)
    shutil.rmtree(root / split / "scenes")
