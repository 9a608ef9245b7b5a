"""Laws of depth estimation: what is written is what the readers load back, a broken-off run goes on, nothing broken stops it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smolrgpt.data.estimate_depth import DepthEstimator, encode_metric, encode_relative, estimate_depth
from smolrgpt.data.loading import SkipLog
from smolrgpt.schema import DataError, DepthMap


def save_model(folder: Path, kind: str) -> Path:
    """A random DepthAnything: a Dinov2 of width 32 with four layers, for pictures of about 28 pixels."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        depth_estimation_type=kind,
        max_depth=20 if kind == "metric" else 1,
    )
    model = DepthAnythingForDepthEstimation(config)
    with torch.no_grad():  # fresh weights give nearly the same everywhere
        for parameter in model.parameters():
            parameter.mul_(3.0)
        model.head.conv3.bias.fill_(0.5)  # the last ReLU keeps it
        for layer in (model.head.conv1, model.head.conv2):
            layer.weight.mul_(3.0)
    model.save_pretrained(folder)
    processor = DPTImageProcessor(size={"height": 28, "width": 28}, keep_aspect_ratio=True, ensure_multiple_of=14)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_model(tmp_path_factory.mktemp(kind), kind) for kind in ("relative", "metric")}


@pytest.fixture(scope="module")
def relative(models: dict[str, Path]) -> DepthEstimator:
    return DepthEstimator(str(models["relative"]), device="cpu")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Five pictures of three shapes in two folders, one of them broken."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    for name, (height, width) in {"a.jpg": (40, 60), "b.png": (40, 60), "c.v2.png": (60, 40), "below/d.png": (33, 33)}.items():
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(folder / name)
    (folder / "e.png").write_bytes((folder / "b.png").read_bytes()[:200])
    (folder / "notes.txt").write_text("no picture")
    return folder


def predicted(estimator: DepthEstimator, path: Path) -> np.ndarray:
    """The model's map of one picture, without any of the module's batches and files."""
    with Image.open(path) as image:
        pixel_values = estimator.processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"]
        return estimator.estimate(pixel_values, [(image.height, image.width)])[0]


@pytest.mark.parametrize("layout", ["osd", "warehouse"])
def test_relative_maps_load_back_near_small(relative: DepthEstimator, images: Path, tmp_path: Path, layout: str) -> None:
    skips = SkipLog()
    assert estimate_depth(images, tmp_path / "out", relative, layout=layout, batch_size=2, progress=False, skips=skips) == 4
    assert skips.counts == {"unreadable image": 1} and "e.png" in skips.examples["unreadable image"][0]
    record = json.loads((tmp_path / "out" / "depth.json").read_text())
    assert (record["kind"], record["scale_m"], record["model"]) == ("relative", None, relative.name)
    ending = "_depth.png" if layout == "warehouse" else ".png"
    assert {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")} == {
        "depth.json", f"a{ending}", f"b{ending}", f"c.v2{ending}", f"below/d{ending}",
    }  # fmt: skip
    for name in ("a.jpg", "c.v2.png", "below/d.png"):
        source = images / name
        inverse = predicted(relative, source)
        nearness = (inverse - inverse.min()) / (inverse.max() - inverse.min())
        depth = DepthMap.from_file(tmp_path / "out" / Path(name).with_name(source.stem + ending))
        assert depth.kind == "relative" and depth.values.shape == inverse.shape
        # half a grey level, and what a batch of another size changes in the last bits
        assert np.abs((1 - depth.values) - nearness).max() < 0.5 / 255 + (1e-3 if relative.dtype == torch.float32 else 0.03)


def test_metric_maps_load_back_in_metres(models: dict[str, Path], images: Path, tmp_path: Path) -> None:
    estimator = DepthEstimator(str(models["metric"]), device="cpu")
    assert estimator.kind == "metric" and estimator.dtype == torch.float32
    estimate_depth(images, tmp_path / "out", estimator, progress=False)
    record = json.loads((tmp_path / "out" / "depth.json").read_text())
    assert (record["kind"], record["near"], record["scale_m"]) == ("metric", "dark", 0.001)
    depth, expected = DepthMap.from_file(tmp_path / "out" / "a.png"), predicted(estimator, images / "a.jpg")
    assert depth.kind == "metric"
    assert np.nanmax(np.abs(depth.values - expected)) < 0.002


def test_a_run_goes_on_where_it_stopped(relative: DepthEstimator, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    estimate_depth(images, out, relative, progress=False)
    before = {path.name: path.read_bytes() for path in out.glob("*.png")}
    (out / "b.png").unlink()
    (out / ".b.png.writing").write_bytes(b"half a file")
    kept = (out / "a.png").stat().st_mtime_ns
    assert estimate_depth(images, out, relative, progress=False) == 1
    assert {path.name: path.read_bytes() for path in out.glob("[!.]*.png")} == before
    assert (out / "a.png").stat().st_mtime_ns == kept and not (out / ".b.png.writing").exists()


def test_maps_of_another_meaning_are_not_mixed(models: dict[str, Path], relative: DepthEstimator, images: Path, tmp_path: Path) -> None:
    estimate_depth(images, tmp_path / "out", relative, progress=False)
    with pytest.raises(DataError, match="near is 'bright', that of this run is 'dark'"):
        estimate_depth(images, tmp_path / "out", relative, layout="warehouse", progress=False)
    with pytest.raises(DataError, match=r"depth.json: model is .*the maps have another meaning"):
        estimate_depth(images, tmp_path / "out", DepthEstimator(str(models["metric"]), device="cpu"), progress=False)


def test_a_map_without_contrast_is_counted_and_not_written(relative: DepthEstimator, images: Path, tmp_path: Path) -> None:
    class Flat(DepthEstimator):
        def __init__(self) -> None:
            self.__dict__.update(relative.__dict__)

        def estimate(self, pixel_values: torch.Tensor, sizes: list[tuple[int, int]]) -> list[np.ndarray]:
            return [np.full(size, [0.0, np.nan][index % 2], np.float32) for index, size in enumerate(sizes)]

    skips = SkipLog()
    assert estimate_depth(images, tmp_path / "out", Flat(), batch_size=2, progress=False, skips=skips) == 0
    assert skips.counts == {"depth without contrast": 4, "unreadable image": 1}


def test_readers_in_other_processes_change_nothing(relative: DepthEstimator, images: Path, tmp_path: Path) -> None:
    skips = [SkipLog(), SkipLog()]
    for workers in (0, 1):
        estimate_depth(images, tmp_path / str(workers), relative, workers=workers, batch_size=1, progress=False, skips=skips[workers])
    one, other = ({path.name: path.read_bytes() for path in (tmp_path / str(workers)).rglob("*.png")} for workers in (0, 1))
    assert one == other and skips[0].counts == skips[1].counts


def test_a_map_is_finer_than_bf16_and_depends_on_the_picture(models: dict[str, Path], images: Path, monkeypatch) -> None:
    monkeypatch.setattr("smolrgpt.data.estimate_depth.best_dtype", lambda device: torch.bfloat16)
    estimator = DepthEstimator(str(models["relative"]), device="cpu")
    one, other = (predicted(estimator, images / name) for name in ("a.jpg", "b.png"))
    assert estimator.dtype == torch.bfloat16 and one.shape == other.shape
    assert np.abs(one - other).max() > 0.2 * np.ptp(one)
    pixel_values = torch.zeros(1, 3, 28, 42)
    raw = estimator.model(pixel_values=pixel_values.bfloat16()).predicted_depth
    assert raw.dtype == torch.float32 and len(raw.unique()) > len(raw.bfloat16().unique()) * 4


def test_encoding_keeps_what_the_format_can_hold() -> None:
    values = np.linspace(2, 7, 600, dtype=np.float32).reshape(20, 30)
    bright, dark = encode_relative(values, "bright"), encode_relative(values, "dark")
    assert (bright.min(), bright.max()) == (0, 255) and (bright.astype(int) + dark == 255).all()
    metres = np.array([[0.0004, 0.001, 12.3456, 65.535, 65.536, -1, np.nan, np.inf]], dtype=np.float64)
    assert encode_metric(metres).tolist() == [[0, 1, 12346, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: folder.mkdir(), "holds no image"),
        (lambda folder: [folder.mkdir(), (folder / "a.png").touch(), (folder / "a.jpg").touch()], "is also that of .*a.jpg"),
    ],
)
def test_bad_folders_are_named(relative: DepthEstimator, tmp_path: Path, make, message: str) -> None:
    make(tmp_path / "images")
    with pytest.raises(DataError, match=message):
        estimate_depth(tmp_path / "images", tmp_path / "out", relative, progress=False)
    assert not (tmp_path / "out").exists()


def test_maps_do_not_lie_among_the_pictures(relative: DepthEstimator, images: Path) -> None:
    with pytest.raises(DataError, match="in the folder of images"):
        estimate_depth(images, images, relative, progress=False)
    with pytest.raises(DataError, match="layout is 'kitti'; expected one of osd, warehouse"):
        estimate_depth(images, images.parent / "out", relative, layout="kitti", progress=False)


def test_models_that_are_not_there_or_do_not_say_what_they_are(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere/nothing: no such folder, and the hub's model of that name is not on this disk"):
        DepthEstimator("nowhere/nothing")
    with pytest.raises(DataError, match="no depth model"):
        DepthEstimator(str(tmp_path))
    assert DepthEstimator(str(models["relative"]), kind="metric", device="cpu").kind == "metric"


def test_the_command_writes_and_goes_on(models: dict[str, Path], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from smolrgpt.cli import main as cli

    arguments = ["data", "depth", str(images), str(tmp_path / "out"), "--model", str(models["metric"]), "--device", "cpu"]
    for written in (4, 0):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        captured = capsys.readouterr()
        assert (stop.value.code or 0, captured.out) == (0, "")
        assert f"wrote {written} metric depth maps" in captured.err and "skipped 1: 1 x unreadable image" in captured.err


@pytest.mark.parametrize(("layout", "folder"), [("osd", "images"), ("warehouse", "train/images")])
def test_a_data_sets_reader_finds_the_maps(relative: DepthEstimator, tmp_path: Path, layout: str, folder: str) -> None:
    """The whole way: pictures -> maps -> the reader of that data set -> DepthMap with near = small."""
    from smolrgpt.data.loading import load_sample_depth
    from smolrgpt.data.sources import SOURCES
    from smolrgpt.schema import Region

    if layout not in SOURCES:
        pytest.skip(f"no reader {layout!r} yet")
    pictures = tmp_path / folder
    pictures.mkdir(parents=True)
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(pictures / "0a.jpg")
    estimate_depth(pictures, pictures.with_name("depths"), relative, layout=layout, progress=False)
    row = {
        "id": "q", "image": "0a.jpg", "filename": "0a", "rle": [Region.from_box((1, 1, 9, 9), 40, 60).to_rle()],
        "conversations": [{"from": "human", "value": "Where is <mask> <depth>?" if layout == "osd" else "Where is <mask>?"},
                          {"from": "gpt", "value": "There."}],
    }  # fmt: skip
    (tmp_path / "train.json").write_text(json.dumps([row]))
    (found,) = SOURCES[layout](tmp_path, "train", skips=SkipLog())
    depth, inverse = load_sample_depth(found), predicted(relative, pictures / "0a.jpg")
    assert depth is not None and depth.kind == "relative"
    assert np.corrcoef(depth.values.ravel(), inverse.ravel())[0, 1] < -0.99
