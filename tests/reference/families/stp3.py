"""The protocol stp3: what each sample adds to the three official metrics, which see the first 2, 4 and 6 steps."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import plain_truth
from numpy.typing import NDArray

from stages.planning import stp3


def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    kinds = {"box": "box_hits", "pt": "center_hits"}
    assert {len(case[f"{kind}_{s}s"]) for kind in kinds for s in (1, 2, 3)} == {len(case["pred_lidar"])} != {0}
    for i, pred in enumerate(case["pred_lidar"]):
        truth = plain_truth.truth(plain_truth.in_ego(case["gt_lidar"][i]))
        prepared = stp3.with_raster(truth, np.unpackbits(case["seg_packed"][i], axis=-1).astype(bool))
        found, score = (use(plain_truth.in_ego(pred), prepared) for use in (stp3.measure, stp3.judge))
        for s in (1, 2, 3):
            for kind, name in kinds.items():
                official = case[f"{kind}_{s}s"][i]
                assert getattr(found, name)[: 2 * s].tolist() == official.tolist(), f"sample {i}, {kind}, {s} s"
            assert score.collision[s - 1] == case[f"box_{s}s"][i].astype(float).mean()
