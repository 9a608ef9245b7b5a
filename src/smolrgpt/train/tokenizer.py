"""A small byte-level tokenizer learned from the training questions, for models that start from nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from smolrgpt.model.processing_smolrgpt import REGION_NAME

#: The first three ids are SmolLM2's; the rest are the project's placeholders.
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image|>", "<mask_rgb>", "<mask_depth>", "<mask_geo>")

#: Regions with a name of one token, ``[Region 0]`` on: twice as many as any official question has.
NUM_REGION_NAMES = 32
# Digits are units of their own, and so is the comma between two steps: numbers are what answers are made of.
_PIECES = Regex(r", | ?\d| ?[^\s\d,]+|\s+|.")


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE over ``texts``: any string can be written, frequent words and region names are one token, digits stay single."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [pre_tokenizers.Split(_PIECES, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS[3:]),
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    add_region_names(fast)
    return fast


def add_region_names(tokenizer: Any) -> list[int]:
    """Make ``[Region 0]``, ``[Region 1]``, ... words of any tokenizer, where they are not yet; returns their ids."""
    names = [REGION_NAME.format(i) for i in range(NUM_REGION_NAMES)]
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in names])
    return [int(i) for i in tokenizer.convert_tokens_to_ids(names)]
