"""Position ids of whole and pruned prompts against transformers' get_rope_index."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.backbone.mrope import positions_around, text_lengths
from stages.pruning.base import Kept
from stages.vla.cutting import Group, Sequences, shortened
from stages.vla.prefill import token_view, visual_places


def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    merge = meta["merge"]
    grids = tuple((int(h) // merge, int(w) // merge) for _, h, w in case["grid_thw"])
    ids = torch.from_numpy(case["input_ids"])
    visual = torch.zeros(len(ids), dtype=torch.bool)
    visual[torch.from_numpy(case["visual_positions"])] = True
    texts = text_lengths(visual, grids)
    positions = positions_around(texts, grids)
    np.testing.assert_array_equal(positions[:, 0].numpy(), case["position_ids"])
    next_position = int(positions.max()) + 1
    assert next_position == int(case["next_position"])
    assert next_position - len(ids) == int(case["rope_delta"][0])
    _check_pruned(case, (texts, grids), Sequences(ids[None, :, None].double(), positions, visual[None] | True))


def _check_pruned(case: Mapping[str, NDArray], layout: Any, whole: Sequences) -> None:
    texts, grids = layout
    places = visual_places(texts, grids)[None]
    view = token_view(whole.hidden[:, places[0]], grids, texts[:-1], ("",), "")
    np.testing.assert_array_equal(view.positions[:, 0], case["position_ids"][:, places[0]])
    group = Group(slice(None), view, places, texts[-1], torch.arange(places.shape[1])[None])
    _, after = shortened(group, whole, Kept(torch.from_numpy(case["keep_visual"]).sort().values[None]))
    np.testing.assert_array_equal(after.hidden[0, :, 0].long().numpy(), case["kept_input_ids"])
    np.testing.assert_array_equal(after.positions[:, 0].numpy(), case["kept_position_ids"])
    assert int(case["next_position"]) - after.hidden.shape[1] == int(case["delta_after_pruning"])
