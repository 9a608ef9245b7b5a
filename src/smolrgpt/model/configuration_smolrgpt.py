"""Configuration of SmolRGPT: a vision tower, a language model and the path that carries marked regions from one to the other."""

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

#: The columns of ``region_geometry`` (N, F), in order. The image processor scales them to about [-1, 1] and documents how; columns that
#: cannot be known are 0, and the flags at the end (0 or 1) say which those are.
REGION_GEOMETRY_FEATURES: tuple[str, ...] = (
    "box_cx",
    "box_cy",
    "box_w",
    "box_h",
    "centroid_x",
    "centroid_y",
    "sqrt_area",
    "depth_q05",
    "depth_q25",
    "depth_q50",
    "depth_q75",
    "depth_q95",
    "depth_spread",
    "x_m",
    "y_m",
    "z_m",
    "extent_x_m",
    "extent_y_m",
    "extent_z_m",
    "range_m",
    "floor_low_m",
    "floor_high_m",
    "floor_long_m",
    "floor_short_m",
    "has_depth",
    "is_metric",
    "has_camera",
    "has_floor",
)

#: Metric columns of ``region_geometry`` are metres / 10, which keeps scenes of tens of metres near [-1, 1].
METRES_PER_UNIT = 10.0

#: What a region may be written as, in the order of the tokens in the prompt.
REGION_TOKEN_KINDS: tuple[str, ...] = ("rgb", "depth", "geo")

DEPTH_PATHS: tuple[str, ...] = ("separate", "shared", "none")
REFINERS: tuple[str, ...] = (*DEPTH_PATHS, "patches")

# SmolLM2 has 49,152 tokens; the released checkpoints append <|image|>, <mask_rgb>, <mask_depth>; <mask_geo> is ours.
_BASE_VOCAB_SIZE = 49152
_DEFAULT_REGION_TOKEN_IDS = {"rgb": 49153, "depth": 49154, "geo": 49155}


@strict
class SmolRGPTConfig(PreTrainedConfig):
    r"""
    The default is the published model (arXiv 2509.15490): SigLIP2-base at 256 pixels, SmolLM2-360M, 475.7 M parameters.

    Args:
        vision_config (`dict | PreTrainedConfig`, *optional*):
            Any vision backbone of the library on a grid of square patches; its pooled output is never read (`vision_use_head` is off).
        text_config (`dict | PreTrainedConfig`, *optional*):
            Any decoder-only language model of the library. Its vocabulary must contain the placeholder ids below.
        pixel_shuffle_factor (`int`, defaults to 2):
            Patches per side merged into one image token: 16x16 patches -> 8x8 = 64 image tokens.
        depth_path (`"separate" | "shared" | "none"`):
            The connector of the depth image: its own, the RGB connector's weights, or absent.
        refiner (`"separate" | "shared" | "none" | "patches"`):
            The upsampler before mask pooling: one per modality, one for both, or none: regions then pool from the connector's grid, or,
            with `"patches"`, from the vision tower's, through a linear layer of their own.
        refiner_stages (`int`, defaults to 3): doublings of the grid's side: 8 -> 64.
        region_tokens (`tuple[str, ...]`, defaults to `("rgb", "depth")`):
            The tokens each region is written as, in this order; a subset of `("rgb", "depth", "geo")`, may be empty.
        region_fusion (`"tokens" | "name"`, defaults to `"tokens"`):
            `"tokens"`: each kind is a token of its own, as published. `"name"`: a region is written as its name, `[Region i]`, and the sum
            of its features is added to that word wherever it stands, in the question and in the answer as it is being written.
        pair_geometry (`bool`, defaults to `False`):
            Of two names that stand side by side, `[Region 2][Region 5]`, the second, and the words after it up to the next name, also carry
            what the two regions' geometry says of the pair. Needs `region_fusion` "name" and the geometry token.
        region_name_token_ids (`list[int]`): ids of the words `[Region 0]`, `[Region 1]`, ...; needed for `"name"`.
        region_norm (`bool`, defaults to `False`): layer norm on pooled vectors; not part of the published model.
        geometry_dim (`int`): columns of `region_geometry`, see `REGION_GEOMETRY_FEATURES`.
        geometry_num_frequencies (`int`, defaults to 2):
            Fourier frequencies `pi * 2**k` of the geometry token. Measured: 6 learn slower on fresh questions.
        geometry_loss_weight (`float`, defaults to 0):
            Weight of the auxiliary loss that regresses a region's geometry from its pooled vectors; the heads exist only above 0.
        distance_loss_weight (`float`, defaults to 0):
            Weight of the auxiliary loss on the distance between two regions' objects, estimated from their geometry. Above 0 the pair's
            embedding says the estimate digit by digit. Needs `pair_geometry`.
        size_loss_weight (`float`, defaults to 0):
            Weight of the auxiliary loss on the width and height of a region's object, and how high its middle is, estimated from its
            geometry. Above 0 a name that one of `size_word_ids` follows says that estimate digit by digit. Needs the geometry token and
            `region_fusion` "name".
        size_word_ids (`list[int]`):
            Needed with `size_loss_weight`: ids that the words " width", " height" and, with `pair_geometry`, " up" begin with. The last
            says how far apart the middles of two regions named side by side are vertically; without it nothing does.
        image_token_id, region_token_ids, pad/bos/eos_token_id: vocabulary ids; `region_token_ids` maps each used kind to its id.
        train_logits (`bool`, defaults to `False`): with labels, also return the logits of all positions.
    """

    model_type = "smolrgpt"
    keys_to_ignore_at_inference = ["past_key_values", "image_embeds", "region_embeds"]
    sub_configs_defaults = {
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
    depth_path: str = "separate"
    refiner: str = "separate"
    refiner_stages: int = 3
    region_tokens: list[str] | tuple[str, ...] = ("rgb", "depth")
    region_fusion: str = "tokens"
    region_name_token_ids: list[int] | tuple[int, ...] = ()
    pair_geometry: bool = False
    region_norm: bool = False
    geometry_dim: int = len(REGION_GEOMETRY_FEATURES)
    geometry_num_frequencies: int = 2
    geometry_loss_weight: float | int = 0.0
    distance_loss_weight: float | int = 0.0
    size_loss_weight: float | int = 0.0
    size_word_ids: list[int] | tuple[int, ...] = ()
    image_token_id: int = _BASE_VOCAB_SIZE
    region_token_ids: dict[str, int] | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = True
    train_logits: bool = False

    def __post_init__(self, **kwargs):
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

    def validate_architecture(self):
        """Contradictions between fields; `@strict` calls this after `__post_init__`."""
        for name, choices in (("depth_path", DEPTH_PATHS), ("refiner", REFINERS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(map(repr, choices))}")
        kinds = [kind for kind in REGION_TOKEN_KINDS if kind in self.region_tokens]
        if kinds != list(self.region_tokens):
            raise ValueError(f"region_tokens is {self.region_tokens}; expected some of {REGION_TOKEN_KINDS}, each once, in this order")
        if "depth" in kinds and self.depth_path == "none":
            raise ValueError("region_tokens has 'depth' but depth_path is 'none'; remove the token or choose 'separate' or 'shared'")
        if self.geometry_loss_weight > 0 and not {"rgb", "depth"} & set(kinds):
            raise ValueError("geometry_loss_weight is above 0 but no pooled region token ('rgb' or 'depth') is there to learn from it")
        self._validate_placeholders(kinds)
        if self.patches_per_side % self.pixel_shuffle_factor:
            raise ValueError(
                f"pixel_shuffle_factor {self.pixel_shuffle_factor} does not divide the {self.patches_per_side} patches of a side "
                f"(image_size {self.vision_config.image_size}, patch_size {self.vision_config.patch_size})"
            )

        self._validate_names()

    def _validate_names(self) -> None:
        if self.region_fusion not in ("tokens", "name"):
            raise ValueError(f"region_fusion is {self.region_fusion!r}; expected 'tokens' or 'name'")
        if self.region_fusion == "name" and not self.region_name_token_ids:
            raise ValueError("region_fusion is 'name' but region_name_token_ids is empty; give the ids of '[Region 0]', '[Region 1]', ...")
        if self.pair_geometry and not (self.region_fusion == "name" and "geo" in self.region_tokens):
            raise ValueError("pair_geometry needs region_fusion 'name' and 'geo' among the region_tokens")
        if self.distance_loss_weight > 0 and not self.pair_geometry:
            raise ValueError("distance_loss_weight is above 0 but pair_geometry is off; distances are estimated from a pair's geometry")
        if self.size_loss_weight > 0 and not (self.region_fusion == "name" and "geo" in self.region_tokens):
            raise ValueError("size_loss_weight is above 0; that needs region_fusion 'name' and 'geo' among the region_tokens")
        if self.size_loss_weight > 0 and len(self.size_word_ids) not in ((2, 3) if self.pair_geometry else (2,)):
            raise ValueError(
                f"size_loss_weight is above 0 but size_word_ids is {self.size_word_ids}; give the ids of ' width', ' height' and perhaps, "
                "with pair_geometry, ' up'"
            )
        outside = [i for i in self.region_name_token_ids if not 0 <= i < self.text_config.vocab_size]
        if outside:
            raise ValueError(f"region name ids {outside} lie outside the text vocabulary of {self.text_config.vocab_size} tokens")

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
        return self.vision_config.image_size // self.vision_config.patch_size

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
        """G: side of the map that regions pool from, and so the natural size of `region_masks`."""
        if self.refiner == "patches":
            return self.patches_per_side
        return self.tokens_per_side * (1 if self.refiner == "none" else 2**self.refiner_stages)

    @property
    def has_refiner(self) -> bool:
        """Whether maps are upsampled before regions pool from them."""
        return self.refiner in ("separate", "shared")

    @property
    def pooled_tokens(self) -> tuple[str, ...]:
        """The region tokens that are pooled from a map."""
        return tuple(kind for kind in self.region_tokens if kind != "geo")

    @property
    def placeholder_token_ids(self) -> dict[str, int]:
        """Every id whose embedding is replaced by a feature: `{"image": .., "rgb": .., ..}`."""
        known = self.region_token_ids or {}
        return {"image": self.image_token_id, **{kind: known[kind] for kind in self.region_tokens}}


__all__ = ["METRES_PER_UNIT", "REGION_GEOMETRY_FEATURES", "REGION_TOKEN_KINDS", "SmolRGPTConfig"]
