"""Rows planned in shards by the released driver: restarts, workers, controls, counts."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from driven_root import make_workspace
from PIL import Image

from stages import plan_routes
from stages.core.io import read_json
from stages.core.params import Params
from stages.plan_routes import throughput_path
from stages.vla import impromptu, plan_job
from stages.vla.plan_job import PlanJob, PlanShard, ShardPlanner, finished, plan_shards

ROOT = Path(__file__).parents[2]
KILLED = """
import os, signal, sys
from pathlib import Path
from stages import plan_routes
from stages.core.params import Params
from stages.vla import plan_job

stock = plan_job.write_plans

def write(path, plans):
    if "0001" in path.name:
        os.kill(os.getpid(), signal.SIGKILL)
    stock(path, plans)

plan_job.write_plans, sys.argv = write, ["plan_routes", "none"]
plan_routes.main(Params.model_validate_json(Path("params.json").read_text()))
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Params]:
    folder = tmp_path_factory.mktemp("workspace")
    return folder, make_workspace(folder)


@pytest.fixture
def params(whole: tuple[Path, Params], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A fresh working directory with its own root and snapshot."""
    for name in ("nuscenes", "3B_AD"):
        shutil.copytree(whole[0] / name, tmp_path / name)
    shutil.copy(whole[0] / "questions.json", tmp_path)
    monkeypatch.chdir(tmp_path)
    plan_job.load.cache_clear()
    return whole[1]


def run_row(name: str, params: Params, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The plan files of a row by name, and what it was told."""
    monkeypatch.setattr(sys, "argv", ["plan_routes", name])
    plan_routes.main(params)
    return {path.name: path.read_bytes() for path in sorted(Path(f"results/plans/{name}").iterdir())}


def changed(params: Params, **plan: object) -> Params:
    return params.model_copy(update={"plan_routes": params.plan_routes.model_copy(update=plan)})


def test_each_image_is_encoded_once_and_each_batch_scored_once_for_all_ratios(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = run_row("random_keep", params, monkeypatch)
    assert list(files) == ["25.parquet", "50.parquet", "75.parquet"]
    told = read_json(throughput_path("random_keep"), "make")
    assert (told["samples"], told["images_encoded"]) == (8, 8)
    assert told["scorings"] == len(batches_of(params)) == 7  # two of the eight questions are equally long
    counted = {"from_file": 4, "built": 1, "built_without_can_bus": 3, "of_other_images": 1}
    assert told["questions"] == counted
    assert set(told["remarks"]) == {"25", "50", "75"}
    assert told["full_run"]["hours"] == pytest.approx(6019 * 16 / told["answers_per_s"] / 3600)


def batches_of(params: Params) -> list[object]:
    job = plan_routes.job_of("random_keep", params)
    at_hand = plan_job.load(job.key())
    scenes = [at_hand.scenes.tokens_of_scene(name) for name in at_hand.scenes.split("both")]
    return [batch for tokens in scenes for batch in at_hand.driver.batches([at_hand.scenes.frame(t) for t in tokens])]


def test_plans_are_the_same_bytes_for_any_number_of_workers_and_for_batches_of_one(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    alone = run_row("none", params, monkeypatch)
    assert run_row("none", changed(params, workers=2), monkeypatch) == alone
    assert run_row("none", changed(params, batch_size=1), monkeypatch) == alone
    assert run_row("none", changed(params, scenes_per_shard=2), monkeypatch) == alone


def test_a_killed_run_goes_on_where_its_last_whole_shard_ended(
    params: Params, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "params.json").write_text(params.model_dump_json())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED], env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert not Path("results/plans").exists()
    planned = list[str]()
    stock = plan_job.write_plans
    monkeypatch.setattr(plan_job, "write_plans", lambda path, plans: planned.append(path.name) or stock(path, plans))
    resumed = run_row("none", params, monkeypatch)
    assert planned == ["shard-0001-0.parquet"]
    assert run_row("none", params, monkeypatch) == resumed
    assert planned[1:] == ["shard-0000-0.parquet", "shard-0001-0.parquet"]  # nothing is kept of a finished row


@pytest.mark.parametrize("suffix", ["-0.parquet", ".json"])
def test_a_damaged_part_or_note_of_a_former_run_is_made_again(params: Params, suffix: str, tmp_path: Path) -> None:
    job = plan_routes.job_of("none", params)
    maker, (shard, _) = ShardPlanner(job, tmp_path / "work"), shards_of(job)
    assert maker(shard) == "shard-0000"
    path = tmp_path / "work" / f"shard-0000{suffix}"
    first = path.read_bytes()
    path.write_bytes(first[:-3] + b"x")
    assert finished(maker.work, shard, job.percents) is None
    maker(shard)
    assert finished(maker.work, shard, job.percents) is not None
    assert finished(maker.work, replace(shard, tokens=shard.tokens[1:]), job.percents) is None


def shards_of(job: PlanJob) -> list[PlanShard]:
    scenes = plan_job.load(job.key()).scenes
    return plan_shards(((name, scenes.tokens_of_scene(name)) for name in scenes.split(job.split)), 1)


def test_another_param_checkpoint_question_or_table_is_other_work_and_who_works_is_not(params: Params) -> None:
    def folder(**plan: object) -> Path:
        return plan_routes.job_of("none", changed(params, **plan)).work_folder()

    first = folder()
    assert folder(workers=7) == first
    other_vla = params.vla.model_copy(update={"questions_sha256": "0" * 64})
    others = {folder(batch_size=3), plan_routes.job_of("fastv", params).work_folder()}
    others |= {plan_routes.job_of("none", params.model_copy(update={"vla": other_vla})).work_folder()}
    Path("nuscenes/can_bus/scene-0061_steeranglefeedback.json").unlink()
    others |= {folder()}
    table = Path("nuscenes/v1.0-mini/scene.json")
    table.write_text(json.dumps(json.loads(table.read_text())) + "\n")
    others |= {folder()}
    assert len(others | {first}) == 6


@pytest.mark.parametrize("control", ["black_image", "other_image"])
def test_the_released_driver_drives_unpruned_with_the_images_of_a_control(
    control: str, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, shown = (run_row(name, params, monkeypatch)["0.parquet"] for name in ("none", control))
    assert plain != shown
    told = read_json(throughput_path(control), "make")
    assert (told["samples"], told["images_encoded"]) == (8, 8)
    change_images(control)  # the questions stay: now each key frame is shown what the control has shown
    assert run_row("none", params, monkeypatch)["0.parquet"] == shown


def change_images(control: str) -> None:
    """Blacken all images, or give each key frame that of the other scene's key frame of the same place."""
    paths = sorted(Path("nuscenes/samples/CAM_FRONT").glob("*.jpg"))
    if control == "black_image":
        for path in paths:
            Image.new("RGB", (160, 90)).save(path)
        return
    for one, other in zip(paths[:4], paths[14:18], strict=True):
        a, b = one.read_bytes(), other.read_bytes()
        one.write_bytes(b)
        other.write_bytes(a)


def test_shards_can_be_made_on_a_ray_cluster(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    pools = []
    monkeypatch.setattr(plan_routes, "map_on_ray", lambda maker, todo, pool: pools.append(pool) or map(maker, todo))
    run_row("none", changed(params, engine="ray"), monkeypatch)
    assert pools == [params.plan_routes.ray]
    assert read_json(throughput_path("none"), "make")["workers"] == 2


def test_the_proof_of_a_snapshot_is_shared_by_rows(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    run_row("none", params, monkeypatch)
    monkeypatch.setattr(impromptu.io, "sha256", lambda path: pytest.fail(f"read again: {path}"))
    impromptu.verify(Path("3B_AD"), params.vla.checkpoint_sha256)
