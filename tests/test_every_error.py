"""Every error that a user can meet says what was wanted, what came, and a command that runs."""

import ast
import re
import shutil
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from stages import cli
from stages.core import errors
from stages.core.errors import ParamsError

ROOT = Path(__file__).parents[1]
KINDS = {name for name in vars(errors) if name.endswith("Error")}
FILES = sorted(
    str(path.relative_to(ROOT))
    for path in [*ROOT.glob("stages/**/*.py"), *ROOT.glob("flows/**/*.py"), ROOT / "fastdrive.py"]
)
RAISED = re.compile(rf"\b({'|'.join(KINDS)})\(")
# Debian's and the machine's own: there, or what the words tell to install.
PROGRAMS = {"git", "apt-get", "pip", "nvidia-smi", "ss", "mlflow", "prefect", "uv", "df", "sudo"}
PROGRAMS |= {"unset", "source", "ulimit"}  # of the shell


def raised(file: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in KINDS:
            yield node


def test_there_are_some() -> None:
    assert sum(len(list(raised(file))) for file in FILES) > 150


@pytest.mark.parametrize("file", [file for file in FILES if RAISED.search((ROOT / file).read_text())])
def test_every_error_of_a_file_has_its_three_parts(file: str) -> None:
    for call in raised(file):
        given = {word.arg: word.value for word in call.keywords}
        assert set(given) in ({"wanted", "came", "then"}, {None}), f"{file}:{call.lineno}"
        for part in given.values():
            assert not (isinstance(part, ast.Constant) and not str(part.value).strip()), f"{file}:{call.lineno}"


def commands(file: str) -> Iterator[tuple[int, str]]:
    """What stands between backticks in the words of a file, but for its documentation; `{}` where code fills in."""
    tree = ast.parse((ROOT / file).read_text())
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        text = ""
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside | documentation:
            text = node.value
        for command in re.findall(r"`([^`]+)`", text):
            yield node.lineno, command


@cache
def stages() -> dict[str, object]:
    graph: dict[str, object] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return graph


@cache
def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def runs(command: str) -> bool:
    """Whether the program, module, target, stage or verb is there; True for what is no command (a key, a name)."""
    words = command.removeprefix(".venv/bin/").split()
    match words:
        case ["python" | "python3", "-m", module, *_]:
            return "{" in module or find_spec(module) is not None
        case ["dvc", "repro", *rest] if names := [word for word in rest if not word.startswith("-")]:
            return all("{" in name or name.partition("@")[0] in stages() for name in names)
        case ["make", *rest]:
            return all(word in targets() for word in rest if "=" not in word and "{" not in word)
        case ["fastdrive", verb, *_]:
            return verb in cli.names()
        case [program, _, *_] if re.fullmatch(r"[a-z][a-z0-9-]+", program):
            return program in PROGRAMS or shutil.which(program) is not None
    return True


@pytest.mark.parametrize("file", FILES)
def test_every_command_that_a_file_names_is_there(file: str) -> None:
    assert not [found for found in commands(file) if not runs(found[1])]


@pytest.mark.parametrize(
    "command", ["python -m stages.nope", "dvc repro nope@recon", "make nope", "fastdrive nope", "nope --help"]
)
def test_a_command_that_there_is_not_is_found(command: str) -> None:
    assert not runs(command)


def test_words_without_a_command_get_the_one_that_runs_the_work_again() -> None:
    error = ParamsError(expected="a", got="b", fix="edit vla.name in params.yaml")
    assert error.told("dvc repro plan_routes").endswith(
        "next: edit vla.name in params.yaml, then `dvc repro plan_routes`"
    )


def test_words_with_a_command_stay_as_they_are() -> None:
    error = ParamsError(expected="a", got="b", fix="`dvc repro make_world`, which draws it")
    assert error.told("dvc repro plan_routes") == str(error)
