"""Laws of the readers of published sets: turn and region stay together, every form of a file reads alike, a bad row costs itself."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smolrgpt.data.io import read_rows
from smolrgpt.data.loading import SkipLog, load_image, load_sample_depth
from smolrgpt.data.sources import SOURCES, read_source
from smolrgpt.data.sources.osd import iter_osd
from smolrgpt.data.sources.warehouse import iter_warehouse, read_warehouse
from smolrgpt.schema import DataError, Region, Sample

H, W = 18, 32


def rle(x0: int) -> dict[str, Any]:
    return Region.from_box((x0, 2, x0 + 4, 8), H, W).to_rle()


def picture(path: Path, mode: str = "RGB", value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (W, H), (value,) * 3 if mode == "RGB" else value).save(path)


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[index % 2], "value": text} for index, text in enumerate(texts)]


# ------------------------------------------------------------------------------------------------------------- Open Spatial Dataset
TWO_TURNS = turns(
    "<image>\nIs <mask> <depth> wider than <mask> <depth>?",
    "Region [0] is wider than Region [1]'s.",
    "How tall is <mask> <depth>? And <mask><depth> and <mask> <depth>?",
    "Region [2] is 3.5 feet, Region [0] 2.",
)


def osd(root: Path, *entries: Any) -> Path:
    for name in ("a", "b"):
        picture(root / "images" / f"{name}.jpg")
        picture(root / "depths" / f"{name}.png", "L", 255)
    picture(root / "outside.jpg")
    (root / "result_10_depth_convs.json").write_text(json.dumps(entries))
    return root


def entry(filename: str = "a", **changes: Any) -> dict[str, Any]:
    return {
        "filename": filename,
        "conversations": TWO_TURNS,
        "rle": [rle(x) for x in (1, 5, 9, 13, 1)],
        "bbox": [[0, 0, 1, 1]] * 5,
    } | changes


def test_regions_are_dealt_out_turn_by_turn(tmp_path: Path) -> None:
    first, second = read_source("osd", osd(tmp_path, entry()), "train")
    assert (first.id, second.id, first.image_key == second.image_key) == ("a-0", "a-1", True)
    assert first.question == "Is <mask> wider than <mask>?"
    assert second.question == "How tall is <mask>? And <mask> and <mask>?"
    assert [region.to_rle() for region in first.regions] == [rle(1), rle(5)]
    assert [region.to_rle() for region in second.regions] == [rle(9), rle(13), rle(1)]
    assert first.answer == "[Region 0] is wider than [Region 1]'s."
    assert second.answer == "[Region 2] is 3.5 feet, [Region 0] 2."
    assert first.depth.relative_near == "bright" and first.metadata == {} and first.metadata is not second.metadata


def test_bright_is_near_unless_the_folder_says_otherwise(tmp_path: Path) -> None:
    root = osd(tmp_path, entry())
    assert (load_sample_depth(read_source("osd", root, "train")[0]).values == 0).all()
    (root / "depths" / "depth.json").write_text('{"near": "dark", "kind": "relative"}')
    assert (load_sample_depth(read_source("osd", root, "train")[0]).values == 1).all()
    (root / "depths" / "depth.json").write_text('{"near": "purple"}')
    with pytest.raises(DataError, match=r"depth\.json.*purple"):
        read_source("osd", root, "train")


def test_depth_is_all_or_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = osd(tmp_path, entry("a"), entry("b"))
    (root / "depths" / "a.png").unlink()
    skips = SkipLog()
    assert {sample.id for sample in read_source("osd", root, "train", skips=skips)} == {"b-0", "b-1"}
    assert skips.counts == {"missing depth": 1}
    without = read_source("osd", root, "train", depths=None)
    assert len(without) == 4 and all(sample.depth is None for sample in without) and "no such folder" not in caplog.text
    assert without[2].image_key != read_source("osd", root, "train", skips=skips)[0].image_key
    assert len(read_source("osd", root, "train", depths="elsewhere")) == 4
    assert "elsewhere" in caplog.text


BAD_ENTRIES: list[Any] = [
    7,
    entry(filename=None),
    entry(filename="absent"),
    entry(filename="../outside"),
    entry(rle=[rle(1)] * 4),
    entry(rle="none"),
    entry(rle=[{"size": [H, W]}] * 5),
    entry(conversations=TWO_TURNS[:3]),
    entry(conversations=TWO_TURNS[1:]),
    entry(conversations=[*TWO_TURNS[:3], {"from": "gpt", "value": None}]),
    entry(conversations=[]),
    entry(conversations=turns("<image>\nIs <mask> <depth> taller than <depth>?", "Yes."), rle=[rle(1)]),
]


def test_a_damaged_entry_costs_itself_and_is_named(tmp_path: Path) -> None:
    skips = SkipLog(keep=99)
    samples = read_source("osd", osd(tmp_path, entry("a"), *BAD_ENTRIES, entry("b")), "train", skips=skips)
    assert [sample.id for sample in samples] == ["a-0", "a-1", "b-0", "b-1"]
    messages = [message for kept in skips.examples.values() for message in kept]
    assert skips.total == len(messages) == len(BAD_ENTRIES) and skips.counts["missing image"] == 2
    assert all(any(f"convs.json row {index}:" in message for message in messages) for index in range(1, len(BAD_ENTRIES) + 1))


@pytest.mark.slow
def test_streaming_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    counts, path = "x0" * 900, osd(tmp_path).joinpath("result_10_depth_convs.json")
    regions = [{"size": [H, W], "counts": f"{index:02d}{counts}"} for index in range(20)]
    conversation = turns(*("How far is <mask> <depth> from <mask> <depth>?", "Region [0] is 3 feet away.") * 10)
    text = json.dumps(entry(conversations=conversation, rle=regions))
    with open(path, "w") as file:
        file.write("[" + ", ".join([text] * (50_000_000 // len(text) + 1)) + "]")
    size = path.stat().st_size
    assert size >= 50_000_000
    tracemalloc.start()
    skips = SkipLog()
    read = sum(len(sample.regions) for sample in iter_osd(tmp_path, "train", skips=skips))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read == 20 * (50_000_000 // len(text) + 1) and skips.total == 0
    assert peak < 12_000_000, f"{peak} bytes for a file of {size}"


# ------------------------------------------------------------------------------------------------------------------------ captions
def test_captions_have_neither_regions_nor_depth(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "G.jpg")
    rows = [
        {"id": f"G{i}", "image": "G.jpg", "conversations": turns(text, "a red hall .")}
        for i, text in enumerate(("Say.\n<image>", "<image>\nSay."))
    ]
    (tmp_path / "chat.json").write_text(json.dumps(rows))
    samples = read_source("llava_cc3m", tmp_path, "train")
    assert [(s.id, s.question, s.answer, s.category, s.regions, s.depth) for s in samples] == [
        (name, "Say.", "a red hall .", "caption", [], None) for name in ("G0", "G1")
    ]
    with pytest.raises(DataError, match=r"split 'val' \(published splits: train\)"):
        read_source("llava_cc3m", tmp_path, "val")


# --------------------------------------------------------------------------------------------------------------------------- bench
def bench_rows() -> list[dict[str, Any]]:
    common = {"image_info": {"file_path": "sun/a.jpg", "height": H, "width": W}, "bbox": [[1.0, 2.0, 5.5, 8.0], [9, 2, 99, 8]]}
    asked = turns("<image>\nIs <mask> behind <mask>?", "Region [0] is behind.")
    kinds = [{"type": "qualitative", "category": "behind_predicate"}, {"type": "quantitative", "category": "distance_data"}]
    text = "Is Region [0] behind Region [1]?"
    return [
        {"id": "q1", **common, "text_q": text, "qa_info": kinds[0], "conversations": asked, "rle": [rle(1), rle(9)]},
        {"id": "q2", **common, "text_q": text, "qa_info": kinds[1], "conversations": asked, "rle": None},
    ]


def bench_file(path: Path, rows: list[dict[str, Any]]) -> None:
    nested = [{key: json.dumps(value) if isinstance(value, (dict, list)) else value for key, value in row.items()} for row in rows]
    if path.suffix == ".json" or "listed" in path.name:
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, nested)))
    else:
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.Table.from_pylist(nested if "nested" in path.name else rows), path)


@pytest.mark.parametrize(
    "name", ["val.json", "val.jsonl", "val.parquet", "val-nested.parquet", "v_SpatialRGPT-Bench.jsonl", "listed_SpatialRGPT-Bench.jsonl"]
)
def test_the_bench_is_the_same_in_every_shape(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "images" / "sun" / "a.jpg")
    picture(tmp_path / "depths" / "sun" / "a.png", "L")
    bench_file(tmp_path / name, bench_rows())
    masked, boxed = read_source("spatial_bench", tmp_path, "val")
    assert (masked.id, masked.question, masked.answer) == ("q1", "Is <mask> behind <mask>?", "[Region 0] is behind.")
    assert [sample.category for sample in (masked, boxed)] == ["behind_predicate", "distance_data"]
    assert masked.metadata["qa_info"] == bench_rows()[0]["qa_info"] and masked.text_question == bench_rows()[0]["text_q"]
    assert [region.to_rle() for region in masked.regions] == [rle(1), rle(9)]
    first, clipped = (region.to_mask() for region in boxed.regions)
    assert first[2:8, 1:6].all() and first.sum() == 30 and clipped[2:8, 9:].all() and clipped.sum() == 6 * (W - 9)
    assert masked.depth is not None and masked.depth.source.name == "a.png"


def test_a_line_that_is_no_json_is_counted(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "sun" / "a.jpg")
    one, two = map(json.dumps, bench_rows())
    (tmp_path / "val.jsonl").write_text(f"{one}\n{{'broken\n{two}\n")
    skips = SkipLog()
    assert [sample.id for sample in read_source("spatial_bench", tmp_path, "val", skips=skips, depths=None)] == ["q1", "q2"]
    assert skips.counts == {"damaged row": 1} and "val.jsonl row 1" in skips.summary()


def test_damaged_parquet_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    picture(tmp_path / "images" / "a.jpg")
    (tmp_path / "val.parquet").write_bytes(b"PAR1 nothing of the kind PAR1")
    with pytest.raises(DataError, match=r"val\.parquet row 0: damaged"):
        read_source("spatial_bench", tmp_path, "val")


# ------------------------------------------------------------------------------------------------------------------------ released
def released_rows() -> list[dict[str, Any]]:
    text = {"user": "How far is <mask_rgb><mask_depth> from <mask_rgb> <mask_depth>?", "assistant": "[Region 0] is 5.99 m away."}
    caption = {"texts": {"user": "<image>Say.", "assistant": "a hall"}, "rle": None, "depth_image": None, "category": "caption"}
    common = {"normalized_answer": None, "id": "1", "rgb_image": "images/a.jpg", "depth_image": "depths/a.png"}
    common |= {"texts": text, "rle": [rle(1), rle(9)]}
    return [
        common | {"category": "distance", "normalized_answer": "5.99", "dataset_name": "warehouse_rgbd"},
        common | {"category": None, "normalized_answer": "", "dataset_name": "osd", "id": "2"},
        common | {"category": "count", "normalized_answer": "2.0", "dataset_name": "warehouse_rgbd", "id": "3"},
        common | {"category": "left_predicate", "dataset_name": "bench", "rle": None, "id": "4"},
        common | caption | {"id": "5", "dataset_name": "cc3m"},
        common | {"category": "count", "normalized_answer": "many", "dataset_name": "warehouse_rgbd", "id": "6"},
        common | {"category": "distance", "normalized_answer": "nan", "dataset_name": "warehouse_rgbd", "id": "7"},
    ]


def test_the_released_files_read_as_the_sets_they_came_from(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    picture(tmp_path / "images" / "a.jpg")
    picture(tmp_path / "depths" / "a.png", "L")
    rows, skips = released_rows(), SkipLog()
    parquet.write_table(arrow.Table.from_pylist(rows[:2]), tmp_path / "train-00000-of-00002.parquet")
    parquet.write_table(arrow.Table.from_pylist(rows[2:]), tmp_path / "train-00001-of-00002.parquet")
    samples = read_source("released", tmp_path, "train", skips=skips)
    assert [(s.id, s.normalized_answer) for s in samples] == [("1", 5.99), ("2", None), ("3", 2), ("5", None)]
    assert samples[0].question == "How far is <mask> from <mask>?" and samples[0].answer == "[Region 0] is 5.99 m away."
    assert [s.depth and s.depth.relative_near for s in samples] == ["dark", "bright", "dark", None]
    assert (samples[3].question, samples[3].depth, samples[3].regions) == ("Say.", None, [])
    assert type(samples[2].normalized_answer) is int
    assert skips.total == 3 and "train-00001-of-00002.parquet row 1" in skips.summary()
    assert [s.depth.meaning.near for s in read_source("released", tmp_path, "train", depth_near="bright")[:2]] == ["bright", "bright"]


# ------------------------------------------------------------------------------------------------------------------------- in general
@pytest.mark.parametrize("name", SOURCES)
def test_every_reader_names_an_absent_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"nope.*expected|nope.*splits found"):
        read_source(name, tmp_path / "nope", "train")


def test_readers_say_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text("[]")
    with pytest.raises(DataError, match=r"expected one of warehouse, llava_cc3m, osd, spatial_bench, released, coco, .*label_studio"):
        read_source("osf", tmp_path, "train")
    with pytest.raises(DataError, match="holds no image"):
        read_source("osd", tmp_path, "train")
    picture(tmp_path / "images" / "a.jpg")
    with pytest.raises(DataError, match="has no rows"):
        read_source("osd", tmp_path, "train", depths=None)


def test_a_set_without_a_usable_row_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of its 1 rows"):
        read_source("osd", osd(tmp_path, entry("absent")), "train")


def test_streamed_warehouse_equals_the_list(tmp_path: Path) -> None:
    rows = [
        {"id": f"q{i}", "image": f"{i % 3}.png", "conversations": turns("Is <mask> left of <mask>?", "Left."), "rle": [rle(i), rle(20)],
         "category": "left_right", "normalized_answer": "left", "layout": i}
        for i in range(9)
    ]  # fmt: skip
    for name in range(2):
        picture(tmp_path / "train" / "images" / f"{name}.png")
    (tmp_path / "train.json").write_text(json.dumps(rows))
    skips = SkipLog()
    streamed = list(iter_warehouse(tmp_path, "train", skips=skips))
    listed = read_warehouse(tmp_path, "train")
    assert streamed == listed == read_source("warehouse", tmp_path, "train") and len(listed) == 6 and skips.counts == {"missing image": 3}
    assert listed[0].regions[1] is listed[1].regions[1]


# ---------------------------------------------------------------------------------------------------------------------------- real rows
@pytest.mark.realdata
def test_real_captions(tmp_path: Path, shared_path: Any) -> None:
    chat = shared_path("samples/llava_cc3m/chat.json")
    rows = read_rows(chat)
    for row in rows:
        picture(tmp_path / "images" / row["image"])
    (tmp_path / "chat.json").write_bytes(chat.read_bytes())
    samples = read_source("llava_cc3m", tmp_path, "train")
    assert [sample.answer for sample in samples] == [row["conversations"][1]["value"] for row in rows]
    assert all(
        "<image>" not in sample.question and sample.question in row["conversations"][0]["value"]
        for sample, row in zip(samples, rows, strict=True)
    )
    assert load_image(samples[0]).size == (W, H)


@pytest.mark.realdata
def test_real_open_spatial_texts(tmp_path: Path, shared_path: Any) -> None:
    rows = read_rows(shared_path("samples/osd/rows_8_text.json"))
    entries = []
    for row in rows:
        picture(tmp_path / "images" / f"{row['filename']}.jpg")
        masks = [rle(x) for x in range(row["first_q"].count("<mask>"))]
        entries.append({"filename": row["filename"], "conversations": turns(row["first_q"], row["first_a"]), "rle": masks})
    (tmp_path / "result_10_depth_convs.json").write_text(json.dumps(entries))
    samples = read_source("osd", tmp_path, "train", depths=None)
    assert len(samples) == len(rows) == 8
    for sample, row in zip(samples, rows, strict=True):
        assert "depth" not in sample.question and sample.question.count("<mask>") == row["first_q"].count("<mask> <depth>")
        assert "Region [" not in sample.answer and sample.answer.count("[Region ") == row["first_a"].count("Region [")


@pytest.mark.realdata
def test_real_bench_questions(tmp_path: Path, shared_path: Any) -> None:
    rows = read_rows(shared_path("samples/spatial_bench/questions_700.json"))
    picture(tmp_path / "images" / "a.jpg")
    info = {"file_path": "a.jpg", "height": H, "width": W}
    made = []
    for row in rows:
        asked = row["question"]
        for number in range(2):
            asked = asked.replace(f"Region [{number}]", "<mask>")
        kind = {"type": row["qa_type"], "category": row["qa_category"]}
        boxes = [[1, 2, 5, 8]] * asked.count("<mask>")
        made.append({"id": row["id"], "image_info": info, "text_q": row["question"], "qa_info": kind, "bbox": boxes, "rle": None,
                     "conversations": turns(f"<image>\n{asked}", row["ground_truth"])})  # fmt: skip
    bench_file(tmp_path / "val.jsonl", made)
    samples = read_source("spatial_bench", tmp_path, "val", depths=None)
    assert len(samples) == 700 and len({sample.category for sample in samples}) == len({row["qa_category"] for row in rows})
    assert all("Region [" not in sample.answer for sample in samples)
    assert [sample.text_question for sample in samples] == [row["question"] for row in rows]


@pytest.mark.realdata
def test_real_warehouse_rows_survive_the_released_shape(tmp_path: Path, shared_path: Any) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    root = shared_path("samples/warehouse/mini")
    rows = []
    for row in read_rows(root / "train.json"):
        asked = row["conversations"][0]["value"].replace("<mask>", "<mask_rgb><mask_depth>")
        files = {"rgb_image": f"images/{row['image']}", "depth_image": f"depths/{Path(row['image']).stem}_depth.png"}
        answer = {"texts": {"user": asked, "assistant": row["freeform_answer"]}, "normalized_answer": str(row["normalized_answer"])}
        rows.append({key: row[key] for key in ("id", "rle", "category")} | files | answer | {"dataset_name": "warehouse"})
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "train.parquet")

    def facts(sample: Sample) -> tuple[Any, ...]:
        return (
            sample.id,
            sample.question,
            sample.regions,
            sample.answer,
            sample.normalized_answer,
            sample.category,
            sample.image,
            sample.depth,
        )

    again = read_source("released", tmp_path, "train", images=str(root / "train"), depths=str(root / "train"))
    direct = read_warehouse(root, "train")
    assert list(map(facts, again)) == list(map(facts, direct))
    assert np.array_equal(load_sample_depth(again[0]).values, load_sample_depth(direct[0]).values)
