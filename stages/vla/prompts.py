"""Prompts as `generate` hands them on, sorted into groups that are cut together."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from stages.backbone.attention import VisionFacts, batched
from stages.backbone.mrope import text_lengths
from stages.core.errors import DataError
from stages.pruning.base import TokenView
from stages.pruning.view import Grid
from stages.vla.cutting import Group, Sequences
from stages.vla.inside import visual_places


def groups_of(
    ids: Int[Tensor, "B L"],
    image_token: int,
    images: Sequence[Grid],
    facts: Sequence[VisionFacts] | None,
    read: Sequences,
    encoder: str,
) -> list[Group]:
    """The prompts of a batch by what they have in common: image sizes, padding, text lengths.

    `images` are the grids of all images, row after row, `facts` what the tower knows of each. Raises DataError when
    prompts and images do not add up, or a prompt has no image.
    """
    embeds, positions, valid = read.hidden, read.positions, read.valid
    visual = ids == image_token
    grids, beams = _grids_by_row(visual.sum(dim=1).tolist(), list(images))
    padding = (~valid).sum(dim=1).tolist()
    texts = [text_lengths(row[pad:], its) for row, pad, its in zip(visual.cpu(), padding, grids, strict=True)]
    alike: dict[Any, list[int]] = {}
    for row in range(len(visual)):
        if not grids[row]:
            raise DataError(
                expected="an image in each prompt of a batch", got=f"none in row {row}", fix="leave that prompt out"
            )
        alike.setdefault((grids[row], texts[row], padding[row]), []).append(row)
    told = None if facts is None else iter(facts)
    by_sample = None if told is None else [_joined([next(told) for _ in its]) for its in grids[::beams]]
    groups = []
    for (its, text, pad), rows in alike.items():
        chosen: slice | list[int] = slice(None) if len(rows) == len(visual) else rows
        places = (visual_places(text, its) + pad).to(embeds.device).expand(len(rows), -1)
        mine = embeds[chosen]
        view = TokenView(
            mine.gather(1, places[:, :, None].expand(-1, -1, mine.shape[2])),
            its,
            positions[:, chosen].gather(2, places.expand(3, -1, -1)),
            keys=("",) * len(rows),  # a random pruner drops the same places in every image
            encoder=encoder,
            vision=None if by_sample is None else batched([by_sample[row // beams] for row in rows]),
            text=mine[:, mine.shape[1] - text[-1] :],
        )
        origin = torch.arange(places.shape[1], device=embeds.device).expand(len(rows), -1)
        groups.append(Group(chosen, view, places, text[-1], origin))
    return groups


def valid_places(mask: Tensor | None, embeds: Tensor) -> Bool[Tensor, "B L"]:
    if mask is None:
        return torch.ones(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
    valid = mask.bool()
    if bool((valid[:, 1:] < valid[:, :-1]).any()):
        raise DataError(
            expected="prompts padded on the left",
            got="padding elsewhere",
            fix="processor.tokenizer.padding_side = 'left'",
        )
    return valid


def _grids_by_row(tokens: list[int], grids: list[Grid]) -> tuple[list[tuple[Grid, ...]], int]:
    """The images of each prompt, by its number of image tokens, in order; and how often each prompt stands there.

    Beam search repeats prompts after the tower has run. Raises DataError when images are left over.
    """
    held = sum(h * w for h, w in grids)
    beams = sum(tokens) // held if held and sum(tokens) % held == 0 else 1
    rows, todo = [], list(grids)
    for wanted in tokens[::beams]:
        mine: list[Grid] = []
        while todo and sum(h * w for h, w in mine) < wanted:
            mine.append(todo.pop(0))
        rows += [tuple(mine)] * beams
    if todo or not grids:
        raise DataError(
            expected=f"image tokens for the {len(grids)} images that the vision tower saw inside this `with`",
            got=f"{sum(tokens)} image tokens in {len(tokens)} prompts",
            fix="give the prompt and the images of one and the same processor call",
        )
    return rows, beams


def _joined(images: list[VisionFacts]) -> VisionFacts:
    return VisionFacts(
        torch.cat([image.importance for image in images], dim=1), torch.cat([image.features for image in images], dim=1)
    )
