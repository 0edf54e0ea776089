"""Shards of a row, and the name of the folder where they wait: another for all that shapes them."""

from pathlib import Path

import pytest

from stages.vla import plan_job
from stages.vla.plan_job import PlanJob, PlanShard, plan_shards

OPTIONS = {"checkpoint": "recon", "oracle_root": None}


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanJob:
    """Of a row whose checkpoints, images and CAN bus are files of one letter."""
    for name in (
        *("3B_AD/config.json", "3B_AD/chat_template.jinja", "3B_AD/more/template.jinja", "3B_AD/model.safetensors"),
        *("3B_AD/.cache/lock", "recon/model.safetensors", "nuscenes/v1.0/scene.json"),
        *("nuscenes/samples/CAM_FRONT/a.jpg", "nuscenes/samples/CAM_BACK/a.jpg"),
        *("nuscenes/can_bus/scene-0001_pose.json", "nuscenes/can_bus/scene-0001_steeranglefeedback.json"),
        *("nuscenes/can_bus/scene-0001_ms_imu.json",),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a")
    monkeypatch.chdir(tmp_path)
    vla = {"checkpoint": "3B_AD", "checkpoint_sha256": "f"}
    return PlanJob("recon", "recon", OPTIONS, (0,), "nuscenes", "v1.0", "val", vla, 8, 1, 5, False)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("3B_AD/config.json", "b"), ("3B_AD/more/template.jinja", "b"), ("3B_AD/generation_config.json", "b")),
        *(("recon/model.safetensors", "b"), ("nuscenes/v1.0/scene.json", "b")),
        *(("nuscenes/can_bus/scene-0001_pose.json", "b"), ("nuscenes/can_bus/scene-0001_steeranglefeedback.json", "b")),
        *(("nuscenes/can_bus/scene-0002_pose.json", "a"), ("nuscenes/samples/CAM_FRONT/a.jpg", "larger")),
    ],
)
def test_what_is_read_by_a_row_names_its_folder(name: str, text: str, job: PlanJob) -> None:
    first = job.work_folder()
    Path(name).write_text(text)
    assert job.work_folder() != first


@pytest.mark.parametrize(
    "name", ["3B_AD/.cache/lock", "nuscenes/samples/CAM_BACK/a.jpg", "nuscenes/can_bus/scene-0001_ms_imu.json"]
)
def test_what_no_row_reads_does_not(name: str, job: PlanJob) -> None:
    first = job.work_folder()
    Path(name).write_text("another")
    assert job.work_folder() == first


def test_large_weights_count_by_size_alone(job: PlanJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_job, "SMALL_BYTES", 2)
    weights = Path("3B_AD/model.safetensors")
    names = []
    for text in ("aaa", "bbb", "aaaa"):
        weights.write_text(text)
        names.append(job.work_folder())
    assert names[0] == names[1] != names[2]


def test_another_transformers_is_other_work(job: PlanJob, monkeypatch: pytest.MonkeyPatch) -> None:
    first, stock = job.work_folder(), plan_job.version
    monkeypatch.setattr(plan_job, "version", lambda name: "5.0" if name == "transformers" else stock(name))
    assert job.work_folder() != first


def test_shards_hold_whole_scenes_in_their_order() -> None:
    found = plan_shards([("x", ["a", "b"]), ("y", ["c"]), ("z", ["d"])], 2)
    assert found == [PlanShard(0, ("x", "y"), ("a", "b", "c")), PlanShard(1, ("z",), ("d",))]
