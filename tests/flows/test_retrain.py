"""Retraining of a small graph: new scenes become a pushed, committed, registered candidate, or the drift check says no.

The graph is small, but the registry, the drift check, DVC with its remote and git are the real ones.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from registered import GIT, commit, make_checkout

from stages.registry.versions import Registry

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # MLflow's own

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


def make_small_checkout(root: Path, empty_store: Path) -> tuple[Path, Path]:
    """The checkout, and the file of scenes and their foreground shares that stands for its data set."""
    checkout, manifest = root / "checkout", root / "manifest.json"
    checkout.mkdir()
    shutil.copy(empty_store, checkout / "mlflow.db")
    make_checkout(checkout)
    for name in ("models", "results"):
        shutil.rmtree(checkout / name, ignore_errors=True)
    (checkout / "dvc.lock").unlink()
    (checkout / "stage.py").write_text(STAGE.replace("MANIFEST", str(manifest)))
    (checkout / "dvc.yaml").write_text(GRAPH.replace("MANIFEST", str(manifest)))
    with open(checkout / ".gitignore", "a") as file:
        file.write("/data/\n/reports/\n__pycache__/\n")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=checkout, check=True)
    commit(checkout)
    return checkout, manifest


# One process, since each starts its own server for half a minute.
STEPS = """
import json, subprocess, sys
from pathlib import Path
from flows.retrain import retrain
from prefect.testing.utilities import prefect_test_harness
from stages.registry.versions import Registry

manifest = Path(sys.argv[1])

def step(name, scenes=None, **words):
    if scenes:
        manifest.write_text(json.dumps(scenes))
    try:
        result = retrain(**words)
    except Exception as error:
        result = f"{type(error).__name__}: {error}"
    step.branch = result.rpartition(" ")[2]
    print("STEP", json.dumps([name, result]), flush=True)

four = {f"s{n}": 0.3 for n in range(4)}
with prefect_test_harness(server_startup_timeout=180):
    step("first", four, when="drift")
    Registry("reconpruner").point("champion", "1")
    step("again")
    subprocess.run(["git", "merge", "--quiet", step.branch], check=True)
    step("merged")
    step("more of the same", four | {"s4": 0.3}, when="drift")
    step("drift", {scene: 0.5 for scene in four}, when="drift")
    Path("note.txt").write_text("mine")
    step("dirty checkout")
    Path("note.txt").unlink()
    Path(".local/retrain/stage.py").write_text("mine")
    step("dirty clone")
"""


@pytest.fixture(scope="module")
def flown(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str], str]]:
    """The checkout behind the steps, the result of each, and the whole output."""
    root = tmp_path_factory.mktemp("retrained")
    checkout, manifest = make_small_checkout(root, empty_store)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "MLFLOW"))}
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), env.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, "-c", STEPS, manifest],
        cwd=checkout,
        env=env | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    steps = dict(json.loads(line[5:]) for line in ended.stdout.splitlines() if line.startswith("STEP "))
    yield checkout, steps, ended.stderr
    shutil.rmtree(root)


def git(checkout: Path, *words: str) -> str:
    return subprocess.run([*GIT, *words], cwd=checkout, check=True, capture_output=True, text=True).stdout


Flown = tuple[Path, dict[str, str], str]


def branch(steps: dict[str, str], name: str) -> str:
    return steps[name].rpartition(" ")[2]


def test_the_first_retrain_leaves_a_candidate_whose_lock_is_on_a_branch(flown: Flown) -> None:
    checkout, steps, output = flown
    assert steps["first"].startswith("version 1 is candidate; its dvc.lock is on branch retrain/2"), output[-3000:]
    first = branch(steps, "first")
    made = git(checkout, "diff", "--name-only", f"{first}~", first).split()
    assert set(made) == {"dvc.lock", "metrics/scores.json"}
    assert "score_plans" in git(checkout, "log", "-1", "--format=%b", first)
    assert git(checkout, "status", "--porcelain") == ""  # the checkout itself is as it was
    assert list((checkout / "mlartifacts").rglob("model.safetensors"))  # and has the version, not the clone


def test_what_was_made_is_in_the_remote_and_the_branch_names_it(flown: Flown) -> None:
    checkout, steps, _ = flown
    held = [path for path in (checkout / ".local/dvc-remote").rglob("*") if path.is_file()]
    assert len(held) >= 6
    locked = git(checkout, "show", f"{branch(steps, 'first')}:dvc.lock")
    assert "train_pruner@recon" in locked


def test_the_candidate_is_one_that_the_gate_could_take(flown: Flown, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout, steps, _ = flown
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{checkout}/mlflow.db")
    tags: dict[str, Any] = dict(Registry("reconpruner").version("1").tags)
    assert (tags["git.dirty"], tags["dvc.status"]) == ("false", "clean")
    assert tags["git.commit"] == git(checkout, "rev-parse", branch(steps, "first")).strip()


def test_the_same_data_again_is_the_same_version_on_the_same_branch(flown: Flown) -> None:
    _, steps, output = flown
    assert steps["again"] == steps["first"]
    assert output.count("recon is version 1") == 1


def test_once_the_branch_is_merged_there_is_nothing_to_do(flown: Flown) -> None:
    assert flown[1]["merged"] == "nothing changed"


def test_new_scenes_like_the_old_ones_are_scored_and_not_trained_on(flown: Flown) -> None:
    _, steps, _ = flown
    assert steps["more of the same"] == "changed, but no drift: nothing was trained"


def test_drift_trains_a_second_version(flown: Flown) -> None:
    _, steps, output = flown
    assert steps["drift"].startswith("version 2 is candidate"), output[-3000:]
    assert branch(steps, "drift") == branch(steps, "first") + ".2"


def test_the_numbers_of_its_day_are_kept_with_each_version(flown: Flown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{flown[0]}/mlflow.db")
    shares = [float(Registry("reconpruner").version(number).tags["drift.foreground_share"]) for number in ("1", "2")]
    assert shares == pytest.approx([0.3, 0.5])


def test_the_clone_shares_the_finished_masks_of_the_checkout(flown: Flown) -> None:
    checkout, _, _ = flown
    assert (checkout / ".local/retrain/runs/masks").samefile(checkout / "runs/masks")


def test_a_tree_with_what_no_commit_holds_is_refused(flown: Flown) -> None:
    checkout, steps, _ = flown
    assert steps["dirty checkout"].startswith(f"DataError: expected a clean tree in {checkout}, got '?? note.txt'")
    assert "stage.py" in steps["dirty clone"]
    assert (checkout / ".local/retrain/stage.py").read_text() == "mine"  # and it is left alone
