"""The command's contract for scripts: what is on stdout, on stderr, and the exit code."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smolrgpt.schema import Camera, Region

pytestmark = pytest.mark.slow  # many cases, each short

TRUTH = [
    {"id": "a", "category": "left_right", "normalized_answer": "left"},
    {"id": "b", "category": "count", "normalized_answer": 3},
    {"id": "c", "category": "mcq", "normalized_answer": "1"},
    {"id": "d", "category": "distance", "normalized_answer": 2.0},
]
PREDICTIONS = [
    {"id": "a", "normalized_answer": "left"},
    {"id": "b", "question": "How many pallets are in <mask>?", "answer": "There are three pallets."},
    {"id": "c", "normalized_answer": "2"},
    {"id": "d", "normalized_answer": 2.1},
]


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A folder with image.png (64x48), depth.png (16 bit) and mask.png."""
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(tmp_path / "image.png")
    Image.fromarray(random.integers(1000, 9000, (48, 64), dtype=np.uint16)).save(tmp_path / "depth.png")
    mask = np.zeros((48, 64), dtype=np.uint8)
    mask[5:30, 30:60] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path


@pytest.fixture
def asked(scene: Path, tiny_checkpoint: Path) -> list[object]:
    """``ask`` with image, depth, model and two regions; questions and options are added by the test."""
    files = ["ask", scene / "image.png", "--depth", scene / "depth.png", "--model", tiny_checkpoint]
    return [*files, "--region", "2,3,20,30", "--region", scene / "mask.png"]


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


# ------------------------------------------------------------------------------------------------------------------------- help
def test_help_is_instant_and_imports_nothing_heavy() -> None:
    code = "import sys; from smolrgpt.cli import main; print([m for m in ('torch', 'transformers', 'numpy', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    started = time.perf_counter()
    shown = subprocess.run([sys.executable, "-m", "smolrgpt", "--help"], capture_output=True, text=True, check=True).stdout
    assert time.perf_counter() - started < 5  # 0.1 s on an idle machine
    assert all(name in shown for name in ("ask", "synth", "evaluate", "predict", "score", "train", "convert", "tour", "data"))


@pytest.mark.parametrize("name", ["ask", "synth", "evaluate", "predict", "score", "train", "convert", "tour"])
def test_every_help_text_has_an_example(command, name: str) -> None:
    status, out, _ = command(name, "--help")
    assert status == 0 and f"smolrgpt {name}" in out.replace(f"Usage: smolrgpt {name}", "")


def test_version(command) -> None:
    import smolrgpt

    assert command("--version")[:2] == (0, f"{smolrgpt.__version__}\n")


# -------------------------------------------------------------------------------------------------------------------------- ask
def test_ask_prints_one_object(command, asked) -> None:
    status, out, _ = command(*asked, "--camera", "50,50,32,24", "--json", "How far is <region 0> from <region 1>?")
    assert status == 0
    answer = json.loads(out)
    assert {"answer", "normalized_answer", "category", "seconds"} <= answer.keys() and answer["category"] == "distance"


def test_ask_answers_several_questions_in_order(command, asked) -> None:
    status, out, _ = command(*asked, "--json", "How far is <region 0>?", "How many are in <region 1>?")
    assert status == 0 and [row["category"] for row in json.loads(out)] == ["distance", "count"]
    status, out, _ = command(*asked, "How far is <region 0>?", "How many are in <region 1>?")
    assert status == 0 and out.startswith("How far is <region 0>?\n")


def test_ask_prints_how_inputs_were_read_once(command, asked) -> None:
    status, out, err = command(*asked, "--json", "How far is <region 0>?", "How many are in <region 1>?")
    assert status == 0 and err.count("depth: metric") == 1
    assert all({"depth", "camera", "warnings"} == row["inputs"].keys() for row in json.loads(out))
    assert json.loads(out)[0]["inputs"]["depth"]["width"] == 64
    assert err.count("warning: ") == len(json.loads(out)[0]["inputs"]["warnings"])


def test_ask_writes_an_overlay(command, asked, tmp_path: Path) -> None:
    status, out, err = command(*asked, "--overlay", tmp_path / "new" / "overlay.png", "How far is <region 0>?")
    assert status == 0 and "overlay.png" in err and "overlay.png" not in out
    with Image.open(tmp_path / "new" / "overlay.png") as picture:
        assert picture.width >= 640


def give_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes, terminal: bool = False) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")
    monkeypatch.setattr(stdin, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stdin", stdin)


def test_ask_reads_all_questions_of_a_pipe(command, asked, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "\ufeffHow far is <region 0>?\r\n\n \u00a0 \n\u200bHow\u2009many are in region 1?\n\nHow tall is <obj0>?"
    give_stdin(monkeypatch, lines.encode())
    status, out, _ = command(*asked, "--json")
    assert status == 0 and [json.loads(line)["category"] for line in out.splitlines()] == ["distance", "count", "height"]
    assert json.loads(out.splitlines()[0])["question"] == "How far is <region 0>?"


def test_an_empty_line_ends_a_session_at_a_terminal(command, asked, monkeypatch: pytest.MonkeyPatch) -> None:
    give_stdin(monkeypatch, b"How far is <region 0>?\n\nnever read\n", terminal=True)
    status, out, err = command(*asked, "--json")
    assert status == 0 and json.loads(out)["category"] == "distance" and err.count("question (empty to end)") == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "stdin: found 0 blank lines; expected a question a line"),
        (b"\n \n", "stdin: found 2 blank lines"),
        (b"\n\xe9t\xe9?\n", "stdin, line 2: byte 0 is not UTF-8"),
        ("How far?".encode("utf-16"), "stdin, line 1: byte 0 is not UTF-8"),
    ],
)
def test_stdin_without_a_question_is_refused(command, asked, content: bytes, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    give_stdin(monkeypatch, content)
    status, out, err = command(*asked)
    assert (status, out) == (2, "") and message in err and "Traceback" not in err


def test_a_length_is_printed_with_its_unit(capsys: pytest.CaptureFixture[str]) -> None:
    from smolrgpt.cli.ask import _print_answers
    from smolrgpt.inference.answer import Answer

    answers = [
        Answer("169 cm", 169, "height", 0.0, 1.0, unit="cm"),
        Answer("3", 3, "count", 0.0, 1.0),
        Answer("?", None, "height", 0.0, 1.0),
    ]
    _print_answers(["a", "b", "c"], answers, as_json=False, as_list=False)
    assert capsys.readouterr().out == "169 cm  [169 cm]\n3  [3]\n?\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["How far is <region 5>?"], "available: <region 0>, <region 1>"),
        (["How far is it?"], "no question mentions one"),
        (["--region", "1,2,3", "How far is <region 0>?"], "not four numbers"),
        (["--region", "nowhere.png", "How far is <region 0>?"], "--region: nowhere.png: no such file"),
        (["--region", "polygon:1,2,3", "How far is <region 0>?"], "at least three points"),
        (["--camera", "1,2", "How far is <region 0>?"], "expected fx,fy,cx,cy"),
        (["--camera", "nowhere.json", "How far is <region 0>?"], "--camera: nowhere.json: no such file"),
        (["--depth", "nowhere.png", "How far is <region 0>?"], "nowhere.png: no such file"),
        (["--model", "nowhere", "How far is <region 0>?"], "no model 'nowhere'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(command, asked, changes: list[str], message: str) -> None:
    status, out, err = command(*asked, *changes)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ask"], "IMAGE"),
        (["fly"], "'fly'"),
        (["synth", "x", "--scenes", "none"], "--scenes"),
        (["score"], "--truth"),
        (["synth", "x", "--scenes", "0"], "--scenes"),
    ],
    ids=" ".join,
)
def test_bad_usage_is_exit_code_2(command, arguments: list[str], expected: str) -> None:
    status, out, err = command(*arguments)
    assert (status, out) == (2, "") and expected in err


def test_verbose_shows_where_and_other_failures_are_exit_code_1(command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken\npipe")

    monkeypatch.setattr("smolrgpt.data.io.read_rows", fail)
    arguments = ["score", "--truth", tmp_path, "--predictions", tmp_path]
    assert command(*arguments) == (1, "", "error: RuntimeError: broken pipe (--verbose shows where)\n")
    assert "Traceback" in command(*arguments, "--verbose")[2]


def test_regions_and_cameras_from_text(tmp_path: Path) -> None:
    box = Region.from_box((2, 3, 20, 30), 48, 64).to_mask()
    assert (Region.from_text("2,3,20,30", 48, 64).to_mask() == box).all()
    assert (Region.from_text("polygon:2,3,20,3,20,30,2,30", 48, 64).to_mask() == box).mean() > 0.97
    open3d = {"width": 640, "height": 480, "intrinsic_matrix": [525.0, 0, 0, 0, 526.0, 0, 319.5, 239.5, 1]}
    path = str(write(tmp_path / "camera.json", open3d))
    assert Camera.from_any(path, 48, 64) == Camera(525.0, 526.0, 319.5, 239.5, 640, 480)


# ------------------------------------------------------------------------------------------------------------------------ score
def test_score_prints_the_numbers(command, tmp_path: Path) -> None:
    files = ["--truth", write(tmp_path / "truth.json", TRUTH), "--predictions", write(tmp_path / "predictions.json", PREDICTIONS)]
    status, out, _ = command("score", *files, "--json")
    result = json.loads(out)
    assert (status, result["S1"], result["num_questions"]) == (0, 75.0, 4)
    assert result["accuracy"] == {"left_right": 100.0, "count": 100.0, "mcq": 0.0, "distance": 100.0}
    assert command("score", *files)[1].startswith("S1 75.00 on 4 questions\n")


def test_score_needs_no_torch(tmp_path: Path) -> None:
    files = ["--truth", write(tmp_path / "truth.json", TRUTH), "--predictions", write(tmp_path / "predictions.json", PREDICTIONS)]
    code = f"""
import sys
from smolrgpt.cli import main as cli
try:
    cli.main({["score", *map(str, files), "--json"]!r})
finally:
    assert not {{"torch", "transformers"}} & set(sys.modules)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout)["S1"] == 75.0


def test_strict_score_refuses_missing_answers(command, tmp_path: Path) -> None:
    files = ["--truth", write(tmp_path / "truth.json", TRUTH), "--predictions", write(tmp_path / "predictions.json", PREDICTIONS[:2])]
    assert command("score", *files)[0] == 0
    status, out, err = command("score", *files, "--strict")
    assert (status, out) == (2, "") and "2 missing" in err


# ------------------------------------------------------------------------------------------------------------------------ train
def test_train_shows_its_settings(command) -> None:
    status, out, _ = command("train", "nano", "--quick", "--seed", 5, "--set", "stages.0.max_steps=7", "--show")
    settings = json.loads(out)
    assert (status, settings["seed"], settings["stages"][0]["max_steps"]) == (0, 5, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["giant"], "no recipe 'giant'; expected one of nano"),
        (["router"], "trained by 'python -m experiments.train_router"),
        (["nano", "--stage", "align"], "recipe 'nano' has no option --stage"),
        (["paper", "--stage", "pretrain"], "'pretrain' is not one of"),
        (["nano", "--set", "colour=red"], "no field 'colour'"),
    ],
)
def test_train_refuses_what_it_does_not_know(command, arguments: list[str], message: str) -> None:
    status, out, err = command("train", *arguments, "--show")
    assert (status, out) == (2, "") and message in err


def test_train_says_what_to_install(command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, _, err = command("train", "nano", "--out", tmp_path / "run", "--data-root", tmp_path / "data")
    assert status == 1 and "pip install 'smolrgpt[train]'" in err and not list(tmp_path.iterdir())


# --------------------------------------------------------------------------------------------------------------------- synthetic
@pytest.mark.slow
def test_synth_then_evaluate_then_predict_and_score(command, tiny_checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("smolrgpt.data.worlds.writer")
    data = tmp_path / "data"
    status, out, _ = command("synth", data, "--scenes", 2, "--seed", 3, "--layouts", "reserved", "--workers", 1)
    assert (status, out) == (0, "")
    status, out, _ = command("evaluate", tiny_checkpoint, data, "--limit", 8, "--json", "--out", tmp_path / "report")
    result = json.loads(out)
    assert status == 0 and result["num_questions"] == 8 and 0 <= result["S1"] <= 100 and result["accuracy"]
    assert (tmp_path / "report" / "report.md").exists()
    assert command("predict", tiny_checkpoint, data, "--out", tmp_path / "p.json")[0] == 0
    status, out, _ = command("score", "--truth", data / "val.json", "--predictions", tmp_path / "p.json", "--json")
    assert status == 0 and not json.loads(out)["problem_counts"].get("missing")


def test_evaluate_names_a_missing_folder(command, tmp_path: Path) -> None:
    status, _, err = command("evaluate", "nano", tmp_path / "nothing")
    assert status == 2 and "no such folder" in err
