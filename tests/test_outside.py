"""Plug-ins outside the tree: found by their address, plugged in under a name, refused when their file changed."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from every_pruner import make_view
from tiny_prompts import make_inputs

import fastdrive
import stages.pruning
from stages import plugs
from stages.backbone.qwen import Model
from stages.core.errors import DataError, ParamsError
from stages.core.outside import is_address
from stages.core.params import read_params
from stages.plugs import kind_of, write_plug
from stages.pruning import base

MINE = """
from dataclasses import dataclass
from stages.pruning.base import ScoringPruner

@dataclass(frozen=True)
class MyPruner(ScoringPruner):
    power: float = 2.0

    def score(self, view):
        return view.tokens.norm(p=self.power, dim=2)

class Words:
    pass

class MyProtocol:
    TIMES = "at 1, 2, 3 s"

    @staticmethod
    def prepare(truth):
        return truth

    @staticmethod
    def judge(plan_ego_m, prepared):
        return prepared
"""
ADDRESS = "my_pkg.my_pruner:MyPruner"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package on Python's path, outside the tree; its file."""
    file = tmp_path / "elsewhere" / "my_pkg" / "my_pruner.py"
    file.parent.mkdir(parents=True)
    (file.parent / "__init__.py").touch()
    file.write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    yield file
    for name in [name for name in sys.modules if name.startswith("my_pkg")]:
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A second folder of pruners, where files may be written."""
    folder = tmp_path / "stages" / "pruning"
    folder.mkdir(parents=True)
    monkeypatch.setattr(stages.pruning, "__path__", [*stages.pruning.__path__, str(folder)])
    return folder


def test_load_takes_an_address_and_the_pruner_prunes_a_model(package: Path, tiny_model: Model) -> None:
    pruner = fastdrive.load(ADDRESS, power=1.0)
    with fastdrive.prune(tiny_model, pruner, percent=75) as applied, torch.no_grad():
        tiny_model.generate(**make_inputs([[(3, 4)]]), max_new_tokens=2, do_sample=False)
    assert (applied.tokens, applied.kept) == (12, 3)


def test_a_plugged_in_pruner_is_a_pruner_of_the_folder_and_holds_the_contract(package: Path, folder: Path) -> None:
    path, then = write_plug(ADDRESS, "mine", folder.parent)
    assert (path, "add mine to grid.pruners" in then) == (folder / "mine.py", True)
    assert "mine" in base.available()
    view = make_view(2)
    kept = base.load("mine", {"power": 1.0}).select(view, 7)
    base.check_kept(kept, view.tokens, 7, "mine")
    assert torch.equal(kept.indices, fastdrive.load(ADDRESS, power=1.0).select(view, 7).indices)
    with pytest.raises(ParamsError, match="did you mean 'power'"):
        base.load("mine", {"pover": 1.0})
    del sys.modules["stages.pruning.mine"]


def test_a_changed_file_is_refused_until_it_is_plugged_in_again(package: Path, folder: Path) -> None:
    path, _ = write_plug(ADDRESS, "mine", folder.parent)
    before = path.read_bytes()
    package.write_text(MINE + "\n")
    with pytest.raises(DataError, match="run `fastdrive plug my_pkg.my_pruner:MyPruner`"):
        base.load("mine", {})
    write_plug(ADDRESS, "mine", folder.parent)
    assert path.read_bytes() != before  # which DVC sees
    assert base.load("mine", {}).power == 2.0
    del sys.modules["stages.pruning.mine"]


def test_a_protocol_is_a_class_with_prepare_and_judge(package: Path, tmp_path: Path) -> None:
    (tmp_path / "planning").mkdir()
    path, _ = write_plug("my_pkg.my_pruner:MyProtocol", "mine", tmp_path)
    made: dict[str, object] = {}
    exec(path.read_text(), made)
    assert made["TIMES"] == "at 1, 2, 3 s"
    assert made["score"](None, 5) == 5  # type: ignore[operator]


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("my_pkg.nothing:MyPruner", "a module my_pkg.nothing on Python's path"),
        ("nowhere.my_pruner:MyPruner", "a module nowhere.my_pruner on Python's path"),
        ("my_pkg.my_pruner:MyPrune", "did you mean 'MyPruner'"),
        ("my_pkg.my_pruner:torch", "a class of my_pkg.my_pruner"),
        ("my_pkg.my_pruner:Words", "a subclass of stages.pruning.base.Pruner"),
    ],
)
def test_what_is_no_pruner_is_refused_by_load_and_plug(package: Path, address: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=told):
        fastdrive.load(address)
    with pytest.raises(ParamsError, match=told):
        write_plug(address, "mine", tmp_path)


def test_unknown_and_lacking_options_are_named(package: Path) -> None:
    with pytest.raises(ParamsError, match="options of my_pkg.my_pruner:MyPruner: power; got unknown: pover"):
        fastdrive.load(ADDRESS, pover=1.0)


def test_a_file_of_the_tree_is_never_written_over(package: Path) -> None:
    with pytest.raises(DataError, match=r"divprune.py, which stands in stages/pruning"):
        write_plug(ADDRESS, "divprune")
    assert not (plugs.STAGES / "pruning" / "mine.py").exists()


def test_a_name_that_params_could_not_hold_is_refused(package: Path, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="small letters"):
        write_plug(ADDRESS, "My-Pruner", tmp_path)


def test_an_address_in_params_is_told_to_be_plugged_in(tmp_path: Path) -> None:
    text = Path(__file__).parents[1].joinpath("params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("protocol: omnidrive", "protocol: my_pkg.my_protocol:Mine"))
    with pytest.raises(ParamsError, match="run `fastdrive plug my_pkg.my_protocol:Mine`"):
        read_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["models/recon", "models:/reconpruner@champion", "recon", "a:", ":B", "a.:B", "a b:C"])
def test_folders_registry_and_names_are_no_addresses(text: str) -> None:
    assert not is_address(text)


def test_every_kind_is_told_by_what_it_has() -> None:
    from stages.masks.nuscenes_geometry import Annotator
    from stages.vla.toy import Driver

    assert kind_of(Annotator, "a:B") == "masks"
    assert kind_of(Driver, "a:B") == "vla"
