"""Evaluate the small driver on scenes of the pool that it was not trained on, beside references without its image."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from stages.backbone.qwen import Model, Tokenizer
from stages.backbone.tokens import keep_count, top_k_ascending
from stages.core.io import write_json
from stages.planning.intervals import bootstrap, paired_difference
from stages.pruning.base import Kept
from stages.pruning.oracle import ranks_of_shares
from stages.toy_driver.pool import EVENTS, Dataset
from stages.vla.plans import parse_answer
from stages.vla.prefill import Chosen, Prompt, decode, prefill, token_view
from stages.vla.toy import ANSWER_TOKENS, END, word_id

HORIZONS = (1, 3, 5)  # steps of 1, 2, 3 s
NEIGHBOURS = 400
PERCENTS = (25, 50, 75)
RESAMPLES, SEED = 2000, 1  # of the intervals
STEP_MPS = 0.1
BLIND_FLOOR = "blind_floor.json"  # stages/vla/plans.py reads it
Rank = Callable[[int], Float[Tensor, " N"]]  # row of the dataset -> scores of its tokens, higher is kept


def errors_m(plan_m: Float[Tensor, "M T 2"], truth_m: Float[Tensor, "M T 2"]) -> Float[Tensor, " M"]:
    """Return each sample's mean of the errors at 1, 2, 3 s, metres."""
    return (plan_m - truth_m).norm(dim=2)[:, HORIZONS].mean(dim=1)


def blind_plans(
    speed_mps: Float[Tensor, " M"], future_m: Float[Tensor, "M T 2"], asked_mps: Float[Tensor, " S"]
) -> Float[Tensor, "S T 2"]:
    """Return the best guess from the current speed alone: the median future of the nearest training speeds."""
    gap = (asked_mps[:, None] - speed_mps[None]).abs()
    nearest = gap.topk(min(NEIGHBOURS, len(speed_mps)), dim=1, largest=False).indices
    return future_m[nearest].median(dim=1).values


def write_blind_floor(folder: Path, speed_mps: Float[Tensor, " M"], future_m: Float[Tensor, "M T 2"]) -> None:
    """Write the blind plan of every 0.1 m/s up to the fastest training speed, in metres to the centimetre."""
    steps = int(float(speed_mps.max()) / STEP_MPS) + 2
    grid_mps = torch.arange(steps) * STEP_MPS
    plans_m = blind_plans(speed_mps, future_m, grid_mps)
    rows = [[[round(x, 2), round(y, 2)] for x, y in plan] for plan in plans_m.tolist()]
    write_json(folder / BLIND_FLOOR, {"speed_mps": [round(v, 1) for v in grid_mps.tolist()], "waypoints_m": rows})


@dataclass(frozen=True)
class Evaluation:
    """A model and the held-out rows that it is evaluated on."""

    model: Model
    tokenizer: Tokenizer
    dataset: Dataset
    rows: Int[Tensor, " M"]

    @torch.inference_mode()
    def answers(
        self, images: Int[Tensor, " M"], percent: int = 0, rank: Rank | None = None
    ) -> tuple[Float[Tensor, "M T 2"], float]:
        """Return the plans of the rows on the images of rows `images`, and the share that parsed; others are zeros."""
        data, plans, parsed = self.dataset, [], 0
        K = keep_count(data.features.shape[1], percent)
        for part, seen in zip(self.rows.split(64), images.split(64), strict=True):
            prompt, tokens = Prompt(data.prompts.before[part], data.prompts.after[part]), data.features[seen].float()
            scores = torch.zeros(tokens.shape[:2]) if rank is None else torch.stack([rank(int(row)) for row in part])
            view = token_view(tokens, (data.grid,), prompt.lengths[:1], ("",) * len(part), "")
            prefilled = prefill(self.model, view, Chosen(Kept(top_k_ascending(scores, K))), K, prompt)
            ids = decode(self.model, prefilled, ANSWER_TOKENS, (word_id(self.tokenizer, END),))
            read = [parse_answer(text) for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]
            parsed += sum(plan is not None for plan in read)
            plans += [np.zeros(data.future_m.shape[1:]) if plan is None else plan for plan in read]
        return torch.from_numpy(np.stack(plans)).float(), parsed / len(self.rows)

    def others(self) -> Int[Tensor, " M"]:
        """Return for each row one of another scene: half the held-out rows further on."""
        return self.rows.roll(-(len(self.rows) // 2))


Table = dict[str, dict[str, float | int]]


def evaluate(evaluation: Evaluation, train: Int[Tensor, " M"]) -> dict[str, Table]:
    """Return L2 in metres (mean of the errors at 1, 2, 3 s) with 95 % intervals over scenes, as three tables.

    `sees`: the driver, the same with another scene's image, the blind floor. `events`: the driver and its difference
    to the blind floor. `pruned`: tokens kept by the truth (objects and road first), by the reverse, and at random, and
    their difference to the unpruned driver.
    """
    dataset, rows = evaluation.dataset, evaluation.rows
    scenes = dataset.scene[rows].numpy()
    truth = dataset.future_m[rows]
    plans, parsed = evaluation.answers(rows)
    blind = blind_plans(dataset.speed_mps[train], dataset.future_m[train], dataset.speed_mps[rows])
    swapped, _ = evaluation.answers(evaluation.others())
    every = {"none": plans, "other_image": swapped, "blind_floor": blind}
    errors = {name: errors_m(each, truth) for name, each in every.items()}
    sees = {name: _mean(error, scenes) for name, error in errors.items()}
    sees["none"]["parsed_share"] = parsed
    pruned: Table = {}
    for percent in PERCENTS:
        for name, rank in rankings(dataset).items():
            pruned_plans, _ = evaluation.answers(rows, percent, rank)
            pruned[f"{name}_{percent}"] = _difference(errors_m(pruned_plans, truth), errors["none"], scenes)
    events: Table = {}
    for i, name in enumerate(EVENTS):
        of = (dataset.event[rows] == i).numpy()
        if of.any():
            events[name] = _difference(errors["none"][of], errors["blind_floor"][of], scenes[of])
    return {"sees": sees, "events": events, "pruned": pruned}


def _mean(error_m: Float[Tensor, " M"], scenes: Int[np.ndarray, " M"]) -> dict[str, float | int]:
    low, high = bootstrap(error_m.double().numpy(), scenes, RESAMPLES, SEED)
    return {"n": len(error_m), "l2_m": float(error_m.mean()), "l2_low": low, "l2_high": high}


def _difference(
    error_m: Float[Tensor, " M"], other_m: Float[Tensor, " M"], scenes: Int[np.ndarray, " M"]
) -> dict[str, float | int]:
    pair = error_m.double().numpy(), other_m.double().numpy()
    difference, low, high = paired_difference(*pair, scenes, RESAMPLES, SEED)
    interval = {"difference_m": difference, "difference_low": low, "difference_high": high}
    return {"n": len(error_m), "l2_m": float(error_m.mean()), **interval}


def rankings(dataset: Dataset) -> dict[str, Rank]:
    """Return the oracle's order, its reverse, and random thinning, on the pool."""

    def oracle(row: int) -> Float[Tensor, " N"]:
        shares = dataset.shares[row].astype(np.float32)
        return ranks_of_shares(shares[:, 2:].sum(axis=1), shares[:, 1], dataset.grid)

    def thinning(row: int) -> Float[Tensor, " N"]:
        return torch.rand(dataset.features.shape[1], generator=Generator().manual_seed(row))

    return {"oracle": oracle, "random": thinning, "inverse": lambda row: -oracle(row)}
