"""The protocol uniad: what each sample adds to the official metric's sums, step by step."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import plain_truth
from numpy.typing import NDArray

from stages.planning import uniad

LEAST_M = 1e-4


def sums_m(l2_m: NDArray[np.floating]) -> float:
    """How far the official L2 (samples, steps) may be off: differences of float32 sums over all samples."""
    return max(LEAST_M, 4 * float(np.spacing(np.float32(np.nansum(l2_m, axis=0).max()))))


def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    names = ("per_sample_obj_col", "per_sample_obj_box_col", "per_sample_L2")
    assert {len(case[name]) for name in names} == {len(case["pred_lidar"])} != {0}
    atol_m = sums_m(case["per_sample_L2"])
    for i, pred in enumerate(case["pred_lidar"]):
        valid = case["mask"][i, :, 0] == 1
        truth = replace(plain_truth.truth(plain_truth.in_ego(case["gt_lidar"][i])), valid=valid)
        occupied = np.unpackbits(case["seg_packed"][i], axis=-1).astype(bool)
        prepared = uniad.with_raster(truth, occupied, case["seg_is255"][i])
        found, score = (use(plain_truth.in_ego(pred), prepared) for use in (uniad.measure, uniad.judge))
        center, box, l2_m = (case[name][i] for name in names)
        assert found.center_hits.tolist() == center.tolist(), f"sample {i}"
        assert found.box_hits.tolist() == box.tolist(), f"sample {i}"
        np.testing.assert_allclose(found.l2_m, l2_m, atol=atol_m, err_msg=f"sample {i}")
        assert score.counted
        assert score.collision.tolist() == box[1::2].tolist()
        np.testing.assert_allclose(score.l2_m, l2_m[1::2], atol=atol_m)
