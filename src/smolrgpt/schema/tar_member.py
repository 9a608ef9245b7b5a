"""TarMember: a file inside an uncompressed tar archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TarMember:
    """A file inside an uncompressed tar archive: ``size`` bytes from ``offset`` on; ``name`` is its name in the archive."""

    archive: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"
