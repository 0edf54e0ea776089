"""The protocol vad: rasters cell by cell, and the means of each sample up to each horizon."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import plain_truth
from numpy.typing import NDArray

from stages.planning import base, vad
from stages.planning.base import Truth, mean_up_to

_PEOPLE = ("adult", "child", "construction_worker", "personal_mobility", "police_officer", "stroller", "wheelchair")
_VEHICLES = ("bicycle", "bus.bendy", "bus.rigid", "car", "construction", "emergency.ambulance", "emergency.police")
CATEGORIES = (  # rows of the table with a noise row, that VAD's numbers belong to
    *("noise", "animal", *(f"human.pedestrian.{name}" for name in _PEOPLE)),
    *(f"movable_object.{name}" for name in ("barrier", "debris", "pushable_pullable", "trafficcone")),
    *("static_object.bicycle_rack", *(f"vehicle.{name}" for name in (*_VEHICLES, "motorcycle", "trailer", "truck"))),
)


def truth_of(case: Mapping[str, NDArray], i: int) -> Truth:
    """Objects as VAD's loader hands them over: a box now, then steps, turns and a mask."""
    boxes, feats = (case[name][i, : case["n_agents"][i]] for name in ("boxes", "feats"))
    steps_m, turns, known = feats[:, :12].reshape(-1, 6, 2), feats[:, 28:34], feats[:, 12:18] == 1
    gone = np.pad(~known, ((0, 0), (1, 0)))
    centers_m = boxes[:, None, :2] + np.pad(steps_m.cumsum(axis=1), ((0, 0), (1, 0), (0, 0)))
    yaws = -1 * (boxes[:, 6:7] + np.float32(np.pi / 2)) + np.pad(turns.cumsum(axis=1), ((0, 0), (1, 0)))
    centers_m, yaws = np.where(gone[..., None], np.nan, centers_m), np.where(gone, np.nan, yaws)
    categories = [CATEGORIES[int(row)] for row in feats[:, 27]]
    agents = plain_truth.agents(categories, boxes[:, [4, 3]], plain_truth.in_ego(centers_m), yaws)
    agents = replace(agents, centers_lidar_m=centers_m, yaws_lidar_rad=yaws)
    return replace(plain_truth.truth(plain_truth.in_ego(case["gt_lidar"][i]), agents), valid=case["valid"][i].repeat(6))


def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    assert {len(case[name]) for name in ("L2", "obj_col", "obj_box_col", "valid")} == {len(case["pred_lidar"])} != {0}
    for i, pred in enumerate(case["pred_lidar"]):
        truth, plan_m = truth_of(case, i), plain_truth.in_ego(pred)
        prepared = vad.with_agents(truth, vad.drawn(truth.agents))
        drawn = np.unpackbits(case["seg_packed"][i] | case["ped_packed"][i], axis=-1).astype(bool)
        np.testing.assert_array_equal(prepared.occupied, drawn, err_msg=f"sample {i}")
        everywhere = vad.with_agents(replace(truth, valid=np.ones(6, bool)), vad.drawn(truth.agents))
        found, score = (use(plan_m, everywhere) for use in (vad.measure, vad.judge))
        np.testing.assert_allclose(score.l2_m, case["L2"][i], rtol=1e-5, atol=1e-6, err_msg=f"sample {i}")
        np.testing.assert_allclose(score.collision, case["obj_box_col"][i], err_msg=f"sample {i}")
        np.testing.assert_allclose(mean_up_to(found.center_hits), case["obj_col"][i], err_msg=f"sample {i}")
        assert base.score("vad", plan_m, truth).counted == case["valid"][i], f"sample {i}"
