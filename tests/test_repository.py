"""Rules of the repository: import layers, profiles, what no file may hold or call."""

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
CODE = [ROOT / "fastdrive.py", *sorted(path for name in ("stages", "flows") for path in (ROOT / name).rglob("*.py"))]
PROFILES = ["params.yaml", "infra/params/smoke.yaml", "infra/params/paper.yaml"]
BARE = ("pruning", "backbone", "vla", "training", "efficiency")  # folders that a bare GPU machine imports


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def graph() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.mark.process
def test_imports_go_one_way() -> None:
    linted = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout


def test_no_value_of_params_is_part_of_a_shell_command() -> None:
    assert not [entry["cmd"] for entry in graph().values() if "${" in entry["cmd"]]


def leaves(value: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from leaves(part, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix


def test_every_key_of_params_is_read() -> None:
    names = set[str]()
    for path in CODE:
        for node in ast.walk(tree(path)):
            match node:
                case ast.Attribute(attr=name) | ast.Constant(value=str(name)):
                    names.add(name)
                case ast.AnnAssign(target=ast.Name(id=name)) if path.name != "params.py":
                    names.add(name)  # an option is a field of the plug-in's dataclass
    plugins = {"annotators", "pruners", "trained"}
    keys = [key for key in leaves(read_params(ROOT / "params.yaml").model_dump()) if key.split(".")[0] not in plugins]
    assert len(keys) > 60
    assert not [key for key in keys if key.split(".")[-1] not in names]


def test_profiles_have_the_keys_of_the_default_and_are_valid() -> None:
    default, *others = ({*leaves(yaml.safe_load((ROOT / file).read_text()))} for file in PROFILES)
    for file in PROFILES:
        read_params(ROOT / file)
    assert [keys ^ default for keys in others] == [set(), set()]


@pytest.mark.process
def test_the_model_folders_import_on_a_bare_gpu_machine() -> None:
    """With torch, transformers, numpy, safetensors, jaxtyping and pytorch-msssim (which needs only torch)."""
    absent = ["nuscenes", "mlflow", "prefect", "dvc", "deepspeed", "pyarrow", "pandas", "cv2", "matplotlib", "shapely"]
    absent += ["scipy", "sklearn", "pydantic", "jinja2", "torchvision", "PIL", "beartype"]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in CODE]
    names = [name.removesuffix(".__init__") for name in names if name.split(".")[1:2] and name.split(".")[1] in BARE]
    program = f"import sys\nfor name in {absent!r}: sys.modules[name] = None\n"
    program += "\n".join(f"import {name}" for name in names)
    imported = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert imported.returncode == 0, imported.stderr[-2000:]


PICKLES = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "marshal", "shelve"}
FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "yaml.load",
    "yaml.unsafe_load",
}
CHECKED = {"shell", "weights_only", "allow_pickle", "trust_remote_code"}
STARTS = {f"subprocess.{verb}" for verb in ("run", "Popen", "call", "check_call", "check_output")}


def unsafe(path: Path) -> Iterator[str]:
    """Imports of pickles, and calls that hand text to a shell or run what they read."""
    full, nodes = dict[str, str](), list(ast.walk(tree(path)))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in PICKLES)
        elif isinstance(node, ast.ImportFrom):
            yield from [node.module] if (node.module or "").split(".")[0] in PICKLES and node.module else []
            full |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for call in (node for node in nodes if isinstance(node, ast.Call)):
        name = full.get(ast.unparse(call.func), ast.unparse(call.func))
        words = {word.arg: ast.unparse(word.value) for word in call.keywords if word.arg in CHECKED}
        text = call.args and isinstance(call.args[0], ast.Constant | ast.JoinedStr | ast.BinOp)
        texts = text and not (isinstance(call.args[0], ast.BinOp) and isinstance(call.args[0].left, ast.List))
        if (
            name in FORBIDDEN
            or (name in STARTS and (texts or "shell" in words))
            or (name == "torch.load" and words.get("weights_only") != "True")
            or (name.split(".")[-1] in ("extract", "extractall") and not name.startswith("re."))
            or any(words.get(key, "False") != "False" for key in ("allow_pickle", "trust_remote_code"))
        ):
            yield f"line {call.lineno}: {name}"


def test_no_file_starts_a_shell_or_runs_what_it_reads() -> None:
    assert {str(path): found for path in CODE if (found := list(unsafe(path)))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import subprocess; subprocess.run('ls ' + name)",
        "from subprocess import check_output; check_output(f'git {name}')",
        "import subprocess; subprocess.Popen(['ls'], shell=True)",
        "import torch; torch.load(path)",
        "import tarfile; tarfile.open(path).extractall(folder, filter='data')",
        "import numpy as np; np.load(path, allow_pickle=True)",
    ],
)
def test_the_rule_finds_unsafe_code(line: str, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(line)
    assert list(unsafe(tmp_path / "code.py"))


def test_no_file_names_an_index_of_packages() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    marks = ["pypi" + ".org", "python" + "hosted", "index" + "-url =", "find" + "-links", "download.py" + "torch"]
    for path in (ROOT / name for name in listed.stdout.split("\0") if name):
        data = path.read_bytes() if path.is_file() else b""
        assert not [mark for mark in marks if mark.encode() in data], path


def test_every_package_of_the_lock_has_a_hash() -> None:
    entries = re.split(r"\n(?=[a-z0-9])", (ROOT / "requirements.lock").read_text().strip())
    assert len(entries) > 100
    assert not [entry[:40] for entry in entries if not re.match(r"[\w.\-]+==\S+ \\\n    --hash=sha256:\w{64}", entry)]
