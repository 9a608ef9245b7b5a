"""A small byte-level tokenizer learned from the training questions, for models without pretrained parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from smolrgpt.model.processing_smolrgpt import IMAGE_TOKEN, REGION_TOKENS, TURN_END, TURN_START, add_region_names

#: The first three ids are SmolLM2's; the others are the model's placeholders.
SPECIAL_TOKENS = ("<|endoftext|>", TURN_START, TURN_END, IMAGE_TOKEN, *REGION_TOKENS.values())

# Every digit is a token of its own, and so is the comma between two steps, so that numbers are written digit by digit.
_PIECES = Regex(r", | ?\d| ?[^\s\d,]+|\s+|.")


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train byte-level BPE on ``texts``: any string can be written, frequent words and region names are one token, digits stay single."""
    tokenizer: Any = Tokenizer(models.BPE())  # Any: the stubs declare no setter for its parts
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_PIECES, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=TURN_START,
        eos_token=TURN_END,
        pad_token=TURN_END,
        unk_token=SPECIAL_TOKENS[0],
        additional_special_tokens=list(SPECIAL_TOKENS[3:]),
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    add_region_names(fast)
    return fast
