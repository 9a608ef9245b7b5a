"""``smolrgpt data``: what is on stdout, on stderr, and the exit code, on small sets in the warehouse layout."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from smolrgpt.cli.data import LayoutName
from smolrgpt.data.prepared import Prepared
from smolrgpt.schema import Region

pytestmark = pytest.mark.slow  # many cases, each short

H, W = 36, 64
COMMANDS = ("prepare", "unpack", "validate", "stats", "show", "depth")


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"q{number}",
        "image": f"00000{number % 3}.png",
        "conversations": [
            {"from": "human", "value": "<image>\nHow far is the pallet <mask> from the pallet <mask>?"},
            {"from": "gpt", "value": "The pallet [Region 0] is 2.5 meters away from the pallet [Region 1]."},
        ],
        "rle": [Region.from_box((2, 2, 12, 12), H, W).to_rle(), Region.from_box((30, 4, 50, 30), H, W).to_rle()],
        "category": "distance",
        "normalized_answer": 2.5,
    } | changes


def write(root: Path, split: str, rows: list[Any]) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("images", "depths"):
        (root / split / folder).mkdir(parents=True)
    for number in range(3):
        Image.fromarray(rng.integers(0, 255, (H, W, 3), dtype=np.uint8)).save(root / split / "images" / f"00000{number}.png")
        Image.fromarray(rng.integers(0, 255, (H, W), dtype=np.uint8)).save(root / split / "depths" / f"00000{number}_depth.png")
    (root / f"{split}.json").write_text(json.dumps(rows))
    return root


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    return write(write(tmp_path / "sound", "train", [row(number) for number in range(6)]), "val", [row(7), row(8)])


# ------------------------------------------------------------------------------------------------------------------------- help
def test_help_is_instant_and_lists_every_command(command) -> None:
    code = "import sys; from smolrgpt.cli import data; print([m for m in ('torch', 'transformers', 'numpy', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    status, out, _ = command("data", "--help")
    assert status == 0 and all(name in out for name in COMMANDS)
    assert "data " in command("--help")[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_text_has_an_example(command, name: str) -> None:
    status, out, _ = command("data", name, "--help")
    assert status == 0 and f"smolrgpt data {name}" in out.replace(f"Usage: smolrgpt data {name}", "")


def test_every_reader_is_listed(command) -> None:
    from smolrgpt.data.sources import SOURCES

    listed = command("data", "--help")[1].split("SOURCE is the name of a reader:")[1].split("\n\n")[0]
    assert all(name in listed for name in SOURCES)


def test_choices_are_those_of_the_library() -> None:
    from smolrgpt.data.estimate_depth import LAYOUTS

    assert list(get_args(LayoutName)) == list(LAYOUTS)


# --------------------------------------------------------------------------------------------------------------------- validate
def test_validate_says_what_was_looked_at(command, sound: Path) -> None:
    status, out, _ = command("data", "validate", "warehouse", sound, "--workers", 1)
    assert status == 0 and "8 questions (train 6, val 2), 5 images, 5 relative depth maps" in out and "no problem found" in out
    assert "val 2" in command("data", "validate", "warehouse", sound, "--split", "val")[1]


def test_validate_counts_every_problem_and_goes_on(command, sound: Path) -> None:
    rows = [row(0), row(0), row(1, image="nowhere.png"), row(2, normalized_answer="far"), "no row", row(3), row(4)]
    write(sound / "broken", "train", rows)
    picture = sound / "broken" / "train" / "images" / "000001.png"
    picture.write_bytes(picture.read_bytes()[:100])
    status, out, err = command("data", "validate", "warehouse", sound / "broken", "--json", "--workers", 1)
    result = json.loads(out)
    expected = {"duplicate id": 1, "missing image": 1, "wrong short answer": 1, "unusable row": 1, "unreadable image": 1}
    assert status == 1 and {name: found["count"] for name, found in result["problems"].items()} == expected
    assert result["num_problems"] == 5 and "image/s" in err
    status, out, _ = command("data", "validate", "warehouse", sound / "broken")
    assert status == 1 and "5 problems" in out and "000001.png" in out and "nowhere.png" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["other", "."], "no data set 'other'; expected one of warehouse"),
        (["warehouse", "nowhere"], "nowhere: no such folder; expected the folder of a dataset, or the hub id owner/name"),
        (["warehouse", "owner/name"], "the hub's dataset of that name is not on this disk and could not be fetched"),
        (["warehouse", "SOUND", "--split", "test"], "splits found in"),
        (["warehouse", "SOUND", "--option", "colour=red"], "warehouse has no option 'colour'; expected one of depth, folder"),
        (["warehouse", "SOUND", "--option", "colour"], "expected NAME=VALUE"),
        (["warehouse", "EMPTY"], "no split there"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(command, sound: Path, arguments: list[str], message: str) -> None:
    (sound.parent / "empty").mkdir()
    places = {"SOUND": str(sound), "EMPTY": str(sound.parent / "empty")}
    for name in ("validate", "stats", "show"):
        status, out, err = command("data", name, *(places.get(argument, argument) for argument in arguments))
        assert (status, out) == (2, "") and message in err and err.startswith("error: ") and err.count("\n") == 1


def test_a_set_without_a_question_is_no_sound_set(command, tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text('{"images": [], "annotations": [], "categories": []}')
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    status, out, _ = command("data", "validate", "coco", tmp_path, "--split", "empty", "--workers", 1)
    assert status == 2 and "nothing to check" in out


def test_a_hub_name_is_read_from_its_local_copy(command, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def download(name: str, *, repo_type: str, allow_patterns: object) -> str:
        asked.append((name, repo_type))
        return str(sound)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert command("data", "validate", "warehouse", "owner/name", "--workers", 1)[0] == 0
    assert asked == [("owner/name", "dataset")]


# ---------------------------------------------------------------------------------------------------------------- stats and show
def test_stats_are_text_json_and_a_picture(command, sound: Path) -> None:
    status, out, _ = command("data", "stats", "warehouse", sound)
    assert status == 0 and "train: 6 questions, 3 images" in out and "how far is <r>" in out
    result = json.loads(command("data", "stats", "warehouse", sound, "--split", "val", "--json")[1])
    assert result["val"]["categories"] == {"distance": 2} and list(result) == ["val"]
    pytest.importorskip("matplotlib")
    status, out, _ = command("data", "stats", "warehouse", sound, "--out", sound / "new" / "stats.png", "--json")
    assert status == 0 and json.loads(out) and (sound / "new" / "stats.png").stat().st_size > 10_000


def test_show_writes_a_page_and_a_sheet(command, sound: Path) -> None:
    page = sound / "new" / "page.html"
    status, out, err = command("data", "show", "warehouse", sound, "--split", "train", "--limit", 2, "--out", page)
    assert (status, out) == (0, "") and str(page) in err and page.read_text().count("<article>") == 2
    command("data", "show", "warehouse", sound, "--ids", "q7,q1", "--out", page)
    text = page.read_text()
    assert 0 < text.index(">q7<") < text.index(">q1<") and ">q2<" not in text
    assert command("data", "show", "warehouse", sound, "--out", sound / "sheet.png")[0] == 0
    assert command("data", "show", "warehouse", sound, "--option", "depth=none", "--out", page)[0] == 0
    assert "depth q" not in page.read_text()
    assert "categories found: distance" in command("data", "show", "warehouse", sound, "--category", "mcq", "--out", page)[2]


# ------------------------------------------------------------------------------------------------------------- depth and prepare
def test_depth_names_a_missing_model(command, sound: Path) -> None:
    status, _, err = command("data", "depth", sound / "train" / "images", sound / "new", "--model", "nowhere")
    assert status == 2 and "nowhere: no such folder; expected the folder of a model" in err and not (sound / "new").exists()


def test_prepare_writes_what_was_read(command, sound: Path) -> None:
    status, out, err = command("data", "prepare", "warehouse", sound, sound / "prepared", "--split", "train", "--split", "val")
    assert (status, out) == (0, "") and "wrote 6 samples" in err and "wrote 2 samples" in err
    train, val = (Prepared(sound / "prepared" / split) for split in ("train", "val"))
    assert [sample.id for sample in [*train, *val]] == ["q0", "q1", "q2", "q3", "q4", "q5", "q7", "q8"]
    assert all(sample.image.is_absolute() and sample.image.is_file() for sample in [*train, *val])


def test_prepare_says_what_to_install(command, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, _, err = command("data", "prepare", "warehouse", sound, sound / "prepared")
    assert status == 1 and "pip install 'smolrgpt[train]'" in err and not (sound / "prepared").exists()
