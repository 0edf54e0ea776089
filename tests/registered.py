"""A checkout with a trained pruner, its scores and costs, a commit and the dvc.lock that says so; and a store."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import pyarrow as pa
import torch
import yaml

from stages.backbone.qwen import DecoderShape
from stages.core import io
from stages.core.params import Params, read_params
from stages.core.provenance import lineage
from stages.planning.scoring import SAMPLE_COLUMNS
from stages.pruning import checkpoint
from stages.pruning.recon import ReconPruner
from stages.registry.register import register
from stages.registry.versions import Registry, Version

ROOT = Path(__file__).parents[1]
SHAPE = DecoderShape(width=24, heads=2, kv_heads=1, mlp=32, rope_theta=10.0, mrope_section=(2, 2, 2))
GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
FRAMES = 12  # in four scenes


def make_checkout(root: Path, pruner: str = "recon", seed: int = 0, l2_cm: float = 40.0) -> Params:
    """Files of `pruner` in `root`, all committed and locked; every plan is `l2_cm` away at each horizon."""
    if not (root / "params.yaml").exists():
        tree = yaml.safe_load((ROOT / "params.yaml").read_text())
        tree["registry"]["samples"] = FRAMES
        (root / "params.yaml").write_text(yaml.safe_dump(tree))
        (root / "requirements.lock").write_text("torch==2.15.0\n")
        (root / ".gitignore").write_text("/data/\n/models/\n/results/\n/mlflow.db*\n/mlartifacts/\n/runs/\n/.local/\n")
        subprocess.run([*GIT, "init", "-q"], cwd=root, check=True)
    params = read_params(root / "params.yaml")
    torch.manual_seed(seed)
    config = {"layer": asdict(SHAPE), "encoder": "e" * 16, "objective": "reconstruction", "masks": "m"}
    config |= {
        "scenes": {"images": 9, "split": "train", "version": "v1.0"},
        "view": {"size_px": [84, 56], "fit": "pad"},
    }
    checkpoint.save(root / f"models/{pruner}", ReconPruner(SHAPE), config)
    write_scores(root, pruner, params.grid.percents, l2_cm)
    write_scores(root, "none", [0], 42.0)
    write_costs(root, pruner, params.grid.percents)
    lock(root, pruner)
    commit(root)
    return params


def write_scores(root: Path, name: str, percents: list[int], l2_cm: float, frames: int = FRAMES) -> None:
    shared = {"parsed": True, "event": None, "foreground_recall": 0.5}
    rows = [
        dict.fromkeys(SAMPLE_COLUMNS)
        | shared
        | {f"l2_m_{s}s": l2_cm / 100 + 0.01 * (frame % 3) for s in (1, 2, 3)}
        | {f"collision_{s}s": frame == 0 and s == 3 for s in (1, 2, 3)}
        | {f"intersection_{s}s": False for s in (1, 2, 3)}
        | {"pruned_percent": percent, "token": f"t{frame}", "scene": f"s{frame % 4}"}
        for percent in percents
        for frame in range(frames)
    ]
    kept = [{key: row[key] for key in SAMPLE_COLUMNS} for row in rows]
    table = pa.Table.from_pylist(kept, schema=pa.schema(list(SAMPLE_COLUMNS.items())))
    io.write_parquet(root / f"results/scores/{name}.parquet", table)
    summary = {
        "l2_cm_avg": l2_cm + 1,
        "n": FRAMES,
        "unparsed": 0,
        "collision_pct_avg": 100 / FRAMES / 3,  # one, at the last of three horizons
        "intersection_pct_avg": 0.0,
    }
    summary |= {f"{key}_{end}": 1.0 for key in ("l2_cm_avg", "collision_pct_avg") for end in ("low", "high")}
    totals = [{"method": name, "pruned_percent": percent, **summary} for percent in percents]
    io.write_json(root / f"results/scores/{name}.json", {"method": name, "protocol": "omnidrive", "rows": totals})


def write_costs(root: Path, name: str, percents: list[int]) -> None:
    rows = [{"percent": p, "ratio": {"with_vision": 1 + p / 50}} for p in [0, *percents]]
    io.write_json(root / f"results/efficiency/{name}.json", {"paper": {"rows": rows}})
    speedups = {"again": {"ratio": 1.0}} | {str(p): {"ratio": 1 + p / 100} for p in percents}
    io.write_json(root / f"results/latency/{name}.json", {"phases": {"end_to_end": {"speedups": speedups}}})


def lock(root: Path, pruner: str) -> None:
    """A dvc.lock with the stages that make the pruner and its results."""
    outs = {
        f"train_pruner@{pruner}": [f"models/{pruner}"],
        "score_plans": [f"results/scores/{pruner}.json", f"results/scores/{pruner}.parquet"],
        "profile_efficiency": [f"results/efficiency/{pruner}.json"],
    }
    weights = io.sha256(root / f"models/{pruner}/model.safetensors")[:32]
    stages = {
        stage: {"cmd": f"python -m stages.{stage}", "outs": [{"path": path, "md5": weights} for path in paths]}
        for stage, paths in outs.items()
    }
    (root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}, indent=1))


def commit(root: Path, message: str = "state") -> str:
    subprocess.run([*GIT, "add", "."], cwd=root, check=True)
    subprocess.run([*GIT, "commit", "-q", "--allow-empty", "-m", message], cwd=root, check=True)
    return subprocess.run(
        [*GIT, "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


def training_run(registry: Registry, experiment: str, pruner: str, more: Mapping[str, str] | None = None) -> str:
    """A finished run in the store, as tracking leaves it of train_pruner in this checkout."""
    client = registry.client
    found = client.get_experiment_by_name(experiment)
    place = (
        found.experiment_id if found else client.create_experiment(experiment, (Path.cwd() / "mlartifacts").as_uri())
    )
    stage = f"train_pruner@{pruner}"
    weights = {"weights.sha256": io.sha256(Path("models") / pruner / "model.safetensors")}
    run = client.create_run(place, tags=lineage(Path.cwd(), stage) | weights | dict(more or {}), run_name=stage)
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def register_version(params: Params, seed: int, l2_cm: float = 40.0, pruner: str = "recon") -> Version:
    """Train, score, commit and register: version `seed + 1`, where seeds count from 0."""
    make_checkout(Path.cwd(), pruner, seed, l2_cm)
    registry = Registry(params.registry.name)
    flow_run = {"prefect.flow_run_id": f"00000000-0000-4000-8000-{seed:012}"}
    training_run(registry, params.tracking.experiment, pruner, flow_run)
    return register_clean(registry, pruner, params)[0]


def register_clean(registry: Registry, pruner: str, params: Params) -> tuple[Version, bool]:
    """Register with a DVC that finds nothing changed: this checkout has no dvc.yaml."""
    with mock.patch("stages.registry.register.stale_stages", return_value=[]):
        return register(registry, pruner, params)
