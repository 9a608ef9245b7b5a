"""The configuration of a run: documented dataclasses, checked when they are made, saved as JSON with every finished model.

A stage defines what learns from what, at which rate, for how long: data, not code. No code depends on a stage's name.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from smolrgpt.data.io import parse_value

#: (regular expression searched in a parameter's name, learning rate); the first match decides, None freezes.
Rates = tuple[tuple[str, float | None], ...]
AnswerStyle = Literal["official", "brief", "steps", "copied"]
Attention = Literal["eager", "sdpa", "flash_attention_2"]
Balance = Literal["category", "template"]


@dataclass(frozen=True)
class Stage:
    """One part of a curriculum."""

    name: str
    """Unique within the run; part of the name of the stage's folder."""
    rates: Rates
    """Learning rate per pattern of parameter names; a parameter that no pattern matches is an error."""
    mixture: dict[str, float]
    """Source name -> how many times its questions are shown per epoch (0.5: a random half, another half in every epoch)."""
    temperature: float | None = None
    """Above 1, the sources' shares are closer to one another (``data.mixture.tempered_weights``); None: the shares of ``mixture``."""
    balance: tuple[Balance, ...] = ()
    """Equal shares in a source for every category, every template (wording), or one within the other (``data.mixture.balanced_draws``)."""
    balance_limit: float = 4.0
    """With ``balance``, no question is shown more than this many times as often as ``mixture`` sets."""
    epochs: float = 1.0
    """Passes over the mixture; ignored when ``max_steps`` is set."""
    max_steps: int | None = None
    """Optimisation steps; None: ``epochs`` decides."""
    images_per_step: int = 6
    """Images in a forward pass, over all processes: however many share the work, a step stays the same."""
    questions_per_image: int = 4
    """Questions that are asked about each of these images."""
    accumulation_steps: int = 1
    """Forward passes whose gradients make one optimisation step."""
    warmup_ratio: float = 0.03
    """Share of the steps in which the rate rises linearly (published: 3 %)."""
    final_rate: float = 0.1
    """Where the cosine schedule ends, as a share of the highest rate (published: 10 %)."""
    weight_decay: float = 0.01
    """AdamW's, on matrices only (published)."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient (published)."""
    eval_every: int | None = None
    """Steps between validations by S1; None: no validation, and the last weights are taken instead of the best ones."""
    save_every: int | None = None
    """Steps between checkpoints from which the stage can resume; None: no checkpoints."""
    early_stopping_patience: int | None = None
    """Validations without a better S1 after which the stage ends; None: it runs to its end."""

    def __post_init__(self) -> None:
        where = f"stage {self.name!r}:"
        for pattern, rate in self.rates:
            re.compile(pattern)
            if rate is not None and rate <= 0:
                raise ValueError(f"{where} learning rate {rate} for {pattern!r}; expected > 0, or None to freeze")
        if all(rate is None for _, rate in self.rates):
            raise ValueError(f"{where} rates {self.rates} freeze everything; give at least one pattern a learning rate")
        if not self.mixture or any(times <= 0 for times in self.mixture.values()):
            raise ValueError(f"{where} mixture {self.mixture} must name at least one source, each with a positive weight")
        if self.temperature is not None and self.temperature < 1:
            raise ValueError(f"{where} temperature is {self.temperature}; expected at least 1, or None")
        if not set(self.balance) <= {"category", "template"} or self.balance_limit < 1:
            raise ValueError(
                f"{where} balance is {self.balance} and balance_limit {self.balance_limit}; expected 'category' and 'template' only, and a "
                "limit of at least 1"
            )
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"{where} max_steps is {self.max_steps}; expected at least 1, or None")
        if self.early_stopping_patience is not None and self.eval_every is None:
            raise ValueError(
                f"{where} early_stopping_patience is {self.early_stopping_patience} and eval_every is None; early stopping follows S1, so "
                "eval_every must be set"
            )


@dataclass(frozen=True)
class LossWeights:
    """Weights of the auxiliary losses, relative to the answers' loss; a loss whose module the model lacks does not exist."""

    geometry: float = 0.5
    """Smooth L1 of the geometry that heads predict from pooled vectors (``predicts_geometry``)."""
    distance: float = 1.0
    """Smooth L1 of the logarithm of estimated distances (``estimates_distance``)."""
    size: float = 1.0
    """Smooth L1 of the logarithm of estimated sizes (``estimates_sizes``)."""


@dataclass(frozen=True)
class SyntheticData:
    """A synthetic set of one world or several; drawn once under ``root`` and reused while these values stay the same.

    Its sources (``train.sources.SYNTHETIC_SOURCES``): "train", "warmup", "captions"; "extra", sizes and order in depth; "plain", questions
    in everyday language, without the wordings reserved for evaluation; "train_relative", the first without metric depth and camera in any
    image; "train_mask_jitter" and "plain_mask_jitter", with slightly wrong masks.
    """

    root: Path
    """Folder of the data set."""
    num_scenes: int = 6000
    """Images to train on."""
    num_val_scenes: int = 60
    """Images to validate on."""
    seed: int = 1
    """Of the generator; validation scenes take their own."""
    world: str = "warehouse"
    """The world of the scenes, or several: "room,yard" (``data.worlds``)."""
    layouts: str = "known"
    """Which arrangements of objects are drawn (``data.worlds``)."""
    sensor: str = "perfect"
    """What measures metric depth: a name of ``data.worlds.sensors.SENSORS``, or "mixed"."""
    scales: tuple[float, float] = (1.0, 1.0)
    """Range of the factor that all lengths of a scene are multiplied by."""
    size: tuple[int, int] = (384, 216)
    """Width and height of the images in pixels."""
    questions_per_scene: int = 24
    """Questions per image and source."""
    relative_depth_fraction: float = 0.0
    """Share of the images whose metric depth and camera are withheld."""
    no_camera_fraction: float = 0.0
    """Share of other images whose camera alone is withheld."""
    no_depth_fraction: float = 0.0
    """Share of yet other images without any depth."""
    depth: Literal["metric", "none"] = "metric"
    """none: no depth in any image of any source."""
    mask_jitter_fraction: float = 0.0
    """Share of the images whose masks are inexact in every source (``data.region_styles``)."""
    validation: tuple[str, ...] = ("val",)
    """Splits whose questions are validated on: "val", "val_plain", "val_extra"; without the wordings reserved for evaluation."""

    def __post_init__(self) -> None:
        if not 0 <= self.mask_jitter_fraction <= 1:
            raise ValueError(f"mask_jitter_fraction is {self.mask_jitter_fraction}; expected a share from 0 to 1")
        shares = {name: getattr(self, name) for name in ("relative_depth_fraction", "no_camera_fraction", "no_depth_fraction")}
        if min(shares.values()) < 0 or sum(shares.values()) > 1:
            raise ValueError(f"{shares}: expected shares that are not negative and at most 1 in all")


@dataclass(frozen=True)
class WorldsData:
    """Several synthetic sets; a source is named SET:SOURCE, such as "room:plain", and every set has an equal share of the validation."""

    sets: dict[str, SyntheticData]
    """Name -> set."""

    def __post_init__(self) -> None:
        roots = [data.root for data in self.sets.values()]
        if not roots or len(set(roots)) != len(roots):
            raise ValueError(
                f"sets {sorted(self.sets)} are in {sorted(map(str, roots))}; expected at least one, each in a folder of its own"
            )


@dataclass(frozen=True)
class FolderData:
    """Real data sets, each in a folder."""

    sources: dict[str, tuple[str, Path, str]]
    """Source name -> (name of a reader in ``data.sources.SOURCES``, folder, split)."""
    validation: str = "validation"
    """The source on which S1 is measured."""
    prepared: Path | None = None
    """Folder of memory-mapped copies, as <prepared>/<name of the set's folder>/<split>; a run first prepares what is missing there.

    None: rows are read into memory, which is simpler for small sets.
    """


@dataclass(frozen=True)
class ModelSpec:
    """The initial model: from new weights (``config`` alone), from pretrained ``backbones``, or from a saved ``path``."""

    config: dict[str, Any] = field(default_factory=dict)
    """Arguments of ``SmolRGPTConfig``; with ``keep_pattern``, changes to the saved configuration."""
    processor: dict[str, Any] = field(default_factory=dict)
    """Options of the image processor and the processor; with ``keep_pattern``, changes to the saved ones."""
    backbones: tuple[str, str] | None = None
    """Vision model, language model: folders, hub ids or names of bundled models. Of a SmolRGPT only that part is taken."""
    path: Path | None = None
    """A saved SmolRGPT. Without ``keep_pattern``, all of it is taken and nothing can be changed."""
    keep_pattern: str | None = None
    """With ``path``, a regular expression: parameters whose name it matches are loaded, all others are initialised anew."""
    vocab_size: int = 1024
    """Of the tokenizer that is trained on the data when there are no pretrained parts."""
    lora: dict[str, Any] | None = None
    """Fields of ``peft.LoraConfig``, such as {"r": 16, "lora_alpha": 32}; None: no adapters.

    Every stage trains low-rank adapters on the language model and merges them at its end; its rates decide what else learns.
    """
    model_class: str = "smolrgpt.model:SmolRGPTForConditionalGeneration"
    """Module and name of the model's class; ablations name a subclass."""

    def __post_init__(self) -> None:
        if self.path is not None and self.backbones is not None:
            raise ValueError(f"model: path={self.path} and backbones={self.backbones}; expected at most one of them")
        if self.keep_pattern is not None:
            re.compile(self.keep_pattern)
            if self.path is None:
                raise ValueError(f"model: keep_pattern={self.keep_pattern!r} and path=None; expected the path of a saved model")


@dataclass(frozen=True)
class Run:
    """A whole run: model, data, curriculum and output folder. As JSON, it is enough to run again."""

    name: str
    """The recipe's."""
    out: Path
    """Folder of the run."""
    model: ModelSpec
    """Where the model starts."""
    data: SyntheticData | WorldsData | FolderData
    """Where the samples come from."""
    stages: tuple[Stage, ...]
    """The curriculum, in order."""
    seed: int = 0
    """Of new weights, the order of questions, and everything else that is random in training."""
    loss_weights: LossWeights = LossWeights()
    """Weights of the auxiliary losses."""
    validation_questions: int = 400
    """Size of the fixed random draw that a validation answers."""
    cache_gb: float = 10.0
    """Memory for prepared images, in GB; never more than 40 % of what the machine has."""
    feature_cache: Path | None = None
    """Folder where stages with a frozen vision tower keep its features of every image (``train.feature_cache``); None: no such cache."""
    attention: Attention | None = None
    """None: eager on a CPU, sdpa elsewhere."""
    compile_layers: bool = False
    """Compile the language model's layers for training, at the cost of a minute at the start of a stage; needs a C++ compiler on a CPU."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass, which saves memory and costs time."""
    dataloader_num_workers: int = 0
    """Processes that prepare batches, for each training process; they share ``cache_gb``."""
    log_every: int = 50
    """Steps between records of the loss."""
    region_offset_fraction: float = 0.0
    """Share of the questions whose regions are named from a random ``[Region k]`` on instead of ``[Region 0]`` (``data.collate``)."""
    answer_style: AnswerStyle = "official"
    """How the answers that the model learns are written (``train.answers``)."""
    monitor_health: bool = True
    """Watch for ignored depth, overfitting and forgotten language (``train.health``)."""

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"run {self.name!r}: stage names {names} must be unique and not empty")

    def to_json(self) -> str:
        """Return the run as JSON, for ``from_json``."""
        return json.dumps(dataclasses.asdict(self), indent=2, default=str)

    @classmethod
    def from_json(cls, text: str) -> Run:
        """Return the run that ``to_json`` wrote, also with the keys of earlier versions. Raises ValueError for JSON of anything else."""
        row = json.loads(text)
        try:
            row = _with_present_keys(row)
            return cls(
                **{
                    **row,
                    "out": Path(row["out"]),
                    "model": _model_from_json(row["model"]),
                    "data": _data_from_json(row["data"]),
                    "stages": tuple(_stage_from_json(stage) for stage in row["stages"]),
                    "loss_weights": LossWeights(**row["loss_weights"]),
                    "feature_cache": _optional_path(row.get("feature_cache")),
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"these are not the settings of a run: {type(error).__name__}: {error}") from error


# ------------------------------------------------------------------------------------------------------------------- reading JSON
#: Names in the run.json of earlier versions -> today's.
_RUN_KEYS = {"signatures": "monitor_health"}
_MODEL_KEYS = {"keep": "keep_pattern"}
_SOURCE_NAMES = {"train_rough": "train_mask_jitter", "plain_rough": "plain_mask_jitter"}
#: Loss weights that were once arguments of the model, whose modules they switched on -> name in ``LossWeights``, the switch of today.
_WEIGHT_KEYS = {
    "geometry_loss_weight": ("geometry", "predicts_geometry"),
    "distance_loss_weight": ("distance", "estimates_distance"),
    "size_loss_weight": ("size", "estimates_sizes"),
}


def _with_present_keys(row: Mapping[str, Any]) -> dict[str, Any]:
    stages = [{**stage, "mixture": _renamed(stage["mixture"], _SOURCE_NAMES)} for stage in row["stages"]]
    model, old_weights = _renamed(row["model"], _MODEL_KEYS), dict[str, float]()
    arguments = dict(model.get("config", {}))
    for key in _WEIGHT_KEYS.keys() & arguments.keys():
        name, switch = _WEIGHT_KEYS[key]
        weight = arguments.pop(key)
        arguments[switch] = weight > 0
        if weight > 0:
            old_weights[name] = weight
    weights = {**old_weights, **row.get("loss_weights", {})}
    return {**_renamed(row, _RUN_KEYS), "model": {**model, "config": arguments}, "stages": stages, "loss_weights": weights}


def _renamed(row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in row.items()}


def _stage_from_json(row: Mapping[str, Any]) -> Stage:
    rates = tuple((pattern, rate) for pattern, rate in row["rates"])
    return Stage(**{**row, "rates": rates, "balance": tuple(row.get("balance", ()))})


def _model_from_json(row: Mapping[str, Any]) -> ModelSpec:
    backbones = row.get("backbones")
    return ModelSpec(**{**row, "path": _optional_path(row.get("path")), "backbones": tuple(backbones) if backbones else None})


def _data_from_json(row: Mapping[str, Any]) -> SyntheticData | WorldsData | FolderData:
    if "sources" in row:
        return _folders_from_json(row)
    if "sets" in row:
        return WorldsData({name: _synthetic_from_json(data) for name, data in row["sets"].items()})
    return _synthetic_from_json(row)


def _synthetic_from_json(row: Mapping[str, Any]) -> SyntheticData:
    tuples = {name: tuple(value) for name, value in row.items() if isinstance(value, list)}
    return SyntheticData(**{**row, **tuples, "root": Path(row["root"])})


def _folders_from_json(row: Mapping[str, Any]) -> FolderData:
    sources = {name: (reader, Path(root), split) for name, (reader, root, split) in row["sources"].items()}
    return FolderData(**{**row, "sources": sources, "prepared": _optional_path(row.get("prepared"))})


def _optional_path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


# ---------------------------------------------------------------------------------------------------------------------- overrides
Node = TypeVar("Node")


def apply_overrides(run: Run, assignments: list[str]) -> Run:
    """Return the run with settings such as ``["seed=3", "data.num_scenes=100", "stages.2.max_steps=50"]`` applied.

    Values are JSON where they parse as JSON, else strings. An unknown field is a ValueError that lists the known ones.
    """
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator:
            raise ValueError(f"override {assignment!r} is not of the form field=value")
        run = _replaced(run, key.split("."), parse_value(text), key)
    return run


def _replaced(node: Node, path: list[str], value: Any, key: str) -> Node:
    """Return a copy of a dataclass, tuple or dictionary with the value at the end of ``path``; key: the whole path, for messages."""
    head, *rest = path
    parent: Any = node
    if isinstance(node, tuple) and head.isdigit() and int(head) < len(node):
        new = _replaced(node[int(head)], rest, value, key) if rest else value
        parent = (*node[: int(head)], new, *node[int(head) + 1 :])
    elif isinstance(node, dict):
        parent = {**node, head: _replaced(node.get(head, {}), rest, value, key) if rest else value}
    elif head in _fields(node):
        old = getattr(node, head)
        parent = dataclasses.replace(parent, **{head: _replaced(old, rest, value, key) if rest else _typed(_fields(node)[head], value)})
    else:
        known = f"0 to {len(node) - 1}" if isinstance(node, tuple) else ", ".join(_fields(node)) or "nothing"
        raise ValueError(f"override {key!r}: no field {head!r}; known here: {known}")
    result: Node = parent
    return result


def _fields(node: Any) -> dict[str, str]:
    """Return {name: annotation} of the fields of a dataclass; {} for anything else."""
    is_instance = dataclasses.is_dataclass(node) and not isinstance(node, type)
    return {item.name: str(item.type) for item in dataclasses.fields(node)} if is_instance else {}


def _typed(annotation: str, value: Any) -> Any:
    """Return a JSON value in the type of a field: paths are written as strings, tuples as lists."""
    if isinstance(value, str) and annotation.startswith("Path"):
        return Path(value)
    if isinstance(value, list):
        return tuple(tuple(item) if isinstance(item, list) else item for item in value)
    return value
