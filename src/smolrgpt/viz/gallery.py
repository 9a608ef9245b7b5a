"""Galleries of samples: one self-contained HTML page, or one image (a contact sheet)."""

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

from smolrgpt.data.frame import Frame
from smolrgpt.data.io import atomic_path
from smolrgpt.data.loading import SkipLog
from smolrgpt.schema import Answer, DataError, Region, Sample, TarMember
from smolrgpt.tasks.mentions import write_mentions
from smolrgpt.tasks.region_text import REGION_TAG
from smolrgpt.viz.drawing import contrast_colour, draw_regions, region_colour

#: Images are shrunk to this long side before regions are drawn, so that outlines stay visible.
PAGE_IMAGE_SIDE = 800
SHEET_IMAGE_SIDE = 640
#: Size of the region labels on a page, which shows images at about half their size.
PAGE_TAG_SCALE = 1.7
SHEET_COLUMNS = 2
_JPEG_QUALITY = 82
_SHEET_GAP = 16
#: A region as an answer writes it, and as a question does after HTML escaping.
_REGION_NAME = re.compile(r"\[Region (\d+)\]|&lt;\s*region\s*(\d+)\s*&gt;", re.IGNORECASE)


@dataclass(frozen=True)
class Card:
    """A sample as ``draw_regions`` draws it: the image and, where it has depth, the depth map on the right; the regions on both."""

    sample: Sample
    drawn: Image.Image

    @property
    def panels(self) -> list[Image.Image]:
        """The image and, where the sample has depth, the depth map."""
        number = 1 if self.sample.depth is None else 2
        width, height = self.drawn.width // number, self.drawn.height
        return [self.drawn.crop((index * width, 0, (index + 1) * width, height)) for index in range(number)]


def select(
    samples: Iterable[Sample], limit: int, *, seed: int = 0, categories: Collection[str] = (), ids: Sequence[str] = ()
) -> list[Sample]:
    """Draw samples at random, or select them by id, in one pass that keeps only the selected ones.

    Args:
        samples: All samples.
        limit: How many to draw, without replacement; the result is in file order.
        seed: The seed of the draw.
        categories: Draw only from these categories; empty: from all.
        ids: Select the samples with these ids, in this order, instead of drawing.

    Raises:
        DataError: An id or category does not occur, or there is no sample.
    """
    if ids:
        found = {sample.id: sample for sample in samples if sample.id in set(ids)}
        missing = [name for name in ids if name not in found]
        if missing:
            raise DataError(f"no sample has the id {missing[0]!r}" + (f" (nor {len(missing) - 1} others)" if len(missing) > 1 else ""))
        return [found[name] for name in ids]
    rng, known, number = random.Random(seed), set(), 0
    kept: list[tuple[int, Sample]] = []  # reservoir sampling: every sample has the same chance, however many there are
    for position, sample in enumerate(samples):
        known.add(sample.category or "none")
        if categories and (sample.category or "none") not in categories:
            continue
        number += 1
        if len(kept) < limit:
            kept.append((position, sample))
        elif (slot := rng.randrange(number)) < limit:
            kept[slot] = (position, sample)
    if not kept:
        wanted = f" of category {', '.join(sorted(categories))}" if categories else ""
        raise DataError(f"no sample{wanted}; categories found: {', '.join(sorted(known)) or 'none'}")
    return [sample for _, sample in sorted(kept, key=lambda item: item[0])]


def draw_cards(samples: Iterable[Sample], skips: SkipLog, side: int, tag_scale: float = 1.0) -> list[Card]:
    """Paint each sample's regions on its image, at most ``side`` pixels long (small ones are enlarged).

    A sample that cannot be read or drawn is left out and counted in ``skips``. tag_scale: as in ``draw_regions``.
    """
    cards = []
    for sample in samples:
        try:
            frame = Frame.from_sample(sample)
            regions = [frame.fit_region(f"region {index}", region) for index, region in enumerate(sample.regions)]
            image = frame.image.copy()  # a sample may hold the decoded image itself
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
            cards.append(Card(sample, draw_regions(image, regions, depth=frame.depth, tag_scale=tag_scale)))
        except DataError as error:
            skips.add("unreadable sample", f"sample {sample.id!r}: {error}")
    return cards


def save(samples: Sequence[Sample], path: Path | str, title: str, skips: SkipLog) -> Path:
    """Write a page (.html) or a contact sheet (.png, .jpg, .webp), depending on the suffix, and return ``path``.

    Raises DataError for another suffix, and when none of the samples can be drawn (``skips`` has the reasons).
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".html", ".png", ".jpg", ".jpeg", ".webp"):
        raise DataError(
            f"{path}: the suffix is {suffix or 'missing'!r}; expected .html for a page, or .png, .jpg, .webp for a contact sheet"
        )
    scale = (PAGE_IMAGE_SIDE, PAGE_TAG_SCALE) if suffix == ".html" else (SHEET_IMAGE_SIDE, 1.0)
    cards = draw_cards(samples, skips, *scale)
    if not cards:
        raise DataError(f"none of the {len(samples)} samples can be drawn: {skips.summary()}")
    with atomic_path(path) as temporary:
        if suffix == ".html":
            temporary.write_text(page(cards, title, skips), encoding="utf-8")
        else:
            contact_sheet(cards).save(temporary, format=Image.registered_extensions()[suffix])
    return path


# ------------------------------------------------------------------------------------------------------------------------- sheet
def contact_sheet(cards: Sequence[Card]) -> Image.Image:
    """Return an RGB image of all cards in two columns, each with its depth on the right and question and answer below."""
    drawn = [_captioned(card) for card in cards]
    columns = min(SHEET_COLUMNS, len(drawn))
    rows = [drawn[start : start + columns] for start in range(0, len(drawn), columns)]
    width = max(image.width for image in drawn)
    heights = [max(image.height for image in row) for row in rows]
    sheet = Image.new("RGB", (columns * (width + _SHEET_GAP) + _SHEET_GAP, sum(heights) + (len(rows) + 1) * _SHEET_GAP), (225, 225, 225))
    top = _SHEET_GAP
    for row, height in zip(rows, heights, strict=True):
        for column, image in enumerate(row):
            cell = Image.new("RGB", (width, height), (255, 255, 255))
            cell.paste(image)
            sheet.paste(cell, (_SHEET_GAP + column * (width + _SHEET_GAP), top))
        top += height + _SHEET_GAP
    return sheet


def _captioned(card: Card) -> Image.Image:
    sample = card.sample
    short = "" if sample.normalized_answer is None else f"   [{sample.normalized_answer}]"
    lines = [
        f"{sample.category or 'no category'}, {sample.id}",
        write_mentions(sample.question, form=REGION_TAG),
        f"{sample.answer or 'no answer'}{short}",
    ]
    return draw_regions(card.drawn, [], answer="\n".join(lines))


# -------------------------------------------------------------------------------------------------------------------------- page
def page(cards: Sequence[Card], title: str, skips: SkipLog | None = None) -> str:
    """Return one HTML document of all cards, with its images embedded."""
    left_out = f'<p class="note">{html.escape(skips.summary())}</p>' if skips is not None and skips.total else ""
    header = f"<h1>{html.escape(title)}</h1><p>{len(cards)} samples</p>{left_out}"
    return html_document(title, header, "\n".join(_article(card) for card in cards))


def html_document(title: str, header: str, main: str, style: str = "") -> str:
    """Return an HTML document without scripts or outside resources, whose colours follow the light or dark setting.

    Args:
        title: Plain text.
        header: HTML above the content.
        main: HTML of the content.
        style: CSS in addition to ``STYLE``.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{STYLE}{style}</style>
</head>
<body>
<header>{header}</header>
<main>
{main}
</main>
</body>
</html>
"""


def _article(card: Card) -> str:
    sample = card.sample
    images = "".join(image_element(panel, f"{kind} {sample.id}") for kind, panel in zip(("image", "depth"), card.panels, strict=False))
    short = "" if sample.normalized_answer is None else f'<span class="short">{html.escape(str(sample.normalized_answer))}</span>'
    answer = (
        f'<p class="answer">{html_with_region_chips(sample.answer)} {short}</p>'
        if sample.answer or short
        else '<p class="note">no answer</p>'
    )
    name = html.escape(sample.image.name) if isinstance(sample.image, (Path, TarMember)) else ""
    about = f"<b>{html.escape(sample.category or 'no category')}</b> {name} <code>{html.escape(sample.id)}</code>"
    return (
        f'<article><div class="images">{images}</div><div class="text"><p class="about">{about}</p>'
        f"<p>{html_with_region_chips(write_mentions(sample.question, form=REGION_TAG))}</p>{answer}</div></article>"
    )


def answer_card(answer: Answer, question: str | None, image: Image.Image | None, regions: Sequence[Region]) -> str:
    """Return an ``Answer`` as a fragment of HTML for notebooks, below its image where that is known."""
    drawn = "" if image is None else image_element(draw_regions(image, regions), "the image with its numbered regions")
    value = "" if answer.normalized_answer is None else f"{answer.normalized_answer} {answer.unit or ''}".strip()
    short = f"<b>{html.escape(value)}</b> " if value else ""
    confidence = "" if answer.confidence is None else f"{100 * answer.confidence:.0f} % confident, "
    about = f"{answer.category}, {confidence}{answer.seconds:.2f} s; {answer.inputs.describe()}"
    warnings = "".join(f'<p style="color:#b35900">Warning: {html.escape(warning)}</p>' for warning in answer.inputs.warnings)
    return (
        f'<style>{CHIP_STYLE}</style><div style="max-width:640px">{drawn}'
        f"<p>{html_with_region_chips(question)}</p><p>{short}{html_with_region_chips(answer.answer)}</p>{warnings}"
        f'<p style="opacity:.6">{html.escape(about)}</p></div>'
    )


def html_with_region_chips(text: str | None) -> str:
    """Return the text escaped for HTML, with every [Region i] and <region i> as its number on the colour of region i."""
    return _REGION_NAME.sub(lambda found: _chip(int(found.group(1) or found.group(2))), html.escape(text or ""))


def _chip(index: int) -> str:
    colour = region_colour(index)
    return f'<span class="chip" style="background:rgb{colour};color:rgb{contrast_colour(colour)}">{index}</span>'


def image_element(image: Image.Image, description: str) -> str:
    """Return an ``<img>`` element that embeds the image as JPEG."""
    source = encode_data_url(image, quality=_JPEG_QUALITY, optimize=True)
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img alt="{html.escape(description)}" {size} loading="lazy" src="{source}">'


def encode_data_url(image: Image.Image, kind: str = "JPEG", **options: Any) -> str:
    """Encode an image as JPEG or PNG in a data URL; ``options`` are those of Pillow's encoder."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


#: The style of the region numbers that ``html_with_region_chips`` writes.
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
.images { display: flex; flex-wrap: wrap; background: #000; }
.images img { flex: 1 1 320px; min-width: 0; width: 100%; height: auto; display: block; }
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
