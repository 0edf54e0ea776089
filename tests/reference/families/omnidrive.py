"""The protocol omnidrive: every sample scores as the official metric class scores it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import plain_truth
from numpy.typing import NDArray

from stages.planning import base
from stages.planning.base import Truth

CATEGORIES = (  # rows of the plain nuScenes category table
    *(f"human.pedestrian.{n}" for n in ("adult", "child", "wheelchair", "stroller", "personal_mobility")),
    *("human.pedestrian.police_officer", "human.pedestrian.construction_worker", "animal"),
    *(f"vehicle.{n}" for n in ("car", "motorcycle", "bicycle", "bus.bendy", "bus.rigid", "truck", "construction")),
    *("vehicle.emergency.ambulance", "vehicle.emergency.police", "vehicle.trailer"),
    *(f"movable_object.{n}" for n in ("barrier", "trafficcone", "pushable_pullable", "debris")),
    "static_object.bicycle_rack",
)

INPUTS = ("gt_ego", "mask", "boxes", "n_agents", "fut_traj", "fut_idx", "drivable_packed")


def truth_of(cases: Mapping[str, NDArray], i: int) -> Truth:
    """Agents keep their heading and are always there where the case has no `fut_yaw` (turns) and `fut_mask`."""
    boxes = cases["boxes"][i, : cases["n_agents"][i]]
    steps_m = np.concatenate([boxes[:, None, :2], cases["fut_traj"][i, : len(boxes)]], axis=1)
    turns, here = (
        _of_steps(cases, name, i, len(boxes), default) for name, default in (("fut_yaw", 0), ("fut_mask", 1))
    )
    yaws = np.where(here == 1, np.concatenate([boxes[:, 6:7], turns[:, 1:]], axis=1).cumsum(axis=1), np.nan)
    categories = [CATEGORIES[int(row)] for row in cases["fut_idx"][i, : len(boxes), 0]]
    drivable = np.unpackbits(cases["drivable_packed"][i], axis=-1).astype(bool)
    agents = plain_truth.agents(categories, boxes[:, 3:5], steps_m.cumsum(axis=1), yaws)
    truth = plain_truth.truth(cases["gt_ego"][i], agents, drivable, token=str(i))
    return replace(truth, valid=cases["mask"][i, :, 0] == 1)


def _of_steps(cases: Mapping[str, NDArray], name: str, i: int, agents: int, default: int) -> NDArray:
    """A number of each agent now (`default`) and at the six steps to come."""
    later = cases[name][i, :agents].reshape(agents, 6) if name in cases else np.full((agents, 6), float(default))
    return np.pad(later, ((0, 0), (1, 0)), constant_values=default)


def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    assert [key.rsplit("_", 1)[0] for key in case["keys"][:-1:3]] == ["plan_obj_box_col", "plan_boundary", "l2"]
    assert len(case["rows"]) == len(case["pred_ego"])
    for i, row in enumerate(case["rows"]):
        for precision in (np.float32, np.float64):
            result = base.score("omnidrive", case["pred_ego"][i].astype(precision), truth_of(case, i))
            events = [*result.collision, *result.intersection]
            assert [*events, result.counted] == [*row[:6], bool(row[9])], f"sample {i}"
            np.testing.assert_allclose(result.l2_m, row[6:9], rtol=1e-6, err_msg=f"sample {i}")
