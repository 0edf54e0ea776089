"""Inputs of `generate` for the tiny model, as a processor would give them: left-padded ids, patches, grids."""

from typing import Any

import torch

from stages.vla.toy import IMAGE, PAD, VISION_END, VISION_START, VOCABULARY

IDS = {word: VOCABULARY.index(word) for word in (PAD, IMAGE, VISION_START, VISION_END)}
TEXT = list(range(20, 60))  # ids of plain words


def make_ids(grids: list[tuple[int, int]], before: int, after: int) -> list[int]:
    """Text, each image between its marks, text."""
    ids = TEXT[:before]
    for h, w in grids:
        ids += [IDS[VISION_START], *[IDS[IMAGE]] * (h * w), IDS[VISION_END]]
    return ids + TEXT[10 : 10 + after]


def make_inputs(rows: list[list[tuple[int, int]]], *, after: list[int] | None = None, seed: int = 0) -> dict[str, Any]:
    """A batch whose row i has images of `rows[i]` merged tokens (h, w), random pixels, and `after[i]` words of text."""
    ids = [make_ids(grids, 2, after[i] if after else 4) for i, grids in enumerate(rows)]
    L = max(map(len, ids))
    grids = [grid for row in rows for grid in row]
    patches = 4 * sum(h * w for h, w in grids)
    padded = torch.tensor([[IDS[PAD]] * (L - len(row)) + row for row in ids])
    return {
        "input_ids": padded,
        "attention_mask": torch.tensor([[0] * (L - len(row)) + [1] * len(row) for row in ids]),
        "mm_token_type_ids": (padded == IDS[IMAGE]).long(),
        "pixel_values": torch.randn(patches, 1176, generator=torch.Generator().manual_seed(seed)),
        "image_grid_thw": torch.tensor([[1, 2 * h, 2 * w] for h, w in grids]),
    }
