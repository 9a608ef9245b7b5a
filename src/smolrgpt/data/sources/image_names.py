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
    parts, others = _parts(first)[::-1], _parts(second)[::-1]
    shared = min(len(parts), len(others))
    return parts[:shared] == others[:shared]


def _candidates(source: str) -> Iterator[str]:
    yield source  # also a name with a backslash or a question mark in it
    last = ""
    for path in dict.fromkeys((source, _url_path(source))):
        parts = _parts(path)
        yield from ("/".join(parts[start:]) for start in range(len(parts)))
        last = parts[-1] if parts else last
    yield _UPLOAD_NUMBER.sub("", last)


def _parts(path: str) -> list[str]:
    """Return the parts of a path from any system, without drive and steps upwards."""
    return [part for part in re.split(r"[\\/]+", path) if part not in ("", ".", "..") and not _DRIVE.match(part)]


def _url_path(source: str) -> str:
    try:
        url = urlsplit(source)
        return parse_qs(url.query).get("d", [unquote(url.path)])[0]
    except ValueError:  # no URL
        return source
