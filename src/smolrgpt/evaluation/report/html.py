"""The result of an evaluation as one self-contained HTML page: no script, no outside resource, light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from smolrgpt.data.loading import SkipLog
from smolrgpt.evaluation.benchmarks import spatial_bench
from smolrgpt.evaluation.report.markdown import PUBLISHED, PUBLISHED_NOTE
from smolrgpt.evaluation.score import CATEGORIES
from smolrgpt.evaluation.summary import Scored, score_samples, worst
from smolrgpt.schema import Sample
from smolrgpt.tasks.distance import DISTANCE
from smolrgpt.tasks.region_text import REGION_TAG, write_mentions

#: Pictures of the worst answers are shrunk to this long side.
PICTURE_SIDE = 480
#: Plots are drawn in these units and scaled to the page; the margins hold the axes' numbers.
PLOT_WIDTH, PLOT_HEIGHT, MARGIN = 460, 320, 46
#: The distance axes reach from the shortest to the longest by this factor, within these metres; what lies outside stands on the edge.
DISTANCE_AXIS_ROOM, DISTANCE_AXIS_M = 1.3, (0.05, 1000.0)
#: Points of the distance plot, so that the page of a large set stays small: every n-th beyond.
MAX_POINTS = 3000


def warehouse_page(result: Mapping[str, Any], samples: Sequence[Sample], predictions: Sequence[Mapping[str, Any]]) -> str:
    """The document of ``summary.summarise``'s result; pictures of the worst answers are read from the samples."""
    scored = score_samples(samples, predictions)
    title = f"{result.get('model') or 'Result'}: S1 {result['S1']:.2f}"
    sections = [
        _section("Accuracy", _scores(result), wide=True),
        _section("Read by each extractor", _extractors(result.get("extractors")), wide=True),
        _section(
            "Distances", _distances(scored), "Every point is an answer. Inside the band, 10 % to both sides, it is right; log scales."
        ),
        _section("Counts and choices", _confusions(result["confusion"])),
        _section("Confidence", _calibration(result.get("calibration")), wide=True),
        _section("By number of regions", _groups(result["by_num_regions"])),
        _section("By true distance", _groups(result["by_distance"])),
        _section("By the smallest region's share of the picture", _groups(result["by_region_size"])),
        _section("By layout", _groups(result["by_layout"])),
        *([_section("By wording (reserved: never trained on)", _groups(result["by_wording"]))] if result.get("by_wording") else []),
        _section("Wordings", _templates(result["by_template"]), wide=True),
        _section("Worst answers", _worst(scored), "Furthest from the truth; of those equally far, the most confident.", wide=True),
        _section("Problems", _problems(result), "Each counts as wrong.", wide=True),
        _section("Repeat this", _environment(result.get("environment")), wide=True),
    ]
    return _document(title, _headline(result), sections)


def spatial_page(result: Mapping[str, Any], samples: Sequence[Sample], predictions: Sequence[Mapping[str, Any]]) -> str:
    """The document of ``spatial_bench.score``'s result."""
    name = str(result.get("model") or "Result")
    sections = [
        _section("Success rates", _success(result), wide=True),
        *(
            _section(
                f"{group[0].upper()}{group[1:]}",
                _scatter([(true, read, spatial_bench.is_near(true, read), "") for true, read in pairs], spatial_bench.LENGTH_FACTORS),
                "Every point is an answer. Inside the band, 25 % to both sides, it is right; log scales.",
            )
            for group, pairs in result["lengths"].items()
        ),
        _section("Problems", _problems(result), "Each counts as wrong.", wide=True),
        _section("Repeat this", _environment(result.get("environment")), wide=True),
    ]
    head = (
        f"<h1>{escape(name)}</h1><p>{result['num_correct']} of {result['num_questions']} questions right. "
        f"Data: {escape(str(result.get('data') or 'not named'))}.</p>"
    )
    return _document(f"{name}: SpatialRGPT-Bench", head, sections)


def _success(result: Mapping[str, Any]) -> str:
    means = [
        [f"<b>{which} average</b>", _bar(result[which]), "", "", ""]
        for which in ("qualitative", "quantitative")
        if result[which] is not None
    ]
    rows = []
    for group, accuracy in result["accuracy"].items():
        counts, error = result["by_category"][group], result["abs_rel"].get(group)
        rows.append(
            [escape(group), _bar(accuracy), str(counts["num_questions"]), str(counts["num_read"]), "" if error is None else f"{error:.3f}"]
        )
    angle = result["angle_error_deg"]
    published = [[escape(model), _bar(first), _bar(second)] for model, (first, second) in spatial_bench.PUBLISHED.items()]
    return (
        _table(["right in %", "", "questions", "read", "abs-rel"], [*means, *rows])
        + ("" if angle is None else f"<p>Directions are {angle:.1f} degrees off in the mean.</p>")
        + "<details><summary>Published averages</summary>"
        + "<p class=note>Of the real benchmark; its qualitative answers were judged by a language model, ours are read by rules.</p>"
        + _table(["%", "qualitative", "quantitative"], published)
        + "</details>"
    )


def _document(title: str, head: str, sections: Sequence[str]) -> str:
    from smolrgpt.viz.gallery import html_document

    return html_document(title, head, "".join(sections), _STYLE)


def _section(title: str, body: str, note: str = "", wide: bool = False) -> str:
    """Nothing when there is no body."""
    if not body:
        return ""
    name = ' class="wide"' if wide else ""
    return f"<section{name}><h2>{escape(title)}</h2>{f'<p class=note>{escape(note)}</p>' if note else ''}{body}</section>\n"


def _headline(result: Mapping[str, Any]) -> str:
    low, high = result["interval"]["S1"]
    return (
        f"<h1>{escape(str(result.get('model') or 'Result'))}</h1><p class=score>S1 <b>{result['S1']:.2f}</b> "
        f"<span>95 % interval {low:.1f} to {high:.1f}</span></p>"
        f"<p>{result['num_correct']} of {result['num_questions']} questions right. "
        f"Data: {escape(str(result.get('data') or 'not named'))}.</p>"
    )


# ------------------------------------------------------------------------------------------------------------------------- tables
def _table(header: Sequence[str], rows: Iterable[Sequence[str]], words: bool = False) -> str:
    """Cells are HTML; the first of a row names it. words: cells are text that may be broken, not numbers."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join(f"<tr><th>{first}</th>{''.join(f'<td>{cell}</td>' for cell in rest)}</tr>" for first, *rest in rows)
    return f"<div class=scroll><table{' class=words' if words else ''}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _bar(percent: float | None, interval: Sequence[float] | None = None) -> str:
    """A number over a bar of 0 to 100 %, with its interval as a line where there is one."""
    if percent is None:
        return ""
    whisker = "" if interval is None else f'<i style="left:{interval[0]:.1f}%;width:{max(0.5, interval[1] - interval[0]):.1f}%"></i>'
    title = "" if interval is None else f' title="95 % interval {interval[0]:.1f} to {interval[1]:.1f}"'
    return f'<span class=bar{title}>{percent:.1f}<span><b style="width:{percent:.1f}%"></b>{whisker}</span></span>'


def _score_row(name: str, s1: float | None, accuracy: Mapping[str, float], interval: Mapping[str, Any] | None = None) -> list[str]:
    ends = interval or {"S1": None, "accuracy": {}}
    return [escape(name), _bar(s1, ends["S1"]), *(_bar(accuracy.get(one), ends["accuracy"].get(one)) for one in CATEGORIES)]


def _scores(result: Mapping[str, Any]) -> str:
    header = ["%", "S1", *CATEGORIES]
    rows = [_score_row("this run", result["S1"], result["accuracy"], result["interval"])]
    beside = {**result.get("beside", {}), "chance": result["chance"]}
    for name, other in beside.items():
        rows.append(_score_row(name, other["S1"], other["accuracy"]))
        if other.get("difference"):
            low, high = other["difference"]
            rows[-1][0] += f"<p class=note>S1 {low:+.1f} to {high:+.1f} against this run</p>"
    counts = [str(result["by_category"].get(name, {}).get("num_questions", 0)) for name in CATEGORIES]
    published = [_score_row(name, s1, accuracy) for name, (s1, accuracy) in PUBLISHED.items()]
    return (
        _table(header, [*rows, ["questions", str(result["num_questions"]), *counts]])
        + f"<details><summary>Published results</summary><p class=note>{escape(PUBLISHED_NOTE.replace('**', ''))}</p>"
        + _table(header, published)
        + "</details>"
    )


def _extractors(extractors: Mapping[str, Any] | None) -> str:
    rows = [[*_score_row(name, one["S1"], one["accuracy"]), str(one["num_unreadable"])] for name, one in (extractors or {}).items()]
    return _table(["%", "S1", *CATEGORIES, "unreadable"], rows) if rows else ""


def _groups(groups: Mapping[str, Mapping[str, Any]]) -> str:
    present = [one for one in CATEGORIES if any(one in group["accuracy"] for group in groups.values())]
    header = ["", "questions", *(["S1"] if len(present) > 1 else []), *present]
    rows = [
        [
            escape(name),
            str(group["num_questions"]),
            *([_bar(group["S1"])] if len(present) > 1 else []),
            *(_bar(group["accuracy"].get(one)) for one in present),
        ]
        for name, group in groups.items()
    ]
    return _table(header, rows) if rows else ""


def _templates(templates: Sequence[Mapping[str, Any]]) -> str:
    rows = [[escape(row["template"]), row["category"], str(row["num_questions"]), _bar(row["accuracy"])] for row in templates]
    table = _table(["question", "category", "questions", "right"], rows, words=True)
    return f"<details><summary>{len(rows)} wordings, the most frequent first</summary>{table}</details>" if rows else ""


def _confusions(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    count, choice = _confusion(found["count"], "true count", "answer"), _confusion(found["mcq"], "true region", "answer")
    place = "<p class=note>Regions by their place in the question: a column that stands out is a place the model prefers.</p>"
    return count + (place + choice if choice else "")


def _confusion(cells: Sequence[Mapping[str, Any]], truth: str, answer: str) -> str:
    """Shares of a row's questions, in shades; right answers are on the diagonal."""
    if not cells:
        return ""
    truths = sorted({cell["truth"] for cell in cells})
    answers = sorted({cell["answer"] for cell in cells} | set(truths), key=lambda value: (value is None, value or 0))
    numbers = {(cell["truth"], cell["answer"]): cell["number"] for cell in cells}
    rows = []
    for one in truths:
        total = sum(numbers.get((one, other), 0) for other in answers)
        rows.append([str(one), *(_shaded(numbers.get((one, other), 0), total, one == other) for other in answers)])
    header = [f"{truth} \\ {answer}", *("unread" if other is None else str(other) for other in answers)]
    return f"<div class=confusion>{_table(header, rows)}</div>"


def _shaded(number: int, total: int, right: bool) -> str:
    colour = "var(--good)" if right else "var(--bad)"
    share = 100 * number / total
    strength = 0 if not number else round(15 + 60 * math.sqrt(number / total))
    return f'<span style="--shade:color-mix(in srgb, {colour} {strength}%, transparent)" title="{share:.1f} %">{number or ""}</span>'


def _problems(result: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{number} {kind}" for kind, number in result["problem_counts"].items())
    rows = [[escape(one["id"]), escape(one["kind"]), escape(one["reason"])] for one in result["problems"]]
    if not rows:
        return ""
    table = _table(["id", "kind", "reason"], rows, words=True)
    return f"<p>{escape(counts)}</p><details><summary>The first {len(rows)}</summary>{table}</details>"


def _environment(found: Mapping[str, str] | None) -> str:
    rows = [[escape(name), f"<code>{escape(str(value))}</code>"] for name, value in (found or {}).items()]
    return _table(["", ""], rows, words=True) if rows else ""


# -------------------------------------------------------------------------------------------------------------------------- plots
class _Plot:
    """Marks in data coordinates, as an SVG that takes its colours from the page. scale: what is linear on the axes."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], label: str, log: bool = False):
        self.x, self.y, self.label, self.marks = x, y, label, list[str]()
        self.scale = math.log if log else float

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point; outside of the axes, the nearest place on their edge."""
        across, up = (
            (self.scale(min(max(v, a), b)) - self.scale(a)) / (self.scale(b) - self.scale(a)) for v, (a, b) in ((x, self.x), (y, self.y))
        )
        return MARGIN + across * (PLOT_WIDTH - MARGIN - 10), (PLOT_HEIGHT - MARGIN) - up * (PLOT_HEIGHT - MARGIN - 10)

    def line(self, points: Iterable[tuple[float, float]], name: str) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.place(*point) for point in points))
        self.marks.append(f'<polyline class="{name}" points="{path}"/>')

    def area(self, points: Iterable[tuple[float, float]], name: str) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.place(*point) for point in points))
        self.marks.append(f'<polygon class="{name}" points="{path}"/>')

    def point(self, x: float, y: float, name: str, title: str, radius: float = 2.6) -> None:
        left, top = self.place(x, y)
        self.marks.append(f'<circle class="{name}" cx="{left:.1f}" cy="{top:.1f}" r="{radius}"><title>{escape(title)}</title></circle>')

    def svg(self, x_ticks: Sequence[float], y_ticks: Sequence[float], x_name: str, y_name: str) -> str:
        bottom, right = PLOT_HEIGHT - MARGIN, PLOT_WIDTH - 10
        axes = [f'<path class="axis" d="M{MARGIN},10V{bottom}H{right}"/>']
        for tick in x_ticks:
            left = self.place(tick, self.y[0])[0]
            axes.append(
                f'<path class="grid" d="M{left:.1f},10V{bottom}"/><text x="{left:.1f}" y="{bottom + 16}" class="middle">{tick:g}</text>'
            )
        for tick in y_ticks:
            top = self.place(self.x[0], tick)[1]
            axes.append(
                f'<path class="grid" d="M{MARGIN},{top:.1f}H{right}"/><text x="{MARGIN - 6}" y="{top + 4:.1f}" class="end">{tick:g}</text>'
            )
        names = (
            f'<text x="{(MARGIN + right) / 2}" y="{PLOT_HEIGHT - 8}" class="middle name">{escape(x_name)}</text>'
            f'<text transform="translate(12 {bottom / 2}) rotate(-90)" class="middle name">{escape(y_name)}</text>'
        )
        frame = f'viewBox="0 0 {PLOT_WIDTH} {PLOT_HEIGHT}" role="img" aria-label="{escape(self.label)}"'
        return f"<svg {frame}>{''.join(axes)}{''.join(self.marks)}{names}</svg>"


def _distances(scored: Sequence[Scored]) -> str:
    found = [one for one in scored if one.sample.category == DISTANCE.name and one.value is not None]
    return _scatter([(one.truth, one.value, one.right, one.sample.id) for one in found], DISTANCE.tolerance)


def _scatter(found: Sequence[tuple[float, float, bool, str]], factors: tuple[float, float]) -> str:
    """Answers against truths in metres: (truth, answer, whether that is right, name); zeros, which no log scale has, stand on the edge."""
    if not found:
        return ""
    seen = [value for truth, answer, *_ in found for value in (truth, answer) if value > 0] or [1.0]
    first, last = max(DISTANCE_AXIS_M[0], min(seen) / DISTANCE_AXIS_ROOM), min(DISTANCE_AXIS_M[1], max(seen) * DISTANCE_AXIS_ROOM)
    plot = _Plot((first, last), (first, last), "answers against true lengths", log=True)
    low, high = factors
    corners = [(first, first), (first, first * high), (last / high, last), (last, last), (last, last * low), (first / low, first)]
    plot.area(corners, "band")  # none outside of the axes, where it would be moved and bend the edges
    plot.line([(first, first), (last, last)], "ideal")
    for truth, answer, right, name in found[:: -(-len(found) // MAX_POINTS)]:
        title = f"{name}{': ' * bool(name)}{answer:g} m, truth {truth:g} m"
        plot.point(truth, answer, "right" if right else "wrong", title)
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if first <= tick <= last]
    return plot.svg(ticks, ticks, "truth (m)", "answer (m)")


def _calibration(calibration: Mapping[str, Any] | None) -> str:
    if calibration is None:
        return "<p class=note>The predictions carry no confidence.</p>"
    reliability = _Plot((0, 1), (0, 1), "accuracy against confidence")
    reliability.line([(0, 0), (1, 1)], "ideal")
    most = max(row["num_questions"] for row in calibration["bins"])
    reliability.line([(row["confidence"], row["accuracy"]) for row in calibration["bins"]], "curve")
    for row in calibration["bins"]:
        title = f"{row['num_questions']} questions, confidence {row['confidence']:.2f}, right {100 * row['accuracy']:.1f} %"
        reliability.point(row["confidence"], row["accuracy"], "bin", title, 3 + 7 * math.sqrt(row["num_questions"] / most))
    kept = [(row["coverage"], row["S1"]) for row in calibration["coverage"]]
    floor = 10 * math.floor(min(s1 for _, s1 in kept) / 10 - 0.5) if kept else 0
    coverage = _Plot((0, 1), (max(0, floor), 100), "S1 against coverage")
    coverage.line(kept, "curve")
    for share, s1 in kept:
        coverage.point(share, s1, "bin", f"{share:.0%} of the questions: S1 {s1:.1f}")
    shares, tenths = (0, 0.2, 0.4, 0.6, 0.8, 1), range(max(0, floor), 101, 5 if floor >= 70 else 10)
    ranks = "" if calibration["auroc"] is None else f"; a right answer has more than a wrong one in {100 * calibration['auroc']:.1f} %"
    return (
        f"<p>Expected calibration error {calibration['ece']:.3f}{ranks}.</p><div class=pair>"
        + reliability.svg(shares, shares, "confidence", "share right")
        + coverage.svg(shares, list(tenths), "share of questions answered, the most confident", "S1")
        + "</div>"
    )


# -------------------------------------------------------------------------------------------------------------------------- worst
def _worst(scored: Sequence[Scored]) -> str:
    """Cards with the picture, the regions drawn; a picture that cannot be read is left out, the answer is not."""
    from smolrgpt.viz.gallery import draw_cards, html_with_region_chips, image_element

    cards = []
    for one in worst(scored):
        drawn = draw_cards([one.sample], SkipLog(), PICTURE_SIDE)
        picture = (
            image_element(drawn[0].image, f"picture of {one.sample.id}") if drawn else "<p class=note>The picture cannot be drawn.</p>"
        )
        sure = "" if one.confidence is None else f", confidence {one.confidence:.2f}"
        cards.append(
            f"<article><div class=images>{picture}</div><div class=text><p class=about><b>{escape(str(one.sample.category))}</b> "
            f"<code>{escape(one.sample.id)}</code></p><p>{html_with_region_chips(write_mentions(one.sample.question, form=REGION_TAG))}</p>"
            f"<p>answer <span class='short wrong'>{escape(str(one.value))}</span> truth "
            f"<span class='short answer'>{escape(str(one.sample.normalized_answer))}</span>{sure}</p>"
            f"<p class=said>{html_with_region_chips(one.text)}</p></div></article>"
        )
    return f"<div class=cards>{''.join(cards)}</div>" if cards else ""


_STYLE = """
:root { --bad: #b3261e; --mark: #2f6fd0; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --mark: #82b1ff; } }
header, main { max-width: 1240px; }
main { grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); align-items: start; }
.score { font-size: 1.2rem; color: var(--ink); }
.score b { font-size: 2.2rem; }
.score span { color: var(--soft); font-size: 1rem; margin-left: .6em; }
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
.said { color: var(--soft); font-size: .85rem; }
"""
