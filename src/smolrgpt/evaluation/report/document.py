"""The content of a report, independent of its format: sections of tables, paragraphs and HTML fragments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Percent:
    """A share in percent, None where there is nothing to divide; interval: its 95 % interval, where it is known."""

    value: float | None
    interval: Sequence[float] | None = None


@dataclass(frozen=True)
class Code:
    """Text that is shown in a fixed-width font."""

    text: str


Cell = str | Percent | Code


@dataclass(frozen=True)
class Table:
    """A table whose rows are named by their first cells.

    Attributes:
        header: One name per column.
        rows: Cells of every row.
        has_prose: Whether cells hold sentences, which may be wrapped, rather than numbers.
        fold: The text that the HTML page shows instead of the table until it is opened; empty: the table itself.
        max_rows: How many rows Markdown shows, which cannot be folded; None: all.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    has_prose: bool = False
    fold: str = ""
    max_rows: int | None = None


@dataclass(frozen=True)
class HtmlFragment:
    """A piece of HTML, such as a plot; alternative: what Markdown shows in its place, None for nothing."""

    html: str
    alternative: Table | None = None


Block = str | Table | HtmlFragment


@dataclass(frozen=True)
class Section:
    """A titled part of a report, shown if it has a block; is_wide: whether it takes the full width of the HTML page."""

    title: str
    blocks: Sequence[Block]
    is_wide: bool = True


@dataclass(frozen=True)
class Report:
    """A report: its title, the paragraphs below the title, and its sections."""

    title: str
    summary: Sequence[str]
    sections: Sequence[Section] = field(default_factory=tuple)
