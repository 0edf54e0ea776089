"""docs/reference from the code: keys of params.yaml, commands, exit codes, plug-ins, files, hardware.

python -m tests.reference_docs        # writes them; tests/test_reference_docs.py compares
"""

import ast
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from stages import errors, verbs
from stages.journal.graph import Stage, read_graph
from stages.keys.fields import key, keys
from stages.outlook.memory import memory_bytes
from stages.outlook.shape import driver_parameters, driver_shape, trained_parameters
from stages.params import read_params

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "reference"
MADE = "Made from the code by `python -m tests.reference_docs`; a test compares.\n"
KINDS = {"pruning": "\nclass Pruner", "planning": "\ndef judge(", "masks": "\nclass Annotator", "vla": "\nclass Driver"}
TITLES = {"pruning": "Pruners", "planning": "Protocols", "masks": "Annotators", "vla": "Drivers"}
CARDS = {"24 GB": (24e9, 1), "H200 (141 GB)": (141e9, 1), "2 x H800 (80 GB each)": (80e9, 2)}
TRAIN_FRAMES = 28130  # key frames of nuScenes' train split


def pages() -> dict[str, str]:
    """File name -> text of every generated page."""
    return {
        "params.md": _page("Keys of params.yaml", _params()),
        "commands.md": _page("Commands and exit codes", [*_exit_codes(), *_commands()]),
        "plugins.md": _page("Pruners, protocols, annotators, drivers", _plugins()),
        "files.md": _page("Files between stages", _files()),
        "hardware.md": _page("Hardware: memory and time by stage", _hardware()),
    }


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A pipe table."""
    lines = [list(headings), ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


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
    for name in verbs.names():
        told = CliRunner().invoke(verbs.app(), [name, "--help"], env={"COLUMNS": "100"}).output
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
    yield from _computed()
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


def _computed() -> Iterator[str]:
    params = read_params(ROOT / "infra/params/paper.yaml")
    shape, graph, main = driver_shape(params.vla), read_graph(ROOT), params.grid.trained[0]
    weights = driver_parameters(shape) / 1e9, trained_parameters(shape, params.training(main)) / 1e6
    yield "## Computed: nuScenes and the 3B model (infra/params/paper.yaml)\n"
    yield (
        "Closed forms of `stages/outlook/memory.py`: what torch holds, without what kernels take for themselves. "
        "**Computed, not measured**; no GPU was lent for these rows. The driver has "
        f"{weights[0]:.2f} G parameters, `train_pruner` learns {weights[1]:.0f} M.\n"
    )
    frames = {"train": TRAIN_FRAMES, "eval": 6019}
    rows = [_row(graph[name], params, frames, shape) for name in (f"train_pruner@{main}", "plan_routes@none")]
    cards = [f"GB on {card} (computed)" for card in CARDS]
    yield table(["stage, one process a card", *cards, "measured on a GPU"], rows)
    benches = [f"`{path.relative_to(ROOT)}`" for path in sorted((ROOT / "infra/benchmarks").glob("*.json"))]
    yield (
        "\nTime on a GPU: `make bench-gpu` measures phases at 3B shapes with random weights and writes them to "
        f"`infra/benchmarks`, from where the report shows them. There: {', '.join(benches) or 'nothing yet'}. "
        "`fastdrive plan` prints guesses, marked so, and replaces them by what your machine measured.\n"
    )


def _row(stage: Stage, params: Any, frames: dict[str, int], shape: Any) -> list[str]:
    cells = []
    for memory, cards in CARDS.values():
        needed = memory_bytes(stage, params, frames, shape, cards)
        cells.append(f"{needed / 1e9:.1f} ({'fits' if needed <= memory else 'does not fit: lower the batch size'})")
    return [f"`{stage.name}`", *cells, ""]


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
        print(FOLDER / name)
