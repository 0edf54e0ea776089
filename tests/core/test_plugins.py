"""Plug-ins of another package, found by address or entry point."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from every_pruner import make_view
from tiny_prompts import make_inputs
from token_views import check_kept

import fastdrive
from stages.backbone.qwen import Model
from stages.core import plugins
from stages.core.errors import ParamsError
from stages.pruning import base

MODULE = """
from dataclasses import dataclass
from stages.pruning.base import ScoringPruner

@dataclass(frozen=True)
class MyPruner(ScoringPruner):
    power: float = 2.0

    def score(self, view):
        return view.tokens.norm(p=self.power, dim=2)

class Words:
    pass
"""
ADDRESS = "my_pkg.my_pruner:MyPruner"


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package on Python's path, outside the tree, installed with an entry point."""
    for name, text in {
        "my_pkg/__init__.py": "",
        "my_pkg/my_pruner.py": MODULE,
        "my_pkg-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: my-pkg\nVersion: 1\n",
        "my_pkg-1.dist-info/entry_points.txt": f"[fastdrive.pruners]\nnorm = {ADDRESS}\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.startswith("my_pkg")]:
        del sys.modules[name]


def test_load_takes_an_address_and_the_pruner_prunes_a_model(tiny_model: Model) -> None:
    pruner = fastdrive.load(ADDRESS, power=1.0)
    with fastdrive.prune(tiny_model, pruner, percent=75) as applied, torch.no_grad():
        tiny_model.generate(**make_inputs([[(3, 4)]]), max_new_tokens=2, do_sample=False)
    assert (applied.tokens, applied.kept) == (12, 3)


@pytest.mark.parametrize(("row", "options"), [("norm", {}), ("mine", {"class": ADDRESS}), ("mine", {"class": "norm"})])
def test_a_row_of_params_names_an_entry_point_or_a_class(row: str, options: dict[str, object]) -> None:
    view = make_view(2)
    kept = base.load(row, options | {"power": 1.0}).select(view, 7)
    check_kept(kept, view.tokens, 7, row)
    assert torch.equal(kept.indices, fastdrive.load(ADDRESS, power=1.0).select(view, 7).indices)


def test_own_and_installed_names_are_listed() -> None:
    assert {"norm", "divprune", "recon"} <= set(plugins.available("pruners"))
    assert plugins.own("drivers") == ["impromptu", "toy"]
    assert {"omnidrive", "stp3"} <= set(plugins.own("protocols"))
    assert {"grounded_sam", "nuscenes_geometry"} <= set(plugins.own("annotators"))


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("my_pkg.nothing:MyPruner", "my_pkg.nothing"),
        ("nowhere.my_pruner:MyPruner", "nowhere"),
        ("my_pkg.my_pruner:MyPrune", "did you mean 'MyPruner'"),
        ("my_pkg.my_pruner:Words", "subclass"),
    ],
)
def test_an_address_without_a_pruner_is_refused(address: str, hint: str) -> None:
    with pytest.raises(ParamsError, match=hint):
        fastdrive.load(address)


def test_unknown_names_and_options_get_the_nearest_one() -> None:
    with pytest.raises(ParamsError, match="did you mean 'power'"):
        fastdrive.load(ADDRESS, pover=1.0)
    with pytest.raises(ParamsError, match="did you mean 'toy'"):
        plugins.find("drivers", "toi", "vla.name")


@pytest.mark.parametrize("text", ["models/recon", "models:/reconpruner@champion", "recon", "a:", ":B", "a.:B", "a b:C"])
def test_folders_registry_and_names_are_no_addresses(text: str) -> None:
    assert not plugins.is_address(text)
