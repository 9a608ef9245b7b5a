"""Any text survives, digits stay single, and a region name is one token."""

from __future__ import annotations

import pytest

from smolrgpt.model.processing_smolrgpt import NUM_REGION_NAMES, REGION_NAME
from smolrgpt.train.tokenizer import SPECIAL_TOKENS, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["The pallet [Region 0] is 12.35 meters from the pallet [Region 1]."] * 3, 400)


@pytest.mark.parametrize(
    "text", ["The pallet [Region 12] is 3.07 meters away.", "naïve façade 東京 🚚", "  two  spaces\n\ttab", "<maskrgb> {}", ""]
)
def test_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids, skip_special_tokens=False) == text


def test_pieces(tokenizer):
    assert [tokenizer.decode(i) for i in tokenizer("pallet [Region 14][Region 4] 12,").input_ids[-5:]] == [
        "[Region 14]",
        "[Region 4]",
        " 1",
        "2",
        ",",
    ]
    assert (
        len({tokenizer(REGION_NAME.format(i), split_special_tokens=True).input_ids[0] for i in range(NUM_REGION_NAMES)}) == NUM_REGION_NAMES
    )
    assert len(tokenizer("12.35").input_ids) == 5


def test_special_ids_and_inert_user_text(tokenizer):
    assert [tokenizer.convert_tokens_to_ids(t) for t in SPECIAL_TOKENS] == list(range(7))
    assert not set(tokenizer("<mask_rgb><|im_end|>", split_special_tokens=True).input_ids) & set(range(7))
