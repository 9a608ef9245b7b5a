"""After ``import smolrgpt`` the Auto classes know the model, and nothing heavy has been imported for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = """
import sys
{imports}
assert "smolrgpt.model" not in sys.modules
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor
classes = [AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor]
print(*(type(c.from_pretrained(sys.argv[1])).__name__ for c in classes[{first}:] + classes[:{first}]))
"""
CLASSES = ["SmolRGPTConfig", "SmolRGPTImageProcessor", "SmolRGPTForConditionalGeneration", "SmolRGPTProcessor"]
ORDERS = {
    "smolrgpt first": "import smolrgpt",
    "transformers first": "import transformers; from transformers import AutoConfig, AutoProcessor; import smolrgpt",
}


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("order", "first"), [("smolrgpt first", 3), ("smolrgpt first", 2), ("transformers first", 3), ("transformers first", 0)]
)
def test_auto_classes_know_the_model(order: str, first: int, tiny_checkpoint: Path) -> None:
    """Whichever of them is used first, and whichever package is imported first."""
    assert run(CHECK.format(imports=ORDERS[order], first=first), str(tiny_checkpoint)).split() == CLASSES[first:] + CLASSES[:first]


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = run("import sys, smolrgpt; print([name for name in ('torch', 'transformers', 'numpy', 'PIL') if name in sys.modules])")
    assert heavy == "[]"
