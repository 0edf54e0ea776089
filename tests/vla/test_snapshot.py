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
    hashed = list[Path]()
    stock = impromptu.io.sha256
    monkeypatch.setattr(impromptu.io, "sha256", lambda path: hashed.append(path) or stock(path))
    verify(folder, original[1])
    assert hashed == []
    first = require(folder)[0]
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=rf"weights in .* with sha256 {original[1]}"):
        verify(folder, original[1])
    assert len(hashed) == len(require(folder))


def test_without_a_named_hash_the_refusal_says_which_it_is(folder: Path, original: tuple[Path, str]) -> None:
    with pytest.raises(ParamsError, match=f"vla.checkpoint_sha256: {original[1]}"):
        load("impromptu", driver_options(vla_section(folder, None), 1, str))


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"]
    + ["model-00002-of-00006.safetensors"]
)  # fmt: skip
def test_a_file_that_is_missing_is_named_with_where_it_comes_from_and_where_it_goes(name: str, folder: Path) -> None:
    (folder / name).unlink()
    place = rf"hf download aaaaaap/ImpromptuVLAModel --include '3B_AD/\*' --local-dir {folder.parent}"
    with pytest.raises(DataError, match=rf"got no {name}; next: {place}.*vla.checkpoint: {folder}"):
        require(folder)


def test_all_that_is_missing_is_named_at_once(folder: Path) -> None:
    for path in (*folder.glob("*.safetensors"), folder / "tokenizer.json", folder / "model.safetensors.index.json"):
        path.unlink()
    with pytest.raises(DataError, match=r"no tokenizer.json, model.safetensors.index.json or model.safetensors"):
        require(folder)
    with pytest.raises(DataError, match=r"no such folder.*--include '3B_AD_finetune/\*'"):
        require(folder / "nowhere")


def test_a_snapshot_in_one_file_needs_no_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").unlink()
    (folder / "model-00001-of-00006.safetensors").rename(folder / "model.safetensors")
    for path in folder.glob("model-*.safetensors"):
        path.unlink()
    assert [path.name for path in require(folder)] == ["model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "model-00007-of-00006.safetensors", "adapter_config.json"])
def test_weights_that_would_be_loaded_unverified_are_refused_and_moved_by_the_command(
    name: str, folder: Path, original: tuple[Path, str]
) -> None:
    shutil.copy(folder / "model-00001-of-00006.safetensors", folder / name)
    with pytest.raises(DataError, match=rf"beside those that are verified.*; got {name}; next: mkdir") as refused:
        verify(folder, original[1])
    subprocess.run(str(refused.value).split("next: ")[1], shell=True, check=True)
    verify(folder, original[1])


def test_an_index_beside_the_one_file_that_it_names_is_refused(folder: Path) -> None:
    whole = {"weight_map": {"a": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(whole))
    for path in folder.glob("model-*.safetensors"):
        path.rename(folder / "model.safetensors")
    with pytest.raises(DataError, match=r"got model.safetensors.index.json; next"):
        require(folder)


def test_other_weights_that_the_config_names_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": "other/model.safetensors"}))
    with pytest.raises(DataError, match=r"transformers_weights: other/model.safetensors in its config.json"):
        require(folder)


@pytest.mark.parametrize("index", [{}, {"weight_map": []}, {"weight_map": {}}, {"weight_map": {"a": "../other"}}])
def test_an_index_that_names_no_files_beside_it_is_refused(index: dict[str, object], folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"model.safetensors.index.json"):
        require(folder)


def test_weights_that_lack_a_tensor_are_refused(folder: Path) -> None:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    gone = index["weight_map"]["model.layers.0.mlp.down_proj.weight"]
    index["weight_map"] = {name: file for name, file in index["weight_map"].items() if file != gone}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / gone).unlink()
    with pytest.raises(DataError, match=r"missing or of another shape"):
        load("impromptu", driver_options(vla_section(folder, weights_hash(require(folder))), 1, str))
