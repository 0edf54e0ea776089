"""What a driver is shown by each kind of row; the driver itself is a stand-in."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from one_frame import make_frame
from PIL import Image

from stages import plan_routes
from stages.core.io import read_json, read_parquet
from stages.core.params import Params, read_params
from stages.pruning.base import Pruner, TokenView
from stages.pruning.random_keep import random_scores
from stages.scenes.base import Frame
from stages.scenes.nuscenes import Scenes
from stages.vla import plan_job
from stages.vla.plans import Plan, pace_path, plans_path

PARAMS = Path(__file__).parents[1] / "params.yaml"
SCENES = {"scene-0": ["a0", "a1"], "scene-1": ["b0", "b1"]}


class FakeScenes(Scenes):
    """Two scenes of two key frames, whose front image is called like the key frame."""

    def __init__(self) -> None:
        """No tables."""

    def split(self, name: str) -> list[str]:
        return list(SCENES)

    def tokens_of_scene(self, scene: str) -> list[str]:
        return SCENES[scene]

    def frame(self, token: str) -> Frame:
        return replace(make_frame(Path(f"{token}.png"), token), speed_mps=float(token[1]))


class FakeDriver:
    """Drives nowhere and remembers what it was shown, and how bright that was."""

    def __init__(self) -> None:
        self.shown: dict[str, Path] = {}
        self.speeds_mps: dict[str, float] = {}
        self.brightest = 0

    def batches(self, frames: Sequence[Frame]) -> Iterator[Sequence[Frame]]:
        yield frames[:3]
        yield frames[3:]

    def remark(self, text: str) -> str:
        return "odd"

    def counts(self) -> dict[str, int]:
        return {"images_encoded": len(self.shown), "scorings": 0}

    def plan(self, frames: Sequence[Frame], pruner: Pruner, percents: Sequence[int]) -> dict[int, list[Plan]]:
        self.method = type(pruner).__module__
        for frame in frames:
            path = frame.cameras["CAM_FRONT"].path
            self.shown[frame.token] = path
            if path.is_file():
                self.brightest = max(self.brightest, int(np.array(Image.open(path)).max()))
            self.speeds_mps[frame.token] = frame.speed_mps
        if self.method.endswith(("random_keep", "divprune")):  # once for all counts; the visual tokens are all alike
            tokens, positions = torch.zeros(len(frames), 4, 8), torch.zeros(3, len(frames), 4, dtype=torch.int64)
            view = TokenView(tokens, ((2, 2),), positions, tuple(frame.token for frame in frames), "encoder")
            pruner.select_each(view, [1, 2])
        plans = [Plan(frame.token, np.zeros((6, 2)), "", True, np.arange(4), 4, 4, (2, 2)) for frame in frames]
        return dict.fromkeys(percents, plans)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    monkeypatch.chdir(tmp_path)
    driver = FakeDriver()
    plan_job.load.cache_clear()
    for module in (plan_routes, plan_job):
        monkeypatch.setattr(module, "scenes_of", lambda root, version: FakeScenes())
    monkeypatch.setattr(plan_job.vla, "load", lambda name, options: driver)
    return driver


def plan(name: str, monkeypatch: pytest.MonkeyPatch, share: str | None = None, **changed: object) -> Params:
    params = read_params(PARAMS)
    params = params.model_copy(update={"plan_routes": params.plan_routes.model_copy(update=changed)})
    monkeypatch.setattr(sys, "argv", ["plan_routes", name])
    plan_routes.main(params, share)
    return params


def test_scores_of_a_ranking_lie_beside_its_lowest_ratio_alone_and_nothing_is_left_behind(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = plan("random_keep", monkeypatch).pruners["random_keep"]["seed"]
    lowest, *others = [read_parquet(plans_path("random_keep", p), "make").to_pylist() for p in (25, 50, 75)]
    for row in lowest:
        assert row["scores"] == random_scores(4, row["token"], seed).tolist()
    assert {row["scores"] for rows in others for row in rows} == {None}
    assert not plans_path("random_keep", 0).exists()
    assert driver.shown == {token: Path(f"{token}.png") for token in ("a0", "a1", "b0", "b1")}
    pace = read_json(pace_path("random_keep"), "make")
    counted = {"row": "random_keep", "driver": "toy", "samples": 4, "ratios": 3, "images_encoded": 4}
    assert {key: pace[key] for key in counted} == counted
    assert pace["remarks"] == {"25": {"odd": 4}, "50": {"odd": 4}, "75": {"odd": 4}}
    assert pace["full_run"]["projected"]
    assert list(Path("runs/plans").iterdir()) == []


def test_a_method_that_does_not_rank_leaves_no_scores(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    plan("divprune", monkeypatch)
    assert {row["scores"] for row in read_parquet(plans_path("divprune", 25), "make").to_pylist()} == {None}


def test_the_other_image_is_driven_unpruned_with_the_image_of_another_scene(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan("other_image", monkeypatch)
    seen = {token: path.stem for token, path in driver.shown.items()}
    assert seen == {"a0": "b0", "a1": "b1", "b0": "a0", "b1": "a1"}
    assert driver.speeds_mps == {"a0": 0, "a1": 1, "b0": 0, "b1": 1}  # its own
    assert driver.method == "stages.pruning.none"
    assert plans_path("other_image", 0).is_file()


def test_the_black_image_is_there_while_the_driver_looks_and_gone_afterwards(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan("black_image", monkeypatch)
    assert len(driver.shown) == 4
    assert {path.name for path in driver.shown.values()} == {"84x56.png"}
    assert driver.brightest == 0
    assert not next(iter(driver.shown.values())).exists()


def test_a_share_makes_its_shards_and_publishes_nothing(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    plan("none", monkeypatch, "1/2", scenes_per_shard=1)
    assert set(driver.shown) == {"b0", "b1"}
    assert not Path("results").exists()
    (folder,) = Path("runs/plans/none").iterdir()
    assert [path.name for path in sorted(folder.iterdir())] == ["shard-0001-0.parquet", "shard-0001.json"]


def test_shards_can_be_made_on_a_ray_cluster(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    pools = []
    monkeypatch.setattr(plan_routes, "map_on_ray", lambda maker, todo, pool: pools.append(pool) or map(maker, todo))
    params = plan("none", monkeypatch, engine="ray", scenes_per_shard=1)
    assert pools == [params.plan_routes.ray]
    assert read_json(pace_path("none"), "make")["workers"] == 2
