"""Checkpoints by name: those bundled with the package, folders, and hub ids."""

from __future__ import annotations

import re
from pathlib import Path

#: The file by which a folder is known to hold an exported model (see ``exported.py``).
EXPORT_RECORD = "export.json"

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def bundled_checkpoints() -> dict[str, Path]:
    """Return name -> folder of the checkpoints inside the package."""
    folder = Path(__file__).parents[1] / "checkpoints"
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/config.json"))}


def bundled_checkpoint(name: str) -> Path:
    """Return the folder of a checkpoint inside the package. Raises ValueError that lists the bundled names."""
    found = bundled_checkpoints()
    if name not in found:
        raise ValueError(f"there is no bundled checkpoint {name!r}; bundled: {', '.join(found) or 'none'}")
    return found[name]


def resolve_checkpoint(name: str | Path) -> str | Path:
    """Return the path of a bundled name or a folder; a hub id "owner/name" is returned as it is. Raises ValueError for anything else."""
    if isinstance(name, str) and name in bundled_checkpoints():
        return bundled_checkpoint(name)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(f"{path} holds no config.json; expected a folder written by save_pretrained (a run's is <out>/final)")
        return path
    if isinstance(name, str) and _HUB_ID.fullmatch(name):
        return name
    bundled = ", ".join(bundled_checkpoints()) or "none"
    raise ValueError(f"no model {str(name)!r}; expected a bundled name ({bundled}), a folder with config.json, or a hub id owner/name")


def portable_checkpoint_name(name: str | Path) -> str:
    """Return a name of the same checkpoint for other processes: a bundled name or hub id as it is, a folder as its absolute path.

    Raises the same errors as ``resolve_checkpoint``.
    """
    found = resolve_checkpoint(name)
    return str(name) if name in bundled_checkpoints() or isinstance(found, str) else str(found.resolve())
