"""A page and a sheet show exactly the chosen samples, complete in one file; what cannot be drawn is left out and counted."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smolrgpt.data.loading import SkipLog
from smolrgpt.schema import DataError, DepthMap, Region, Sample
from smolrgpt.viz.drawing import region_colour
from smolrgpt.viz.gallery import save, select

H, W = 36, 64


def sample(number: int, depth: bool = True, **changes) -> Sample:
    made = {
        "image": Image.new("RGB", (W, H), (90, 90, 90)),
        "question": "Is <mask> <left> of <mask>?",
        "regions": [Region.from_box((2, 2, 20, 20), H, W), Region.from_box((30, 4, 60, 30), H, W)],
        "depth": DepthMap(np.linspace(1, 9, H * W, dtype=np.float32).reshape(H, W), "metric") if depth else None,
        "answer": "[Region 1] & nothing else.",
        "category": ("count", "mcq")[number % 2],
    } | changes
    return Sample(id=f"q{number}", **made)


class Tags(HTMLParser):
    """Counts start tags, and fails on one that is never closed."""

    def __init__(self, text: str):
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_is_complete_in_itself(tmp_path: Path) -> None:
    path = save([sample(0), sample(1, depth=False)], tmp_path / "new" / "page.html", "a <set>", SkipLog())
    text = path.read_text()
    tags = Tags(text).seen
    assert (tags.count("article"), tags.count("img")) == (2, 3)  # a depth image only where there is depth
    assert not re.search(r"(?:src|href)=\"(?!data:)|https?:|url\(", text)
    assert "a &lt;set&gt;" in text and "&lt;left&gt;" in text and "&amp; nothing else" in text
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
    assert f"background:rgb{region_colour(1)}" in text and "[Region" not in text
    assert [entry.name for entry in path.parent.iterdir()] == ["page.html"]


def test_a_sheet_holds_every_sample(tmp_path: Path) -> None:
    sizes = {}
    for number in (1, 2, 3, 5):
        with Image.open(save([sample(k) for k in range(number)], tmp_path / f"{number}.png", "set", SkipLog())) as opened:
            sizes[number] = opened.size
    assert sizes[1][0] < sizes[2][0] == sizes[3][0] == sizes[5][0]
    assert sizes[1][1] == sizes[2][1] < sizes[3][1] < sizes[5][1]


def test_what_cannot_be_drawn_is_left_out_and_counted(tmp_path: Path) -> None:
    skips = SkipLog()
    broken = [sample(2, image=tmp_path / "nowhere.png"), sample(3, regions=[Region((H, W), "~"), Region((H, W), "~")])]
    text = save([sample(0), *broken], tmp_path / "page.html", "set", skips).read_text()
    assert skips.counts == {"unreadable sample": 2} and "skipped 2" in text and text.count("<article>") == 1
    with pytest.raises(DataError, match="none of the 2 samples can be drawn"):
        save(broken, tmp_path / "none.html", "set", SkipLog())
    assert not (tmp_path / "none.html").exists()


def test_the_suffix_decides_and_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the suffix is '\.docx'"):
        save([sample(0)], tmp_path / "page.docx", "set", SkipLog())


def test_drawing_leaves_the_sample_as_it_is(tmp_path: Path) -> None:
    one = sample(0, image=Image.new("RGB", (2000, 1125)))
    save([one], tmp_path / "page.html", "set", SkipLog())
    assert one.image.size == (2000, 1125)


def test_a_draw_is_even_repeatable_and_in_file_order() -> None:
    samples = [sample(number) for number in range(40)]
    names = [[int(one.id[1:]) for one in select(samples, 5, seed=seed)] for seed in range(300)]
    assert all(drawn == sorted(set(drawn)) and len(drawn) == 5 for drawn in names)
    assert names[0] == [int(one.id[1:]) for one in select(iter(samples), 5, seed=0)]
    hits = np.bincount(np.concatenate(names), minlength=40)  # 300 x 5 / 40 = 37.5 each, sd 5.7
    assert hits.min() > 15 and hits.max() < 60


def test_a_draw_by_category_and_by_id() -> None:
    samples = [sample(number) for number in range(10)]
    assert {one.category for one in select(samples, 4, categories=["mcq"])} == {"mcq"}
    assert [one.id for one in select(samples, 1, ids=["q7", "q2"])] == ["q7", "q2"]
    with pytest.raises(DataError, match="no sample has the id 'q99'"):
        select(samples, 4, ids=["q1", "q99"])
    with pytest.raises(DataError, match="of category distance; categories found: count, mcq"):
        select(samples, 4, categories=["distance"])
