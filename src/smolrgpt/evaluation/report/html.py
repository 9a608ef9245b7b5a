"""Reports as one self-contained HTML page: no script, no outside resource, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from smolrgpt.evaluation.report.document import Block, Cell, Code, HtmlFragment, Percent, Report, Section, Table


def to_html(report: Report) -> str:
    """Return the report as an HTML document."""
    from smolrgpt.viz.gallery import html_document

    header = f"<h1>{escape(report.title)}</h1>" + "".join(f"<p>{escape(text)}</p>" for text in report.summary)
    return html_document(report.title, header, "".join(_section(section) for section in report.sections), _STYLE)


def _section(section: Section) -> str:
    """Return nothing for a section whose blocks are all empty."""
    body = "".join(_block(block) for block in section.blocks)
    css_class = ' class="wide"' if section.is_wide else ""
    return f"<section{css_class}><h2>{escape(section.title)}</h2>{body}</section>\n" if body else ""


def _block(block: Block) -> str:
    if isinstance(block, HtmlFragment):
        return block.html
    if not isinstance(block, Table):
        return f"<p class=note>{escape(block)}</p>" if block else ""
    element = table_element(block.header, [[_cell(cell) for cell in row] for row in block.rows], block.has_prose)
    return f"<details><summary>{escape(block.fold)}</summary>{element}</details>" if block.fold else element


def table_element(header: Sequence[str], rows: Sequence[Sequence[str]], has_prose: bool = False) -> str:
    """Return a ``<table>`` whose cells are HTML and whose rows are named by their first cells; its header is plain text."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr><th>{first}</th>{''.join(f'<td>{cell}</td>' for cell in rest)}</tr>" for first, *rest in rows)
    css_class = " class=words" if has_prose else ""
    return f"<div class=scroll><table{css_class}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(cell: Cell) -> str:
    if isinstance(cell, Percent):
        return _bar(cell)
    return f"<code>{escape(cell.text)}</code>" if isinstance(cell, Code) else escape(cell)


def _bar(percent: Percent) -> str:
    """Return the number above a bar of 0 to 100 %, on which the interval is marked where there is one."""
    if percent.value is None:
        return ""
    whisker = title = ""
    if percent.interval is not None:
        low, high = percent.interval
        whisker = f'<i style="left:{low:.1f}%;width:{max(0.5, high - low):.1f}%"></i>'
        title = f' title="95 % interval {low:.1f} to {high:.1f}"'
    return f'<span class=bar{title}>{percent.value:.1f}<span><b style="width:{percent.value:.1f}%"></b>{whisker}</span></span>'


_STYLE = """
:root { --bad: #b3261e; --mark: #2f6fd0; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --mark: #82b1ff; } }
header, main { max-width: 1240px; }
main { grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); align-items: start; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; min-width: 0; }
.wide { grid-column: 1 / -1; }
h2 { font-size: 1.05rem; margin: 0 0 6px; }
p { margin: 4px 0; }
.note { font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 4px 6px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child { text-align: left; font-weight: 500; }
thead th { color: var(--soft); font-weight: 500; }
.bar { display: inline-block; width: 48px; }
.wide .bar { width: 84px; }
.bar > span { display: block; position: relative; height: 4px; background: var(--line); border-radius: 2px; }
.bar b { position: absolute; inset: 0 auto 0 0; background: var(--mark); border-radius: 2px; }
.bar i { position: absolute; top: -2px; height: 8px; border: solid var(--ink); border-width: 0 1px; }
.confusion td { padding: 0; text-align: center; }
.confusion th:not(:first-child) { padding: 4px 1px; text-align: center; }
.confusion td span { display: block; min-width: 1.7em; padding: 4px 2px; background: var(--shade); }
.words td, .words th { white-space: normal; text-align: left; overflow-wrap: anywhere; }
details { margin-top: 8px; }
summary { cursor: pointer; color: var(--soft); }
svg { width: 100%; max-width: 620px; height: auto; display: block; margin: 0 auto; }
svg text { font-size: 11px; fill: var(--soft); }
svg .name { fill: var(--ink); }
svg .middle { text-anchor: middle; }
svg .end { text-anchor: end; }
svg .axis { stroke: var(--soft); fill: none; }
svg .grid { stroke: var(--line); fill: none; }
svg .band { fill: var(--good); opacity: .14; }
svg .ideal { stroke: var(--soft); stroke-dasharray: 4 4; fill: none; }
svg .curve { stroke: var(--mark); stroke-width: 2; fill: none; }
svg .bin, svg .right { fill: var(--mark); }
svg .right { opacity: .55; }
svg .wrong { fill: var(--bad); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 8px; align-items: end; }
.cards { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); }
.cards article { border-radius: 8px; }
.wrong { color: var(--bad); }
.answer-text { color: var(--soft); font-size: .85rem; }
"""
