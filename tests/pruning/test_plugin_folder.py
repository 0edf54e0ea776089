"""A pruner is added by dropping a file into the folder: the example of the docs, in a folder of its own."""

import re
from pathlib import Path

import pytest
import torch
from tiny_prompts import make_inputs

import fastdrive
import stages.pruning
from stages.backbone.qwen import Model
from stages.core.errors import ParamsError
from stages.pruning import base

PAGE = Path(__file__).parents[2] / "docs/how-to/add_one.md"


@pytest.fixture
def norm_prior(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which the example lies in a second folder of pruners."""
    (example,) = [
        block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "class Pruner" in block
    ]
    assert len([line for line in example.splitlines() if line]) <= 10
    (tmp_path / "norm_prior.py").write_text(example)
    monkeypatch.setattr(stages.pruning, "__path__", [*stages.pruning.__path__, str(tmp_path)])
    return "norm_prior"


def test_the_example_of_the_docs_is_found_loaded_and_prunes_a_model(norm_prior: str, tiny_model: Model) -> None:
    assert norm_prior in base.available()
    pruner = fastdrive.load(norm_prior, power=1.0)
    with fastdrive.prune(tiny_model, pruner, percent=75) as applied, torch.no_grad():
        tiny_model.generate(**make_inputs([[(3, 4)], [(3, 4)]]), max_new_tokens=2, do_sample=False)
    assert (applied.tokens, applied.kept) == (24, 6)
    with pytest.raises(ParamsError, match="did you mean 'power'"):
        base.load(norm_prior, {"pover": 1})
