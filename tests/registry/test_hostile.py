"""Untrusted input: a name with a path in it, a pickle, a header of 2 GB, a secret bound for the registry."""

import json
import os
import pickle
import resource
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from registered import ROOT, SHAPE, register_version

import fastdrive
from stages.core import tracking
from stages.core.errors import DataError, ParamsError
from stages.core.io import write_bytes, write_manifest
from stages.core.params import Params, read_params
from stages.pruning import base
from stages.registry.versions import Registry, fetch_model

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own
EMPTY = (8).to_bytes(8, "little") + b"{}      "  # safetensors without a tensor
HOSTILE = ["os.system", "../x", "os", "base", "__init__", "a/b", "recon.os", "", "none; rm -rf /", "$(touch x)"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_with_a_code_path_loads_nothing(name: str) -> None:
    with pytest.raises((ParamsError, DataError)):
        base.load(name, {})


@pytest.mark.parametrize("name", ["os.system", "../x", "a/b", "none; rm -rf /", "$(touch x)"])
@pytest.mark.parametrize("place", ["grid", "pruners", "registry"])
def test_params_take_no_such_name(place: str, name: str, tmp_path: Path) -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    if place == "grid":
        tree["grid"]["pruners"].append(name)
    elif place == "pruners":
        tree["pruners"][name] = {}
    else:
        tree["registry"]["name"] = name
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ParamsError):
        read_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("name", ["../x", "models:/..@champion", "models:/a b;c", "models:/x/../../y"])
def test_an_address_with_a_path_in_it_is_none(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    with pytest.raises((DataError, ParamsError)):
        fastdrive.load(name)


def folder_with(tmp_path: Path, config: dict[str, Any], weights: bytes) -> Path:
    """A folder whose manifest agrees with whatever lies in it."""
    folder = tmp_path / "model"
    write_bytes(folder / "model.safetensors", weights)
    write_bytes(folder / "config.json", json.dumps(config).encode())
    write_manifest(folder, [folder / "model.safetensors", folder / "config.json"], {})
    return folder


class Harmful:
    """Touches a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


CONFIG = {"layer": {**vars(SHAPE), "mrope_section": list(SHAPE.mrope_section)}, "encoder": "e"}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((2 << 30).to_bytes(8, "little") + b"{}", "header too large"),
        ((1 << 63).to_bytes(8, "little") + b"{}", "header too large"),
        ((90 << 20).to_bytes(8, "little") + b"{}", "header"),
        ((2).to_bytes(8, "little") + b"{", "header"),
        (b"", "header"),
    ],
)
def test_a_header_that_promises_more_than_there_is_is_refused_at_once(
    weights: bytes, message: str, tmp_path: Path
) -> None:
    folder = folder_with(tmp_path, CONFIG, weights)
    before_kb, began_s = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(DataError, match=rf"safetensors in .*{message}"):
        fastdrive.load(folder)
    assert time.process_time() - began_s < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 200_000


def test_a_checkpoint_that_is_a_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, CONFIG, pickle.dumps(Harmful(str(tmp_path / "touched"))))
    with pytest.raises(DataError, match="safetensors"):
        fastdrive.load(folder)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("layer", ["os.system", {"width": "os.system"}, None, [1]])
def test_a_config_that_names_code_in_the_place_of_shapes_is_refused(layer: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="config.json"):
        fastdrive.load(folder_with(tmp_path, {"layer": layer, "encoder": "e"}, EMPTY))


def test_nothing_in_the_store_holds_a_secret_of_the_environment(
    checkout: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "swordfish")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "swordfish-2")
    version = register_version(checkout, seed=0)
    registry = Registry("reconpruner")
    registry.tag(version.number, {"promotion.reason": "the password is swordfish"})
    registry.describe(version.number, "swordfish-2")
    assert registry.version("1").tags["promotion.reason"] == "the password is ***"
    with sqlite3.connect("mlflow.db") as database:
        assert not [line for line in database.iterdump() if "swordfish" in line]
    files = [path for path in Path("mlartifacts").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"swordfish" in path.read_bytes()]


def test_a_store_that_is_away_is_said_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:swordfish@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Exception, match="reconpruner: its aliases in http://") as message:
        fetch_model("models:/reconpruner@champion", tmp_path)
    assert "swordfish" not in str(message.value)


def test_whoever_touches_mlflow_forbids_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    tracking.settings()
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
