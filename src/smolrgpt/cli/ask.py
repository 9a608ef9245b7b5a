"""``smolrgpt ask``, ``predict`` and ``tour``: answers about one image, a data set, or a scene drawn on the spot."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smolrgpt.cli.options import (
    BatchSize,
    DepthKindOption,
    DepthNear,
    DepthUnit,
    DepthUse,
    Json,
    ModelArgument,
    ModelOption,
    Split,
    format_first_ids,
    require_packages,
)

if TYPE_CHECKING:
    from smolrgpt.evaluation.predict import BatchPredictor, SamplePredictor
    from smolrgpt.inference.answer import Answer
    from smolrgpt.schema.inputs_read import InputsRead


Questions = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[QUESTION]...",
        help="One or more questions; without any, one a line of stdin, in UTF-8.",
    ),
]
DepthFile = Annotated[
    Path | None,
    typer.Option(help="Depth of the same view: 8-bit grey (relative), 16-bit PNG, TIFF, PGM (mm), float .npy, TIFF, EXR (metres)."),
]
Regions = Annotated[
    list[str] | None,
    typer.Option(
        help="A box x0,y0,x1,y1 in pixels, a mask image, label:3:FILE (its pixels of value 3), or polygon:x,y,... Coordinates from 0 to 1 "
        "or 0 to 1000: normalized:x0,... or thousandths:x0,... Repeat the option: the first is <region 0>."
    ),
]
Intrinsics = Annotated[str | None, typer.Option(help="Intrinsics fx,fy,cx,cy in pixels of the image, or a file: JSON, YAML, text, .npy.")]
Overlay = Annotated[Path | None, typer.Option(help="Write an image with the numbered regions, the depth and the answers here.")]
Source = Annotated[
    str | None,
    typer.Option(help="What DATA is: warehouse (default), samples (default for a file), coco, ...; see 'smolrgpt data --help'."),
]
MinConfidence = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Withhold answers of less confidence: they cannot be told. By default as the checkpoint says; 0: never."
    ),
]
Submission = Annotated[Path | None, typer.Option(help="Also write the challenge's form: id and normalized_answer, checked.")]
NumActors = Annotated[int | None, typer.Option("--ray", min=1, metavar="N", help="Spread the work over N Ray actors, a model each.")]
Address = Annotated[str | None, typer.Option(help="With --ray: a running cluster; by default Ray is started here.")]


def ask(  # noqa: PLR0913 (the options of a command)
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image.")],
    questions: Questions = None,
    depth: DepthFile = None,
    region: Regions = None,
    camera: Intrinsics = None,
    depth_unit: DepthUnit = None,
    depth_kind: DepthKindOption = None,
    depth_near: DepthNear = None,
    model: ModelOption = "nano",
    min_confidence: MinConfidence = None,
    as_json: Json = False,
    overlay: Overlay = None,
) -> None:
    """Ask questions about regions of an image.

    \b
    smolrgpt ask scene.png --depth depth.png --region 40,60,120,140 --region mask.png \\
        "How far is <region 0> from <region 1>?" "Is <region 0> to the left of <region 1>?"

    How depth and camera were read, and what is doubtful about the inputs, is printed on stderr. With --json a single question gives an
    object, several give a list; the field "inputs" of each answer holds the same.
    """
    from smolrgpt.inference.inputs import read_frame
    from smolrgpt.inference.loading import load_predictor
    from smolrgpt.schema import Camera, DepthMap, DepthMeaning, Region, naming
    from smolrgpt.schema.image_file import image_size

    meaning = DepthMeaning(depth_near, depth_kind, depth_unit)
    meaning.require_map(depth)
    depth_map = None if depth is None else DepthMap.from_file(depth, meaning)
    width, height = image_size(image)
    with naming("--region"):
        for text in region or []:
            Region.from_text(text, height, width)  # checked before the model is loaded, and by the option's name
    with naming("--camera"):
        intrinsics = Camera.from_any(camera, height, width) if camera else None
    frame = read_frame(image, depth_map, intrinsics, DepthMeaning())
    predictor = load_predictor(model)
    asked: list[str] = []
    answers: list[Answer] = []
    for group in [questions] if questions else _questions_from_stdin():
        new = predictor.ask_many(frame, group, regions=region or [], min_confidence=min_confidence)
        if not answers:
            _print_inputs(new[0].inputs)
        _print_answers(group, new, as_json, as_list=bool(questions) and len(group) > 1)
        asked, answers = asked + group, answers + new
    if overlay is not None:
        from smolrgpt.viz.drawing import draw_regions

        rows = [{"question": question, "answer": answer.answer} for question, answer in zip(asked, answers, strict=True)]
        overlay.parent.mkdir(parents=True, exist_ok=True)
        marked = [frame.read_region("--region", text) for text in region or []]
        draw_regions(frame.image, marked, depth=frame.depth, answer=rows).save(overlay)
        print(f"wrote {overlay}", file=sys.stderr)


def _questions_from_stdin() -> Iterator[list[str]]:
    """Yield each question of stdin as a list of one: at a terminal up to an empty line, else of all lines that are not blank.

    Raises DataError for a line that is not UTF-8, and where there is no question.
    """
    from smolrgpt.schema import DataError
    from smolrgpt.schema.text import plain_text

    if sys.stdin.isatty():
        while question := plain_text(_read_terminal_line()):
            yield [question]
        return
    number = asked = 0
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            question = plain_text(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(f"stdin, line {number}: byte {error.start} is not UTF-8; expected questions in UTF-8, one a line") from None
        if question:
            asked += 1
            yield [question]
    if not asked:
        raise DataError(f"stdin: found {number} blank lines; expected a question a line, or questions as arguments")


def _read_terminal_line() -> str:
    print("question (empty to end): ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


def _print_inputs(inputs: InputsRead) -> None:
    """Print how depth and camera were read, and what is doubtful, on stderr."""
    print(inputs.describe(), file=sys.stderr)
    for warning in inputs.warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)


def _print_answers(questions: list[str], answers: list[Answer], as_json: bool, as_list: bool) -> None:
    """Print answers; as_list: several questions were given at once, so that each answer needs its question."""
    if as_json:
        rows = [{"question": q, **dataclasses.asdict(a)} for q, a in zip(questions, answers, strict=True)]
        print(json.dumps(rows if as_list else rows[0], ensure_ascii=False), flush=True)
        return
    for question, answer in zip(questions, answers, strict=True):
        short = "" if answer.normalized_answer is None else f"  [{answer.normalized_answer}{f' {answer.unit}' if answer.unit else ''}]"
        print((f"{question}\n  " if as_list else "") + answer.answer + short, flush=True)


def predict(  # noqa: PLR0913 (the options of a command)
    model: ModelArgument,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of a data set, or a .jsonl file (see --source samples).")],
    out: Annotated[Path, typer.Option(help="File of the answers: .json for a list, .jsonl for one a line.")],
    source: Source = None,
    split: Split = None,
    depth: DepthUse = "auto",
    depth_unit: DepthUnit = None,
    depth_kind: DepthKindOption = None,
    depth_near: DepthNear = None,
    batch_size: BatchSize = 64,
    submission: Submission = None,
    actors: NumActors = None,
    gpus: Annotated[float, typer.Option(min=0, help="With --ray: GPUs of each actor.")] = 0.0,
    address: Address = None,
) -> None:
    """Answer every question of a data set.

    Needs no published answers. An interrupted run continues where it stopped; a row that cannot be used is left out and counted, an image
    that cannot be read gets an empty answer with its error.

    \b
    smolrgpt predict nano data/warehouse --split test --out predictions.json --submission submission.json
    smolrgpt predict nano questions.jsonl --out answers.jsonl
    smolrgpt predict nano data/warehouse --out predictions.json --ray 4 --gpus 1 --address auto
    """
    from smolrgpt.evaluation.predict import predict as predict_all
    from smolrgpt.evaluation.samples import read_samples
    from smolrgpt.evaluation.submission import write_submission
    from smolrgpt.schema import DepthMeaning

    meaning = DepthMeaning(depth_near, depth_kind, depth_unit)
    samples = read_samples(data, source, split, depth, meaning)
    run_id = f"{model}|{data}|{source}|{split}|{depth}|{meaning}"
    if actors is None:
        from smolrgpt.inference.loading import load_predictor

        predictor: SamplePredictor | BatchPredictor = load_predictor(model)
    else:
        require_packages(["ray"], "serve", "spreading")
        from smolrgpt.evaluation.distributed import RayPredictor
        from smolrgpt.inference.checkpoints import portable_checkpoint_name

        predictor = RayPredictor(portable_checkpoint_name(model), actors, gpus, batch_size, address)
    rows = predict_all(predictor, samples, out, batch_size, run_id=run_id)
    print(f"wrote {len(rows)} answers to {out}", file=sys.stderr)
    if submission is not None:
        guessed = write_submission(submission, samples, rows)
        guesses = f", {len(guessed)} of them guesses{format_first_ids(guessed)}" if guessed else ""
        print(f"wrote {submission}: {len(rows)} answers{guesses}", file=sys.stderr)


def tour(
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the scene; random by default.")] = None,
    out: Annotated[Path, typer.Option(help="File of the overlay image.")] = Path("out/demo.png"),
    model: ModelOption = "nano",
) -> None:
    """Show the model at work on a fresh scene.

    Questions, answers and the truth; then the score on 200 fresh questions.

    \b
    smolrgpt tour --seed 7
    """
    from smolrgpt.apps import tour as program

    program.run(seed, out, model)
