"""``smolrgpt train`` and ``smolrgpt ablate``: training by a recipe, and variants of the design trained alike."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smolrgpt.cli.options import Json, parse_numbers, require_packages

if TYPE_CHECKING:
    from smolrgpt.train.config import Run

Recipe = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="nano, nano-published, nano-blind, nano-plain, nano-abroad, paper, full, smollm2-135m or smollm2-135m-lora."
    ),
]
Stage = Annotated[str | None, typer.Option(help="Only this stage, where the recipe has a choice: align, warm-up, fine-tune.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override any setting; repeat it.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what the run costs (parameters, FLOPs, memory, hours, disk) and stop; needs no data.")
]
Variants = Annotated[list[str] | None, typer.Option("--only", metavar="VARIANT", help="Only this variant; repeat it.")]


def train(  # noqa: PLR0913 (the options of a command)
    recipe: Recipe,
    quick: Annotated[bool, typer.Option("--quick", help="A short version of the run, where the recipe has one.")] = False,
    stage: Stage = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the training data.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; the model ends up in OUT/final.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of weights and order.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Continue an interrupted run in OUT.")] = True,
    settings: Settings = None,
    show: Annotated[bool, typer.Option("--show", help="Print the resolved settings as JSON and stop.")] = False,
    dry_run: DryRun = False,
    flops: Annotated[float, typer.Option(help="With --dry-run: sustained FLOP/s of one GPU.")] = 4e14,
    gpus: Annotated[str, typer.Option(help="With --dry-run: numbers of GPUs, separated by commas.")] = "1,2,4,8",
    as_json: Json = False,
) -> None:
    """Train a model by a recipe.

    Every setting is saved next to the model; an interrupted run continues from its last checkpoint.

    \b
    smolrgpt train nano --quick
    smolrgpt train paper --dry-run --gpus 2,8 --flops 3e14
    smolrgpt train paper --stage fine-tune --data-root data --set stages.0.images_per_step=16
    """
    config = _resolve(recipe, {"quick": quick or None, "stage": stage, "data_root": data_root, "out": out, "seed": seed}, settings)
    if show:
        print(config.to_json())
        return
    if dry_run:
        from smolrgpt.train.plan import format_plan, plan

        cost = plan(config, flops, [int(count) for count in parse_numbers(gpus, "--gpus")], progress=sys.stderr.isatty())
        print(json.dumps(cost) if as_json else format_plan(cost))
        return
    require_packages(["accelerate"], "train", "training")  # before the data is drawn
    from smolrgpt.train import trainer

    final = trainer.run(config, resume)
    print(f"the model is in {final}; next: smolrgpt evaluate {final} DATA", file=sys.stderr)


def _resolve(recipe: str, given: dict[str, Any], settings: list[str] | None) -> Run:
    """Return the recipe's run with the given options (None: not given) and settings. Raises ValueError for an unknown one."""
    from smolrgpt.train.config import apply_overrides
    from smolrgpt.train.recipes import RECIPES

    if recipe not in RECIPES:
        classifiers = "the classifiers that read answers are trained by 'python -m experiments.train_router DATA --out FOLDER'"
        raise ValueError(f"no recipe {recipe!r}; expected one of {', '.join(RECIPES)}; {classifiers}")
    try:
        config = RECIPES[recipe](**{name: value for name, value in given.items() if value is not None})
    except TypeError as error:
        option = str(error).rpartition("argument ")[2].strip("'").replace("_", "-")
        raise ValueError(f"recipe {recipe!r} has no option --{option}") from error
    return apply_overrides(config, settings or [])


def ablate(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which ablation; without one, all are listed.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; by default runs/ablate/NAME.")] = None,
    steps: Annotated[int, typer.Option(min=20, help="Optimisation steps of every variant.")] = 400,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of every variant; an interval needs at least 2.")] = 3,
    only: Variants = None,
    questions: Annotated[int, typer.Option(min=40, help="Questions each model is scored on.")] = 480,
    as_json: Json = False,
) -> None:
    """Train variants of the design alike and score them alike.

    Writes a table with intervals and a figure. An interrupted ablation continues where it stopped.

    \b
    smolrgpt ablate                              # lists all ablations
    smolrgpt ablate depth --steps 400 --seeds 3
    """
    from smolrgpt.train.ablations import ABLATIONS, format_ablation
    from smolrgpt.train.ablations import ablate as run_ablation

    if name is None:
        for known, ablation in ABLATIONS.items():
            print(f"{known}: {ablation.question}\n" + "\n".join(f"    {variant}" for variant in ablation.variants))
        return
    result = run_ablation(name, out or Path("runs/ablate") / name, steps=steps, seeds=seeds, only=only or [], num_questions=questions)
    print(json.dumps(result) if as_json else format_ablation(result), end="\n" if as_json else "")
