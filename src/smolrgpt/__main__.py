"""``python -m smolrgpt`` is the ``smolrgpt`` command."""

from __future__ import annotations

from smolrgpt.apps.cli import main

if __name__ == "__main__":
    main()
