"""Nothing outside of tasks/ knows the names of the kinds of question: what depends on a kind is asked of its Task."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import smolrgpt
from smolrgpt.model.processing_smolrgpt import SIZE_WORDS
from smolrgpt.tasks import TASKS

PACKAGE = Path(smolrgpt.__file__).parent
#: The model imports nothing of the package: which word stands before which length in an answer is its vocabulary.
VOCABULARY = PACKAGE / "model" / "processing_smolrgpt.py"
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if "tasks" not in path.relative_to(PACKAGE).parts and path != VOCABULARY]
#: The kinds that are recognised in words; those that are asked in training only have names such as "depth", which stand for much else.
NAMES = {task.name for task in TASKS.values() if task.cues}
#: Names of kinds that are ordinary words as well: they may stand in texts and as keys, but not be compared or looked up as a kind.
ORDINARY = NAMES - {"left_right", "mcq"}


def _constants(node: ast.AST) -> set[str]:
    return {leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str)}


def _mentions_kind(node: ast.AST) -> bool:
    """Whether an expression is about a kind of question by its name: ``row["category"]``, ``sample.category``, ``kind``, ``task.name``."""
    return any(word in ast.unparse(node) for word in ("category", "categories", "kind", "task"))


def _violations(tree: ast.AST) -> Iterator[str]:
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings and node.value in NAMES - ORDINARY:
            yield f"line {node.lineno}: {node.value!r}"
        if isinstance(node, ast.Compare) and _mentions_kind(node) and (named := _constants(node) & ORDINARY):
            yield f"line {node.lineno}: compares with {sorted(named)}: {ast.unparse(node)}"
        if isinstance(node, ast.Dict):
            keys = {key.value for key in node.keys if isinstance(key, ast.Constant)} & NAMES
            if len(keys) > 1 and keys != {"width", "height"}:  # those two are the sides of an image
                yield f"line {node.lineno}: a table by kind: {ast.unparse(node)[:80]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_outside_of_tasks_names_a_kind(path: Path) -> None:
    assert not list(_violations(ast.parse(path.read_text(encoding="utf-8"))))


def test_the_vocabulary_of_the_model_names_lengths_and_compares_nothing() -> None:
    tables = list(_violations(ast.parse(VOCABULARY.read_text(encoding="utf-8"))))
    assert len(tables) == 1 and "a table by kind" in tables[0]
    assert {name for name in SIZE_WORDS if not TASKS[name].is_length} == set()


@pytest.mark.parametrize(
    "code",
    [
        'if sample.category == "distance": pass',
        'x = {"left_right": 1}',
        'if row["category"] in ("count", "mcq"): pass',
        'y = {"width": 1, "vertical": 2}',
    ],
)
def test_the_rule_finds_what_it_forbids(code: str) -> None:
    assert list(_violations(ast.parse(code)))
