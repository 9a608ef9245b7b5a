"""Nothing outside of tasks/ knows the names of the kinds of question: what depends on a kind is asked of its Task."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import smolrgpt
from smolrgpt.tasks import OTHER, TASKS

PACKAGE = Path(smolrgpt.__file__).parent
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if "tasks" not in path.relative_to(PACKAGE).parts]
#: Names of kinds that are ordinary words as well: they may stand in texts and as keys, but not be compared or looked up as a kind.
ORDINARY = {"count", "distance", "width", "height", "vertical", OTHER.name}


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
        if isinstance(node, ast.Constant) and id(node) not in docstrings and node.value in set(TASKS) - ORDINARY:
            yield f"line {node.lineno}: {node.value!r}"
        if isinstance(node, ast.Compare) and _mentions_kind(node) and (named := _constants(node) & ORDINARY & set(TASKS)):
            yield f"line {node.lineno}: compares with {sorted(named)}: {ast.unparse(node)}"
        if isinstance(node, ast.Dict):
            keys = {key.value for key in node.keys if isinstance(key, ast.Constant)} & set(TASKS)
            if len(keys) > 1 and keys != {"width", "height"}:  # those two are the sides of an image
                yield f"line {node.lineno}: a table by kind: {ast.unparse(node)[:80]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_outside_of_tasks_names_a_kind(path: Path) -> None:
    assert not list(_violations(ast.parse(path.read_text(encoding="utf-8"))))


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
