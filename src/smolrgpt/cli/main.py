"""The ``smolrgpt`` command. Results go to stdout, everything else to stderr; exit codes: 0 done, 2 bad usage or input, 1 failure.

Nothing heavy is imported before a command needs it, so that help is instant and scoring needs no torch.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smolrgpt.cli import data as data_cli
from smolrgpt.cli import serve as serve_cli

if TYPE_CHECKING:
    from smolrgpt.evaluation.extractors import Extractor
    from smolrgpt.inference.predictor import Answer, Predictor
    from smolrgpt.schema import Sample

app = typer.Typer(
    help="Answers questions about marked regions of an RGB-D image; trains, scores and draws data for the model that does it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(data_cli.app, name="data")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Questions answered together.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Ask only this many questions, drawn by a fixed seed.")]
Split = Annotated[str | None, typer.Option(help="Which split; by default 'val', or the only one there is.")]


class Near(StrEnum):
    """Which end of a relative depth map is near."""

    dark = "dark"
    bright = "bright"


class BenchmarkChoice(StrEnum):
    """What is asked of a data set, and how it is scored."""

    warehouse = "warehouse"
    spatial = "spatial"
    sizes = "sizes"
    plain = "plain"


class DepthChoice(StrEnum):
    """Which depth maps of a data set to use."""

    auto = "auto"
    metric = "metric"
    relative = "relative"
    none = "none"


ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="'nano' (bundled), a folder, or a hub id owner/name.")]
DataRoot = Annotated[Path, typer.Argument(metavar="DATA", help="Folder of the set; of the warehouse: SPLIT.json beside SPLIT/images/.")]
Extractors = Annotated[
    list[str] | None,
    typer.Option(
        "--extractor",
        metavar="NAME[:OPTION=VALUE,...]",
        help="What reads the short answers: self (default), rules, classifier:folder=FOLDER, llm:url=URL,model=NAME. Repeat to compare; "
        "the first one decides.",
    ),
]
EndpointUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="OpenAI-compatible endpoint of the judge; the key is in OPENAI_API_KEY.")
]
EndpointModel = Annotated[str | None, typer.Option(metavar="NAME", help="Its model.")]
BenchmarkUse = Annotated[
    BenchmarkChoice,
    typer.Option(
        "--benchmark",
        help="warehouse: four accuracies and S1; spatial: SpatialRGPT-Bench, by its groups; "
        "sizes: widths and heights, plain: people's own words, both on a set of 'smolrgpt synth'.",
    ),
]
DepthUse = Annotated[DepthChoice, typer.Option("--depth", help="Depth maps to use; auto: metric where there are any, else relative.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (``sys.argv`` when ``arguments`` is None) and exit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    verbose = "--verbose" in given  # wherever it stands, so that it can be added to the end of a failed command
    _log_to_stderr(logging.DEBUG if verbose else logging.INFO)
    try:
        app(args=[argument for argument in given if argument != "--verbose"], prog_name="smolrgpt")
    except (Exception, KeyboardInterrupt) as error:
        if verbose:
            traceback.print_exc()
        print(f"error: {_message(error)}", file=sys.stderr)
        sys.exit(2 if isinstance(error, (ValueError, OSError)) else 1)


def _log_to_stderr(level: int) -> None:
    """Ours only, as plain lines; libraries keep their own ways. Replaces the handler of an earlier call."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("smolrgpt")
    logger.handlers = [handler]
    logger.setLevel(level)


def _message(error: BaseException) -> str:
    """One line. Errors of ours say everything; of others, the type helps and --verbose shows the rest."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return (
        text
        if isinstance(error, (ValueError, ImportError, OSError)) and text
        else f"{type(error).__name__}: {text} (--verbose shows where)"
    )


def _show_version(value: bool) -> None:
    if value:
        from smolrgpt import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more, and show a traceback when something fails.")] = False,
) -> None:
    pass


# -------------------------------------------------------------------------------------------------------------------------- ask
@app.command()
def ask(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture.")],
    questions: Annotated[
        list[str] | None, typer.Argument(metavar="[QUESTION]...", help="One or more questions; without any, one a line from stdin.")
    ] = None,
    depth: Annotated[
        Path | None, typer.Option(help="Depth of the same view: 8-bit grey (relative), 16-bit (millimetres), .npy or float TIFF (metres).")
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(help="A box x0,y0,x1,y1 in pixels, a mask picture, or polygon:x,y,x,y,... Repeat it: the first is <region 0>."),
    ] = None,
    camera: Annotated[
        str | None, typer.Option(help="Intrinsics fx,fy,cx,cy in pixels of the image, or a JSON file with these names.")
    ] = None,
    depth_near: Annotated[Near, typer.Option(help="Which end of a relative depth map is near.")] = Near.dark,
    model: Annotated[str, typer.Option(help="'nano' (bundled), a folder, or a hub id owner/name.")] = "nano",
    as_json: Json = False,
    overlay: Annotated[Path | None, typer.Option(help="Write a picture with the numbered regions, the depth and the answers here.")] = None,
) -> None:
    """Ask questions about regions of a picture.

    \b
    smolrgpt ask scene.png --depth depth.png --region 40,60,120,140 --region mask.png \\
        "How far is <region 0> from <region 1>?" "Is <region 0> to the left of <region 1>?"

    With --json a single question gives an object, several give a list.
    """
    from smolrgpt.inference.inputs import as_image
    from smolrgpt.schema import Camera, DepthMap, Region, naming

    picture = as_image(image)
    depth_map = None if depth is None else DepthMap.from_file(depth, near=depth_near.value)
    with naming("--region"):
        table = [Region.from_text(text, picture.height, picture.width) for text in region or []]
    with naming("--camera"):
        intrinsics = Camera.from_any(camera, picture.height, picture.width) if camera else None
    predictor = load_predictor(model)
    asked: list[str] = []
    answers: list[Answer] = []
    for group in [questions] if questions else _questions_from_stdin():
        new = predictor.ask_many(picture, group, depth_map, table, intrinsics)
        _print_answers(group, new, as_json, many=not questions or len(questions) > 1, from_stdin=not questions)
        asked, answers = asked + group, answers + new
    if overlay is not None:
        from smolrgpt.viz.drawing import draw_regions

        rows = [{"question": question, "answer": answer.answer} for question, answer in zip(asked, answers, strict=True)]
        overlay.parent.mkdir(parents=True, exist_ok=True)
        draw_regions(picture, table, depth=depth_map, answer=rows).save(overlay)
        print(f"wrote {overlay}", file=sys.stderr)


def _questions_from_stdin() -> Iterator[list[str]]:
    while True:
        if sys.stdin.isatty():
            print("question (empty to end): ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline().strip()
        if not line:
            return
        yield [line]


def _print_answers(questions: list[str], answers: list[Answer], as_json: bool, many: bool, from_stdin: bool) -> None:
    if as_json:
        rows = [{"question": q, **dataclasses.asdict(a)} for q, a in zip(questions, answers, strict=True)]
        print(json.dumps(rows if many and not from_stdin else rows[0], ensure_ascii=False), flush=True)
        return
    for question, answer in zip(questions, answers, strict=True):
        short = "" if answer.normalized_answer is None else f"  [{answer.normalized_answer}]"
        print((f"{question}\n  " if many and not from_stdin else "") + answer.answer + short, flush=True)


def _numbers(text: str, name: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{name}: expected numbers separated by commas, without spaces") from None


def load_predictor(model: str) -> Predictor:
    """``Predictor.from_pretrained`` without the library's progress bars, on the CPU threads that serve a model of its size best."""
    from transformers.utils import logging as transformers_logging

    from smolrgpt.inference.predictor import Predictor, resolve_checkpoint
    from smolrgpt.precision import set_threads

    resolve_checkpoint(model)
    transformers_logging.disable_progress_bar()
    predictor = Predictor.from_pretrained(model)
    set_threads(predictor.model)
    return predictor


# ------------------------------------------------------------------------------------------------------------------------- data
@app.command()
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the data set; made if it is not there.")],
    scenes: Annotated[int, typer.Option(min=1, help="Number of scenes, one image each.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same data.")] = 0,
    layouts: Annotated[str, typer.Option(help="'known' (for training), 'reserved' (for testing only), or names: NAME,NAME.")] = "known",
    split: Annotated[str, typer.Option(help="Name of the split.")] = "val",
    questions: Annotated[int, typer.Option(min=1, help="Questions asked about each scene.")] = 24,
    view: Annotated[str, typer.Option(help="Cameras: usual (as in training), low, steep, high, far or wide.")] = "usual",
    surroundings: Annotated[str, typer.Option(help="usual (as in training), cluttered, hidden, dim, harsh or painted.")] = "usual",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; by default one per core.")] = None,
) -> None:
    """Draw a synthetic warehouse data set.

    Images, metric and relative depth, cameras, masks, questions and answers, in the official layout.

    \b
    smolrgpt synth data/reserved --scenes 100 --seed 7 --layouts reserved
    smolrgpt evaluate nano data/reserved
    """
    from smolrgpt.data.worlds import write_dataset

    write_dataset(out, split, scenes, seed, layouts, questions_per_scene=questions, workers=workers, view=view, surroundings=surroundings)
    print(f"wrote {scenes} scenes to {out}, split {split!r}; next: smolrgpt evaluate nano {out} --split {split}", file=sys.stderr)


# ------------------------------------------------------------------------------------------------------------------- evaluation
@app.command()
def evaluate(
    model: ModelName,
    data: DataRoot,
    split: Split = None,
    depth: DepthUse = DepthChoice.auto,
    benchmark: BenchmarkUse = BenchmarkChoice.warehouse,
    limit: Limit = None,
    batch_size: BatchSize = 64,
    extractor: Extractors = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Show next to this: predictions about the same questions, a results.json, or rules-visible; repeat it.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write report.html, report.md, results.json and predictions.json here; an interrupted run resumes there."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a model on a data set.

    Predicts, extracts, scores and reports S1 and the accuracy of each category, with intervals, groups, calibration and the worst answers.

    \b
    smolrgpt evaluate nano data/val --limit 500 --out runs/evaluation
    smolrgpt evaluate nano data/val --extractor self --extractor rules
    smolrgpt evaluate nano data/SpatialRGPT-Bench --benchmark spatial
    smolrgpt evaluate runs/evaluation/predictions.json data/val --out runs/again     # answers of a file, of any program; no model
    smolrgpt evaluate rules-visible data/val     # sets of 'smolrgpt synth': rules on what the camera sees; rules-truth: on the scene
    """
    from smolrgpt.evaluation import report

    samples_of = _existing(data)
    readers = _extractors(extractor, out)
    others = dict(_named(text) for text in beside or [])
    result = report.evaluate(
        _answerer(model),
        samples_of,
        out,
        benchmark=benchmark.value,
        split=split,
        depth=depth.value,
        limit=limit,
        batch_size=batch_size,
        name=model,
        extractors=readers,
        beside=others,
        command=shlex.join(["smolrgpt", *sys.argv[1:]]),
    )
    _print_result(result, as_json)
    if out is not None:
        print(f"wrote {out / 'report.html'}", file=sys.stderr)


def _answerer(model: str) -> Any:
    """What answers: rules, a file of answers, or a model."""
    from smolrgpt.evaluation.replay import ReplayPredictor
    from smolrgpt.evaluation.rules import FACTS, RulesPredictor

    if model in FACTS:
        return RulesPredictor(model)
    return ReplayPredictor(model) if model.endswith((".json", ".jsonl")) else load_predictor(model)


def _named(text: str) -> tuple[str, str]:
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise ValueError(f"--beside {text}: expected NAME=FILE, predictions or a results.json, or NAME=rules-visible")
    return name, path


def _extractors(specs: list[str] | None, out: Path | None) -> dict[str, Extractor]:
    """The back ends by name; a language model's replies are kept in OUT, so that they are asked for once."""
    from smolrgpt.evaluation.extractors import make_extractors

    return make_extractors(specs or ["self"], {"llm": {} if out is None else {"cache": out / "replies"}})


def _endpoint(url: str | None, model: str | None, cache: Path | None) -> dict[str, Any]:
    return {name: value for name, value in (("url", url), ("model", model), ("cache", cache)) if value is not None}


@app.command()
def robustness(
    model: ModelName,
    data: DataRoot,
    out: Annotated[Path, typer.Option(help="Folder of the results; an interrupted run goes on there.")],
    factor: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this factor; repeat it. Default: all.")] = None,
    split: Split = None,
    depth: DepthUse = DepthChoice.auto,
    limit: Limit = 240,
    batch_size: BatchSize = 64,
    as_json: Json = False,
) -> None:
    """Measure how S1 holds up when the inputs are worse than the data.

    Noise, holes and scale of depth; masks too large, too small, shifted or boxes; light, grain, blur, colours; and inputs that are plainly
    wrong, which a model that uses them must fail on. One curve a factor, the same questions at every level.

    \b
    smolrgpt synth data/val --scenes 20 --seed 7
    smolrgpt robustness nano data/val --out runs/robustness
    smolrgpt robustness nano data/val --out runs/robustness --factor "depth noise" --factor "wrong regions"
    """
    from smolrgpt.evaluation import report
    from smolrgpt.evaluation.robustness import render
    from smolrgpt.evaluation.robustness import robustness as measure

    samples = report.draw(report.load_samples(_existing(data), split, depth.value), limit)
    result = measure(
        load_predictor(model), samples, out, factors=factor or [], run_id=f"{model} on {data}, {depth.value} depth", batch_size=batch_size
    )
    print(json.dumps(result) if as_json else render(result))


@app.command()
def predict(
    model: ModelName,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of a data set, or a .jsonl file (see --source samples).")],
    out: Annotated[Path, typer.Option(help="Where the answers go: .json for a list, .jsonl for one a line.")],
    source: Annotated[
        str | None,
        typer.Option(help="What DATA is: warehouse (default), samples (default for a file), coco, ...; see 'smolrgpt data --help'."),
    ] = None,
    split: Split = None,
    depth: DepthUse = DepthChoice.auto,
    batch_size: BatchSize = 64,
    submission: Annotated[Path | None, typer.Option(help="Also write the challenge's form: id and normalized_answer, checked.")] = None,
    ray: Annotated[int | None, typer.Option(min=1, metavar="N", help="Spread the work over N Ray actors, a model each.")] = None,
    gpus: Annotated[float, typer.Option(min=0, help="With --ray: GPUs of each actor.")] = 0.0,
    address: Annotated[str | None, typer.Option(help="With --ray: a running cluster; by default Ray is started here.")] = None,
) -> None:
    """Answer every question of a data set.

    Needs no published answers. An interrupted run goes on where it stopped; a row that cannot be used is left out and counted, a picture
    that cannot be read gets an empty answer with its error.

    \b
    smolrgpt predict nano data/warehouse --split test --out predictions.json --submission submission.json
    smolrgpt predict nano questions.jsonl --out answers.jsonl
    smolrgpt predict nano data/warehouse --out predictions.json --ray 4 --gpus 1 --address auto
    """
    from smolrgpt.evaluation.predict import predict as predict_all
    from smolrgpt.evaluation.predict import write_submission

    samples = samples_of(data, source, split, depth.value)
    run_id = f"{model}|{data}|{source}|{split}|{depth.value}"
    if ray is None:
        rows = predict_all(load_predictor(model), samples, out, batch_size, run_id=run_id)
    else:
        if importlib.util.find_spec("ray") is None:
            raise ImportError("spreading needs more packages: pip install 'smolrgpt[serve]'")
        from smolrgpt.evaluation.spread import over_actors
        from smolrgpt.inference.predictor import checkpoint_anywhere

        spread = over_actors(checkpoint_anywhere(model), ray, gpus, batch_size, address)
        rows = predict_all(None, samples, out, batch_size, run_id=run_id, spread=spread)
    print(f"wrote {len(rows)} answers to {out}", file=sys.stderr)
    if submission is not None:
        guessed = write_submission(submission, samples, rows)
        print(
            f"wrote {submission}: {len(rows)} answers{f', {len(guessed)} of them guesses{_first(guessed)}' if guessed else ''}",
            file=sys.stderr,
        )


def samples_of(data: Path, source: str | None, split: str | None, depth: str) -> list[Sample]:
    """What lies in a folder (of the warehouse set, by default) or a file (of samples)."""
    kind = source or ("samples" if data.is_file() else "warehouse")
    if kind == "warehouse":
        from smolrgpt.evaluation.report import load_samples

        return load_samples(_existing(data), split, depth)
    from smolrgpt.data.sources import read_source

    return read_source(kind, data, split or "val")


@app.command()
def extract(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="Rows with id, question and answer: JSON or JSON lines.")],
    out: Annotated[Path, typer.Option(help="Where the rows go, with normalized_answer and every extractor's answer; .json or .jsonl.")],
    extractor: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="NAME[:OPTION=VALUE,...]", help="rules (default), self, classifier:folder=..., llm. Repeat it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Read the short answers out of a predictions file.

    The first extractor named gives normalized_answer, all give 'extracted'. What one cannot read is null, counted and listed.

    \b
    smolrgpt extract predictions.json --with rules --with classifier:folder=runs/router --out extracted.json
    smolrgpt score --truth data/val/val.json --predictions extracted.json
    """
    from smolrgpt.data.io import read_rows, write_rows
    from smolrgpt.evaluation.extractors import make_extractors, read

    rows = read(make_extractors(extractor or ["rules"]), read_rows(predictions))
    missed = {name: [row.get("id") for row in rows if row["extracted"][name] is None] for name in rows[0]["extracted"]}
    write_rows(out, rows)
    lines = [f"  {name:<12} {len(ids)} of {len(rows)} unreadable{_first(ids)}" for name, ids in missed.items()]
    print(
        json.dumps({name: {"num_unreadable": len(ids), "unreadable": ids} for name, ids in missed.items()}) if as_json else "\n".join(lines)
    )
    print(f"wrote {len(rows)} rows to {out}", file=sys.stderr)


def _first(ids: Sequence[Any], number: int = 5) -> str:
    return f": {', '.join(map(str, ids[:number]))}{', ...' if len(ids) > number else ''}" if ids else ""


@app.command()
def score(
    truth: Annotated[Path, typer.Option(help="Rows with id, category, normalized_answer: JSON or JSON lines, e.g. the official val.json.")],
    predictions: Annotated[Path, typer.Option(help="Rows with id and normalized_answer, or id, question and answer (the text).")],
    benchmark: BenchmarkUse = BenchmarkChoice.warehouse,
    judge: Annotated[
        bool, typer.Option("--judge", help="With --benchmark spatial: also ask a language model for its verdicts, reported apart.")
    ] = False,
    endpoint: EndpointUrl = None,
    endpoint_model: EndpointModel = None,
    cache: Annotated[
        Path | None, typer.Option(help="With --judge: keep its replies in this folder; a repeated run asks nothing twice.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Missing, extra or unreadable answers are an error instead of wrong.")] = False,
    as_json: Json = False,
) -> None:
    """Score a predictions file against the truth. Needs no model.

    \b
    smolrgpt score --truth data/val/val.json --predictions predictions.json --json
    smolrgpt score --truth SpatialRGPT-Bench_v1.jsonl --predictions answers.jsonl --benchmark spatial
    """
    if benchmark is BenchmarkChoice.spatial:
        from smolrgpt.evaluation.benchmarks import spatial_bench

        rows, answers = spatial_bench.read_truth(truth), spatial_bench.read_predictions(predictions)
        result = spatial_bench.score(rows, answers, strict)
        if judge:
            from smolrgpt.evaluation.endpoint import Endpoint
            from smolrgpt.evaluation.judge import Judge

            asked = Endpoint(**_endpoint(endpoint, endpoint_model, cache))
            result["judge"] = {"model": asked.model, **spatial_bench.score(rows, answers, read=Judge(asked))}
        return _print_result(result, as_json)
    if judge or benchmark is not BenchmarkChoice.warehouse:
        raise ValueError("files are scored as --benchmark warehouse, or as spatial, which alone has a --judge")
    from smolrgpt.data.io import read_rows
    from smolrgpt.evaluation.score import score as score_rows

    rows = [_with_normalized_answer(row) for row in read_rows(predictions)]
    _print_result(score_rows(read_rows(truth), rows, strict), as_json)


def _with_normalized_answer(row: dict[str, Any]) -> dict[str, Any]:
    """Raw answers are read by the rules where the file has no short form."""
    if "normalized_answer" in row or not isinstance(row.get("answer"), str) or not isinstance(row.get("question"), str):
        return row
    from smolrgpt.tasks.extract import extract

    return {**row, "normalized_answer": extract(row["question"], row["answer"], row.get("category"))}


def _print_result(result: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    print(format_result(result))
    problems = ", ".join(f"{number} {kind}" for kind, number in result["problem_counts"].items())
    if problems:
        first = result["problems"][0]
        print(f"problems: {problems}; first: {first['id']}: {first['reason']}", file=sys.stderr)


def format_result(result: Mapping[str, Any]) -> str:
    """The result of ``evaluation.score`` or ``evaluation.spatial_bench`` as a few lines of text."""
    width = max(map(len, result["accuracy"]))
    rows = [
        f"  {name:<{width}} {accuracy:6.2f} %   {counts['num_correct']} of {counts['num_questions']}"
        for name, accuracy in result["accuracy"].items()
        for counts in [result["by_category"][name]]
    ]
    means = [f"{name} {result[name]:.2f}" for name in ("S1", "qualitative", "quantitative") if result.get(name) is not None]
    extractors = [
        f"  read by {name}: S1 {one['S1']:.2f}, {one['num_unreadable']} unreadable" for name, one in result.get("extractors", {}).items()
    ]
    if "judge" in result:
        judged = [f"{name} {result['judge'][name]:.2f}" for name in ("qualitative", "quantitative") if result["judge"][name] is not None]
        without = f"{result['judge']['problem_counts'].get('unparsable', 0)} without a verdict"
        extractors.append(f"  judged by {result['judge']['model']}: {', '.join([*judged, without])}")
    return "\n".join([f"{', '.join(means)} on {result['num_questions']} questions", *rows, *extractors])


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; 'smolrgpt synth {folder} --scenes 100' draws a data set there")
    return folder


# --------------------------------------------------------------------------------------------------------------------- training
@app.command()
def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="nano, nano-published, nano-blind, nano-plain, paper, full, smollm2-135m or smollm2-135m-lora."
        ),
    ],
    quick: Annotated[bool, typer.Option("--quick", help="A short version of the run, where the recipe has one.")] = False,
    stage: Annotated[str | None, typer.Option(help="Only this stage, where the recipe has a choice: align, warm-up, fine-tune.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the training data.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; the model ends up in OUT/final.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of weights and order.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on with an interrupted run in OUT.")] = True,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override any setting; repeat it.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the resolved settings as JSON and stop.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the run costs (parameters, FLOPs, memory, hours, disk) and stop; needs no data.")
    ] = False,
    flops: Annotated[float, typer.Option(help="With --dry-run: sustained FLOP/s of one GPU.")] = 4e14,
    gpus: Annotated[str, typer.Option(help="With --dry-run: numbers of GPUs, separated by commas.")] = "1,2,4,8",
    as_json: Json = False,
) -> None:
    """Train a model by a recipe.

    Every setting is saved beside the model; an interrupted run goes on where it stopped.

    \b
    smolrgpt train nano --quick
    smolrgpt train paper --dry-run --gpus 2,8 --flops 3e14
    smolrgpt train paper --stage fine-tune --data-root data --set stages.0.images_per_step=16
    """
    from smolrgpt.train.config import override
    from smolrgpt.train.recipes import RECIPES

    if recipe not in RECIPES:
        other = "the classifiers that read answers are trained by 'python -m experiments.train_router DATA --out FOLDER'"
        raise ValueError(f"no recipe {recipe!r}; expected one of {', '.join(RECIPES)}; {other}")
    given = {"quick": quick or None, "stage": stage, "data_root": data_root, "out": out, "seed": seed}
    try:
        config = RECIPES[recipe](**{name: value for name, value in given.items() if value is not None})
    except TypeError as error:
        option = str(error).rpartition("argument ")[2].strip("'").replace("_", "-")
        raise ValueError(f"recipe {recipe!r} has no option --{option}") from error
    config = override(config, settings or [])
    if show:
        print(config.to_json())
        return
    if dry_run:
        from smolrgpt.train.plan import plan, table

        cost = plan(config, flops, [int(count) for count in _numbers(gpus, f"--gpus {gpus}")], progress=sys.stderr.isatty())
        print(json.dumps(cost) if as_json else table(cost))
        return
    if importlib.util.find_spec("accelerate") is None:  # say so before the data is drawn
        raise ImportError("training needs more packages: pip install 'smolrgpt[train]'")
    from smolrgpt.train import trainer

    final = trainer.run(config, resume)
    print(f"the model is in {final}; next: smolrgpt evaluate {final} DATA", file=sys.stderr)


@app.command()
def ablate(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which ablation; without one, all are listed.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; by default runs/ablate/NAME.")] = None,
    steps: Annotated[int, typer.Option(min=20, help="Optimisation steps of every variant.")] = 400,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of every variant; an interval needs at least 2.")] = 3,
    only: Annotated[list[str] | None, typer.Option(metavar="VARIANT", help="Only this variant; repeat it.")] = None,
    questions: Annotated[int, typer.Option(min=40, help="Questions each model is scored on.")] = 480,
    as_json: Json = False,
) -> None:
    """Train variants of the design alike and score them alike.

    Writes a table with intervals and a picture. An interrupted ablation goes on where it stopped.

    \b
    smolrgpt ablate                              # what there is
    smolrgpt ablate depth --steps 400 --seeds 3
    """
    from smolrgpt.train.ablations import ABLATIONS, render
    from smolrgpt.train.ablations import ablate as run_ablation

    if name is None:
        for known, ablation in ABLATIONS.items():
            print(f"{known}: {ablation.question}\n" + "\n".join(f"    {variant}" for variant in ablation.variants))
        return
    result = run_ablation(name, out or Path("runs/ablate") / name, steps=steps, seeds=seeds, only=only or [], num_questions=questions)
    print(json.dumps(result) if as_json else render(result), end="\n" if as_json else "")


@app.command()
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A bundled name, a folder or a hub id.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the exported model; made if it is not there.")],
    format: Annotated[str, typer.Option(help="openvino or onnx.")] = "openvino",
    weights: Annotated[str, typer.Option(help="float32, float16 (openvino only) or int8.")] = "int8",
) -> None:
    """Write a model for OpenVINO or ONNX Runtime, which are faster on many CPUs and need less memory.

    Every command takes the folder as its model. docs/performance.md has sizes, speeds and what int8 costs.

    \b
    smolrgpt export nano out/nano-int8
    smolrgpt ask scene.png "How far is <region 0> from <region 1>?" --model out/nano-int8 ...
    smolrgpt evaluate out/nano-int8 data/val
    """
    import torch
    from transformers.utils import logging as transformers_logging

    from smolrgpt.inference.exported import export as write
    from smolrgpt.inference.predictor import EXPORT_RECORD, resolve_checkpoint
    from smolrgpt.model import SmolRGPTForConditionalGeneration, SmolRGPTProcessor

    source = resolve_checkpoint(model)
    if (Path(source) / EXPORT_RECORD).exists():
        raise ValueError(f"{source} is an exported model already; give the one it was exported from")
    transformers_logging.disable_progress_bar()
    loaded = SmolRGPTForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
    write(loaded, SmolRGPTProcessor.from_pretrained(source), out, format, weights)
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"wrote {out}, {size / 1e6:.1f} MB; next: smolrgpt ask IMAGE QUESTION --model {out}", file=sys.stderr)


@app.command()
def convert(
    released: Annotated[Path, typer.Argument(metavar="RELEASED_DIR", help="Folder with the authors' config.json and model.safetensors.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where the converted model goes.")],
) -> None:
    """Convert a released checkpoint of the paper.

    Every tensor is accounted for: an unknown or missing one is an error.

    \b
    smolrgpt convert released/smolRGPT models/smolrgpt
    """
    from smolrgpt.model.convert_released import convert as convert_released

    if not (released / "config.json").is_file():
        raise ValueError(f"{released}: no config.json there; expected the folder of a released checkpoint")
    convert_released(released, out)
    print(f"wrote {out}; next: smolrgpt ask IMAGE QUESTION --model {out}", file=sys.stderr)


app.command()(serve_cli.demo)
app.command()(serve_cli.serve)


@app.command()
def tour(
    seed: Annotated[int | None, typer.Option(min=0, help="The scene to show; random when left out.")] = None,
    out: Annotated[Path, typer.Option(help="Where the overlay picture goes.")] = Path("out/demo.png"),
    model: Annotated[str, typer.Option(help="'nano' (bundled), a folder, or a hub id owner/name.")] = "nano",
) -> None:
    """Show the model at work on a fresh scene.

    Questions, answers and the truth; then the score on 200 fresh questions.

    \b
    smolrgpt tour --seed 7
    """
    from smolrgpt.apps import tour as program

    program.run(seed, out, model)


if __name__ == "__main__":
    main()
