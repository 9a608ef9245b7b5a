"""``smolrgpt synth`` and ``smolrgpt data``: draw, inspect, check and prepare data sets."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from smolrgpt.cli.options import Json, require_packages

if TYPE_CHECKING:
    from smolrgpt.data.loading import SkipLog
    from smolrgpt.schema import Sample

app = typer.Typer(
    help="""Check, count, look at and prepare data sets; estimate depth.

    \b
    SOURCE is the name of a reader:
      warehouse, llava_cc3m, osd, spatial_bench, released   published data sets
      coco, yolo, labelme, cvat, voc, supervisely, label_studio  images annotated with such a tool
      samples                                               rows of your own, or saved by the web page
      frames                                                questions about real frames
    """,
    no_args_is_help=True,
    rich_markup_mode=None,
)


#: The names of ``data.estimate_depth.LAYOUTS``, written out so that help imports no model.
LayoutName = Literal["osd", "warehouse"]
Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="Which reader: warehouse, coco, yolo, samples, ...; see 'smolrgpt data --help'.")
]
Root = Annotated[
    str, typer.Argument(metavar="ROOT", help="The data set's folder, or its hub id owner/name, of which all files are downloaded first.")
]
Splits = Annotated[
    list[str] | None, typer.Option("--split", help="A split; repeat it. By default all of a warehouse set, 'train' of another.")
]
Options = Annotated[
    list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="An option of the reader, such as images=FOLDER; repeat it.")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; by default one per core.")]


def synth(  # noqa: PLR0913 (the options of a command)
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the data set; made if it is not there.")],
    scenes: Annotated[int, typer.Option(min=1, help="Number of scenes, one image each.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same data.")] = 0,
    layouts: Annotated[str, typer.Option(help="'known' (for training), 'reserved' (for testing only), or names: NAME,NAME.")] = "known",
    split: Annotated[str, typer.Option(help="Name of the split.")] = "val",
    questions: Annotated[int, typer.Option(min=1, help="Questions asked about each scene.")] = 24,
    view: Annotated[str, typer.Option(help="Cameras: usual (as in training), low, steep, high, far or wide.")] = "usual",
    surroundings: Annotated[str, typer.Option(help="usual (as in training), cluttered, hidden, dim, harsh or painted.")] = "usual",
    world: Annotated[str, typer.Option(help="warehouse, tabletop, room, yard, several (NAME,NAME), or mixed: all of them.")] = "warehouse",
    scales: Annotated[tuple[float, float], typer.Option(help="Range of the factor that a scene's lengths are multiplied by.")] = (1.0, 1.0),
    sensor: Annotated[
        str,
        typer.Option(
            help="What measures metric depth: perfect, stereo, structured_light, time_of_flight, lidar, dense_lidar, monocular, phone, "
            "misregistered, or mixed: one for each scene."
        ),
    ] = "perfect",
    workers: Workers = None,
) -> None:
    """Draw a synthetic data set of one or more worlds.

    Images, metric and relative depth, cameras, masks, questions and answers, in the official layout of the warehouse data set. A view and
    surroundings are the warehouse's; other worlds draw cameras and light of all kinds.

    \b
    smolrgpt synth data/reserved --scenes 100 --seed 7 --layouts reserved
    smolrgpt synth data/tables --world tabletop --scales 0.3 3 --sensor mixed
    smolrgpt evaluate nano data/reserved
    """
    from smolrgpt.data.worlds import write_dataset

    write_dataset(
        out, split, scenes, seed, layouts, questions_per_scene=questions, workers=workers, view=view, surroundings=surroundings,
        world=world, scales=scales, sensor=sensor,
    )  # fmt: skip
    print(f"wrote {scenes} scenes to {out}, split {split!r}; next: smolrgpt evaluate nano {out} --split {split}", file=sys.stderr)


@app.command()
def prepare(
    source: Source,
    root: Root,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the prepared set; each split becomes a folder in it.")],
    split: Splits = None,
    option: Options = None,
    pack: Annotated[
        bool, typer.Option("--pack", help="Copy images and depth maps into a few .tar files next to the rows, for object stores.")
    ] = False,
) -> None:
    """Write a data set in the form that training reads fastest.

    Rows are read once and stored memory-mapped, so that no run holds them in memory; images stay where they are, unless packed. An
    interrupted run continues where it stopped. Training with the recipes paper and full does this by itself, in DATA_ROOT/prepared.

    \b
    smolrgpt data prepare warehouse data/warehouse data/prepared/warehouse --split train
    """
    require_packages(["datasets"], "train", "preparing")
    from smolrgpt.data.hub import local_folder
    from smolrgpt.data.loading import SkipLog
    from smolrgpt.data.prepared import prepare as write_prepared

    skips = SkipLog()
    folder = local_folder(root).resolve()  # recorded in OUT, which must be right from any folder
    for name, samples in read_splits(source, str(folder), split, option, skips).items():
        written = write_prepared(samples, out / name, root=folder, pack=pack, skips=skips)
        print(f"wrote {len(written)} samples to {out / name}", file=sys.stderr)
    _report_skips(skips)


@app.command()
def unpack(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="A folder with archives in it, or in its images/ and depths/.")],
    split: Annotated[list[str] | None, typer.Option("--split", help="Folders of ROOT to unpack instead; repeat it.")] = None,
) -> None:
    """Unpack the .tar and .tar.gz archives of a data set's images.

    Every file is checked for its size, and none is written outside of the folder. An interrupted run continues where it stopped; the
    archives stay.

    \b
    smolrgpt data unpack data/warehouse --split train --split test
    """
    from smolrgpt.data.loading import SkipLog
    from smolrgpt.data.sources import unpack as unpack_archives

    skips = SkipLog()
    for name in split or [""]:
        print(f"wrote {unpack_archives(root, name, skips=skips)} files to {root / name}", file=sys.stderr)
    _report_skips(skips)
    raise typer.Exit(1 if skips.total else 0)


@app.command()
def validate(
    source: Source, root: Root, split: Splits = None, option: Options = None, workers: Workers = None, as_json: Json = False
) -> None:
    """Check every row, image, depth map and mask.

    Exit code 0: no problem; 1: problems, counted by kind with the first examples of each; 2: the data set has nothing to check.

    \b
    smolrgpt data validate warehouse data/warehouse --split train
    """
    from smolrgpt.data.loading import SkipLog
    from smolrgpt.data.validate import format_validation
    from smolrgpt.data.validate import validate as check

    problems = SkipLog()
    result = check(read_splits(source, root, split, option, problems), problems, workers=workers).to_dict()
    print(json.dumps(result, ensure_ascii=False) if as_json else format_validation(result, root))
    raise typer.Exit(1 if result["num_problems"] else 0 if any(result["num_questions"].values()) else 2)


@app.command()
def stats(
    source: Source,
    root: Root,
    split: Splits = None,
    option: Options = None,
    out: Annotated[Path | None, typer.Option(help="Also draw a figure: a .png, .svg or .pdf file.")] = None,
    as_json: Json = False,
) -> None:
    """Count categories, answers, regions, mask areas and wordings, split by split.

    Opens no image. Several splits are shown side by side.

    \b
    smolrgpt data stats warehouse data/warehouse --split train --split val --out stats.png
    """
    from tqdm import tqdm

    from smolrgpt.data.loading import SkipLog
    from smolrgpt.data.stats import format_statistics, statistics

    skips = SkipLog()
    read = read_splits(source, root, split, option, skips)
    splits = {name: statistics(tqdm(samples, desc=name, unit="question", file=sys.stderr)) for name, samples in read.items()}
    _report_skips(skips)
    print(json.dumps(splits, ensure_ascii=False) if as_json else format_statistics(splits, root))
    if out is not None:
        from smolrgpt.viz.plots import plot_statistics

        out.parent.mkdir(parents=True, exist_ok=True)
        print(f"wrote {plot_statistics(splits, out)}", file=sys.stderr)


@app.command()
def show(  # noqa: PLR0913 (the options of a command)
    source: Source,
    root: Root,
    out: Annotated[Path, typer.Option(help=".html for a page, .png or .jpg for a contact sheet.")] = Path("out/samples.html"),
    split: Splits = None,
    category: Annotated[list[str] | None, typer.Option(help="Only questions of this category; repeat it.")] = None,
    ids: Annotated[str | None, typer.Option(help="These samples, in this order: ID,ID,...")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many samples, drawn from all.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other samples.")] = 0,
    option: Options = None,
) -> None:
    """Draw samples with their regions, depth, question and answer.

    A page contains its images, so that it is one file to open or to send.

    \b
    smolrgpt data show warehouse data/warehouse --split val --category mcq --out out/mcq.html
    smolrgpt data show warehouse data/warehouse --split val --limit 8 --out out/sheet.png
    """
    from itertools import chain

    from smolrgpt.data.loading import SkipLog
    from smolrgpt.viz.gallery import save, select

    skips = SkipLog()
    samples = chain.from_iterable(read_splits(source, root, split, option, skips).values())
    chosen = select(samples, limit, seed=seed, categories=category or (), ids=ids.split(",") if ids else ())
    save(chosen, out, f"{root} {' '.join(split or [])}".rstrip(), skips)
    _report_skips(skips)
    print(f"wrote {out}", file=sys.stderr)


@app.command()
def depth(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of images; folders below are read too.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the depth maps; existing ones are kept.")],
    model: Annotated[
        str, typer.Option(help="A depth model: a folder, or a hub id owner/name.")
    ] = "depth-anything/Depth-Anything-V2-Small-hf",
    layout: Annotated[
        LayoutName,
        typer.Option(help="osd: <name>.png, near bright; warehouse: <name>_depth.png, near dark, as its reader expects."),
    ] = "osd",
    kind: Annotated[
        Literal["relative", "metric"] | None, typer.Option(help="What the model estimates, where its configuration does not state it.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images of one shape estimated together.")] = 8,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda:0; by default the accelerator, if there is one.")] = None,
) -> None:
    """Estimate depth maps for a folder of images.

    Relative models give 8-bit maps, metric ones 16-bit millimetres; OUT/depth.json records which, and which end is near. An interrupted
    run continues where it stopped.

    \b
    smolrgpt data depth data/osd/images data/osd/depths
    smolrgpt data depth data/w/train/images data/w/train/depths --layout warehouse
    """
    from smolrgpt.data.estimate_depth import DepthEstimator, estimate_depth
    from smolrgpt.data.loading import SkipLog

    skips = SkipLog()
    estimator = DepthEstimator(model, kind, device)
    written = estimate_depth(images, out, estimator, layout=layout, batch_size=batch_size, skips=skips)
    _report_skips(skips)
    print(f"wrote {written} {estimator.kind} depth maps to {out}", file=sys.stderr)


def read_splits(source: str, root: str, splits: list[str] | None, options: list[str] | None, skips: SkipLog) -> dict[str, Iterable[Sample]]:
    """Return {split: its samples}, which most sources read lazily. Raises DataError for an unknown source, root, split or option."""
    from smolrgpt.data.hub import local_folder
    from smolrgpt.data.sources import iter_source
    from smolrgpt.data.sources.warehouse import available_splits
    from smolrgpt.schema import DataError

    folder, reader_options = local_folder(root), _parse_options(options or [])
    names = splits or (available_splits(folder) if source == "warehouse" else ["train"])
    if not names:
        raise DataError(f"{folder}: no split there; expected SPLIT.json next to SPLIT/images/")
    return {name: iter_source(source, folder, name, skips=skips, **reader_options) for name in names}


def _parse_options(texts: list[str]) -> dict[str, Any]:
    """Return the reader's options of texts ``name=value``; see ``parse_value``."""
    from smolrgpt.data.io import parse_value

    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"--option {text}: expected NAME=VALUE")
        options[name] = parse_value(value)
    return options


def _report_skips(skips: SkipLog) -> None:
    """Print how many samples were left out and why, if any."""
    if skips.total:
        print(skips.summary(), file=sys.stderr)
