"""What a run is: documented dataclasses, checked when they are made, saved beside every checkpoint.

A stage is data: which parameters learn at which rate, on which mixture, for how long. The trainer reads these and knows no stage by name.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Stage:
    """One part of a curriculum.

    rates: (regular expression searched in the parameter name, learning rate); first match wins, None freezes,
    a name that nothing matches is an error.
    mixture: source name -> how many times its questions are seen per epoch (0.5: a random half, another one every epoch).
    temperature: above 1, sources are seen in shares closer to one another (``data.mixture.tempered``); None: as ``mixture`` says.
    balance: within a source, equal shares for every "category", every "template" (wording), or one within the other, in this order;
    no question more than ``balance_limit`` times as often as ``mixture`` says (``data.mixture.balanced``).
    max_steps: optimisation steps; when None, ``epochs`` decides.
    images_per_step, questions_per_image: a step shows this many (image, question group) pairs, ``accumulation_steps`` times. However many
    processes share the work, the step stays the same; each takes its part.
    early_stopping_patience: evaluations without a better S1 before the stage ends; None: run to the end.
    eval_every, save_every: steps between validations by S1 and between resumable checkpoints.
    """

    name: str
    rates: tuple[tuple[str, float | None], ...]
    mixture: dict[str, float]
    temperature: float | None = None
    balance: tuple[Literal["category", "template"], ...] = ()
    balance_limit: float = 4.0
    epochs: float = 1.0
    max_steps: int | None = None
    images_per_step: int = 6
    questions_per_image: int = 4
    accumulation_steps: int = 1
    warmup_ratio: float = 0.03  # published: 3 % linear warm-up
    final_rate: float = 0.1  # published: cosine to 10 %
    weight_decay: float = 0.01  # published
    gradient_clip: float = 1.0  # published
    eval_every: int | None = None
    save_every: int | None = None
    early_stopping_patience: int | None = None

    def __post_init__(self) -> None:
        for pattern, rate in self.rates:
            re.compile(pattern)
            if rate is not None and rate <= 0:
                raise ValueError(f"stage {self.name!r}: learning rate {rate} for {pattern!r}; expected > 0, or None to freeze")
        if all(rate is None for _, rate in self.rates):
            raise ValueError(f"stage {self.name!r} freezes everything; give at least one pattern a learning rate")
        if not self.mixture or any(times <= 0 for times in self.mixture.values()):
            raise ValueError(f"stage {self.name!r}: mixture {self.mixture} must name at least one source, each with a positive weight")
        if self.temperature is not None and self.temperature < 1:
            raise ValueError(f"stage {self.name!r}: temperature is {self.temperature}; expected at least 1, or None")
        if not set(self.balance) <= {"category", "template"} or self.balance_limit < 1:
            raise ValueError(
                f"stage {self.name!r}: balance {self.balance} with limit {self.balance_limit}; expected 'category' and 'template' only, "
                "and a limit of at least 1"
            )
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"stage {self.name!r}: max_steps is {self.max_steps}; expected at least 1, or None")
        if self.early_stopping_patience is not None and self.eval_every is None:
            raise ValueError(f"stage {self.name!r}: early stopping follows S1, so eval_every must be set")


@dataclass(frozen=True)
class LossWeights:
    """Weights of the auxiliary losses, relative to the answers' loss; a loss whose module the model lacks does not exist.

    Attributes:
        geometry: smooth L1 of the geometry that heads predict from pooled vectors (``predicts_geometry``).
        distance: smooth L1 of the logarithm of estimated distances (``estimates_distance``).
        size: smooth L1 of the logarithm of estimated sizes (``estimates_sizes``).
    """

    geometry: float = 0.5
    distance: float = 1.0
    size: float = 1.0


@dataclass(frozen=True)
class SyntheticData:
    """A training set drawn by the project's own generator; made once under ``root`` and reused while these values stay the same.

    Its sources: "train", "warmup" and "captions"; "extra", sizes and order in depth; "plain", questions in people's own
    words (``data.synthetic.plain``, without the reserved ones); "train_relative", the first without metric depth and
    camera in any image; "train_rough" and "plain_rough", with masks that are off (``data.perturb.rough``).
    """

    root: Path
    num_scenes: int = 6000
    num_val_scenes: int = 60
    seed: int = 1
    layouts: str = "known"
    questions_per_scene: int = 24
    relative_depth_fraction: float = 0.0  # share of images whose metric depth and camera are withheld
    no_camera_fraction: float = 0.0  # of others, whose camera alone is withheld
    no_depth_fraction: float = 0.0  # of others, without any depth
    depth: Literal["metric", "none"] = "metric"  # none: no depth in any image, whatever the source

    def __post_init__(self) -> None:
        shares = self.relative_depth_fraction, self.no_camera_fraction, self.no_depth_fraction
        if min(shares) < 0 or sum(shares) > 1:
            raise ValueError(
                f"relative_depth_fraction, no_camera_fraction and no_depth_fraction are {shares}; expected shares, at most 1 in all"
            )


@dataclass(frozen=True)
class FolderData:
    """Real data sets: source name -> (reader name in ``data.sources.SOURCES``, folder, split).

    prepared: where each set is kept memory-mapped, as <prepared>/<name of its folder>/<split>; what ``data.prepared.prepare`` has not
    written or finished there is written before the run. None: rows are read into memory, which is simpler for small sets.
    """

    sources: dict[str, tuple[str, Path, str]]
    validation: str = "validation"  # the source S1 is measured on
    prepared: Path | None = None


@dataclass(frozen=True)
class ModelSpec:
    """Where the model starts: nothing (``config`` arguments), pretrained ``backbones`` (vision, text), or a saved ``path``.
    A backbone may be a SmolRGPT, also a bundled name: only its tower, or its language model, is taken.

    keep: with ``path``, a regular expression: parameters whose name it matches are taken from there, all others are drawn anew, and
    ``config`` and ``processor`` are changes to the saved ones. None: everything is taken, and nothing can be changed.
    lora: fields of ``peft.LoraConfig``, such as {"r": 16, "lora_alpha": 32}: each stage then trains low-rank adapters on the language model
    and merges them at its end; the stages' rates decide what learns beside them. None: no adapters.
    """

    config: dict[str, Any] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)
    backbones: tuple[str, str] | None = None
    path: Path | None = None
    keep: str | None = None
    vocab_size: int = 1024  # of the tokenizer trained on the data, when nothing pretrained brings one
    lora: dict[str, Any] | None = None
    model_class: str = "smolrgpt.model:SmolRGPTForConditionalGeneration"  # ablations name a subclass of it


@dataclass(frozen=True)
class Run:
    """A whole run: model, data, curriculum and where it goes. Enough, as JSON, to run again."""

    name: str
    out: Path
    model: ModelSpec
    data: SyntheticData | FolderData
    stages: tuple[Stage, ...]
    seed: int = 0
    loss_weights: LossWeights = LossWeights()
    validation_questions: int = 400
    cache_gb: float = 10.0  # of prepared images kept in memory; never more than 40 % of what the machine has
    feature_cache: Path | None = (
        None  # folder where stages with a frozen tower keep its features of every picture; see train/feature_cache.py
    )
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = None  # None: eager on CPU (1.4 to 3x faster there), sdpa elsewhere
    gradient_checkpointing: bool = False
    dataloader_num_workers: int = 0  # processes that prepare batches, for each training process; they share cache_gb between them
    log_every: int = 50  # steps between records of the loss
    answer_style: Literal["official", "brief", "steps"] = "official"  # see train/answers.py
    signatures: bool = True  # watch for depth ignored, overfitting and language forgotten; see train/signatures.py

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"run {self.name!r}: stage names {names} must be unique and not empty")

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2, default=str)


def override(run: Run, assignments: list[str]) -> Run:
    """``["seed=3", "data.num_scenes=100", "stages.2.max_steps=50"]`` applied to a run.

    Values are JSON where they parse as JSON, else strings. An unknown field is a ValueError that lists the known ones.
    """
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator:
            raise ValueError(f"override {assignment!r} is not of the form field=value")
        try:
            value: Any = json.loads(text)
        except json.JSONDecodeError:
            value = text
        run = _replaced(run, key.split("."), value, key)
    return run


def _replaced(node: Any, path: list[str], value: Any, key: str) -> Any:
    head, *rest = path
    if isinstance(node, tuple) and head.isdigit() and int(head) < len(node):
        new = _replaced(node[int(head)], rest, value, key) if rest else value
        return node[: int(head)] + (new,) + node[int(head) + 1 :]
    if isinstance(node, dict):
        return {**node, head: _replaced(node.get(head, {}), rest, value, key) if rest else value}
    if isinstance(node, type) or not dataclasses.is_dataclass(node) or head not in (known := [f.name for f in dataclasses.fields(node)]):
        options = ", ".join(known) if dataclasses.is_dataclass(node) else f"0 to {len(node) - 1}" if isinstance(node, tuple) else "nothing"
        raise ValueError(f"override {key!r}: no field {head!r}; known here: {options}")
    old = getattr(node, head)
    if not rest and isinstance(old, Path):
        value = Path(value)
    if not rest and isinstance(old, tuple) and isinstance(value, list):
        value = tuple(tuple(item) if isinstance(item, list) else item for item in value)
    return dataclasses.replace(node, **{head: _replaced(old, rest, value, key) if rest else value})  # type: ignore[type-var]
