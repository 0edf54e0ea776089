"""Rows planned in shards by the released driver: names of work folders, restarts, workers, controls, rankings."""

import shutil
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from driven_root import make_workspace
from every_pruner import METHODS, load, make_view, ranking
from killed import killed_at

from stages import plan_routes
from stages.backbone.qwen import Model
from stages.core.errors import DataError
from stages.core.io import read_json
from stages.core.params import Params
from stages.pruning.base import ScoringPruner, TokenView
from stages.vla import impromptu, plan_job
from stages.vla.plan_job import PlanJob, PlanShard, partners, plan_shards, remembering
from stages.vla.plans import pace_path
from stages.vla.prefill import Prompt, prefill

GRID = (4, 6)

# Work folders.


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanJob:
    """Of a row whose checkpoints, images and CAN bus are files of one letter."""
    for name in (
        *("3B_AD/config.json", "3B_AD/more/template.jinja", "3B_AD/model.safetensors", "3B_AD/.cache/lock"),
        *("recon/model.safetensors", "nuscenes/v1.0/scene.json"),
        *("nuscenes/samples/CAM_FRONT/a.jpg", "nuscenes/samples/CAM_BACK/a.jpg"),
        *("nuscenes/can_bus/scene-0001_pose.json", "nuscenes/can_bus/scene-0001_ms_imu.json"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a")
    monkeypatch.chdir(tmp_path)
    options = {"checkpoint": "recon", "oracle_root": None}
    vla = {"checkpoint": "3B_AD", "checkpoint_sha256": "f"}
    return PlanJob("recon", "recon", options, (0,), "nuscenes", "v1.0", "val", vla, 8, 1, 5, False)


def test_what_is_read_by_a_row_names_its_folder_and_nothing_else(job: PlanJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_job, "SMALL_BYTES", 2)  # files beyond count by size alone
    names = [job.work, replace(job, batch_size=3).work, replace(job, vla=job.vla | {"fit": "pad"})]
    for name, text in (
        *(("3B_AD/config.json", "b"), ("3B_AD/more/template.jinja", "b"), ("3B_AD/generation_config.json", "b")),
        *(("3B_AD/model.safetensors", "aaa"), ("recon/model.safetensors", "b"), ("nuscenes/v1.0/scene.json", "b")),
        *(("nuscenes/can_bus/scene-0001_pose.json", "b"), ("nuscenes/can_bus/scene-0002_pose.json", "a")),
        ("nuscenes/samples/CAM_FRONT/a.jpg", "larger"),
    ):
        Path(name).write_text(text)
        names.append(replace(job).work)  # as a new process would look
    assert len(set(map(str, names))) == 12
    for name in (
        *("3B_AD/.cache/lock", "nuscenes/samples/CAM_BACK/a.jpg", "nuscenes/can_bus/scene-0001_ms_imu.json"),
        "3B_AD/model.safetensors",
    ):
        Path(name).write_text("bbb")
        assert replace(job).work == names[-1]
    stock = plan_job.version
    monkeypatch.setattr(plan_job, "version", lambda name: "5.0" if name == "transformers" else stock(name))
    assert replace(job).work != names[-1]


def test_shards_hold_whole_scenes_in_their_order() -> None:
    found = plan_shards([["a", "b"], ["c"], ["d"]], 2)
    assert found == [PlanShard(0, ("a", "b", "c")), PlanShard(1, ("d",))]


# Controls; what they show a driver is in tests/test_plan_routes.py.


def test_the_other_image_is_half_the_split_further_on_or_the_first_of_another_scene_from_there() -> None:
    assert partners({"a": "1", "b": "1", "c": "2", "d": "2"}) == {"a": "c", "b": "d", "c": "a", "d": "b"}
    assert partners({"a": "1", "b": "1", "c": "1", "d": "2"}) == {"a": "d", "b": "d", "c": "d", "d": "b"}
    with pytest.raises(DataError, match="at least two scenes"):
        partners({"a": "scene", "b": "scene"})


# A pruner whose scores are remembered chooses as ever, is asked no more often, and is left as it was.


@dataclass(frozen=True)
class Counting(ScoringPruner):
    """Prefers later tokens, and counts how often it is asked."""

    asked: list[int]

    def score(self, view: TokenView) -> torch.Tensor:
        self.asked.append(1)
        B, N, _ = view.tokens.shape
        return torch.arange(float(N)).expand(B, N)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "none"])
def test_every_method_chooses_the_same_tokens_and_those_that_rank_are_remembered(name: str) -> None:
    view, pruner = make_view(2, (GRID,)), load(name)
    twin, scores = remembering(pruner)
    for ours, theirs in zip(twin.select_each(view, [12, 6]), pruner.select_each(view, [12, 6]), strict=True):
        assert torch.equal(ours.indices, theirs.indices)
    assert list(scores) == (["image0", "image1"] if ranking(name) else [])
    for i, row in enumerate(scores.values()):
        best = sorted(np.argsort(-row, kind="stable")[:6].tolist())
        assert best == pruner.select(view, 6).indices[i].tolist()


def test_a_ranking_is_asked_once_for_all_ratios_and_keeps_its_name() -> None:
    pruner = Counting([])
    twin, scores = remembering(pruner)
    twin.select_each(make_view(2, (GRID,)), [12, 6])
    assert pruner.asked == [1]
    assert scores["image1"].tolist() == list(range(24))
    assert (type(twin), repr(twin)) == (Counting, repr(pruner))
    assert "score" not in vars(pruner)


@torch.no_grad()
def test_inside_the_language_model_scores_of_all_tokens_are_remembered_once(tiny_model: Model) -> None:
    prompt = Prompt(torch.tensor([[4, 7]] * 2), torch.tensor([[5, 9, 11]] * 2))
    view, pruner = make_view(2, (GRID,)), load("fastv")
    twin, scores = remembering(pruner)
    for K in (12, 6):
        read = prefill(tiny_model, view, twin, K, prompt)
        assert torch.equal(read.kept, prefill(tiny_model, view, pruner, K, prompt).kept)
        for row, kept in zip(scores.values(), read.kept, strict=True):
            assert sorted(np.argsort(-row, kind="stable")[:K].tolist()) == kept.tolist()


# Whole rows on a tiny snapshot.


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
    plan_job.scenes_of.cache_clear()
    return whole[1]


def run_row(name: str, params: Params, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Plan a row; return its files by name."""
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
    pace = read_json(pace_path("random_keep"), "make")
    assert (pace["samples"], pace["images_encoded"]) == (8, 8)
    assert pace["scorings"] == 7  # two of the eight questions are equally long
    assert pace["questions"] == {"from_file": 4, "built": 1, "built_without_can_bus": 3}
    assert set(pace["remarks"]) == {"25", "50", "75"}
    assert pace["full_run"]["hours"] == pytest.approx(6019 * 16 / pace["answers_per_s"] / 3600)
    # The next row does not read the weights again to prove them
    monkeypatch.setattr(impromptu.io, "sha256", lambda path: pytest.fail(f"read again: {path}"))
    impromptu.verify(Path("3B_AD"), params.vla.checkpoint_sha256)


@pytest.mark.process
def test_plans_are_the_same_bytes_by_several_processes_after_a_kill_and_for_other_batches_and_shards(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert killed_at("shard-0001-0.parquet", lambda: run_row("none", params, monkeypatch)) == -signal.SIGKILL
    assert not Path("results/plans").exists()
    planned, stock = list[str](), plan_job.write_plans
    monkeypatch.setattr(plan_job, "write_plans", lambda path, plans: planned.append(path.name) or stock(path, plans))
    resumed = run_row("none", params, monkeypatch)
    assert planned == ["shard-0001-0.parquet"]
    assert run_row("none", changed(params, batch_size=1, scenes_per_shard=2), monkeypatch) == resumed
    assert planned[1:] == ["shard-0000-0.parquet"]  # nothing is kept of a finished row


@pytest.mark.parametrize("suffix", ["-0.parquet", ".json"])
def test_a_damaged_part_or_note_of_a_former_run_is_made_again(params: Params, suffix: str) -> None:
    job = plan_routes.job_of("none", params)
    shard = shard_of(job)
    assert job.plan(shard) == "shard-0000"
    path = job.work / f"shard-0000{suffix}"
    path.write_bytes(path.read_bytes()[:-3] + b"x")
    assert job.finished(shard) is None
    job.plan(shard)
    assert job.finished(shard) is not None
    assert job.finished(replace(shard, tokens=shard.tokens[1:])) is None


def shard_of(job: PlanJob) -> PlanShard:
    """A shard of two key frames."""
    scenes = plan_job.load(job)[0]
    return PlanShard(0, tuple(scenes.tokens_of_scene(scenes.split(job.split)[0])[:2]))
