"""docs/reference from the code: keys of params.yaml, commands, exit codes, plug-ins, files, hardware.

python -m tests.reference_docs        # writes them; tests/test_reference_docs.py compares
"""

import ast
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from tests.hardware_page import computed
from typer.testing import CliRunner

from stages import cli
from stages.core import errors
from stages.core.params import read_params
from stages.keys.fields import key, keys
from tests.pipe_table import table

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "reference"
MADE = "Made from the code by `python -m tests.reference_docs`; a test compares.\n"
KINDS = {"pruning": "\nclass Pruner", "planning": "\ndef judge(", "masks": "\nclass Annotator", "vla": "\nclass Driver"}
TITLES = {"pruning": "Pruners", "planning": "Protocols", "masks": "Annotators", "vla": "Drivers"}


def pages() -> dict[str, str]:
    """File name -> text of every generated page."""
    return {
        "params.md": _page("Keys of params.yaml", _params()),
        "commands.md": _page("Commands and exit codes", [*_exit_codes(), *_commands()]),
        "plugins.md": _page("Pruners, protocols, annotators, drivers", _plugins()),
        "files.md": _page("Files between stages", _files()),
        "hardware.md": _page("Hardware: memory and time by stage", _hardware()),
    }


def _page(title: str, parts: Sequence[str]) -> str:
    return f"# {title}\n\n{MADE}\n" + "\n".join(parts)


def _params() -> Iterator[str]:
    params = read_params(ROOT / "params.yaml")
    yield "Values are those of the embedded default. `fastdrive explain KEY` says also what a change runs again.\n"
    for section in type(params).model_fields:
        declared = [key(params, name) for name in keys(getattr(params, section), f"{section}.")]
        leaves = [one for one in declared if not isinstance(one.value, dict) or not one.value]
        rows = [[f"`{one.name}`", one.kind, f"`{json.dumps(one.value)}`", one.says] for one in leaves]
        yield f"## {section}\n\n{table(['key', 'type and bounds', 'value', 'what it is'], rows)}"


def _exit_codes() -> Iterator[str]:
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.InputError)]
    found = {cls.exit_code: cls for cls in classes if cls is not errors.InputError}
    rows: list[list[Any]] = [[0, "done"]]
    rows += [[code, (cls.__doc__ or "").splitlines()[0]] for code, cls in sorted(found.items())]
    rows += [
        [130, "Stopped by Ctrl-C: the same again goes on."],
        [143, "Stopped by SIGTERM: the same again goes on."],
    ]
    yield f"## Exit codes\n\n{table(['code', 'what it means'], rows)}"


def _commands() -> Iterator[str]:
    for name in cli.names():
        told = CliRunner().invoke(cli.app(), [name, "--help"], env={"COLUMNS": "100"}).output
        yield (
            f"## fastdrive {name}\n\n```\n" + "\n".join(line.rstrip() for line in told.strip().splitlines()) + "\n```\n"
        )


def _plugins() -> Iterator[str]:
    yield "File name = key of params.yaml = row of the tables. Of others: `fastdrive plug package.module:Class`.\n"
    for folder, mark in KINDS.items():
        files = [path for path in sorted((ROOT / "stages" / folder).glob("*.py")) if mark in path.read_text()]
        rows = [
            [f"`{path.stem}`", _first_line(path), ", ".join(_options(path))] for path in files if path.stem != "base"
        ]
        yield f"## {TITLES[folder]}\n\n{table(['name', 'what it is', 'options'], rows)}"


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]


def _options(path: Path) -> list[str]:
    """Annotated fields of the plug-in's class, with their defaults."""
    classes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
    found = [node for cls in classes if cls.name in ("Pruner", "Annotator") for node in cls.body]
    fields = [
        node for node in found if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation)
    ]
    return [f"`{ast.unparse(node)}`" for node in fields if ast.unparse(node.target) != "scenes"]


def _files() -> Iterator[str]:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    rows = []
    for name, stage in stages.items():
        outs = [*stage.get("outs", []), *stage.get("metrics", [])]
        paths = [f"`{out if isinstance(out, str) else next(iter(out))}`" for out in outs]
        reads = [f"`{dep}`" for dep in stage["deps"] if not dep.startswith("stages/")]
        rows.append([f"`{name}`", stage["desc"], ", ".join(reads), ", ".join(paths)])
    yield "Code deps are the import closure of each stage (`python -m tests.closure`) and not listed here.\n"
    yield table(["stage", "what it does", "reads", "writes"], rows)


def _hardware() -> Iterator[str]:
    yield from computed(ROOT)
    held = json.loads((ROOT / "stages/outlook/reference.json").read_text())
    yield f"\n## Measured: the embedded default on {held['machine']}, no GPU, {held['ended']}\n"
    yield (
        "The last run of each stage as `stages/outlook/reference.json` has it: its slowest cell, and all cells. "
        "Whether the machine did other work beside is not recorded there.\n"
    )
    stages: dict[str, list[float]] = {}
    for name, entry in held["stages"].items():
        stages.setdefault(name.partition("@")[0], []).append(entry["seconds"])
    rows = [[f"`{name}`", len(each), f"{max(each):.0f}", f"{sum(each):.0f}"] for name, each in stages.items()]
    yield table(["stage", "cells", "slowest, s", "all, s"], rows)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
        print(FOLDER / name)
