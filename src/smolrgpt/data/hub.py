"""The local folder of a data set or a model that is given as a folder or by its name on the hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from smolrgpt.schema import DataError

_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[\w.-]+")


def local_folder(name: str | Path, kind: Literal["dataset", "model"] = "dataset", patterns: Sequence[str] | None = None) -> Path:
    """Return ``name`` when it is a folder; else the local copy of ``owner/name`` on the hub, which is downloaded at the first use.

    Args:
        name: A folder or a hub id.
        kind: The kind of repository on the hub.
        patterns: Those of the files to download; None: all.

    Raises:
        DataError: When it is neither, or the hub cannot be reached or refuses, with advice on what to do.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if not _HUB_ID.fullmatch(str(name)):
        raise DataError(f"{name}: no such folder; expected the folder of a {kind}, or the hub id owner/name of one")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(str(name), repo_type=kind, allow_patterns=None if patterns is None else list(patterns)))
    except GatedRepoError as error:
        raise DataError(
            f"{name}: no such folder, and this {kind} on the hub asks for its terms to be accepted: do so on its page, then 'hf auth login'"
        ) from error
    except RepositoryNotFoundError as error:
        raise DataError(f"{name}: no such folder, and no such {kind} on the hub (a private one needs 'hf auth login')") from error
    except (OSError, RuntimeError) as error:  # offline, no connection, not cached: the library has a type for each, by version
        raise DataError(
            f"{name}: no such folder, and the hub's {kind} of that name is not on this disk and could not be fetched "
            f"({type(error).__name__}); give a folder, or run this once while online, without HF_HUB_OFFLINE: the download is kept"
        ) from error
