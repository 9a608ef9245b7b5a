"""One file per data set; a source is a function (root, split, ...) -> list[Sample]."""

from __future__ import annotations

from collections.abc import Callable

from smolrgpt.data.schema import Sample
from smolrgpt.data.sources.warehouse import read_warehouse

SOURCES: dict[str, Callable[..., list[Sample]]] = {"warehouse": read_warehouse}
