"""Laws of the documentation: every command in it is one that there is, every file and link it names exists, every example runs."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from smolrgpt.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "src").rglob("README.md")])


def commands() -> Iterator[tuple[str, list[str]]]:
    """(page, words) of every command line in a bash block."""
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r"&&|\||;(?= )", _without_comment(line)):
                    words = shlex.split(part)
                    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                        words.pop(0)
                    if words:
                        yield page.name, words


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*", "", line)


def arguments_of(words: list[str]) -> list[str] | None:
    """What a command line hands to smolrgpt, None when it calls something else."""
    if Path(words[0]).name == "smolrgpt":
        return words[1:]
    if "-m" in words and words[words.index("-m") + 1] == "smolrgpt":
        return words[words.index("-m") + 2 :]
    return None


def test_every_command_and_option_in_the_docs_exists() -> None:
    known, count = typer.main.get_command(app), 0
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page, words in commands():
        arguments = arguments_of(words)
        if arguments is not None:
            command, name = known, "smolrgpt"
            while hasattr(command, "commands"):
                assert arguments and arguments[0] in command.commands, f"{page}: there is no command {' '.join(words)}"
                name, *arguments = arguments
                command = command.commands[name]
            try:
                command.make_context(name, list(arguments))
            except Exception as error:
                raise AssertionError(f"{page}: {' '.join(words)}: {error}") from error
            count += 1
        elif words[0] == "make":
            assert all(target in targets for target in words[1:] if "=" not in target and not target.startswith("-")), (page, words)
        elif words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), (page, words)
        elif words[:2] == ["python", "-m"] and words[2].startswith(("benchmarks.", "tools.", "experiments.")):
            assert (ROOT / words[2].replace(".", "/")).with_suffix(".py").is_file(), (page, words)
            count += 1
        elif words[0] == "pytest":
            assert all((ROOT / word).exists() for word in words[1:] if not word.startswith("-")), (page, words)
    assert count > 60


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        if path.startswith("http"):
            continue
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in slugs, f"{page.name}: {target}, of {sorted(slugs)}"
    assert not re.search(r"@[A-Z]+@|TODO|XXX", text), "a placeholder was left"


@pytest.mark.parametrize("name", ["ask_a_picture", "see_a_scene_in_space"])
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "see_a_scene_in_space":
        pytest.importorskip("plotly")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert (tmp_path / said.rpartition("wrote ")[2].strip()).stat().st_size > 10_000


def test_examples_are_short() -> None:
    for path in (ROOT / "examples").glob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) < 60, path.name
        compile("\n".join(lines), path.name, "exec")


@pytest.fixture
def asked_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that the pages' questions are about, in the current folder."""
    import json

    import numpy as np
    from PIL import Image

    from smolrgpt.apps.page.scene import draw_scene

    scene = draw_scene(7)
    scene.image.save(tmp_path / "scene.png")
    Image.fromarray((1000 * scene.depth.values).astype(np.uint16)).save(tmp_path / "depth.png")
    mask = np.zeros(scene.size, dtype=np.uint8)
    mask[100:160, 200:260] = 255
    for name in ("mask.png", "pallet.png"):
        Image.fromarray(mask).save(tmp_path / name)
    block = re.search(r"```json\n(.*?)```", (ROOT / "docs" / "ask.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    (tmp_path / "questions.jsonl").write_text(json.dumps(json.loads(block[1])))
    monkeypatch.chdir(tmp_path)


def test_every_question_asked_in_the_docs_is_answered(asked_files: None, capsys: pytest.CaptureFixture[str]) -> None:
    from smolrgpt.cli import main as cli

    count = 0
    for page, words in commands():
        arguments = arguments_of(words)
        if arguments and (arguments[0] == "ask" or arguments[:3] == ["predict", "nano", "questions.jsonl"]):
            with pytest.raises(SystemExit) as stop:
                cli.main(arguments)
            shown = capsys.readouterr()
            assert not stop.value.code, (page, words, shown.err)
            count += 1
    assert count >= 3 and Path("answer.png").is_file() and Path("answers.jsonl").is_file()


def test_the_python_of_the_docs_runs(asked_files: None, capsys: pytest.CaptureFixture[str]) -> None:
    for page in (ROOT / "README.md", ROOT / "docs" / "ask.md"):
        for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            if "from_backbones" not in block:  # needs the hub
                exec(compile(block, page.name, "exec"), {})
