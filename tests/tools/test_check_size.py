"""The check of sizes finds what is over a limit and nothing else."""

from __future__ import annotations

from pathlib import Path

from tools.check_size import count_code_lines, find_long_files, find_long_functions, find_type_ignores

CODE = '''class A:
    def short(self):
        return "type: ignore"

    @property
    def long(self):
        """One.

        Two.
        """
        x: int = ""  # type: ignore[assignment]
        return x


async def inner_counts():
    def inner():
        pass

    return inner
'''


def test_only_what_is_over_the_limit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(CODE)
    assert find_long_files([path], 19) == []
    assert find_long_files([path], 18) == [f"{path}: 19 lines; at most 18"]
    assert find_long_functions([path], 7) == []
    assert find_long_functions([path], 4) == [
        f"{path}:15: inner_counts has 5 lines; at most 4",
        f"{path}:6: long has 7 lines; at most 4",
    ]


def test_docstrings_comments_and_blank_lines_are_no_code(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(CODE + '\n# a comment\nx = """two\nlines"""\n')
    assert count_code_lines(path) == 11 + 2


def test_a_comment_counts_and_a_string_does_not(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(CODE.replace("short(self):", "short(self):  # type: ignore[override]"))
    assert list(find_type_ignores([path])) == [f"{path}:11: # type: ignore[assignment]"]
