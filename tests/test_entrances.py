"""Law: the same scene means the same at every entrance: Python, command line, rows, service and page give equal answers and readings."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from smolrgpt.apps.page import scene as page
from smolrgpt.apps.service.ask_request import request_from_json
from smolrgpt.apps.service.bodies import AskBody, validate
from smolrgpt.apps.service.engine import Engine
from smolrgpt.apps.service.messages import Limits, Refusal
from smolrgpt.data.sources import read_source
from smolrgpt.inference.predictor import Predictor
from smolrgpt.schema import DataError, Region

QUESTION = "How far is <region 0> from <region 1>?"
WIDTH, HEIGHT = 64, 48
MM = np.linspace(900, 4300, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint16)
CAMERA = [70.0, 70.0, 31.5, 23.5]
#: What an entrance says: answer, normalized answer, unit, and its inputs.
Said = tuple[Any, ...]
Scene = dict[str, Any]


@pytest.fixture(scope="module")
def predictor(tiny_checkpoint: Path) -> Predictor:
    predictor = Predictor.from_pretrained(tiny_checkpoint, dtype=torch.float32, device="cpu")
    predictor.max_new_tokens = 8
    return predictor


def write_scene(folder: Path, orientation: int = 1, **depth: Any) -> Scene:
    """Write a scene's files; depth: the stored values and the options that state what they mean."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "image.png", exif=exif)
    masks = []
    for number, columns in enumerate((slice(5, 20), slice(35, 60))):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[10 : 30 + number, columns] = 255
        mask[20, columns.start] = 0  # no box
        masks.append(folder / f"mask{number}.png")
        Image.fromarray(mask).save(masks[-1])
    stored, options = depth.pop("stored", MM), {f"depth_{name}": value for name, value in depth.items()}
    np.save(folder / "depth.npy", stored)
    return {"image": folder / "image.png", "depth": folder / "depth.npy", "masks": masks, "camera": CAMERA, "options": options}


# -------------------------------------------------------------------------------------------------------------------- entrances
def said(answer: dict[str, Any]) -> Said:
    inputs = json.loads(json.dumps(answer["inputs"]))
    return answer["answer"], answer["normalized_answer"], answer["unit"], inputs["depth"], inputs["camera"], inputs["warnings"]


def by_python(predictor: Predictor, scene: Scene, monkeypatch: Any, capsys: Any) -> Said:
    answers = predictor.ask_many(scene["image"], [QUESTION], scene["depth"], scene["masks"], scene["camera"], **scene["options"])
    return said(asdict(answers[0]))


def by_command(predictor: Predictor, scene: Scene, monkeypatch: Any, capsys: Any) -> Said:
    from smolrgpt.cli import main as cli

    monkeypatch.setattr("smolrgpt.inference.loading.load_predictor", lambda name: predictor)
    arguments = ["ask", scene["image"], QUESTION, "--json"]
    arguments += [] if scene["depth"] is None else ["--depth", scene["depth"]]
    arguments += [part for mask in scene["masks"] for part in ("--region", mask)]
    arguments += [] if scene["camera"] is None else ["--camera", ",".join(map(str, scene["camera"]))]
    arguments += [part for name, value in scene["options"].items() for part in (f"--{name.replace('_', '-')}", value)]
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    if stop.value.code:
        raise DataError(captured.err)
    found = said(json.loads(captured.out))
    assert all(f"warning: {warning}" in captured.err for warning in found[-1])
    return found


def by_row(predictor: Predictor, scene: Scene, monkeypatch: Any, capsys: Any) -> Said:
    row = {
        "image": scene["image"].name,
        "depth": scene["depth"] and scene["depth"].name,
        "regions": [{"mask": mask.name} for mask in scene["masks"]],
        "camera": scene["camera"],
        "question": QUESTION,
        **scene["options"],
    }
    path = scene["image"].parent / "rows.jsonl"
    path.write_text(json.dumps({name: value for name, value in row.items() if value is not None}))
    return said(asdict(predictor.predict_samples(read_source("samples", path, "val"))[0]))


def by_service(predictor: Predictor, scene: Scene, monkeypatch: Any, capsys: Any) -> Said:
    def url(path: Path) -> str:
        return f"data:application/octet-stream;base64,{base64.b64encode(path.read_bytes()).decode()}"

    body = {
        "image": url(scene["image"]),
        "questions": [QUESTION],
        "regions": [{"mask": url(mask)} for mask in scene["masks"]],
        "camera": scene["camera"],
        **scene["options"],
        **({} if scene["depth"] is None else {"depth": url(scene["depth"])}),
    }
    try:
        reply = asyncio.run(Engine(predictor).ask(request_from_json(validate(body, AskBody), Limits())))
    except Refusal as error:
        raise DataError(error.message) from error
    if reply.error:
        raise DataError(reply.error)
    return said(reply.answers[0])


def by_page(predictor: Predictor, scene: Scene, monkeypatch: Any, capsys: Any) -> Said:
    shown = page.open_image(scene["image"])
    unit, kind, near = (scene["options"].get(f"depth_{name}") for name in ("unit", "kind", "near"))
    if scene["depth"] is not None:
        page.load_depth(shown, scene["depth"], unit, kind, near)
    page.set_camera(shown, ",".join(map(str, scene["camera"] or ())))
    for mask in scene["masks"]:
        page.load_instances(shown, mask)
        page.add_region(shown, Region.from_mask(shown.instances == 1))
    inquiry = predictor.prepare(shown.frame, [QUESTION], regions=shown.regions)
    return said(asdict(predictor.answer([inquiry])[0][0]))


ENTRANCES: tuple[Callable[..., Said], ...] = (by_command, by_row, by_service, by_page)

#: Stored values and options that mean the same millimetres.
METRIC: dict[str, dict[str, Any]] = {
    "mm": {},
    "cm as floats": {"stored": MM / 10.0, "unit": "cm"},
    "metres": {"stored": MM * 0.001},
    "stated": {"stored": MM.astype(np.int32) * 10, "unit": "0.1mm"},
    "fraction": {"stored": MM.astype(np.uint16) * 5, "unit": "1/5000"},
    "Fortran order, other bytes": {"stored": np.asfortranarray(MM.astype(">u2"))},
    "axes of length 1": {"stored": MM[None, None]},
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("name", METRIC)
def test_depth_in_any_form_is_the_same_at_every_entrance(
    predictor: Predictor, tmp_path: Path, monkeypatch: Any, capsys: Any, entrance: Callable[..., Said], name: str
) -> None:
    scene = write_scene(tmp_path, **METRIC[name])
    expected = by_python(predictor, scene, monkeypatch, capsys)
    assert entrance(predictor, scene, monkeypatch, capsys) == expected
    (base := tmp_path / "base").mkdir()
    assert expected[:3] == by_python(predictor, write_scene(base), monkeypatch, capsys)[:3]


#: Inputs that are doubtful, or not metric.
OTHERS: dict[str, dict[str, Any]] = {
    "relative": {"stored": (MM >> 5).astype(np.uint8)},
    "bright": {"stored": (MM >> 5).astype(np.uint8), "near": "bright"},
    "inverse": {"stored": 1000.0 / MM, "kind": "inverse"},
    "disparity": {"stored": 45000.0 / MM, "kind": "inverse", "unit": 45},
    "wrong unit": {"unit": "m"},
    "ends at 1": {"stored": MM / MM.max()},
    "holes": {"stored": np.where(MM > 2000, 65535, MM).astype(np.uint16)},
    "coarse": {"stored": MM[::8, ::8]},
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("name", OTHERS)
def test_doubts_are_the_same_at_every_entrance(
    predictor: Predictor, tmp_path: Path, monkeypatch: Any, capsys: Any, entrance: Callable[..., Said], name: str
) -> None:
    scene = write_scene(tmp_path, **OTHERS[name])
    assert entrance(predictor, scene, monkeypatch, capsys) == by_python(predictor, scene, monkeypatch, capsys)


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_a_camera_left_out_is_guessed_at_every_entrance(
    predictor: Predictor, tmp_path: Path, monkeypatch: Any, capsys: Any, entrance: Callable[..., Said]
) -> None:
    scene = write_scene(tmp_path) | {"camera": None}
    assert entrance(predictor, scene, monkeypatch, capsys) == by_python(predictor, scene, monkeypatch, capsys)


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_orientation_is_the_same_at_every_entrance(
    predictor: Predictor, tmp_path: Path, monkeypatch: Any, capsys: Any, entrance: Callable[..., Said], orientation: int
) -> None:
    camera = [70.0, 70.0, 23.5, 31.5] if orientation == 6 else [70.0, 70.0, 31.5, 23.5]
    scene = write_scene(tmp_path, orientation) | {"camera": camera}
    assert entrance(predictor, scene, monkeypatch, capsys) == by_python(predictor, scene, monkeypatch, capsys)


@pytest.mark.parametrize("entrance", [by_python, by_command, by_row, by_service])
def test_a_meaning_of_no_depth_map_is_refused(
    predictor: Predictor, tmp_path: Path, monkeypatch: Any, capsys: Any, entrance: Callable[..., Said]
) -> None:
    scene = write_scene(tmp_path, unit="tum") | {"depth": None}
    with pytest.raises(DataError, match="no depth map"):
        entrance(predictor, scene, monkeypatch, capsys)
