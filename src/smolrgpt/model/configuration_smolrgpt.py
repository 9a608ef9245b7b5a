"""Configuration of SmolRGPT: a vision tower, a language model and the path that carries marked regions from one to the other."""

from __future__ import annotations

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .region_geometry import REGION_GEOMETRY_FEATURES, feature_names

#: Kinds of region token, in their order in the prompt.
REGION_TOKEN_KINDS: tuple[str, ...] = ("rgb", "depth", "geo")

#: Lengths of one object that a size estimate stands for: columns 0 and 1 of ``region_size``.
REGION_SIZES: tuple[str, ...] = ("width", "height")
#: With `copies_lengths`: lengths of one object, in the order of the estimates' columns. "elevation" is the height of its middle above what
#: supports it or the floor, "size" the cube root of its box's volume, "range" its distance from the camera.
REGION_MEASURES: tuple[str, ...] = ("width", "height", "elevation", "size", "range")
#: With `copies_lengths`: lengths between the middles of two objects, the first of which needs no word.
PAIR_MEASURES: tuple[str, ...] = ("distance", "vertical", "horizontal")
#: The difference of the two lengths before it in the text.
LENGTH_DIFFERENCE = "difference"
#: Lengths between two objects. "vertical" is the vertical distance of their middles: the difference of column 2 of ``region_size``, the
#: height of an object's middle above the floor.
PAIR_SIZES: tuple[str, ...] = ("vertical",)

# SmolLM2 has 49,152 tokens; the released checkpoints append <|image|>, <mask_rgb>, <mask_depth>; <mask_geo> is ours.
_BASE_VOCAB_SIZE = 49152
_DEFAULT_REGION_TOKEN_IDS = {"rgb": 49153, "depth": 49154, "geo": 49155}


@strict
class SmolRGPTConfig(PreTrainedConfig):
    r"""The default is the published model (arXiv 2509.15490): SigLIP2-base at 256 pixels, SmolLM2-360M, 475.7 M parameters.

    Args:
        vision_config (`dict | PreTrainedConfig`, *optional*):
            Any vision backbone of the library on a grid of square patches; its pooled output is not used (`vision_use_head` is off).
        text_config (`dict | PreTrainedConfig`, *optional*):
            Any decoder-only language model of the library. Its vocabulary must contain the placeholder ids below.
        pixel_shuffle_factor (`int`, defaults to 2):
            Patches per side merged into one image token: 16x16 patches -> 8x8 = 64 image tokens.
        refiner_stages (`int`, defaults to 3):
            Doublings of the grid's side before mask pooling: 8 -> 64, by one refiner per modality. 0: no refiner, regions are pooled from
            the connector's grid.
        region_tokens (`tuple[str, ...]`, defaults to `("rgb", "depth")`):
            Kinds of token that represent a region, in this order; a subset of `("rgb", "depth", "geo")`, may be empty.
        region_fusion (`"tokens" | "name"`, defaults to `"tokens"`):
            `"tokens"`: each kind is a token of its own, as published. `"name"`: a region is written as its name, `[Region i]`, and the sum
            of its features is added to that token wherever it occurs, in the question and in the answer while it is generated.
        pair_geometry (`bool`, defaults to `False`):
            Of two adjacent names, `[Region 2][Region 5]`, the second, and the tokens after it up to the next name, also carry an embedding
            of both regions' geometry. Needs `region_fusion` "name" and the geometry token.
        region_name_token_ids (`list[int]`): ids of the tokens `[Region 0]`, `[Region 1]`, ...; needed for `"name"`.
        region_norm (`bool`, defaults to `False`): layer norm on pooled vectors; not part of the published model.
        geometry_dim (`int`): columns of `region_geometry`, see `region_geometry.FEATURES`.
        geometry_num_frequencies (`int`, defaults to 2):
            Fourier frequencies `pi * 2**k` of the geometry token. Measured: 6 learn slower on fresh questions.
        predicts_geometry (`bool`, defaults to `False`):
            Whether auxiliary heads predict a region's geometry from its pooled vectors; used by their training loss only.
        estimates_distance (`bool`, defaults to `False`):
            Whether the distance between two regions' objects is estimated from their geometry; the pair's embedding then contains the
            estimate's digits. Needs `pair_geometry`.
        estimates_sizes (`bool`, defaults to `False`):
            Whether the width and height of a region's object, and the height of its middle above the floor, are estimated from its
            geometry; a name followed by one of `size_word_ids` then carries the digits of that estimate. Needs the geometry token and
            `region_fusion` "name".
        size_word_ids (`dict[str, int]`):
            Needed with `estimates_sizes`: the first token of the word for each of `REGION_SIZES` and, with `pair_geometry`, optionally
            `PAIR_SIZES`; without the latter, vertical distances are not estimated. With `copies_lengths`: of `REGION_MEASURES`, of
            `PAIR_MEASURES` but the first, and of `LENGTH_DIFFERENCE`.
        copies_lengths (`bool`, defaults to `False`):
            Whether lengths in an answer are copied from estimates, wherever the answer has `length_token_id`, instead of spelled as digits;
            lengths in a question are given as numbers in place of `given_token_id`. A length then also carries how it compares with the
            length before it in the text. Needs `region_fusion` "name" and geometry in the unit "range".
        length_token_id, given_token_id (`int`, *optional*): needed with `copies_lengths`.
        image_token_id, region_token_ids, pad/bos/eos_token_id: vocabulary ids; `region_token_ids` maps each used kind to its id.
    """

    model_type = "smolrgpt"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values", "image_embeds", "region_features"]
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "vision_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="siglip_vision_model",
            # google/siglip2-base-patch16-256
            init_kwargs={
                "hidden_size": 768,
                "intermediate_size": 3072,
                "num_hidden_layers": 12,
                "num_attention_heads": 12,
                "image_size": 256,
                "patch_size": 16,
                "hidden_act": "gelu_pytorch_tanh",
                "layer_norm_eps": 1e-6,
                "vision_use_head": False,
            },
        ),
        "text_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="llama",
            # HuggingFaceTB/SmolLM2-360M-Instruct
            init_kwargs={
                "vocab_size": _BASE_VOCAB_SIZE + 3,
                "hidden_size": 960,
                "intermediate_size": 2560,
                "num_hidden_layers": 32,
                "num_attention_heads": 15,
                "num_key_value_heads": 5,
                "max_position_embeddings": 8192,
                "rms_norm_eps": 1e-5,
                "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
                "tie_word_embeddings": True,
                "pad_token_id": 2,
                "bos_token_id": 1,
                "eos_token_id": 2,
            },
        ),
    }

    vision_config: Any = None  # dict, configuration or None; a configuration after construction
    text_config: Any = None
    pixel_shuffle_factor: int = 2
    refiner_stages: int = 3
    region_tokens: list[str] | tuple[str, ...] = ("rgb", "depth")
    region_fusion: str = "tokens"
    region_name_token_ids: list[int] | tuple[int, ...] = ()
    pair_geometry: bool = False
    region_norm: bool = False
    geometry_dim: int = len(REGION_GEOMETRY_FEATURES)
    geometry_num_frequencies: int = 2
    predicts_geometry: bool = False
    estimates_distance: bool = False
    estimates_sizes: bool = False
    size_word_ids: dict[str, int] | None = None
    copies_lengths: bool = False
    length_token_id: int | None = None
    given_token_id: int | None = None
    image_token_id: int = _BASE_VOCAB_SIZE
    region_token_ids: dict[str, int] | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = True

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Build the configuration with these fields, also those of older releases (see `convert_old_fields`)."""
        return super().from_dict(convert_old_fields(config_dict), **kwargs)

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in ids that follow from other fields."""
        published_text = self.text_config is None
        super().__post_init__(**kwargs)
        self.region_tokens = tuple(self.region_tokens)
        if published_text and "geo" in self.region_tokens:
            self.text_config.vocab_size = _BASE_VOCAB_SIZE + 4
        if self.region_token_ids is None:
            self.region_token_ids = {k: _DEFAULT_REGION_TOKEN_IDS[k] for k in self.region_tokens if k in _DEFAULT_REGION_TOKEN_IDS}
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            if getattr(self, name) is None:
                setattr(self, name, getattr(self.text_config, name, None))
        if hasattr(self.vision_config, "vision_use_head"):
            self.vision_config.vision_use_head = False

    def validate_architecture(self) -> None:
        """Check that fields do not contradict one another; `@strict` calls this after `__post_init__`.

        Raises:
            ValueError: naming both fields and their values.
        """
        kinds = [kind for kind in REGION_TOKEN_KINDS if kind in self.region_tokens]
        if kinds != list(self.region_tokens):
            raise ValueError(f"region_tokens is {self.region_tokens}; expected some of {REGION_TOKEN_KINDS}, each once, in this order")
        if self.predicts_geometry and not self.pooled_tokens:
            raise ValueError("predicts_geometry is on but region_tokens has no pooled kind ('rgb' or 'depth') to predict it from")
        self._validate_placeholders(kinds)
        if self.patches_per_side % self.pixel_shuffle_factor:
            raise ValueError(
                f"pixel_shuffle_factor {self.pixel_shuffle_factor} does not divide the {self.patches_per_side} patches of a side "
                f"(image_size {self.vision_config.image_size}, patch_size {self.vision_config.patch_size})"
            )
        self._validate_names()
        self._validate_estimates()

    def _validate_names(self) -> None:
        if self.region_fusion not in ("tokens", "name"):
            raise ValueError(f"region_fusion is {self.region_fusion!r}; expected 'tokens' or 'name'")
        if self.region_fusion == "name" and not self.region_name_token_ids:
            raise ValueError("region_fusion is 'name' but region_name_token_ids is empty; give the ids of '[Region 0]', '[Region 1]', ...")
        outside = [i for i in self.region_name_token_ids if not 0 <= i < self.text_config.vocab_size]
        if outside:
            raise ValueError(f"region name ids {outside} lie outside the text vocabulary of {self.text_config.vocab_size} tokens")

    def _validate_estimates(self) -> None:
        named_geometry = self.region_fusion == "name" and "geo" in self.region_tokens
        for name, is_on in (("pair_geometry", self.pair_geometry), ("estimates_sizes", self.estimates_sizes)):
            if is_on and not named_geometry:
                raise ValueError(f"{name} needs region_fusion 'name' and 'geo' among the region_tokens")
        if self.estimates_distance and not self.pair_geometry:
            raise ValueError("estimates_distance is on but pair_geometry is off; distances are estimated from a pair's geometry")
        names = set(self.size_word_ids or {})
        if self.copies_lengths:
            needed = {*REGION_MEASURES, *PAIR_MEASURES[1:], LENGTH_DIFFERENCE}
            if self.geometry_dim != len(feature_names("range")):
                raise ValueError(f"copies_lengths needs geometry_dim {len(feature_names('range'))}, found {self.geometry_dim}")
            if names != needed or None in (self.length_token_id, self.given_token_id) or not named_geometry:
                raise ValueError(
                    f"copies_lengths needs size_word_ids for {sorted(needed)}, length_token_id, given_token_id, region_fusion 'name' and "
                    f"'geo' among the region_tokens; found {self.size_word_ids}, {self.length_token_id}, {self.given_token_id}"
                )
            return
        allowed = [set(REGION_SIZES), {*REGION_SIZES, *PAIR_SIZES}] if self.pair_geometry else [set(REGION_SIZES)]
        if self.estimates_sizes and names not in allowed:
            raise ValueError(
                f"estimates_sizes is on but size_word_ids is {self.size_word_ids}; expected ids for {REGION_SIZES} and, optionally with "
                f"pair_geometry, {PAIR_SIZES}"
            )

    def _validate_placeholders(self, kinds: list[str]) -> None:
        missing = [kind for kind in kinds if kind not in (self.region_token_ids or {})]
        if missing:
            raise ValueError(f"region_token_ids has no id for {missing}; it is {self.region_token_ids}")
        ids = self.placeholder_token_ids
        if len(set(ids.values())) != len(ids):
            raise ValueError(f"placeholder token ids must differ, found {ids}")
        outside = {name: i for name, i in ids.items() if not 0 <= i < self.text_config.vocab_size}
        if outside:
            raise ValueError(f"placeholder token ids {outside} lie outside the text vocabulary of {self.text_config.vocab_size} tokens")

    @property
    def patches_per_side(self) -> int:
        """Patches of the vision tower along one side of the square image."""
        return int(self.vision_config.image_size // self.vision_config.patch_size)

    @property
    def tokens_per_side(self) -> int:
        """Side of the connector's grid."""
        return self.patches_per_side // self.pixel_shuffle_factor

    @property
    def num_image_tokens(self) -> int:
        """P: image tokens in the prompt."""
        return self.tokens_per_side**2

    @property
    def grid_size(self) -> int:
        """G: side of the map that regions are pooled from, and so the natural size of `region_masks`."""
        return self.tokens_per_side << self.refiner_stages

    @property
    def num_size_estimates(self) -> int:
        """Columns of the size estimates: 0, 2 or 3."""
        return len(self.ordered_size_word_ids)

    @property
    def ordered_size_word_ids(self) -> list[int]:
        """Ids of the words for sizes ("width", ...) in the order of the size estimates' columns; empty without `estimates_sizes`."""
        ids = self.size_word_ids if self.estimates_sizes and self.size_word_ids else {}
        return [ids[name] for name in (*REGION_SIZES, *PAIR_SIZES) if name in ids]

    @property
    def scale_free_geometry_dim(self) -> int:
        """Columns of `region_geometry` without the unit of lengths, where it has that."""
        return self.geometry_dim - self.copies_lengths

    @property
    def measure_word_ids(self) -> list[int]:
        """Ids of the words for `REGION_MEASURES` and then `PAIR_MEASURES` but the first; empty without `copies_lengths`."""
        ids = self.size_word_ids if self.copies_lengths and self.size_word_ids else {}
        return [ids[name] for name in (*REGION_MEASURES, *PAIR_MEASURES[1:])] if ids else []

    @property
    def difference_word_id(self) -> int:
        """Id of the word for the difference of two lengths; -1 without `copies_lengths`."""
        return (self.size_word_ids or {}).get(LENGTH_DIFFERENCE, -1)

    @property
    def pooled_tokens(self) -> tuple[str, ...]:
        """Kinds of region token that are pooled from a map."""
        return tuple(kind for kind in self.region_tokens if kind != "geo")

    @property
    def placeholder_token_ids(self) -> dict[str, int]:
        """Every id whose embedding is replaced by a feature: `{"image": .., "rgb": .., ..}`."""
        known = self.region_token_ids or {}
        return {"image": self.image_token_id, **{kind: known[kind] for kind in self.region_tokens}}


def convert_old_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Convert fields of a ``config.json`` saved before loss weights moved to the training configuration.

    A loss weight above 0 used to switch its module on. Raises ValueError for variants that only ablations used.
    """
    fields = dict(fields)
    for old, new in (
        ("geometry_loss_weight", "predicts_geometry"),
        ("distance_loss_weight", "estimates_distance"),
        ("size_loss_weight", "estimates_sizes"),
    ):
        if old in fields:
            fields[new] = fields.pop(old) > 0
    if isinstance(ids := fields.get("size_word_ids"), (list, tuple)):
        fields["size_word_ids"] = dict(zip((*REGION_SIZES, *PAIR_SIZES), ids, strict=False))
    depth_path, refiner = fields.pop("depth_path", "separate"), fields.pop("refiner", "separate")
    if depth_path == "shared" or refiner in ("shared", "patches"):
        raise ValueError(f"depth_path {depth_path!r} with refiner {refiner!r} is a variant of an ablation, which this class does not load")
    if refiner == "none":
        fields["refiner_stages"] = 0
    fields.pop("train_logits", None)
    return fields


__all__ = ["PAIR_MEASURES", "PAIR_SIZES", "REGION_MEASURES", "REGION_SIZES", "REGION_TOKEN_KINDS", "SmolRGPTConfig", "convert_old_fields"]
