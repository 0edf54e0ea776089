"""How well the small driver drives on scenes of the pool that it was not trained on, beside the honest references."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from stages.backbone.qwen import Model, Tokenizer
from stages.backbone.tokens import keep_count, top_k_ascending
from stages.planning.intervals import bootstrap, paired_difference
from stages.pruning.base import Kept
from stages.pruning.oracle import ranks_of_shares
from stages.toy_driver.language_phase import view_of
from stages.toy_driver.pool import EVENTS
from stages.toy_driver.teacher import Teacher
from stages.vla.answers import parse_answer
from stages.vla.prefill import Chosen, Prompt, decode, prefill
from stages.vla.toy_text import ANSWER_TOKENS, END, word_id

HORIZONS = (1, 3, 5)  # steps of 1, 2, 3 s
NEIGHBOURS = 400
PERCENTS = (25, 50, 75)
RESAMPLES, SEED = 2000, 1  # of the intervals
Rank = Callable[[int], Float[Tensor, " N"]]  # row of the teacher -> scores of its tokens, higher is kept


def errors_m(plan_m: Float[Tensor, "M T 2"], truth_m: Float[Tensor, "M T 2"]) -> Float[Tensor, " M"]:
    """Each sample's mean of the errors at 1, 2, 3 s, metres."""
    return (plan_m - truth_m).norm(dim=2)[:, HORIZONS].mean(dim=1)


def blind_plans(
    speed_mps: Float[Tensor, " M"], future_m: Float[Tensor, "M T 2"], asked_mps: Float[Tensor, " S"]
) -> Float[Tensor, "S T 2"]:
    """The best guess from the current speed alone: median of the futures of the nearest training speeds."""
    gap = (asked_mps[:, None] - speed_mps[None]).abs()
    nearest = gap.topk(min(NEIGHBOURS, len(speed_mps)), dim=1, largest=False).indices
    return future_m[nearest].median(dim=1).values


@dataclass(frozen=True)
class Exam:
    """A model and the held-out rows that it is asked."""

    model: Model
    tokenizer: Tokenizer
    teacher: Teacher
    rows: Int[Tensor, " M"]

    @torch.inference_mode()
    def answers(
        self, features: Callable[[Tensor], Tensor], percent: int = 0, rank: Rank | None = None
    ) -> tuple[Float[Tensor, "M T 2"], float]:
        """Plans told from `features(rows)`, and the share that parsed; the rest are zeros, parked."""
        plans, parsed = [], 0
        for part in self.rows.split(64):
            read = [parse_answer(text) for text in self._texts(features(part).float(), part, percent, rank)]
            parsed += sum(plan is not None for plan in read)
            plans += [np.zeros(self.teacher.future_m.shape[1:]) if plan is None else plan for plan in read]
        return torch.from_numpy(np.stack(plans)).float(), parsed / len(self.rows)

    def _texts(self, tokens: Float[Tensor, "B N D"], part: Tensor, percent: int, rank: Rank | None) -> list[str]:
        prompt = Prompt(self.teacher.prompts.before[part], self.teacher.prompts.after[part])
        B, N, _ = tokens.shape
        K = keep_count(N, percent)
        scores = torch.zeros(B, N) if rank is None else torch.stack([rank(int(row)) for row in part])
        view = view_of(tokens, self.teacher.grid, prompt.before.shape[1])
        prefilled = prefill(self.model, view, Chosen(Kept(top_k_ascending(scores, K))), K, prompt)
        ids = decode(self.model, prefilled, ANSWER_TOKENS, (word_id(self.tokenizer, END),))
        return self.tokenizer.batch_decode(ids, skip_special_tokens=True)

    def own(self, part: Tensor) -> Tensor:
        """The tokens of each row's own image."""
        return self.teacher.features[part]

    def other(self, part: Tensor) -> Tensor:
        """The tokens of another scene's image: that of the row half the exam further on."""
        return self.teacher.features[(part - self.rows[0] + len(self.rows) // 2) % len(self.rows) + self.rows[0]]


Figures = dict[str, dict[str, dict[str, float]]]


def judge(exam: Exam, train: Int[Tensor, " M"]) -> Figures:
    """L2 in metres (mean of the errors at 1, 2, 3 s) with 95 % intervals that resample scenes; three tables.

    `sees`: the driver, the same with another scene's image, the blind floor. `events`: the driver and its difference
    to the blind floor. `pruned`: tokens kept by the truth (objects and road first), by the reverse, and at random, and
    their difference to the unpruned driver.
    """
    teacher, rows = exam.teacher, exam.rows
    scenes = teacher.scene[rows]
    truth = teacher.future_m[rows]
    plans, parsed = exam.answers(exam.own)
    blind = blind_plans(teacher.speed_mps[train], teacher.future_m[train], teacher.speed_mps[rows])
    errors = {"none": errors_m(plans, truth), "other_image": errors_m(exam.answers(exam.other)[0], truth)}
    errors["blind_floor"] = errors_m(blind, truth)
    sees = {name: _mean(error, scenes) for name, error in errors.items()}
    sees["none"]["parsed_share"] = parsed
    pruned: dict[str, dict[str, float]] = {}
    for percent in PERCENTS:
        for name, rank in rankings(teacher).items():
            told, _ = exam.answers(exam.own, percent, rank)
            pruned[f"{name}_{percent}"] = _difference(errors_m(told, truth), errors["none"], scenes)
    return {"sees": sees, "events": _by_event(teacher.event[rows], errors, scenes), "pruned": pruned}


def flat(figures: Figures) -> dict[str, float]:
    """One number a name, as a record of metrics takes them."""
    return {
        f"{table}/{row}/{key}": value
        for table, rows in figures.items()
        for row, part in rows.items()
        for key, value in part.items()
    }


def _by_event(event: Int[Tensor, " M"], errors: dict[str, Tensor], scenes: Tensor) -> dict[str, dict[str, float]]:
    found = {}
    for i, name in enumerate(EVENTS):
        of = event == i
        if bool(of.any()):
            found[name] = _difference(errors["none"][of], errors["blind_floor"][of], scenes[of])
    return found


def _mean(error_m: Float[Tensor, " M"], scenes: Int[Tensor, " M"]) -> dict[str, float]:
    low, high = bootstrap(error_m.double().numpy(), scenes.tolist(), RESAMPLES, SEED)
    return {"n": len(error_m), "l2_m": float(error_m.mean()), "l2_low": low, "l2_high": high}


def _difference(error_m: Float[Tensor, " M"], other_m: Float[Tensor, " M"], scenes: Tensor) -> dict[str, float]:
    pair = error_m.double().numpy(), other_m.double().numpy()
    difference, low, high = paired_difference(*pair, scenes.tolist(), RESAMPLES, SEED)
    found = {"difference_m": difference, "difference_low": low, "difference_high": high}
    return {"n": len(error_m), "l2_m": float(error_m.mean()), **found}


def rankings(teacher: Teacher) -> dict[str, Rank]:
    """The rulers on the pool: the oracle's order, its reverse, and random thinning."""

    def oracle(row: int) -> Float[Tensor, " N"]:
        shares = teacher.shares[row].astype(np.float32)
        return ranks_of_shares(shares[:, 2:].sum(axis=1), shares[:, 1], teacher.grid)

    def thinning(row: int) -> Float[Tensor, " N"]:
        return torch.rand(teacher.features.shape[1], generator=Generator().manual_seed(row))

    return {"oracle": oracle, "random": thinning, "inverse": lambda row: -oracle(row)}
