"""Load the checkpoints that the authors of SmolRGPT (arXiv 2509.15490) released: ``config.json`` + ``model.safetensors``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from .configuration_smolrgpt import SmolRGPTConfig
from .modeling_smolrgpt import SmolRGPTForConditionalGeneration

#: Of SmolLM2's tokenizer as the released program sets it up: bos <|im_start|>, eos and pad <|im_end|>; it ignores ``lm_eos_token_id``.
BOS_TOKEN_ID, EOS_TOKEN_ID = 1, 2

_QKV = ("q_proj", "k_proj", "v_proj")
#: Released name -> our names. Several names: the released tensor is theirs, stacked on the output axis. No name: a buffer we compute.
_RENAMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"vision_encoder\.patch_embedding\.conv\.(\w+)", (r"model.vision_tower.embeddings.patch_embedding.\1",)),
    (r"vision_encoder\.patch_embedding\.position_embedding", ("model.vision_tower.embeddings.position_embedding.weight",)),
    (r"vision_encoder\.blocks\.(\d+)\.ln([12])\.(\w+)", (r"model.vision_tower.encoder.layers.\1.layer_norm\2.\3",)),
    (
        r"vision_encoder\.blocks\.(\d+)\.attn\.qkv_proj\.(\w+)",
        tuple(rf"model.vision_tower.encoder.layers.\1.self_attn.{part}.\2" for part in _QKV),
    ),
    (r"vision_encoder\.blocks\.(\d+)\.attn\.out_proj\.(\w+)", (r"model.vision_tower.encoder.layers.\1.self_attn.out_proj.\2",)),
    (r"vision_encoder\.blocks\.(\d+)\.mlp\.(fc[12]\.\w+)", (r"model.vision_tower.encoder.layers.\1.mlp.\2",)),
    (r"vision_encoder\.layer_norm\.(\w+)", (r"model.vision_tower.post_layernorm.\1",)),
    (r"MP\.proj\.weight", ("model.rgb_connector.proj.weight",)),
    (r"MP_depth\.proj\.weight", ("model.depth_connector.proj.weight",)),
    *(
        (rf"(rgb|depth)_refiner\.refiner\.{position}\.(\w+)", (rf"model.\1_refiner.{module}.\2",))
        for position, module in ((0, "upsamples.0"), (1, "norms.0"), (3, "upsamples.1"), (4, "norms.1"), (6, "upsamples.2"))
    ),
    (r"decoder\.(?:token_embedding|head)\.weight", ("model.language_model.embed_tokens.weight",)),
    (r"decoder\.blocks\.(\d+)\.norm1\.weight", (r"model.language_model.layers.\1.input_layernorm.weight",)),
    (r"decoder\.blocks\.(\d+)\.norm2\.weight", (r"model.language_model.layers.\1.post_attention_layernorm.weight",)),
    (r"decoder\.blocks\.(\d+)\.attn\.([qkv])_proj\.weight", (r"model.language_model.layers.\1.self_attn.\2_proj.weight",)),
    (r"decoder\.blocks\.(\d+)\.attn\.out_proj\.weight", (r"model.language_model.layers.\1.self_attn.o_proj.weight",)),
    (r"decoder\.blocks\.(\d+)\.mlp\.(gate|up|down)_proj\.weight", (r"model.language_model.layers.\1.mlp.\2_proj.weight",)),
    (r"decoder\.norm\.weight", ("model.language_model.norm.weight",)),
    (r"decoder\.rotary_embd\.inv_freq", ()),
)


def converted_names(released: str) -> tuple[str, ...] | None:
    """Return our parameter names for a released one (see ``_RENAMES``); None when it is unknown."""
    for pattern, targets in _RENAMES:
        if match := re.fullmatch(pattern, released):
            return tuple(match.expand(target) for target in targets)
    return None


def convert_config(released: dict[str, Any]) -> SmolRGPTConfig:
    """Convert the released ``config.json`` to our fields. Raises ValueError for a missing key or a variant that was never published."""
    if released.get("vit_cls_flag"):
        raise ValueError("vit_cls_flag is true: released checkpoints with a class token are not supported")
    try:
        base = released["lm_vocab_size"] - len(released["vlm_extra_tokens"])
        token_ids = {name: base + i for i, name in enumerate(released["vlm_extra_tokens"])}
        return SmolRGPTConfig(
            vision_config={
                "model_type": "siglip_vision_model",
                "hidden_size": released["vit_hidden_dim"],
                "intermediate_size": released["vit_inter_dim"],
                "num_hidden_layers": released["vit_n_blocks"],
                "num_attention_heads": released["vit_n_heads"],
                "image_size": released["vit_img_size"],
                "patch_size": released["vit_patch_size"],
                "layer_norm_eps": released["vit_ln_eps"],
                "hidden_act": "gelu_pytorch_tanh",
            },
            text_config={
                "model_type": "llama",
                "vocab_size": released["lm_vocab_size"],
                "hidden_size": released["lm_hidden_dim"],
                "intermediate_size": released["lm_inter_dim"],
                "num_hidden_layers": released["lm_n_blocks"],
                "num_attention_heads": released["lm_n_heads"],
                "num_key_value_heads": released["lm_n_kv_heads"],
                "max_position_embeddings": released.get("lm_max_position_embeddings", 8192),
                "rms_norm_eps": released["lm_rms_eps"],
                "rope_parameters": {"rope_type": "default", "rope_theta": float(released["lm_re_base"])},
                "tie_word_embeddings": released["lm_tie_weights"],
                "pad_token_id": EOS_TOKEN_ID,
                "bos_token_id": BOS_TOKEN_ID,
                "eos_token_id": EOS_TOKEN_ID,
            },
            pixel_shuffle_factor=released["mp_pixel_shuffle_factor"],
            tie_word_embeddings=released["lm_tie_weights"],
            image_token_id=token_ids["image_token"],
            region_token_ids={"rgb": token_ids["mask_rgb_token"], "depth": token_ids["mask_depth_token"]},
        )
    except KeyError as error:
        raise ValueError(f"the released config.json has no {error}; it needs the vit_*, lm_*, mp_* and vlm_extra_tokens keys") from error


def convert_state(released: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename released tensors to our names. Raises ValueError that lists every unknown, missing, wrongly shaped or contradicting tensor."""
    state: dict[str, Tensor] = {}
    problems = []
    for name, tensor in released.items():
        targets = converted_names(name)
        if targets is None:
            problems.append(f"unknown {name}")
            continue
        if name.endswith("position_embedding"):
            tensor = tensor.squeeze(0)  # (1, patches, C)
        for target, part in zip(targets, tensor.chunk(len(targets)) if len(targets) > 1 else [tensor] * len(targets), strict=True):
            if target in state and not torch.equal(state[target], part):
                problems.append(f"{name} differs from another tensor for {target} (the tied head and embedding must be equal)")
            state[target] = part
    problems += [f"missing {name}" for name in expected if name not in state and name != "lm_head.weight"]
    problems += [f"unknown {name}" for name in state if name not in expected]
    problems += [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if problems:
        raise ValueError(f"{len(problems)} tensors of the released checkpoint do not fit: {'; '.join(problems)}")
    return {name: tensor.clone() for name, tensor in state.items()}


def load_released(folder: str | Path) -> SmolRGPTForConditionalGeneration:
    """Load a released checkpoint folder as our model, in eval mode, with the stored values as float32."""
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} has no {name}; expected an unpacked released folder with config.json and model.safetensors")
    config = convert_config(json.loads((folder / "config.json").read_text()))
    if not config.tie_word_embeddings:
        raise ValueError(f"{folder / 'config.json'}: lm_tie_weights is false; released checkpoints tie head and embedding")
    model = SmolRGPTForConditionalGeneration(config)
    state = convert_state(load_file(folder / "model.safetensors"), model.state_dict())
    model.load_state_dict(state, strict=False)  # convert_state has accounted for every name
    model.tie_weights()
    model.eval()
    return model


def convert(folder: str | Path, out: str | Path, tokenizer: Any = None) -> SmolRGPTForConditionalGeneration:
    """Write a released checkpoint as ours to `out`, with the processor that prepares inputs as the released program did in training.

    tokenizer: a tokenizer object, or where to load it from; by default the one that ``config.json`` names (``lm_tokenizer``), from the hub
    or its cache. Raises ValueError when it cannot be loaded or has another number of tokens than the checkpoint.
    """
    model = load_released(folder)
    processor = released_processor(json.loads((Path(folder) / "config.json").read_text()), model.config, tokenizer)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return model


def released_processor(released: dict[str, Any], config: SmolRGPTConfig, tokenizer: Any = None) -> Any:
    """Build a processor as the released checkpoints were trained: bilinear masks, per-image min-max depth, no region labels."""
    from transformers import AutoTokenizer

    from .image_processing_smolrgpt import SmolRGPTImageProcessor
    from .processing_smolrgpt import SmolRGPTProcessor

    source = tokenizer if tokenizer is not None else released["lm_tokenizer"]
    if isinstance(source, (str, Path)):
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
        except OSError as error:
            raise ValueError(f"cannot load the tokenizer {source}; go online once, or pass a folder that holds it") from error
    tokenizer.add_special_tokens({"additional_special_tokens": list(released["vlm_extra_tokens"].values())})
    if len(tokenizer) != config.text_config.vocab_size:
        raise ValueError(
            f"tokenizer {source if isinstance(source, (str, Path)) else ''} has {len(tokenizer)} tokens with the placeholders, "
            f"the checkpoint {config.text_config.vocab_size}; pass the tokenizer it was trained with"
        )
    image_processor = SmolRGPTImageProcessor(
        size=config.vision_config.image_size, grid_size=config.grid_size, mask_resize="bilinear", depth_encoding="minmax"
    )
    return SmolRGPTProcessor(image_processor, tokenizer, region_tokens=config.region_tokens, num_image_tokens=config.num_image_tokens)


__all__ = ["convert", "convert_config", "convert_state", "converted_names", "load_released", "released_processor"]
