"""The speed of answers of a model on this machine, compared with the limits of the machine and with the released program.

Every backend runs in a process of its own, so that its peak memory is its own. All get the same questions: about synthetic warehouses, in
the official wording, several about each image. ``paper`` is the published model with random weights of its exact shapes: its speed does
not depend on the content of the answers, and their form is fixed.

    python -m benchmarks.answering                       # the published shapes: 6 GB of memory, two minutes on two cores
    python -m benchmarks.answering nano --questions 200 --baseline-questions 5
    python -m benchmarks.answering --backend engine --backend "openvino int8"

Backends:
    released   as the released program, written plainly: float32, one question at a time, both vision passes for each, masks resized from
               full resolution, the prompt padded to 768 tokens, logits at every position of it, always 120 new tokens (arXiv 2509.15490,
               its public code); a copy of the refined map for every region
    engine     ``Predictor``: the number format of the hardware, an image's features and the prefix of its prompts computed once, questions
               batched by length, finished rows leave the batch
    FORMAT WEIGHTS     ``Predictor`` on the exported model, such as "openvino int8"

The roofline is the time of all matrix products at the limits of the machine: for each the longer of its FLOPs at the measured rate and its
bytes at the measured bandwidth. Ratios are within one run; other work on the machine should rest meanwhile.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.machine import Roofline, about_machine, fresh_process, machine_limits, peak_bytes
from benchmarks.output import make_parser, report
from smolrgpt.data.collate import encode_question, prepare_image
from smolrgpt.data.frame import Frame
from smolrgpt.data.worlds import generate_scene, random_generator
from smolrgpt.data.worlds.rows import scene_samples
from smolrgpt.evaluation.report.markdown import markdown_table
from smolrgpt.inference.exported import FORMATS, ExportedSmolRGPT, export
from smolrgpt.inference.generation import MAX_FIELD_TOKENS
from smolrgpt.inference.predictor import Predictor
from smolrgpt.model import RegionFeatures
from smolrgpt.precision import best_dtype
from smolrgpt.schema import DepthMap, Sample

#: The released program's public evaluation code: tokens that every prompt is padded to, and that every answer has.
RELEASED_PROMPT, RELEASED_ANSWER = 768, 120
#: New tokens of an answer without an explanation: the separator, the field, the end.
SHORT_ANSWER = MAX_FIELD_TOKENS + 1
#: Width and height of the images of the official data set, in pixels.
IMAGE_SIZE = (1920, 1080)
SCENE_SEED = 4
#: Passes of the engine over all questions; the median counts.
NUM_PASSES = 3


@dataclass(frozen=True)
class Setting:
    """Settings of a measurement.

    model: "paper", or an argument of ``Predictor.from_pretrained``. threads: of the CPU; 0: torch's choice. image_size: width and height
    in pixels. max_new_tokens: of an answer; None: the model's own limit.
    """

    model: str = "paper"
    num_images: int = 10
    num_questions: int = 64
    baseline_questions: int = 2
    threads: int = 0
    image_size: tuple[int, int] = IMAGE_SIZE
    max_new_tokens: int | None = None


def draw_questions(num_images: int, num_questions: int, image_size: tuple[int, int] = IMAGE_SIZE) -> list[Sample]:
    """Draw questions of 2 to 13 regions about synthetic images, ordered by image; each image gets an equal share."""
    found: list[Sample] = []
    for number in range(num_images):
        scene = generate_scene((SCENE_SEED, number), size=image_size)
        each = num_questions // num_images + (number < num_questions % num_images)
        asked = [s for s in scene_samples(scene, 4 * each, random_generator(number)) if 2 <= len(s.regions) <= 13]
        found += asked[:each]
    return found


def build(setting: Setting, dtype: torch.dtype | None) -> Predictor:
    """Build a predictor of the model; with random weights, one whose answers are the short answer alone, so that they end."""
    if setting.model == "paper":
        return Predictor(*load_model("paper", dtype or best_dtype("cpu")), max_new_tokens=SHORT_ANSWER)
    predictor = Predictor.from_pretrained(setting.model, dtype=dtype)
    predictor.max_new_tokens = setting.max_new_tokens or predictor.max_new_tokens
    return predictor


def load_model(name: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Load model and processor of "paper" or of a checkpoint."""
    if name == "paper":
        return _random_paper(dtype)
    predictor = Predictor.from_pretrained(name, dtype=dtype)
    return predictor.model, predictor.processor


def _random_paper(dtype: torch.dtype) -> tuple[Any, Any]:
    """Build the published shapes with random weights and the bundled tokenizer, which yields about as many tokens."""
    from smolrgpt.inference.checkpoints import bundled_checkpoint
    from smolrgpt.model import SmolRGPTConfig, SmolRGPTForConditionalGeneration, SmolRGPTProcessor
    from smolrgpt.model.processing_smolrgpt import extend_vocabulary

    tokenizer = SmolRGPTProcessor.from_pretrained(bundled_checkpoint("nano")).tokenizer
    fields = extend_vocabulary(tokenizer, {})
    config = SmolRGPTConfig(image_token_id=fields["image_token_id"], region_token_ids=fields["region_token_ids"])
    torch.manual_seed(0)
    model = SmolRGPTForConditionalGeneration._from_config(config, dtype=dtype, attn_implementation="eager").eval()
    model.generation_config.eos_token_id = None
    return model, SmolRGPTProcessor.for_model(config, tokenizer, answer_field=True)


# ----------------------------------------------------------------------------------------------------------------------- backends
def released(setting: Setting, asked: Sequence[Sample]) -> dict[str, Any]:
    """Answer the first ``baseline_questions`` as the released program does."""
    predictor, asked = build(setting, torch.float32), asked[: setting.baseline_questions]
    predictor.model.set_attn_implementation("sdpa")
    started = time.perf_counter()
    for sample in asked:
        _ask_as_released(predictor, sample)
    return _measured(len(asked), time.perf_counter() - started)


@torch.inference_mode()
def _ask_as_released(predictor: Predictor, sample: Sample) -> None:
    model, processor = predictor.model, predictor.processor
    regions = list(sample.regions)
    arrays = prepare_image(processor, Frame.from_sample(sample), regions)
    full = torch.stack([torch.from_numpy(region.to_mask()).float() for region in regions])
    masks = functional.interpolate(full[:, None], model.config.grid_size, mode="bilinear")[:, 0]
    tower = [torch.from_numpy(arrays[name][None]) for name in ("pixel_values", "depth_values")]
    features = model.encode_images(*tower)
    embeds = RegionFeatures()
    if "geo" in model.config.region_tokens:
        embeds = model.pool_regions(features.region_maps, masks, region_geometry=torch.from_numpy(arrays["region_geometry"]))
    for kind, maps in features.region_maps.items():
        copies = maps.expand(len(regions), -1, -1).clone()  # (R, G*G, D)
        weights = masks.flatten(1)
        embeds.tokens[kind] = (copies * weights[..., None]).sum(1) / (weights.sum(1, keepdim=True) + 1e-8)
    ids = encode_question(processor, sample)["input_ids"]
    short = RELEASED_PROMPT - len(ids)
    mask = torch.tensor([[0] * short + [1] * len(ids)])
    row = torch.tensor([[ids[0]] * short + ids])
    context, cache = row, None
    for _ in range(RELEASED_ANSWER):
        out = model(
            input_ids=row,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, -row.shape[1] :],
            past_key_values=cache,
            image_embeds=features.image_embeds,
            region_features=embeds,
            image_index=torch.zeros(1, dtype=torch.long),
            region_index=torch.arange(len(regions))[None],
            context_ids=context if cache is not None else None,
            use_cache=True,
        )
        cache, row = out.past_key_values, out.logits[:, -1:].argmax(-1)
        context, mask = torch.cat([context, row], 1), torch.cat([mask, torch.ones_like(row)], 1)


def engine(setting: Setting, asked: Sequence[Sample]) -> dict[str, Any]:
    """Answer all questions at once; then single questions: the first about a new image, and the next ones about it."""
    predictor = build(setting, None)
    predictor.predict_samples(asked[:2])
    seconds = []
    for _ in range(NUM_PASSES):
        started = time.perf_counter()
        predictor.predict_samples(asked)  # which caches nothing
        seconds.append(time.perf_counter() - started)
    measured = {**_measured(len(asked), float(np.median(seconds))), "first_pass_seconds": seconds[0]}
    first, further = _latencies(predictor, asked)
    measured |= {"first_question_seconds": float(np.median(first)), "further_question_seconds": float(np.median(further))}
    if isinstance(predictor.model, ExportedSmolRGPT):
        return measured  # its matrix products do not run in torch
    limits = machine_limits(predictor.model.dtype)
    with Roofline(limits) as roofline:
        predictor.predict_samples(asked)
    return {
        **measured,
        "dtype": str(predictor.model.dtype).removeprefix("torch."),
        "machine": limits,
        "flops": roofline.flops,
        "moved_bytes": roofline.bytes,
        "roofline_seconds": roofline.seconds,
    }


def _latencies(predictor: Predictor, asked: Sequence[Sample]) -> tuple[list[float], list[float]]:
    first: list[float] = []
    further: list[float] = []
    for key in dict.fromkeys(sample.image_key for sample in asked):
        about = [sample for sample in asked if sample.image_key == key]
        predictor.image_cache.clear()
        table = list(dict.fromkeys(region for sample in about for region in sample.regions))
        row = {region: number for number, region in enumerate(table)}
        for number, sample in enumerate(about[:3]):
            text = sample.question
            for region in sample.regions:
                text = text.replace("<mask>", f"<region {row[region]}>", 1)
            depth = sample.depth if isinstance(sample.depth, DepthMap) else None
            started = time.perf_counter()
            predictor.ask(sample.image, text, depth, table, sample.camera)
            (further if number else first).append(time.perf_counter() - started)
    return first, further


def _measured(count: int, seconds: float) -> dict[str, Any]:
    return {"questions": count, "seconds": seconds, "questions_per_second": count / seconds, "peak_bytes": peak_bytes()}


def _export(setting: Setting, folder: Path, format: str, weights: str) -> int:
    """Export the model into the folder; returns bytes on disk."""
    model, processor = load_model(setting.model, torch.float32)
    export(model, processor, folder, format, weights)
    return sum(path.stat().st_size for path in folder.iterdir())


def exported(name: str, setting: Setting, asked: Sequence[Sample]) -> dict[str, Any]:
    """Run ``engine`` on the exported model; another process exports it first. name: a key of ``EXPORTED``."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        with fresh_process() as pool:
            size = pool.submit(_export, setting, out, *EXPORTED[name]).result()
        most = SHORT_ANSWER if setting.model == "paper" else setting.max_new_tokens
        return {**_in_new_process("engine", replace(setting, model=str(out), max_new_tokens=most), asked), "disk_bytes": size}


#: Name -> function that answers the questions and measures; the default backends.
BACKENDS: dict[str, Callable[[Setting, Sequence[Sample]], dict[str, Any]]] = {"released": released, "engine": engine}
#: Name of an exported backend -> format and weights of the export.
EXPORTED = {f"{name} {weights}": (name, weights) for name, known in FORMATS.items() for weights in known.weights}


# --------------------------------------------------------------------------------------------------------------------------- report
def bench(setting: Setting, backends: Sequence[str] = tuple(BACKENDS)) -> dict[str, Any]:
    """Measure every backend in a process of its own; ratios are to the released program. Raises ValueError for an unknown backend."""
    unknown = [name for name in backends if name not in (*BACKENDS, *EXPORTED)]
    if unknown:
        raise ValueError(f"there is no backend {unknown[0]!r}; expected some of {', '.join([*BACKENDS, *EXPORTED])}")
    asked = draw_questions(setting.num_images, setting.num_questions, setting.image_size)  # outside of the measured processes
    results = {name: _in_new_process(name, setting, asked) if name in BACKENDS else exported(name, setting, asked) for name in backends}
    base = results.get("released")
    for result in results.values():
        if base is not None:
            result["ratio"] = result["questions_per_second"] / base["questions_per_second"]
        if "roofline_seconds" in result:
            result["share_of_roofline"] = result["roofline_seconds"] / result["seconds"]
    return {"setting": asdict(setting), "about": about_machine(), "backends": results}


def _in_new_process(name: str, setting: Setting, asked: Sequence[Sample]) -> dict[str, Any]:
    with fresh_process() as pool:
        return pool.submit(_answer, name, setting, asked).result()


def _answer(name: str, setting: Setting, asked: Sequence[Sample]) -> dict[str, Any]:
    if setting.threads:
        torch.set_num_threads(setting.threads)
    return BACKENDS[name](setting, asked)


def render(result: Mapping[str, Any]) -> str:
    """Format the result as a Markdown table and a few lines."""
    header = ["", "questions", "answers/s", "ratio", "peak memory", "first question", "further question", "of the roofline", "on disk"]
    rows = [
        [
            name,
            str(found["questions"]),
            f"{found['questions_per_second']:.3g}",
            f"{found['ratio']:.1f}x" if "ratio" in found else "",
            f"{found['peak_bytes'] / 1e9:.2f} GB",
            f"{found['first_question_seconds']:.2f} s" if "first_question_seconds" in found else "",
            f"{found['further_question_seconds']:.2f} s" if "further_question_seconds" in found else "",
            f"{found['share_of_roofline']:.0%}" if "share_of_roofline" in found else "",
            f"{found['disk_bytes'] / 1e6:.0f} MB" if "disk_bytes" in found else "",
        ]
        for name, found in result["backends"].items()
    ]
    lines = [_describe_work(name, found) for name, found in result["backends"].items() if "machine" in found]
    setting = result["setting"]
    return "\n".join(
        [
            f"# {setting['model']}: {setting['num_questions']} questions about {setting['num_images']} images",
            "",
            markdown_table(header, rows),
            "",
            *lines,
        ]
    )


def _describe_work(name: str, found: Mapping[str, Any]) -> str:
    """Return FLOPs and bytes of a question, and the limits of the machine, as a line."""
    flops, moved, machine = found["flops"] / found["questions"], found["moved_bytes"] / found["questions"], found["machine"]
    return (
        f"{name}: {found['dtype']}, {flops / 1e9:.2g} GFLOP and {moved / 1e9:.2g} GB moved a question; "
        f"this machine {machine['flops'] / 1e9:.0f} GFLOP/s, {machine['bytes'] / 1e9:.0f} GB/s"
    )


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = make_parser("answering", __doc__)
    parser.add_argument("model", nargs="?", default="paper", help="'paper', 'nano', a folder or a hub id (default: paper)")
    parser.add_argument("--images", type=int, default=10, help="number of images (default: 10)")
    parser.add_argument("--questions", type=int, default=64, help="number of questions, of 2 to 13 regions (default: 64)")
    parser.add_argument("--baseline-questions", type=int, default=2, help="how many of them the released program answers; it is slow")
    parser.add_argument("--backend", action="append", metavar="NAME", help=f"only this one: {', '.join([*BACKENDS, *EXPORTED])}; repeat it")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all cores")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ``arguments`` defaults to ``sys.argv``."""
    parser = build_parser()
    given = parser.parse_args(arguments)
    setting = Setting(given.model, given.images, given.questions, given.baseline_questions, given.threads)
    try:
        result = bench(setting, given.backend or list(BACKENDS))
    except ValueError as error:
        parser.error(str(error))
    report(result, given, render)


if __name__ == "__main__":
    main()
