"""A checkout whose small graph is retrained: registry, drift check, DVC with its remote and git are the real ones."""

import shutil
import subprocess
import sys
from pathlib import Path

from registered import commit, make_checkout

from stages.core import tracking

ROOT = Path(__file__).parents[2]
FOUR = '{"s0": 0.3, "s1": 0.3, "s2": 0.3, "s3": 0.3}'  # scenes and their foreground shares

GRAPH = """
stages:
  generate_masks:
    cmd: python stage.py masks
    deps: [stage.py, MANIFEST]
    outs: [data/masks]
  train_pruner:
    matrix: {pruner: [recon]}
    cmd: python stage.py train
    deps: [data/masks]
    outs: ["models/${item.pruner}"]
  score_plans:
    cmd: python stage.py score
    deps: [data/masks, models/recon]
    outs: [results/scores/recon.json, results/scores/recon.parquet, results/scores/none.parquet, results/plans/recon]
    metrics: [{metrics/scores.json: {cache: false}}]
  profile_efficiency:
    cmd: python stage.py profile
    deps: [models/recon]
    outs: [results/efficiency/recon.json, results/latency/recon.json]
  make_report:
    cmd: python stage.py report
    deps: [results/scores/recon.json, results/efficiency/recon.json]
    outs: [reports]
  make_world:  # as on real data: nothing is made from it
    cmd: python stage.py world
    outs: [data/world]
"""

STAGE = """
import json, sys
from dataclasses import asdict
from pathlib import Path
import pyarrow as pa
import torch
import registered
from stages.core import io
from stages.pruning.recon import ReconPruner
from stages.pruning import checkpoint

here, what, percents = Path.cwd(), sys.argv[1], [25, 50, 75]
scenes = json.loads(Path("MANIFEST").read_text())
if what == "masks":
    rows = [{"scene": scene, "foreground_share": share} for scene, share in scenes.items()]
    io.write_parquet(Path("data/masks/index.parquet"), pa.Table.from_pylist(rows))
if what == "train":
    torch.manual_seed(int(1000 * sum(scenes.values())))
    config = {"layer": asdict(registered.SHAPE), "encoder": "e" * 16, "objective": "reconstruction", "masks": "m"}
    config |= {"scenes": {"images": len(scenes), "split": "train", "version": "v1.0"}}
    config |= {"view": {"size_px": [84, 56], "fit": "pad"}}
    checkpoint.save(Path("models/recon"), ReconPruner(registered.SHAPE), config)
if what == "score":
    registered.write_scores(here, "recon", percents, 40.0)
    registered.write_scores(here, "none", [0], 42.0)
    Path("results/scores/none.json").unlink()
    plans = [{"token": f"t{frame}", "scores": [0.0, 1.0, 2.0]} for frame in range(registered.FRAMES)]
    io.write_parquet(Path("results/plans/recon/25.parquet"), pa.Table.from_pylist(plans))
    io.write_json(Path("metrics/scores.json"), {"l2_cm": 40.0})
if what == "profile":
    registered.write_costs(here, "recon", percents)
if what == "report":
    io.write_text(Path("reports/index.html"), "l2")
if what == "world":
    sys.exit("the drawn world is nobody's business on real data")
"""


def make_small_checkout(root: Path) -> tuple[Path, Path]:
    """The checkout, and the file of scenes and their foreground shares that stands for its data set."""
    checkout, manifest = root / "checkout", root / "manifest.json"
    checkout.mkdir()
    tracking.database(checkout)
    make_checkout(checkout)
    for name in ("models", "results"):
        shutil.rmtree(checkout / name, ignore_errors=True)
    (checkout / "dvc.lock").unlink()
    (checkout / "stage.py").write_text(STAGE.replace("MANIFEST", str(manifest)))
    (checkout / "dvc.yaml").write_text(GRAPH.replace("MANIFEST", str(manifest)))
    with open(checkout / ".gitignore", "a") as file:
        file.write("/data/\n/reports/\n__pycache__/\n")
    for words in (["init", "-q"], ["remote", "add", "-q", "-d", "store", str(root / "remote")]):
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=checkout, check=True)
    commit(checkout)
    return checkout, manifest
