"""Laws of the rule-based predictors: the oracle answers a written set, the ceiling loses only what the camera does not see."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from smolrgpt.cli.main import app
from smolrgpt.data.worlds import write_dataset
from smolrgpt.evaluation.rules import RulesPredictor
from smolrgpt.schema import DataError, Sample


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    write_dataset(root, "val", 12, 9, layouts="known", workers=1, progress=False)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rules-truth", "rules-visible"])
def test_rules_on_a_written_set(written, name):
    result = CliRunner().invoke(app, ["evaluate", name, str(written), "--json"])
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["num_questions"] > 200
    if name == "rules-truth":
        assert found["S1"] == 100
    else:
        assert found["accuracy"]["left_right"] == found["accuracy"]["count"] == 100 and 85 < found["S1"] < 100


def test_rules_need_the_scene():
    with pytest.raises(DataError, match="in no set of 'smolrgpt synth'"):
        RulesPredictor("rules-truth").predict_samples([Sample("a", Image.new("RGB", (4, 4)), "Which is left?")])
