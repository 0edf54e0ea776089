"""The rules of the house as tests: who imports whom, what DVC tracks, sizes, and what no file may hold."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.core.params import read_params

ROOT = Path(__file__).parents[1]
CODE = sorted(str(path.relative_to(ROOT)) for folder in ("stages", "flows") for path in ROOT.glob(f"{folder}/**/*.py"))
PROFILES = ["params.yaml", "infra/params/smoke.yaml", "infra/params/paper.yaml"]

BARE = ("pruning", "backbone", "vla", "training", "efficiency")  # folders that a bare GPU machine imports


@cache
def committed() -> list[str]:
    """Every file of the checkout that git holds or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("no git here")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text())


def graph() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def test_imports_go_one_way() -> None:
    linted = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout


def test_no_value_of_params_is_part_of_a_shell_command() -> None:
    assert not [entry["cmd"] for entry in graph().values() if "${" in entry["cmd"]]


def test_every_key_of_params_is_read() -> None:
    names = set[str]()
    for file in set(CODE) - {"stages/core/params.py"}:
        for node in ast.walk(tree(file)):
            match node:
                case ast.Attribute(attr=name) | ast.Constant(value=str(name)):
                    names.add(name)
                case ast.AnnAssign(target=ast.Name(id=name)):  # an option is a field of the plug-in's dataclass
                    names.add(name)
    values = {"annotators", "pruners", "trained"}  # below these stand names of plug-ins
    keys = [key for key in leaves(read_params(ROOT / "params.yaml").model_dump()) if key.split(".")[0] not in values]
    assert len(keys) > 60
    assert not [key for key in keys if key.split(".")[-1] not in names]


def leaves(value: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from leaves(part, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix


def test_profiles_have_the_keys_of_the_default_and_are_valid() -> None:
    default, *others = ({*leaves(yaml.safe_load((ROOT / file).read_text()))} for file in PROFILES)
    for file in PROFILES:
        read_params(ROOT / file)
    assert [keys ^ default for keys in others] == [set(), set()]


def modules(file: str) -> Iterator[str]:
    """Names that `file` imports anywhere in it."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_the_model_folders_import_on_a_bare_gpu_machine() -> None:
    """With torch, transformers, numpy, safetensors and jaxtyping, and what those need, and nothing else of ours."""
    absent = ["nuscenes", "mlflow", "prefect", "dvc", "deepspeed", "pyarrow", "pandas", "cv2", "matplotlib", "shapely"]
    absent += ["scipy", "sklearn", "pydantic", "jinja2", "pytorch_msssim", "torchvision", "PIL", "beartype"]
    names = [file[:-3].replace("/", ".") for file in CODE for folder in BARE if file.startswith(f"stages/{folder}/")]
    program = f"import sys\nfor name in {absent!r}: sys.modules[name] = None\n"
    program += "\n".join(f"import {name.removesuffix('.__init__')}" for name in names)
    imported = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert imported.returncode == 0, imported.stderr[-2000:]


FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "marshal", "shelve"}


@pytest.mark.parametrize("file", CODE)
def test_nothing_runs_what_it_reads(file: str) -> None:
    assert not FORBIDDEN_IMPORTS & {name.split(".")[0] for name in modules(file)}
    for call in (node for node in ast.walk(tree(file)) if isinstance(node, ast.Call)):
        named = {word.arg: word.value for word in call.keywords}
        match call.func:
            case ast.Name(id=name):
                assert name not in {"eval", "exec", "compile"}, f"line {call.lineno}"
            case ast.Attribute(value=ast.Name(id=owner), attr=name):
                assert name not in {"extractall", "extract"}, f"line {call.lineno}"
                assert (owner, name) not in {("os", "system"), ("yaml", "load")}, f"line {call.lineno}"
                if (owner, name) == ("torch", "load"):
                    assert "weights_only" in named, f"line {call.lineno}"
        shell = named.get("shell")
        assert not (isinstance(shell, ast.Constant) and shell.value), f"line {call.lineno}"


def test_no_file_names_an_index_of_packages() -> None:
    marks = ["pypi" + ".org", "python" + "hosted", "index" + "-url =", "find" + "-links", "download.py" + "torch"]
    for name in committed():
        data = (ROOT / name).read_bytes()
        assert not [mark for mark in marks if mark.encode() in data], name


def test_every_package_of_the_lock_has_a_hash() -> None:
    entries = re.split(r"\n(?=[a-z0-9])", (ROOT / "requirements.lock").read_text().strip())
    assert len(entries) > 100
    assert not [entry[:40] for entry in entries if not re.match(r"[\w.\-]+==\S+ \\\n    --hash=sha256:\w{64}", entry)]
    assert {"uv", "ninja"} <= {entry.split("==")[0] for entry in entries}


@pytest.mark.parametrize(
    ("folder", "name"), [("pruning", "Pruner"), ("masks", "Annotator"), ("vla", "Driver"), ("planning", "score")]
)
def test_each_name_of_params_is_one_file_with_the_right_word_in_it(folder: str, name: str) -> None:
    params = read_params(ROOT / "params.yaml")
    wanted = {
        "pruning": list(params.pruners),
        "masks": list(params.annotators),
        "vla": [params.vla.name],
        "planning": [params.score_plans.protocol],
    }[folder]
    for plugin in wanted:
        defined = [node.name for node in tree(f"stages/{folder}/{plugin}.py").body if hasattr(node, "name")]
        assert name in defined
