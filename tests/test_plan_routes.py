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
from stages.plan_routes import throughput_path
from stages.pruning.base import Pruner, TokenView
from stages.pruning.random_keep import random_scores
from stages.scenes.base import Frame
from stages.scenes.nuscenes import Scenes
from stages.vla import plan_job
from stages.vla.base import Plan
from stages.vla.plans import plans_path

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

    def tokens(self, split: str) -> list[str]:
        return sum(SCENES.values(), [])

    def frame(self, token: str) -> Frame:
        return replace(make_frame(Path(f"{token}.png"), token), speed_mps=float(token[1]))


class FakeDriver:
    """Drives nowhere and remembers what it was shown, and how bright that was."""

    def __init__(self) -> None:
        self.shown: dict[str, Path] = {}
        self.brightest = 0

    def choose(self, pruner: Pruner, frames: Sequence[Frame], counts: Sequence[int]) -> None:
        """As a driver does, and once for all counts; the visual tokens are all alike."""
        tokens, positions = torch.zeros(len(frames), 4, 8), torch.zeros(3, len(frames), 4, dtype=torch.int64)
        view = TokenView(tokens, ((2, 2),), positions, tuple(frame.token for frame in frames), "encoder")
        pruner.select_each(view, counts)

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
        if self.method.endswith(("random_keep", "divprune")):
            self.choose(pruner, frames, [1, 2])
        plans = [Plan(frame.token, np.zeros((6, 2)), "", True, np.arange(4), 4, 4, (2, 2)) for frame in frames]
        return dict.fromkeys(percents, plans)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    monkeypatch.chdir(tmp_path)
    driver = FakeDriver()
    plan_job.load.cache_clear()
    for module in (plan_routes, plan_job):
        monkeypatch.setattr(module, "open_scenes", lambda root, version: FakeScenes())
    monkeypatch.setattr(plan_job.vla, "load", lambda name, options: driver)
    return driver


def plan(name: str, monkeypatch: pytest.MonkeyPatch, share: str | None = None, scenes_per_shard: int = 8) -> Params:
    params = read_params(PARAMS)
    mine = params.plan_routes.model_copy(update={"scenes_per_shard": scenes_per_shard})
    params = params.model_copy(update={"plan_routes": mine})
    monkeypatch.setattr(sys, "argv", ["plan_routes", name])
    plan_routes.main(params, share)
    return params


def test_a_ruler_drives_at_every_ratio_with_its_own_images(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    plan("oracle", monkeypatch)
    assert [plans_path("oracle", percent).is_file() for percent in (0, 25, 50, 75)] == [False, True, True, True]
    assert driver.shown == {token: Path(f"{token}.png") for token in ("a0", "a1", "b0", "b1")}


def test_scores_of_a_ranking_lie_beside_its_lowest_ratio_alone(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = plan("random_keep", monkeypatch).pruners["random_keep"]["seed"]
    lowest, *others = [read_parquet(plans_path("random_keep", p), "make").to_pylist() for p in (25, 50, 75)]
    for row in lowest:
        assert row["scores"] == random_scores(4, row["token"], seed).tolist()
    assert {row["scores"] for rows in others for row in rows} == {None}


def test_a_method_that_does_not_rank_leaves_no_scores(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    plan("divprune", monkeypatch)
    assert {row["scores"] for row in read_parquet(plans_path("divprune", 25), "make").to_pylist()} == {None}


def test_the_other_image_is_driven_unpruned_with_the_image_of_another_scene(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan("other_image", monkeypatch)
    assert {token: path.stem for token, path in driver.shown.items()} == {
        "a0": "b0",
        "a1": "b1",
        "b0": "a0",
        "b1": "a1",
    }
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


def test_a_row_tells_what_it_counted_and_what_a_full_run_would_take_and_leaves_no_work_behind(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan("random_keep", monkeypatch)
    told = read_json(throughput_path("random_keep"), "make")
    assert {key: told[key] for key in ("row", "driver", "samples", "ratios", "images_encoded")} == {
        "row": "random_keep",
        "driver": "toy",
        "samples": 4,
        "ratios": 3,
        "images_encoded": 4,
    }
    assert told["remarks"] == {"25": {"odd": 4}, "50": {"odd": 4}, "75": {"odd": 4}}
    assert told["full_run"]["projected"]
    assert list(Path("runs/plans").iterdir()) == []


def test_a_share_makes_its_shards_and_publishes_nothing(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    plan("none", monkeypatch, "1/2", 1)
    assert set(driver.shown) == {"b0", "b1"}
    assert not Path("results").exists()
    (folder,) = Path("runs/plans/none").iterdir()
    assert [path.name for path in sorted(folder.iterdir())] == ["shard-0001-0.parquet", "shard-0001.json"]
