"""A checkout with a graph of three DVC stages, one of them a matrix of two cells."""

import os
from pathlib import Path

import yaml

PARAMS = {"seed": 1, "rows": ["a", "b"], "options": {"a": {"x": 1}, "b": {"x": 2}}, "other": 0}
GRAPH = {
    "make": {"cmd": "echo 1 > data", "params": ["seed"], "outs": ["data"]},
    "plan": {
        "matrix": {"row": "${rows}"},
        "cmd": "cp data out_${item.row}",
        "params": ["options.${item.row}"],
        "deps": ["data"],
        "outs": ["out_${item.row}"],
    },
    "report": {"cmd": "cat out_a out_b > page", "deps": ["out_a", "out_b"], "outs": ["page"]},
}


def dvc_checkout(root: Path, run: bool = False) -> None:
    """Write params.yaml and dvc.yaml into `root`; `run`: reproduce all stages once, in this process."""
    from dvc.repo import Repo

    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": GRAPH}, sort_keys=False))
    Repo.init(str(root), no_scm=True)
    if run:
        before = os.getcwd()
        os.chdir(root)
        try:
            with Repo(str(root)) as repo:
                repo.reproduce()
        finally:
            os.chdir(before)
