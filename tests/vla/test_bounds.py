import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from one_frame import make_frame

from stages.core.errors import DataError
from stages.core.io import write_manifest
from stages.vla.bounds import plan_bound, read_blind_floor

FRAME = make_frame(Path("front.png"))  # 5 m/s


def write(folder: Path, **table: object) -> Path:
    (folder / "blind_floor.json").write_text(json.dumps(table))
    write_manifest(folder, [folder / "blind_floor.json"], {})
    return folder


def straight(speed_mps: float) -> list[list[float]]:
    return [[speed_mps * step / 2, 0.0] for step in range(1, 7)]


@pytest.mark.parametrize(("speed_mps", "taken"), [(5.0, 4.0), (7.1, 10.0), (6.9, 4.0), (0.0, 1.0), (30.0, 10.0)])
def test_the_blind_floor_takes_the_nearest_speed(speed_mps: float, taken: float, tmp_path: Path) -> None:
    speeds = [1.0, 4.0, 10.0]
    floor = read_blind_floor(write(tmp_path, speed_mps=speeds, waypoints_m=[straight(s) for s in speeds]))
    plan = floor.plan(replace(FRAME, speed_mps=speed_mps))
    assert plan.waypoints_m.tolist() == straight(taken)
    assert (plan.parsed, plan.tokens_total, len(plan.kept)) == (True, 0, 0)


def test_a_driver_without_a_blind_floor_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"blind_floor\.json.*dvc repro train_driver"):
        read_blind_floor(tmp_path)


def test_a_floor_of_another_training_is_refused(tmp_path: Path) -> None:
    write(tmp_path, speed_mps=[1.0], waypoints_m=[straight(1)])
    (tmp_path / "blind_floor.json").write_text("{}")
    with pytest.raises(DataError, match="sha256"):
        read_blind_floor(tmp_path)


@pytest.mark.parametrize(
    "table",
    [
        {"speed_mps": [1.0]},
        {"speed_mps": [1.0, 2.0], "waypoints_m": [straight(1)]},
        {"speed_mps": [], "waypoints_m": []},
        {"speed_mps": [1.0], "waypoints_m": [straight(1)[:5]]},
        {"speed_mps": ["fast"], "waypoints_m": [straight(1)]},
    ],
)
def test_a_table_that_is_not_a_plan_for_each_speed_is_refused(table: dict, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dvc repro train_driver"):
        read_blind_floor(write(tmp_path, **table))


def test_a_constant_velocity_goes_straight_on() -> None:
    assert plan_bound("constant_velocity", FRAME).waypoints_m.tolist() == straight(5)


def test_past_the_recorded_future_the_last_position_holds() -> None:
    future_m = np.full((6, 2), np.nan)
    future_m[:2] = [[1, 0], [2, 1]]
    plan = plan_bound("recorded_future", replace(FRAME, future_ego_m=future_m))
    assert plan.waypoints_m.tolist() == [[1, 0]] + [[2, 1]] * 5
