"""Fails where code has outgrown the limits of the design: ``python -m tools.check_size``; ``make check`` runs it.

Lists files and functions with too many lines, a package with too much code (docstrings, comments and blank lines do not count, so that
explanations cost nothing), and ``type: ignore`` comments beyond the allowed number. Those that only declare that a signature differs from
the one of transformers (``override``) are allowed. A function counts from its ``def`` to its last line, with its docstring; decorators do
not count.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "smolrgpt"
#: Folders whose files and functions are limited. Of tests, only the files are.
CODE = (PACKAGE, *(ROOT / name for name in ("benchmarks", "tools", "experiments", "examples")))
TESTS = ROOT / "tests"


@dataclass(frozen=True)
class Limits:
    """Largest allowed numbers of lines, and of ``type: ignore`` comments in the package."""

    package_code_lines: int = 25_000
    file_lines: int = 600
    function_lines: int = 60
    type_ignores: int = 5


def python_files(folders: Sequence[Path]) -> list[Path]:
    """List all Python files in the folders, sorted."""
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def count_lines(path: Path) -> int:
    """Count the lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def count_code_lines(path: Path) -> int:
    """Count the lines of a file that are not blank, a comment, or part of a docstring."""
    text = path.read_text(encoding="utf-8")
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) is not None:
            docstrings |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    ignored = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in ignored]
    return len({line for token in tokens for line in range(token.start[0], token.end[0] + 1)} - docstrings)


def find_long_files(paths: Sequence[Path], limit: int) -> list[str]:
    """Return a line for every file of more than ``limit`` lines."""
    counts = [(path, count_lines(path)) for path in paths]
    return [f"{_name(path)}: {count} lines; at most {limit}" for path, count in counts if count > limit]


def find_long_functions(paths: Sequence[Path], limit: int) -> list[str]:
    """Return a line for every function or method of more than ``limit`` lines."""
    found = []
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = (node.end_lineno or node.lineno) - node.lineno + 1
                if count > limit:
                    found.append(f"{_name(path)}:{node.lineno}: {node.name} has {count} lines; at most {limit}")
    return found


def find_type_ignores(paths: Sequence[Path]) -> Iterator[str]:
    """Return ``FILE:LINE`` of every ``type: ignore`` comment but those of an override; strings do not count."""
    for path in paths:
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
            if token.type == tokenize.COMMENT and re.search(r"type:\s*ignore(?!\[override\])", token.string):
                yield f"{_name(path)}:{token.start[0]}: {token.string}"


def find_problems(limits: Limits) -> list[str]:
    """Return one line for everything in the repository that is over a limit."""
    package, code = python_files([PACKAGE]), python_files(CODE)
    problems = find_long_files([*code, *python_files([TESTS])], limits.file_lines)
    problems += find_long_functions(code, limits.function_lines)
    total = sum(map(count_code_lines, package))
    if total > limits.package_code_lines:
        problems.append(f"the package has {total} lines of code; at most {limits.package_code_lines}")
    ignores = list(find_type_ignores(package))
    if len(ignores) > limits.type_ignores:
        problems += [f"the package has {len(ignores)} 'type: ignore'; at most {limits.type_ignores}:", *ignores]
    return problems


def _name(path: Path) -> str:
    """Return the path relative to the repository, where it lies in it."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def main() -> None:
    """Print all code over a limit; exits with 1 if there is any."""
    problems = find_problems(Limits())
    print("\n".join(problems) or "no file or function is over its limit")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
