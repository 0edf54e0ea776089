"""Nothing of ours hands text to a shell, and nothing it reads may name code to run."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = sorted(path for folder in ("stages", "flows") for path in (ROOT / folder).rglob("*.py")) + [
    ROOT / "fastdrive.py"
]
STARTS = {"run", "Popen", "call", "check_call", "check_output"}
SHELLS = {
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell",
}
UNSAFE = {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "pickle.load", "pickle.loads", "numpy.load_pickle"}


@cache
def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Every call of a file with its dotted name; names of `from` imports in full."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    full = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return list(named(tree, full))


def named(tree: ast.AST, full: dict[str, str]) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = ast.unparse(node.func)
            yield full.get(name, name), node


def is_text(node: ast.expr) -> bool:
    """Whether an argument is one text: a constant, an f-string, or texts put together."""
    match node:
        case ast.Constant(value=str()) | ast.JoinedStr():
            return True
        case ast.BinOp(left=left, right=right):
            return is_text(left) or is_text(right)
    return False


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def faults(path: Path) -> Iterator[str]:
    for name, call in calls(path):
        owner, _, verb = name.rpartition(".")
        words = {word.arg: word.value for word in call.keywords}
        if owner == "subprocess" and verb in STARTS:
            first = call.args[0] if call.args else words.get("args")
            if "shell" in words or first is None or is_text(first):
                yield f"line {call.lineno}: {name} of a text"
        safe = words.get("weights_only")
        if name == "torch.load" and not (isinstance(safe, ast.Constant) and safe.value is True):
            yield f"line {call.lineno}: torch.load without weights_only=True"
        if verb in {"extract", "extractall"} and owner not in {"re"}:
            yield f"line {call.lineno}: {name}"
        trusted = [key for key in ("allow_pickle", "trust_remote_code") if key in words and not is_false(words[key])]
        if name in SHELLS | UNSAFE or trusted:
            yield f"line {call.lineno}: {name}"


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_starts_a_shell_or_reads_code(path: Path) -> None:
    assert not list(faults(path))


@pytest.mark.parametrize(
    "line",
    [
        "import subprocess; subprocess.run('ls ' + name)",
        "from subprocess import check_output; check_output(f'git {name}')",
        "import subprocess; subprocess.Popen(['ls'], shell=True)",
        "import os; os.popen(name)",
        "import torch; torch.load(path)",
        "import torch; torch.load(path, weights_only=False)",
        "import yaml; yaml.load(text, yaml.Loader)",
        "import tarfile; tarfile.open(path).extractall(folder, filter='data')",
        "import numpy as np; np.load(path, allow_pickle=True)",
    ],
)
def test_the_rule_sees_what_it_is_for(line: str, tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text(line)
    assert list(faults(path))
