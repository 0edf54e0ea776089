"""A graph of five stages as dvc.yaml has them, for tests of what is read from it."""

from typing import Any

PARAMS: dict[str, Any] = {
    "grid": {"trained": ["recon", "other"], "pruners": ["none"]},
    "scenes": {"root": "data/world", "version": "v1"},
    "train_pruner": {"steps": 300, "lr": 0.1},
    "masks": {"size": [4, 2]},
}
STAGES: dict[str, Any] = {
    "make_world": {"cmd": "python -m stages.make_world", "params": ["scenes"], "outs": ["data/world"]},
    "generate_masks": {
        "cmd": "python -m stages.generate_masks",
        "params": ["masks.size"],
        "deps": ["${scenes.root}/${scenes.version}", "stages/generate_masks.py"],
        "outs": ["data/masks"],
        "metrics": [{"metrics/masks.json": {"cache": False}}],
    },
    "train_pruner": {
        "matrix": {"pruner": "${grid.trained}"},
        "cmd": "python -m stages.train_pruner",
        "params": ["train_pruner"],
        "deps": ["data/masks", "stages/train_pruner.py"],
        "outs": ["models/${item.pruner}"],
    },
    "plan_trained": {
        "matrix": {"pruner": "${grid.trained}"},
        "cmd": "python -m stages.plan_routes",
        "deps": ["models/${item.pruner}"],
        "outs": ["results/plans/${item.pruner}"],
    },
    "make_report": {"cmd": "python -m stages.make_report", "deps": ["results/plans"], "outs": ["reports"]},
}
