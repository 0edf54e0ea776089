"""Window order of the vision tower against transformers'."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backbone.attention import window_index


def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    grids = [tuple(row) for row in case["grid_thw"].tolist()]
    side = meta["window"] // meta["patch"] // meta["merge"]
    index, lengths = window_index(grids, side, meta["merge"])
    np.testing.assert_array_equal(index.numpy(), case["window_index"])
    np.testing.assert_array_equal(index.argsort().numpy(), case["reverse_index"])
    np.testing.assert_array_equal(np.cumsum([0, *lengths]), case["cu_window_seqlens"])
