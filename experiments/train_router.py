"""Trains the two text classifiers that read answers (``--extractor classifier:folder=FOLDER``); opens no image.

One predicts the category of a question, the other the category and the value of an answer.

    python -m experiments.train_router data/warehouse --base tiny --out runs/router
    smolrgpt evaluate nano data/val --extractor self --extractor classifier:folder=runs/router

Rates, weight decay and the default model are those of the released program (its ``train_classifiers.py``: Longformer, 2e-5, 0.01).
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from smolrgpt.data.io import atomic_path, read_rows, write_text
from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources import read_source
from smolrgpt.data.sources.conversations import first_question
from smolrgpt.evaluation.extractors.base import Row, row_text
from smolrgpt.evaluation.extractors.classifier import HEADS, MAX_CHARS, UNREADABLE, answer_text
from smolrgpt.evaluation.score import CATEGORIES
from smolrgpt.precision import best_dtype
from smolrgpt.schema import DataError
from smolrgpt.tasks import task_named
from smolrgpt.tasks.count import COUNT
from smolrgpt.tasks.side import LEFT_RIGHT, OPPOSITE, is_mirrored
from smolrgpt.train.answers import restyle
from smolrgpt.train.tokenizer import train_tokenizer

logger = logging.getLogger(__name__)

LONGFORMER = "allenai/longformer-base-4096"
#: A small BERT with random weights and a tokenizer learned from the rows: needs no hub, and a minute of one core.
TINY = "tiny"
TINY_VOCABULARY = 1024
TINY_CONFIG: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.1,  # suits 64 dimensions
}
#: Number of scrambled answers added, as a share of the answers.
SCRAMBLED_SHARE = 0.05
#: A text and its label.
Example = tuple[str, str]
SETTINGS_FILE, METRICS_FILE = "router.json", "metrics.json"


@dataclass(frozen=True)
class RouterSettings:
    """Settings of the training of both classifiers.

    base: a hub id, a folder, or 'tiny'. learning_rate: None means 2e-5, and 3e-3 for 'tiny'. held_out: share of the texts that is never
    trained on. max_tokens: longer texts are cut at the front. save_every: steps between checkpoints to resume from.
    """

    base: str = LONGFORMER
    max_steps: int = 500
    batch_size: int = 32
    learning_rate: float | None = None
    weight_decay: float = 0.01
    held_out: float = 0.1
    max_tokens: int = 512
    save_every: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; expected a share between 0 and 1")

    @property
    def peak_rate(self) -> float:
        """The learning rate after warm-up."""
        return self.learning_rate or (3e-3 if self.base == TINY else 2e-5)


def load_rows(data: str | Path, source: str = "warehouse", split: str = "train", style: str = "official") -> list[Row]:
    """Read rows {id, question, answer, category, normalized_answer}.

    data: folder of a data set, whose answers are rewritten in a style of ``ANSWER_STYLES``; or a JSON or JSON lines file, in which question
    and answer may also be ``conversations`` as in the official files.
    """
    if Path(data).is_file():
        return [_with_texts(row) for row in read_rows(data)]
    names = ("id", "question", "answer", "category", "normalized_answer")
    return [{name: getattr(sample, name) for name in names} for sample in restyle(read_source(source, data, split), style)]


def _with_texts(row: Row) -> Row:
    if "question" in row:
        return row
    try:
        return {**row, **dict(zip(("question", "answer"), first_question(row.get("conversations")), strict=True))}
    except DataError:
        return row  # labelled() counts it as a row without a question


def answer_label(category: str, value: Any, numbers: Sequence[int]) -> str:
    """Return an answer's label; numbers: the regions it mentions, in order. Raises ValueError if it does not contain the value."""
    task = task_named(category)
    value = task.parse(value)
    if task is LEFT_RIGHT:
        return f"{category} {OPPOSITE[value] if is_mirrored(numbers) else value}"
    if task is COUNT:
        return f"{category} {value}"
    return f"{category} {list(numbers).index(int(value))}" if task.names_region else category


def labelled(rows: Iterable[Row], seed: int = 0, skips: SkipLog | None = None) -> dict[str, list[Example]]:
    """Return each router's examples. A share of answers is added again with scrambled letters, labelled "unreadable".

    Rows without question, answer or a value that the answer holds are counted in ``skips`` (logged when it is None).
    """
    log = SkipLog() if skips is None else skips
    examples: dict[str, list[Example]] = {head: [] for head in HEADS}
    for row in rows:
        question, (answer, numbers) = row_text(row, "question").strip(), answer_text(row_text(row, "answer"))
        category = row.get("category")
        if not question or not answer or category not in CATEGORIES:
            log.add("no question, answer or known category", f"row {row.get('id')!r}")
            continue
        try:
            label = answer_label(category, row.get("normalized_answer"), numbers)
        except ValueError:
            log.add("an answer that does not hold the value", f"row {row.get('id')!r}: {row.get('normalized_answer')!r} in {answer[:80]!r}")
            continue
        examples["question"].append((question[-MAX_CHARS:], category))
        examples["answer"].append((answer, label))
    if log.total and skips is None:
        logger.warning("%s", log.summary())
    draw = random.Random(seed)
    for answer, _ in draw.sample(examples["answer"], int(SCRAMBLED_SHARE * len(examples["answer"]))):
        examples["answer"].append(("".join(draw.sample(answer, len(answer))), UNREADABLE))
    return examples


def train_routers(rows: Iterable[Row], out: str | Path, settings: RouterSettings, resume: bool = True) -> dict[str, Any]:
    """Train both routers into ``out/question`` and ``out/answer``; returns {router: metrics} and writes them to ``out/metrics.json``.

    Metrics are of rows whose text no training row has (regions renamed): ``accuracy`` in percent, ``num_held_out``, ``num_trained``,
    ``num_texts`` (different ones trained on), ``by_label`` {label: {num_questions, num_correct}}. A finished router is kept, an
    interrupted one goes on from its last checkpoint. Raises DataError when the rows leave nothing to train or to hold out, ValueError
    when ``out`` holds routers of other settings or rows.
    """
    folder, examples = Path(out), labelled(rows, settings.seed)
    _claim_folder(folder, settings, examples, resume)
    metrics = {head: _train_once(folder, head, examples[head], settings) for head in HEADS}
    _write_json(folder / METRICS_FILE, metrics)
    return metrics


def _claim_folder(folder: Path, settings: RouterSettings, examples: Mapping[str, list[Example]], resume: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    record, claim = folder / SETTINGS_FILE, {**asdict(settings), "examples": zlib.crc32(json.dumps(examples).encode())}
    if record.exists() and json.loads(record.read_text()) != claim:
        raise ValueError(f"{folder} holds routers of other settings or rows ({record}); choose another --out, or remove that folder")
    if record.exists() and not resume:
        raise ValueError(f"{folder} holds these routers already; leave out --no-resume to go on with them, or choose another --out")
    _write_json(record, claim)


def _write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1) + "\n")


def _train_once(folder: Path, head: str, examples: Sequence[Example], settings: RouterSettings) -> dict[str, Any]:
    """Return the metrics of a router, trained unless its folder exists: a folder gets its name when it is complete."""
    final = folder / head
    if not final.exists():
        logger.info("training the %s router on %d rows", head, len(examples))
        with atomic_path(final) as temporary:
            _train(folder, head, examples, settings, temporary)
        shutil.rmtree(folder / f"{head}.checkpoints")
    return dict(json.loads((final / METRICS_FILE).read_text()))


def _train(folder: Path, head: str, examples: Sequence[Example], settings: RouterSettings, out: Path) -> None:
    kept, held_out = _split(examples, settings)
    labels = sorted({label for _, label in kept})
    set_seed(settings.seed)
    model, tokenizer = _from_base(settings, labels, [text for text, _ in kept])
    checkpoints = folder / f"{head}.checkpoints"
    trainer = Trainer(
        model,
        _arguments(checkpoints, settings),
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=_dataset(kept, labels, tokenizer),
        processing_class=tokenizer,
    )
    with redirect_stdout(sys.stderr):  # where the library's progress bar prints its log lines
        trainer.train(resume_from_checkpoint=get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None)
    logits = np.asarray(trainer.predict(_dataset(held_out, labels, tokenizer)).predictions)  # (N, labels)
    given = [labels[index] for index in logits.argmax(-1)]
    counts = {"num_trained": len(kept), "num_texts": len({text for text, _ in kept})}
    trainer.save_model(str(out))
    _write_json(out / METRICS_FILE, counts | _metrics([label for _, label in held_out], given))


def _split(examples: Sequence[Example], settings: RouterSettings) -> tuple[list[Example], list[Example]]:
    """Split rows into training and test by a hash of seed and text: a text is on one side only, whatever other rows there are."""
    parts: tuple[list[Example], list[Example]] = [], []
    for text, label in examples:
        parts[zlib.crc32(f"{settings.seed}|{text}".encode()) < settings.held_out * 2**32].append((text, label))
    if not all(parts):
        raise DataError(f"{len(examples)} usable rows leave {len(parts[0])} to train on and {len(parts[1])} to test on; give more rows")
    return parts


def _from_base(settings: RouterSettings, labels: Sequence[str], texts: Iterable[str]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load model and tokenizer with these labels. Texts are cut at the front, because the end of a text is decisive."""
    names: dict[str, Any] = {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}
    if settings.base == TINY:
        tokenizer = _tiny_tokenizer(texts)
        config = BertConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=settings.max_tokens,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            **TINY_CONFIG,
            **names,
        )
        model = AutoModelForSequenceClassification.from_config(config)
    else:
        tokenizer = AutoTokenizer.from_pretrained(settings.base)
        model = AutoModelForSequenceClassification.from_pretrained(
            settings.base, **names, num_labels=len(labels), ignore_mismatched_sizes=True, dtype=torch.float32
        )
    tokenizer.model_max_length = min(settings.max_tokens, tokenizer.model_max_length)
    tokenizer.truncation_side = "left"
    return model, tokenizer


def _tiny_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """Build the byte-level tokenizer; each text starts with the token whose state is classified."""
    tokenizer = train_tokenizer(texts, TINY_VOCABULARY)
    first = str(tokenizer.bos_token)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A", special_tokens=[(first, tokenizer.bos_token_id)]
    )
    tokenizer.padding_side = "right"
    return tokenizer


def _dataset(examples: Sequence[Example], labels: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Build a data set. Held-out labels that were never trained on cannot be given: they get -100 and count as wrong."""
    index = {label: number for number, label in enumerate(labels)}
    encoded = tokenizer([text for text, _ in examples], truncation=True)
    return Dataset.from_dict({**encoded, "labels": [index.get(label, -100) for _, label in examples]})


def _arguments(folder: Path, settings: RouterSettings) -> TrainingArguments:
    on_cpu = not torch.accelerator.is_available()
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        learning_rate=settings.peak_rate,
        warmup_steps=0.1,  # below 1: a share of all steps
        weight_decay=settings.weight_decay,
        bf16=best_dtype("cpu" if on_cpu else "cuda") == torch.bfloat16,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        save_steps=settings.save_every,
        save_total_limit=1,
        logging_steps=50,
        report_to="none",
        seed=settings.seed,
    )


def _metrics(truth: Sequence[str], given: Sequence[str]) -> dict[str, Any]:
    asked, right = Counter(truth), Counter(label for label, found in zip(truth, given, strict=True) if label == found)
    return {
        "num_held_out": len(truth),
        "accuracy": 100.0 * right.total() / len(truth),
        "by_label": {label: {"num_questions": asked[label], "num_correct": right[label]} for label in sorted(asked)},
    }


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        "python -m experiments.train_router", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "data", type=Path, help="folder of a data set, or a file of rows with question, answer, category, normalized_answer"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the two classifiers")
    parser.add_argument("--base", default=LONGFORMER, help="model to start from: a hub id, a folder, or 'tiny' (from nothing, offline)")
    parser.add_argument("--source", default="warehouse", help="which data set DATA is; see 'smolrgpt data --help'")
    parser.add_argument("--split", default="train", help="which split of it")
    parser.add_argument("--style", default="official", help="how its answers are written: official, brief or steps")
    parser.add_argument("--max-steps", type=int, default=500, help="optimisation steps of each classifier (default: 500)")
    parser.add_argument("--batch-size", type=int, default=32, help="texts in a step (default: 32)")
    parser.add_argument("--learning-rate", type=float, help="default: 2e-5, and 3e-3 for 'tiny'")
    parser.add_argument("--held-out", type=float, default=0.1, help="share of the texts that is never trained on, for the accuracy")
    parser.add_argument("--max-tokens", type=int, default=512, help="longer texts are cut at the front (default: 512)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order and held-out texts")
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True, help="continue an interrupted run in OUT")
    parser.add_argument("--json", action="store_true", help="print the accuracies as JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ``arguments`` defaults to ``sys.argv``."""
    parser = build_parser()
    given = parser.parse_args(arguments)
    try:
        settings = RouterSettings(
            given.base,
            given.max_steps,
            given.batch_size,
            given.learning_rate,
            held_out=given.held_out,
            max_tokens=given.max_tokens,
            seed=given.seed,
        )
        metrics = train_routers(load_rows(given.data, given.source, given.split, given.style), given.out, settings, given.resume)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    lines = [f"  {name:<12} {found['accuracy']:6.2f} % of {found['num_held_out']} held-out rows" for name, found in metrics.items()]
    print(json.dumps(metrics) if given.json else "\n".join(lines))
    print(f"wrote {given.out}; next: smolrgpt evaluate MODEL DATA --extractor classifier:folder={given.out}", file=sys.stderr)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
