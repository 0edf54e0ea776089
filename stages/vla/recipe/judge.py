"""How well the small driver drives on scenes of the pool that it was not trained on, beside the honest references."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from stages.backbone.qwen import Model, Tokenizer
from stages.pruning.base import Kept
from stages.vla.answers import parse_answer
from stages.vla.host import Prompt, decode, prefill
from stages.vla.recipe.language_phase import view_of
from stages.vla.recipe.phases import Teacher
from stages.vla.toy_text import ANSWER_TOKENS, END, word_id

HORIZONS = (1, 3, 5)  # steps of 1, 2, 3 s
NEIGHBOURS = 400


def l2_m(plan_m: Float[Tensor, "M T 2"], truth_m: Float[Tensor, "M T 2"]) -> float:
    """Mean over samples of the errors at 1, 2, 3 s, then of the three, metres."""
    return float((plan_m - truth_m).norm(dim=2)[:, HORIZONS].mean())


def blind_floor(teacher: Teacher, train: Int[Tensor, " M"], held_out: Int[Tensor, " M"]) -> Float[Tensor, "M T 2"]:
    """The best guess from the current speed alone: median of the plans at the nearest training speeds."""
    gap = (teacher.speed_mps[held_out, None] - teacher.speed_mps[train][None]).abs()
    nearest = gap.topk(min(NEIGHBOURS, len(train)), dim=1, largest=False).indices
    return teacher.future_m[train][nearest].median(dim=1).values


@torch.inference_mode()
def answers(
    model: Model, tokenizer: Tokenizer, teacher: Teacher, rows: Int[Tensor, " M"], images_of: Int[Tensor, " M"]
) -> tuple[Float[Tensor, "M T 2"], float]:
    """Plans of `rows` told from the images of `images_of` (the same rows, or others), and the share that parsed."""
    plans, parsed = [], 0
    for part, seen in zip(rows.split(64), images_of.split(64), strict=True):
        prompt = Prompt(teacher.prompts.before[part], teacher.prompts.after[part])
        view = view_of(teacher.features[seen].float(), teacher.grid, prompt.before.shape[1])
        B, N, _ = view.tokens.shape
        kept = Kept(torch.arange(N).expand(B, N))
        ids = decode(model, prefill(model, view, kept, N, prompt, "none"), ANSWER_TOKENS, word_id(tokenizer, END))
        read = [parse_answer(text) for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
        parsed += sum(plan is not None for plan in read)
        plans += [np.zeros(teacher.future_m.shape[1:]) if plan is None else plan for plan in read]
    return torch.from_numpy(np.stack(plans)).float(), parsed / len(rows)


def judge(
    model: Model, tokenizer: Tokenizer, teacher: Teacher, train: Int[Tensor, " M"], held_out: Int[Tensor, " M"]
) -> dict[str, float]:
    """L2 in metres of the driver, of the driver with another scene's image, and of the blind floor."""
    truth = teacher.future_m[held_out]
    own, parsed = answers(model, tokenizer, teacher, held_out, held_out)
    other, _ = answers(model, tokenizer, teacher, held_out, held_out.roll(len(held_out) // 2))
    return {
        "held_out_frames": float(len(held_out)),
        "l2_m": l2_m(own, truth),
        "l2_m_other_image": l2_m(other, truth),
        "l2_m_blind_floor": l2_m(blind_floor(teacher, train, held_out), truth),
        "parsed_share": parsed,
    }
