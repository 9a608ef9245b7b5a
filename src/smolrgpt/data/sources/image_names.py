"""The image that an annotation means: annotation tools write paths of other computers, URLs, and names with an upload number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, unquote, urlsplit

from smolrgpt.data.sources.folders import FileFolder
from smolrgpt.data.sources.rows import MissingFileError
from smolrgpt.schema import brief

#: What Label Studio puts in front of the name of an uploaded file.
_UPLOAD_NUMBER = re.compile(r"\A[0-9a-f]{8}-")
_DRIVE = re.compile(r"\A[A-Za-z]:\Z")


def find_image(images: FileFolder, source: str) -> str:
    """Return the name in the folder of the image that annotations call ``source``. Raises MissingFileError when there is none.

    A path from Windows or another computer is found by its last parts, as many of them as exist; so is a URL, local storage of Label
    Studio (``?d=folder/name.jpg``), and at last a name without the upload number in front.
    """
    for name in dict.fromkeys(_candidates(source)):
        try:
            images.find(name)
        except MissingFileError:
            continue
        return name
    raise MissingFileError(images.kind, f"{images.kind} {brief(source)!r} is not in {images.folder}; {images.hint}")


def is_same_name(first: str, second: str) -> bool:
    """Return whether two names can be of one image: the parts of one are the last parts of the other."""
    parts, others = (_parts(_url_path(name) or name)[::-1] for name in (first, second))
    shared = min(len(parts), len(others))
    return parts[:shared] == others[:shared]


def _candidates(source: str) -> Iterator[str]:
    """Yield the names under which an image may lie in a folder, those with most folders of the source first."""
    if "/" not in source:
        yield source  # also a name with a backslash in it
    forms = [_parts(path) for path in (source, _url_path(source) or source, unquote(source))]
    for count in range(max(map(len, forms)), 0, -1):
        yield from ("/".join(parts[-count:]) for parts in forms if len(parts) >= count)
    yield from (_UPLOAD_NUMBER.sub("", name) for parts in forms for name in parts[-1:])


def _parts(path: str) -> list[str]:
    """Return the parts of a path from any system, without drive and steps upwards."""
    return [part for part in re.split(r"[\\/]+", path) if part not in ("", ".", "..") and not _DRIVE.match(part)]


def _url_path(source: str) -> str | None:
    """Return the path of a URL, or that in its query; None for what is none."""
    if "?" not in source and "://" not in source:
        return None
    try:
        url = urlsplit(source)
        return parse_qs(url.query).get("d", [unquote(url.path)])[0]
    except ValueError:
        return None
