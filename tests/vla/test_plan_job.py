"""Shards of a row, and the name of the folder where they wait: another for all that shapes them."""

from pathlib import Path
from typing import Any

import pytest
from stages.routes import recipe as recipes
from stages.routes.recipe import PlanRecipe, PlanShard, plan_shards
from tests.closure import code_deps, graph

from stages.core.errors import DataError

OPTIONS = {"checkpoint": "recon", "oracle_root": None}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanRecipe:
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
    return PlanRecipe("recon", "recon", OPTIONS, (0,), "nuscenes", "v1.0", "val", vla, 8, 1, 5, False)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("3B_AD/config.json", "b"), ("3B_AD/more/template.jinja", "b"), ("3B_AD/generation_config.json", "b")),
        *(("recon/model.safetensors", "b"), ("nuscenes/v1.0/scene.json", "b")),
        *(("nuscenes/can_bus/scene-0001_pose.json", "b"), ("nuscenes/can_bus/scene-0001_steeranglefeedback.json", "b")),
        *(("nuscenes/can_bus/scene-0002_pose.json", "a"), ("nuscenes/samples/CAM_FRONT/a.jpg", "larger")),
    ],
)
def test_what_is_read_by_a_row_names_its_folder(name: str, text: str, recipe: PlanRecipe) -> None:
    first = recipe.work_folder()
    Path(name).write_text(text)
    assert recipe.work_folder() != first


@pytest.mark.parametrize(
    "name", ["3B_AD/.cache/lock", "nuscenes/samples/CAM_BACK/a.jpg", "nuscenes/can_bus/scene-0001_ms_imu.json"]
)
def test_what_no_row_reads_does_not(name: str, recipe: PlanRecipe) -> None:
    first = recipe.work_folder()
    Path(name).write_text("another")
    assert recipe.work_folder() == first


def test_large_weights_count_by_size_alone(recipe: PlanRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "SMALL_BYTES", 2)
    weights = Path("3B_AD/model.safetensors")
    names = []
    for text in ("aaa", "bbb", "aaaa"):
        weights.write_text(text)
        names.append(recipe.work_folder())
    assert names[0] == names[1] != names[2]


def test_another_transformers_is_other_work(recipe: PlanRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    first, stock = recipe.work_folder(), recipes.version
    monkeypatch.setattr(recipes, "version", lambda name: "5.0" if name == "transformers" else stock(name))
    assert recipe.work_folder() != first


def driven() -> list[tuple[str, dict[str, Any]]]:
    """Stages of dvc.yaml that plan in shards."""
    return [
        (name, stage)
        for name, stage in graph().items()
        if stage["cmd"] == "python -m stages.plan_routes" and name != "plan_bounds"
    ]


@pytest.mark.parametrize(("name", "stage"), driven())
def test_all_code_that_dvc_knows_of_a_row_names_its_folder(name: str, stage: dict[str, Any]) -> None:
    plain = {dep.replace("${item.pruner}", "none").replace("${vla.name}", "toy") for dep in code_deps(name, stage)}
    assert plain - {f"stages/{path}" for path in recipes.code_hashes()} == set()


def test_code_that_trains_or_times_a_driver_does_not_name_it() -> None:
    found = recipes.code_hashes()
    assert not [path for path in found if "__pycache__" in path or path.startswith(("vla/bench", "vla/recipe"))]
    assert "vla/fast/host.py" in found


def test_a_sample_token_in_two_shards_is_refused() -> None:
    with pytest.raises(DataError, match=r"b in scene-1 and again in scene-2.*splits.json"):
        plan_shards([("scene-1", ["a", "b"]), ("scene-2", ["b"])], 1)
    with pytest.raises(DataError, match="a in scene-1 and again in scene-1"):
        plan_shards([("scene-1", ["a"]), ("scene-1", ["a"])], 2)


def test_shards_hold_whole_scenes_in_their_order() -> None:
    found = plan_shards([("x", ["a", "b"]), ("y", ["c"]), ("z", ["d"])], 2)
    assert found == [PlanShard(0, ("x", "y"), ("a", "b", "c")), PlanShard(1, ("z",), ("d",))]
