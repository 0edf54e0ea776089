"""The protocol impromptu: exact boxes, step by step; a sample without a whole future has no numbers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import plain_truth
from numpy.typing import NDArray

from stages.planning import base, impromptu
from stages.planning.base import Truth, mean_up_to
from tests.reference.families.uniad import sums_m


def truth_of(case: Mapping[str, NDArray], i: int) -> Truth:
    """Every box is an object of its own that is there in one key frame."""
    boxes = case["fut_boxes"][i]
    step, box = np.nonzero(np.isfinite(boxes[..., 0]))
    there, row = boxes[step, box], np.arange(len(step))
    centers_m = np.full((len(step), 7, 2), np.nan, boxes.dtype)
    yaws = np.full((len(step), 7), np.nan, boxes.dtype)
    centers_m[row, step + 1], yaws[row, step + 1] = there[:, :2], there[:, 6]
    agents = plain_truth.agents(["movable_object.barrier"] * len(step), there[:, 3:5], centers_m, yaws)
    agents = replace(agents, centers_lidar_m=centers_m, yaws_lidar_rad=yaws)
    truth = plain_truth.truth(plain_truth.in_ego(case["gt_lidar"][i]), agents)
    return replace(truth, valid=case["mask"][i].all(axis=1))


def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    names = ("gt_box_coll", "box_coll_masked", "L2")
    assert {len(case[name]) for name in (*names, "valid")} == {len(case["pred_lidar"])} != {0}
    atol_m = sums_m(case["L2"])
    for i, pred in enumerate(case["pred_lidar"]):
        truth, plan_m = truth_of(case, i), plain_truth.in_ego(pred)
        recorded, box, l2_m = (case[name][i] for name in names)
        score = base.score("impromptu", plan_m, truth)
        assert score.counted == case["valid"][i], f"sample {i}"
        prepared = impromptu.prepare(truth)
        if prepared is None:
            assert np.isnan([recorded, box, l2_m]).all(), f"sample {i}"
            continue
        found = impromptu.measure(plan_m, prepared)
        assert prepared.recorded_hits.tolist() == recorded.tolist(), f"sample {i}"
        assert found.box_hits.tolist() == box.tolist(), f"sample {i}"
        np.testing.assert_allclose(found.l2_m, l2_m, atol=atol_m, err_msg=f"sample {i}")
        np.testing.assert_allclose(score.collision, mean_up_to(box), err_msg=f"sample {i}")
