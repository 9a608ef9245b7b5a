"""Reports and tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from smolrgpt.evaluation.report.document import Block, Cell, Code, HtmlFragment, Percent, Report, Section, Table


def to_markdown(report: Report) -> str:
    """Return the report as a Markdown document."""
    sections = [_section(section) for section in report.sections]
    return "\n\n".join([f"# {report.title}", *report.summary, *filter(None, sections)]) + "\n"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _section(section: Section) -> str:
    blocks = [text for block in section.blocks if (text := _block(block))]
    return "\n\n".join([f"## {section.title}", *blocks]) if blocks else ""


def _block(block: Block | None) -> str:
    if isinstance(block, HtmlFragment):
        return _block(block.alternative)
    if not isinstance(block, Table):
        return block or ""
    shown = block.rows[: block.max_rows]
    hidden = len(block.rows) - len(shown)
    return markdown_table(block.header, shown) + (f"\n\n{hidden} more rows are in report.html." if hidden else "")


def _cell(cell: Cell) -> str:
    if isinstance(cell, Percent):
        text = "" if cell.value is None else f"{cell.value:.2f}"
        return text if cell.interval is None else f"{text} ({cell.interval[0]:.1f} to {cell.interval[1]:.1f})"
    text = f"`{cell.text}`" if isinstance(cell, Code) else cell
    return text.replace("|", "\\|").replace("\n", " ")
