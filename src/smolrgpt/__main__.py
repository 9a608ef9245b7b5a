"""``python -m smolrgpt`` is the ``smolrgpt`` command."""

from __future__ import annotations

from smolrgpt.cli.main import main

if __name__ == "__main__":
    main()
