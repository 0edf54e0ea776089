"""A released snapshot is whole, and the one that params name, before anything is loaded from it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from tiny_impromptu import vla_section, write_snapshot

from stages.core.errors import DataError, ParamsError
from stages.vla import impromptu
from stages.vla.base import driver_options, load
from stages.vla.impromptu import require, verify, weights_hash

INDEX, FIRST = "model.safetensors.index.json", "model-00001-of-00006.safetensors"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("models") / "3B_AD"
    return folder, write_snapshot(folder)


@pytest.fixture
def folder(original: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(impromptu, "PROOFS", tmp_path / "proofs")
    return Path(shutil.copytree(original[0], tmp_path / "3B_AD"))


def test_the_hash_is_what_sha256sum_gives(folder: Path, original: tuple[Path, str]) -> None:
    made = subprocess.run("sha256sum *.safetensors | sha256sum", shell=True, cwd=folder, capture_output=True, text=True)
    assert made.stdout.split()[0] == weights_hash(require(folder)) == original[1]


def test_weights_are_read_once_and_again_when_they_change(
    folder: Path, original: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    verify(folder, original[1])
    hashed, stock = list[Path](), impromptu.io.sha256
    monkeypatch.setattr(impromptu.io, "sha256", lambda path: hashed.append(path) or stock(path))
    verify(folder, original[1])
    assert hashed == []
    first = require(folder)[0]
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=original[1]):
        verify(folder, original[1])
    assert len(hashed) == len(require(folder))


def test_without_a_named_hash_the_refusal_says_which_it_is(folder: Path, original: tuple[Path, str]) -> None:
    with pytest.raises(ParamsError, match=f"vla.checkpoint_sha256: {original[1]}"):
        load("impromptu", driver_options(vla_section(folder, None), 1, str))


def test_all_that_is_missing_is_named_with_the_command_that_fetches_it(folder: Path) -> None:
    for name in ("tokenizer.json", "model-00002-of-00006.safetensors"):
        (folder / name).unlink()
    command = rf"hf download aaaaaap/ImpromptuVLAModel --include '3B_AD/\*' --local-dir {folder.parent}"
    with pytest.raises(DataError, match=rf"no tokenizer.json, model-00002-of-00006.safetensors.*{command}"):
        require(folder)
    with pytest.raises(DataError, match=r"no such folder.*3B_AD_finetune"):
        require(folder / "nowhere")


def test_a_snapshot_in_one_file_needs_no_index(folder: Path) -> None:
    (folder / FIRST).rename(folder / "model.safetensors")
    for path in folder.glob("model-*.safetensors"):
        path.unlink()
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": "model.safetensors"}}))
    with pytest.raises(DataError, match="beside those that are verified"):
        require(folder)
    (folder / INDEX).unlink()
    assert [path.name for path in require(folder)] == ["model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "model-00007-of-00006.safetensors", "adapter_config.json"])
def test_weights_that_would_be_loaded_unverified_are_refused(name: str, folder: Path) -> None:
    shutil.copy(folder / FIRST, folder / name)
    with pytest.raises(DataError, match=rf"beside those that are verified.*{name}"):
        require(folder)


def test_other_weights_that_the_config_names_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": "other/model.safetensors"}))
    with pytest.raises(DataError, match="transformers_weights"):
        require(folder)


@pytest.mark.parametrize("index", [{}, {"weight_map": []}, {"weight_map": {}}, {"weight_map": {"a": "../other"}}])
def test_an_index_that_names_no_files_beside_it_is_refused(index: dict[str, object], folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(DataError, match=INDEX):
        require(folder)


def test_weights_that_lack_a_tensor_are_refused(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    gone = index["weight_map"]["model.layers.0.mlp.down_proj.weight"]
    index["weight_map"] = {name: file for name, file in index["weight_map"].items() if file != gone}
    (folder / INDEX).write_text(json.dumps(index))
    (folder / gone).unlink()
    with pytest.raises(DataError, match=r"missing or of another shape"):
        load("impromptu", driver_options(vla_section(folder, weights_hash(require(folder))), 1, str))
