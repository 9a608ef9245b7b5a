"""``smolrgpt evaluate``, ``robustness``, ``extract`` and ``score``: how good answers are, of a model or in a file."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smolrgpt.cli.options import (
    BatchSize,
    BenchmarkUse,
    DataRoot,
    DepthUse,
    Json,
    Limit,
    ModelArgument,
    Split,
    format_first_ids,
)

if TYPE_CHECKING:
    from smolrgpt.evaluation.benchmarks import Benchmark
    from smolrgpt.evaluation.extractors import Extractor
    from smolrgpt.evaluation.predict import SamplePredictor

Extractors = Annotated[
    list[str] | None,
    typer.Option(
        "--extractor",
        metavar="NAME[:OPTION=VALUE,...]",
        help="What reads the short answers: self (default), rules, classifier:folder=FOLDER, llm:url=URL,model=NAME. Repeat to compare; "
        "the first one decides.",
    ),
]
CompareWith = Annotated[
    list[str] | None,
    typer.Option(
        "--compare-with",
        metavar="NAME=FILE",
        help="Show next to this: predictions about the same questions, a results.json, or rules-visible; repeat it.",
    ),
]
ReportFolder = Annotated[
    Path | None,
    typer.Option(help="Write report.html, report.md, results.json and predictions.json here; an interrupted run resumes there."),
]
Factors = Annotated[list[str] | None, typer.Option("--factor", metavar="NAME", help="Only this factor; repeat it. Default: all.")]
Wordings = Annotated[
    list[str] | None,
    typer.Option("--wording", metavar="NAME", help="With --benchmark frames: natural (default), plain or official; repeat it to compare."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--setting",
        metavar="NAME",
        help="With --benchmark frames: metric_camera (default), metric, relative or none; repeat it to compare.",
    ),
]
EndpointUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="OpenAI-compatible endpoint of the judge; the key is in OPENAI_API_KEY.")
]
EndpointModel = Annotated[str | None, typer.Option(metavar="NAME", help="Name of the judge's model.")]
UseJudge = Annotated[
    bool, typer.Option("--judge", help="With --benchmark spatial: also ask a language model for its verdicts, reported separately.")
]
JudgeCache = Annotated[Path | None, typer.Option(help="With --judge: keep its replies in this folder; a repeated run asks nothing twice.")]


def evaluate(  # noqa: PLR0913 (the options of a command)
    model: ModelArgument,
    data: DataRoot,
    split: Split = None,
    depth: DepthUse = "auto",
    benchmark: BenchmarkUse = "warehouse",
    wording: Wordings = None,
    setting: Settings = None,
    limit: Limit = None,
    batch_size: BatchSize = 64,
    extractor: Extractors = None,
    compare_with: CompareWith = None,
    out: ReportFolder = None,
    as_json: Json = False,
) -> None:
    """Score a model on a data set.

    Predicts, extracts, scores and reports S1 and the accuracy of each category, with intervals, groups, calibration and the worst answers.

    \b
    smolrgpt evaluate nano data/val --limit 500 --out runs/evaluation
    smolrgpt evaluate nano data/val --extractor self --extractor rules
    smolrgpt evaluate nano data/SpatialRGPT-Bench --benchmark spatial
    smolrgpt evaluate nano data/frames --benchmark frames --setting metric_camera --setting none
    smolrgpt evaluate runs/evaluation/predictions.json data/val --out runs/again     # answers of a file, of any program; no model
    smolrgpt evaluate rules-visible data/val     # sets of 'smolrgpt synth': rules on what the camera sees; rules-truth: on the scene
    """
    from smolrgpt.evaluation.evaluate import EvaluationOptions
    from smolrgpt.evaluation.evaluate import evaluate as run_evaluation
    from smolrgpt.evaluation.samples import require_folder

    options = EvaluationOptions(
        benchmark=_configured(benchmark, wording, setting),
        split=split,
        depth=depth,
        limit=limit,
        batch_size=batch_size,
        extractors=_extractors(extractor, out),
        compare_with=dict(_named(text) for text in compare_with or []),
        name=model,
        command=shlex.join(["smolrgpt", *sys.argv[1:]]),
    )
    result = run_evaluation(_answerer(model), require_folder(data), out, options)
    _print_result(result, as_json)
    if out is not None:
        print(f"wrote {out / 'report.html'}", file=sys.stderr)


def _configured(name: str, wordings: Wordings, settings: Settings) -> Benchmark:
    """Return the benchmark with the options that are given. Raises ValueError for a benchmark that has none."""
    from smolrgpt.evaluation.benchmarks import BENCHMARKS
    from smolrgpt.evaluation.benchmarks.frames import FramesBenchmark

    if not (wordings or settings):
        return BENCHMARKS[name]
    if name != FramesBenchmark.name:
        raise ValueError(f"--benchmark {name} has no wordings and settings to choose from; --wording and --setting are for frames")
    return FramesBenchmark(wordings or ("natural",), settings or ("metric_camera",))


def _answerer(model: str) -> SamplePredictor:
    """Return what answers the questions: rules on the scene, a file of answers, or a model."""
    from smolrgpt.evaluation.replay import ReplayPredictor
    from smolrgpt.evaluation.rules import RULES

    if model in RULES:
        return RULES[model]()
    if model.endswith((".json", ".jsonl")):
        return ReplayPredictor(model)
    from smolrgpt.inference.loading import load_predictor

    return load_predictor(model)


def _named(text: str) -> tuple[str, str]:
    """Return name and file of ``NAME=FILE``."""
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise ValueError(f"--compare-with {text}: expected NAME=FILE, predictions or a results.json, or NAME=rules-visible")
    return name, path


def _extractors(specs: list[str] | None, out: Path | None) -> dict[str, Extractor]:
    """Return the extractors by name; a language model's replies are kept in OUT, so that they are requested once."""
    from smolrgpt.evaluation.extractors import make_extractors

    return make_extractors(specs or ["self"], {"llm": {} if out is None else {"cache": out / "replies"}})


def robustness(  # noqa: PLR0913 (the options of a command)
    model: ModelArgument,
    data: DataRoot,
    out: Annotated[Path, typer.Option(help="Folder of the results; an interrupted run continues there.")],
    factor: Factors = None,
    split: Split = None,
    depth: DepthUse = "auto",
    limit: Limit = 240,
    batch_size: BatchSize = 64,
    as_json: Json = False,
) -> None:
    """Measure how S1 holds up when the inputs are worse than the data.

    Noise, holes and scale of depth; masks too large, too small, shifted or boxes; light, grain, blur, colours; and inputs that are plainly
    wrong, which a model that uses them must fail on. One curve for each factor, with the same questions at every level.

    \b
    smolrgpt synth data/val --scenes 20 --seed 7
    smolrgpt robustness nano data/val --out runs/robustness
    smolrgpt robustness nano data/val --out runs/robustness --factor "depth noise" --factor "wrong regions"
    """
    from smolrgpt.evaluation.robustness import format_robustness, measure_robustness
    from smolrgpt.evaluation.samples import draw_samples, read_samples, require_folder
    from smolrgpt.inference.loading import load_predictor

    samples = draw_samples(read_samples(require_folder(data), None, split, depth), limit)
    result = measure_robustness(
        load_predictor(model), samples, out, factors=factor or [], run_id=f"{model} on {data}, {depth} depth", batch_size=batch_size
    )
    print(json.dumps(result) if as_json else format_robustness(result))


def extract(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="Rows with id, question and answer: JSON or JSON lines.")],
    out: Annotated[Path, typer.Option(help="File of the rows with normalized_answer and every extractor's answer; .json or .jsonl.")],
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
    from smolrgpt.evaluation.extractors import extract_rows, make_extractors

    rows = extract_rows(make_extractors(extractor or ["rules"]), read_rows(predictions))
    missed = {name: [row.get("id") for row in rows if row["extracted"][name] is None] for name in rows[0]["extracted"]}
    write_rows(out, rows)
    if as_json:
        print(json.dumps({name: {"num_unreadable": len(ids), "unreadable": ids} for name, ids in missed.items()}))
    else:
        print("\n".join(f"  {name:<12} {len(ids)} of {len(rows)} unreadable{format_first_ids(ids)}" for name, ids in missed.items()))
    print(f"wrote {len(rows)} rows to {out}", file=sys.stderr)


def score(  # noqa: PLR0913 (the options of a command)
    truth: Annotated[Path, typer.Option(help="Rows with id, category, normalized_answer: JSON or JSON lines, e.g. the official val.json.")],
    predictions: Annotated[Path, typer.Option(help="Rows with id and normalized_answer, or id, question and answer (the text).")],
    benchmark: BenchmarkUse = "warehouse",
    judge: UseJudge = False,
    endpoint: EndpointUrl = None,
    endpoint_model: EndpointModel = None,
    cache: JudgeCache = None,
    strict: Annotated[bool, typer.Option("--strict", help="Missing, extra or unreadable answers are an error instead of wrong.")] = False,
    as_json: Json = False,
) -> None:
    """Score a predictions file against the truth. Needs no model.

    \b
    smolrgpt score --truth data/val/val.json --predictions predictions.json --json
    smolrgpt score --truth SpatialRGPT-Bench_v1.jsonl --predictions answers.jsonl --benchmark spatial
    """
    if benchmark == "spatial":
        given = {"url": endpoint, "model": endpoint_model, "cache": cache}
        options = {name: value for name, value in given.items() if value is not None} if judge else None
        return _print_result(_score_spatial(truth, predictions, strict, options), as_json)
    if judge or benchmark != "warehouse":
        raise ValueError("files are scored as --benchmark warehouse, or as spatial, which alone has a --judge")
    from smolrgpt.data.io import read_rows
    from smolrgpt.evaluation.score import score as score_rows

    rows = [_with_normalized_answer(row) for row in read_rows(predictions)]
    _print_result(score_rows(read_rows(truth), rows, strict), as_json)


def _score_spatial(truth: Path, predictions: Path, strict: bool, judge: dict[str, Any] | None) -> dict[str, Any]:
    """Return the score on SpatialRGPT-Bench; judge: options of ``Endpoint`` for a language model's verdicts, None for none."""
    from smolrgpt.evaluation.benchmarks import spatial_bench

    rows, answers = spatial_bench.read_truth(truth), spatial_bench.read_predictions(predictions)
    result = spatial_bench.score(rows, answers, strict)
    if judge is not None:
        from smolrgpt.evaluation.endpoint import Endpoint
        from smolrgpt.evaluation.judge import Judge

        endpoint = Endpoint(**judge)
        result["judge"] = {"model": endpoint.model, **spatial_bench.score(rows, answers, read=Judge(endpoint))}
    return result


def _with_normalized_answer(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row; where it has no short answer, with the one that the rules read in its text."""
    if "normalized_answer" in row or not isinstance(row.get("answer"), str) or not isinstance(row.get("question"), str):
        return row
    from smolrgpt.evaluation.extractors import read_by_rules

    return {**row, "normalized_answer": read_by_rules([row])[0]}


def _print_result(result: Mapping[str, Any], as_json: bool) -> None:
    """Print a score as text or JSON; problems of the predictions go to stderr."""
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    from smolrgpt.evaluation.report.text import format_result

    print(format_result(result))
    problems = ", ".join(f"{number} {kind}" for kind, number in result["problem_counts"].items())
    if problems:
        first = result["problems"][0]
        print(f"problems: {problems}; first: {first['id']}: {first['reason']}", file=sys.stderr)
