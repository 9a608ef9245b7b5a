"""The command line in this process."""

from __future__ import annotations

import pytest

from smolrgpt.cli import main as cli


@pytest.fixture
def command(capsys):
    """``command(*arguments) -> (exit code, stdout, stderr)``."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call
