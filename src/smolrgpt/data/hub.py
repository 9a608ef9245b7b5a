"""Where a data set's files are: a folder as it is, a hub name as the folder it was downloaded to."""

from __future__ import annotations

import re
from pathlib import Path

from smolrgpt.data.schema import DataError

_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[\w.-]+")


def local_root(root: str | Path) -> Path:
    """``root`` when it is a folder; the local copy of a hub data set ``owner/name``, downloaded at the first use, otherwise.

    Raises DataError when it is neither, and when the hub cannot be reached or refuses, with the way to go on.
    """
    path = Path(root).expanduser()
    if path.is_dir():
        return path
    if not _HUB_ID.fullmatch(str(root)):
        raise DataError(f"{root}: no such folder; expected the folder of a data set, or the hub id owner/name of one")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(str(root), repo_type="dataset"))
    except GatedRepoError as error:
        raise DataError(
            f"{root}: no such folder, and the hub data set asks for its terms to be accepted: do so on its page, then run 'hf auth login'"
        ) from error
    except RepositoryNotFoundError as error:
        raise DataError(f"{root}: no such folder, and no data set of that name on the hub (a private one needs 'hf auth login')") from error
    except (OSError, RuntimeError) as error:  # offline, no connection, not cached: the library has a type for each, by version
        raise DataError(
            f"{root}: no such folder, and the hub data set of that name is not on this disk and could not be fetched "
            f"({type(error).__name__}); give a folder, or run this once while online, without HF_HUB_OFFLINE: the download is kept"
        ) from error
