"""Samples to look at: one self-contained HTML page, or one picture (a contact sheet)."""

from __future__ import annotations

import base64
import html
import io
import random
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from smolrgpt.data.io import atomic_path
from smolrgpt.data.loading import SkipLog, load_image, load_sample_depth
from smolrgpt.schema import DataError, Region, Sample, TarMember
from smolrgpt.viz.drawing import draw_regions, ink_on, number_regions, region_colour

#: Pictures are shrunk to this long side before regions are drawn, so that outlines stay visible.
PICTURE_SIDE = 800
SHEET_PICTURE_SIDE = 640
#: A page shows pictures at about half their size, a sheet at their own.
PAGE_TAG_SCALE = 1.7
SHEET_COLUMNS = 2
_JPEG_QUALITY = 82
_SHEET_GAP = 16
#: As an answer names a region, and as a question does once its angle brackets are escaped.
_REGION_NAME = re.compile(r"\[Region (\d+)\]|&lt;\s*region\s*(\d+)\s*&gt;", re.IGNORECASE)


@dataclass(frozen=True)
class Card:
    """A sample with its picture and, where it has depth, its depth map, regions drawn on both."""

    sample: Sample
    picture: Image.Image
    depth: Image.Image | None


def select(
    samples: Iterable[Sample], limit: int, *, seed: int = 0, categories: Collection[str] = (), ids: Sequence[str] = ()
) -> list[Sample]:
    """``limit`` samples drawn evenly from all (of these categories, where any are given), in file order; or those with ``ids``, in theirs.

    One pass, keeping only what is chosen. Raises DataError when an id or category is not there, or nothing is.
    """
    if ids:
        found = {sample.id: sample for sample in samples if sample.id in set(ids)}
        missing = [name for name in ids if name not in found]
        if missing:
            raise DataError(f"no sample has the id {missing[0]!r}" + (f" (nor {len(missing) - 1} others)" if len(missing) > 1 else ""))
        return [found[name] for name in ids]
    rng, there, number = random.Random(seed), set(), 0
    kept: list[tuple[int, Sample]] = []  # reservoir sampling: every sample has the same chance, however many there are
    for position, sample in enumerate(samples):
        there.add(sample.category or "none")
        if categories and (sample.category or "none") not in categories:
            continue
        number += 1
        if len(kept) < limit:
            kept.append((position, sample))
        elif (place := rng.randrange(number)) < limit:
            kept[place] = (position, sample)
    if not kept:
        wanted = f" of category {', '.join(sorted(categories))}" if categories else ""
        raise DataError(f"no sample{wanted}; categories found: {', '.join(sorted(there)) or 'none'}")
    return [sample for _, sample in sorted(kept, key=lambda item: item[0])]


def draw_cards(samples: Iterable[Sample], skips: SkipLog, side: int, tag_scale: float = 1.0) -> list[Card]:
    """Pictures at most ``side`` pixels long (small ones are enlarged); tag_scale: as in ``draw_regions``.

    What cannot be read or drawn is counted in ``skips``.
    """
    cards = []
    for sample in samples:
        try:
            picture, depth = load_image(sample), load_sample_depth(sample)
            picture = picture.copy()  # a sample may hold its picture itself
            picture.thumbnail((side, side), Image.Resampling.LANCZOS)
            drawn = draw_regions(picture, sample.regions, depth=depth, tag_scale=tag_scale)
        except DataError as error:
            skips.add("unreadable sample", f"sample {sample.id!r}: {error}")
            continue
        width = drawn.width // 2 if depth is not None else drawn.width
        cards.append(
            Card(
                sample,
                drawn.crop((0, 0, width, drawn.height)),
                drawn.crop((width, 0, 2 * width, drawn.height)) if depth is not None else None,
            )
        )
    return cards


def save(samples: Sequence[Sample], path: Path | str, title: str, skips: SkipLog) -> Path:
    """Write a page (.html) or a contact sheet (.png, .jpg, .webp); the file's ending decides. Returns ``path``.

    Raises DataError for another ending, and when none of the samples can be drawn (``skips`` says why).
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in (".html", ".png", ".jpg", ".jpeg", ".webp"):
        raise DataError(
            f"{path}: the ending is {ending or 'missing'!r}; expected .html for a page, or .png, .jpg, .webp for a contact sheet"
        )
    scale = (PICTURE_SIDE, PAGE_TAG_SCALE) if ending == ".html" else (SHEET_PICTURE_SIDE, 1.0)
    cards = draw_cards(samples, skips, *scale)
    if not cards:
        raise DataError(f"none of the {len(samples)} samples can be drawn: {skips.summary()}")
    with atomic_path(path) as temporary:
        if ending == ".html":
            temporary.write_text(page(cards, title, skips), encoding="utf-8")
        else:
            contact_sheet(cards).save(temporary, format=Image.registered_extensions()[ending])
    return path


# ------------------------------------------------------------------------------------------------------------------------- sheet
def contact_sheet(cards: Sequence[Card]) -> Image.Image:
    """All cards in two columns: picture beside depth, question and answer below. RGB."""
    drawn = [_captioned(card) for card in cards]
    columns = min(SHEET_COLUMNS, len(drawn))
    rows = [drawn[start : start + columns] for start in range(0, len(drawn), columns)]
    width = max(picture.width for picture in drawn)
    heights = [max(picture.height for picture in row) for row in rows]
    sheet = Image.new("RGB", (columns * (width + _SHEET_GAP) + _SHEET_GAP, sum(heights) + (len(rows) + 1) * _SHEET_GAP), (225, 225, 225))
    top = _SHEET_GAP
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            cell = Image.new("RGB", (width, height), (255, 255, 255))
            cell.paste(picture)
            sheet.paste(cell, (_SHEET_GAP + column * (width + _SHEET_GAP), top))
        top += height + _SHEET_GAP
    return sheet


def _captioned(card: Card) -> Image.Image:
    sample, panels = card.sample, [panel for panel in (card.picture, card.depth) if panel is not None]
    both = Image.new("RGB", (sum(panel.width for panel in panels), card.picture.height))
    for index, panel in enumerate(panels):
        both.paste(panel, (index * card.picture.width, 0))
    short = "" if sample.normalized_answer is None else f"   [{sample.normalized_answer}]"
    answer = f"{sample.answer or 'no answer'}{short}"
    return draw_regions(both, [], answer=f"{sample.category or 'no category'}, {sample.id}\n{number_regions(sample.question)}\n{answer}")


# -------------------------------------------------------------------------------------------------------------------------- page
def page(cards: Sequence[Card], title: str, skips: SkipLog | None = None) -> str:
    """One HTML document without any outside resource: pictures are embedded, colours follow the reader's light or dark setting."""
    left_out = f'<p class="note">{html.escape(skips.summary())}</p>' if skips is not None and skips.total else ""
    body = "\n".join(_article(card) for card in cards)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header><h1>{html.escape(title)}</h1><p>{len(cards)} samples</p>{left_out}</header>
<main>
{body}
</main>
</body>
</html>
"""


def _article(card: Card) -> str:
    sample = card.sample
    pictures = figure(card.picture, f"picture {sample.id}") + (figure(card.depth, f"depth {sample.id}") if card.depth else "")
    short = "" if sample.normalized_answer is None else f'<span class="short">{html.escape(str(sample.normalized_answer))}</span>'
    answer = f'<p class="answer">{with_chips(sample.answer)} {short}</p>' if sample.answer or short else '<p class="note">no answer</p>'
    name = html.escape(sample.image.name) if isinstance(sample.image, (Path, TarMember)) else ""
    about = f"<b>{html.escape(sample.category or 'no category')}</b> {name} <code>{html.escape(sample.id)}</code>"
    return (
        f'<article><div class="pictures">{pictures}</div><div class="text"><p class="about">{about}</p>'
        f"<p>{with_chips(number_regions(sample.question))}</p>{answer}</div></article>"
    )


def answer_card(answer: Any, question: str | None, picture: Image.Image | None, regions: Sequence[Region]) -> str:
    """An ``Answer`` as a piece of HTML for notebooks, below its picture where that is known."""
    drawn = "" if picture is None else figure(draw_regions(picture, regions), "the picture with its numbered regions")
    short = "" if answer.normalized_answer is None else f"<b>{html.escape(str(answer.normalized_answer))}</b> "
    about = f"{answer.category}, {100 * answer.confidence:.0f} % sure, {answer.seconds:.2f} s"
    return (
        f'<style>{CHIP_STYLE}</style><div style="max-width:640px">{drawn}'
        f"<p>{with_chips(question)}</p><p>{short}{with_chips(answer.answer)}</p>"
        f'<p style="opacity:.6">{html.escape(about)}</p></div>'
    )


def with_chips(text: str | None) -> str:
    """Escaped, with every [Region i] and <region i> as its number on the colour it has in the picture."""
    return _REGION_NAME.sub(lambda found: _chip(int(found.group(1) or found.group(2))), html.escape(text or ""))


def _chip(index: int) -> str:
    colour = region_colour(index)
    return f'<span class="chip" style="background:rgb{colour};color:rgb{ink_on(colour)}">{index}</span>'


def figure(picture: Image.Image, description: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=_JPEG_QUALITY, optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img alt="{html.escape(description)}" {size} loading="lazy" src="data:image/jpeg;base64,{data}">'


#: What ``with_chips`` needs.
CHIP_STYLE = """
.chip { display: inline-block; min-width: 1.5em; padding: 0 .3em; border-radius: 5px; text-align: center; }
.chip { font-weight: 600; font-size: .9em; line-height: 1.35; }
"""

STYLE = (
    CHIP_STYLE
    + """
:root { color-scheme: light dark; --paper: #f4f4f2; --card: #fff; --ink: #1d1d1f; --soft: #66666b; --line: #ddd; --good: #146c3a; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #121214; --card: #1d1d20; --ink: #ececee; --soft: #a0a0a6; --line: #333338; --good: #6ad29a; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.45 system-ui, sans-serif; }
header { max-width: 1500px; margin: 0 auto; padding: 20px 16px 0; }
h1 { margin: 0; font-size: 1.35rem; overflow-wrap: anywhere; }
header p { margin: 2px 0 0; color: var(--soft); }
main { max-width: 1500px; margin: 0 auto; padding: 16px; display: grid; gap: 16px; }
main { grid-template-columns: repeat(auto-fill, minmax(min(100%, 660px), 1fr)); }
article { background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
.pictures { display: flex; flex-wrap: wrap; background: #000; }
.pictures img { flex: 1 1 320px; min-width: 0; width: 100%; height: auto; display: block; }
.text { padding: 10px 14px 14px; overflow-wrap: anywhere; }
.text p { margin: 6px 0 0; }
.about { color: var(--soft); font-size: .85rem; }
.about b { color: var(--ink); margin-right: .4em; }
code { font-size: .8rem; margin-left: .4em; }
.answer { color: var(--good); }
.short { display: inline-block; border: 1px solid currentColor; border-radius: 6px; padding: 0 .45em; font-weight: 600; }
.note { color: var(--soft); font-style: italic; }
"""
)
