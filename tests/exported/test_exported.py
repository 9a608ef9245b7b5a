"""Laws of exported models: they answer as the model they were made from, everywhere a model is asked.

Not collected with the others (``make test`` runs them after those): with OpenVINO, ONNX Runtime and their packages in the process, a test
of the trainer that ran later crashed the interpreter, inside of libraries.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import answering
from smolrgpt.cli import main as cli
from smolrgpt.inference.checkpoints import EXPORT_RECORD
from smolrgpt.inference.exported import FORMATS, ExportedSmolRGPT, export
from smolrgpt.inference.predictor import Predictor

NEEDED = {"openvino": ("openvino", "nncf"), "onnx": ("onnx", "onnxruntime", "onnxscript")}
ABSENT = {name: not all(map(importlib.util.find_spec, needed)) for name, needed in NEEDED.items()}
EXACT = [pytest.param(name, marks=pytest.mark.skipif(ABSENT[name], reason="pip install 'smolrgpt[export]'")) for name in NEEDED]


@pytest.fixture(scope="module")
def nano() -> Predictor:
    return Predictor.from_pretrained("nano", dtype=torch.float32)


@pytest.fixture(scope="module")
def folders(nano, tmp_path_factory):
    """(format, weights) -> folder of the bundled model, exported when it is first wanted."""
    made: dict[tuple[str, str], Path] = {}

    def get(format: str, weights: str) -> Path:
        if (format, weights) not in made:
            out = tmp_path_factory.mktemp("exported") / f"{format}-{weights}"
            export(Predictor.from_pretrained("nano", dtype=torch.float32).model, nano.processor, out, format, weights)
            made[format, weights] = out
        return made[format, weights]

    return get


@pytest.fixture(scope="module")
def asked():
    return answering.draw_questions(3, 9, (192, 108))


@pytest.mark.parametrize("format", EXACT)
def test_float32_says_the_same_words(format, folders, nano, asked) -> None:
    found = Predictor.from_pretrained(folders(format, "float32"))
    assert isinstance(found.model, ExportedSmolRGPT)
    for one, two in zip(found.predict_samples(asked), nano.predict_samples(asked), strict=True):
        assert one.answer == two.answer and one.confidence == pytest.approx(two.confidence, abs=1e-4)


@pytest.mark.parametrize("format", EXACT)
def test_int8_answers_nearly_as_surely(format, folders, nano, asked) -> None:
    """Of weights that were rounded to 8 bits, logits move a little, and nothing else may."""
    found = Predictor.from_pretrained(folders(format, "int8"))
    pairs = list(zip(found.predict_samples(asked), nano.predict_samples(asked), strict=True))
    assert all(one.normalized_answer is not None for one, _ in pairs)
    assert np.mean([abs(one.confidence - two.confidence) for one, two in pairs]) < 0.1
    sizes = {weights: sum(path.stat().st_size for path in folders(format, weights).iterdir()) for weights in ("float32", "int8")}
    assert sizes["int8"] < 0.6 * sizes["float32"]


@pytest.mark.parametrize("format", EXACT)
def test_one_image_at_a_time_is_the_same(format, folders, asked) -> None:
    found = Predictor.from_pretrained(folders(format, "float32"))
    together = found.predict_samples(asked)
    assert [found.predict_samples([sample])[0].answer for sample in asked] == [answer.answer for answer in together]
    sample = asked[0]
    regions = list(dict.fromkeys(sample.regions))
    text = sample.question
    for region in sample.regions:
        text = text.replace("<mask>", f"<region {regions.index(region)}>", 1)
    first = found.ask(sample.image, text, sample.depth, regions, sample.camera)
    assert found.ask(sample.image, text, sample.depth, regions, sample.camera).answer == first.answer  # from what is remembered


@pytest.mark.parametrize("format", EXACT)
def test_a_design_without_names_and_pairs_is_exported_too(format, tiny_checkpoint, tmp_path) -> None:
    whole = Predictor.from_pretrained(tiny_checkpoint, dtype=torch.float32)
    export(Predictor.from_pretrained(tiny_checkpoint, dtype=torch.float32).model, whole.processor, tmp_path / "out", format, "float32")
    found = Predictor.from_pretrained(tmp_path / "out")
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    question = "How far is <region 0> from <region 1>?"
    for regions in ([(0, 0, 20, 20), (30, 10, 55, 35)], [(5, 5, 50, 30), (2, 2, 9, 9)]):
        one, two = (predictor.ask(image, question, regions=regions) for predictor in (found, whole))
        assert one.answer == two.answer and one.confidence == pytest.approx(two.confidence, abs=1e-4)
    assert found.ask(image, "What is here?").answer == whole.ask(image, "What is here?").answer


def test_what_cannot_be_exported_is_refused(nano, tmp_path) -> None:
    with pytest.raises(ValueError, match="no format 'tflite'; expected one of openvino, onnx"):
        export(nano.model, nano.processor, tmp_path / "out", "tflite", "int8")
    with pytest.raises(ValueError, match="onnx stores no 'float16' weights"):
        export(nano.model, nano.processor, tmp_path / "out", "onnx", "float16")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(ValueError, match="exists already"):
        export(nano.model, nano.processor, tmp_path / "full", "onnx", "int8")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", EXACT[:1])
def test_an_exported_folder_is_not_taken_for_anything_else(format, folders, tmp_path, capsys) -> None:
    folder = folders(format, "float32")
    with pytest.raises(ValueError, match="runs as it was exported"):
        Predictor.from_pretrained(folder, dtype=torch.bfloat16)
    with pytest.raises(SystemExit):
        cli.main(["export", str(folder), str(tmp_path / "again")])
    assert "is an exported model already" in capsys.readouterr().err
    from smolrgpt.model import SmolRGPTForConditionalGeneration

    with pytest.raises(OSError, match="no file named"):
        SmolRGPTForConditionalGeneration.from_pretrained(folder)
    older = tmp_path / "older"
    shutil.copytree(folder, older)
    (older / EXPORT_RECORD).write_text(json.dumps({"version": 0, "format": format, "weights": "float32"}))
    with pytest.raises(ValueError, match="export again"):
        Predictor.from_pretrained(older)


@pytest.mark.parametrize("format", EXACT)
def test_nobody_elses_logging_and_environment_change(format, nano, tmp_path) -> None:
    root = logging.getLogger()

    def state() -> tuple:
        return [(handler, handler.level) for handler in root.handlers], root.level, dict(os.environ)

    before = state()
    export(Predictor.from_pretrained("nano", dtype=torch.float32).model, nano.processor, tmp_path / "out", format, "int8")
    assert state() == before


def test_a_missing_package_is_named(folders, nano, monkeypatch, tmp_path) -> None:
    def absent(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'openvino'", name="openvino")

    monkeypatch.setitem(
        FORMATS, "openvino", FORMATS["openvino"].__class__(**{**vars(FORMATS["openvino"]), "write": absent, "read": absent})
    )
    with pytest.raises(ImportError, match=r"openvino is missing; pip install 'smolrgpt\[export\]'"):
        export(Predictor.from_pretrained("nano", dtype=torch.float32).model, nano.processor, tmp_path / "out", "openvino", "int8")
    assert not (tmp_path / "out").exists()
