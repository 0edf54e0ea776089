"""Phase 1: pretrain the vision tower with heads that are dropped afterwards.

Four objectives: each token paints back the pixels of its own cell and predicts which classes are in it, all
tokens together predict the plan and the event. The classes are those of the pool's own drawn scenes: a real tower
knows what a car is before it is frozen, too. No nuScenes-FG mask is read.
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from stages.backbone.qwen import TOKEN_PX, Model, PatchMatmul, encode_images, token_grid
from stages.scenes.base import FUTURE_STEPS, STEP_S
from stages.toy_driver.pool import CLASSES, EVENTS, NO_PLAN, Pool
from stages.toy_driver.trainer import Run, Schedule, fit

PAINT_PX = 14  # side of the square that one token paints: half resolution
PLAN_UNIT_M = 3.0
PAINT_WEIGHT, CELL_WEIGHT, EVENT_WEIGHT = 0.3, 0.3, 0.15


def plan_target(future_m: Float[Tensor, "B T 2"], speed_mps: Float[Tensor, " B"]) -> Float[Tensor, "B 12"]:
    """Return the plan less what constant velocity explains, in units of 3 m, so that only the image explains it."""
    steps = torch.arange(1, FUTURE_STEPS + 1) * STEP_S
    straight = torch.stack([speed_mps[:, None] * steps, torch.zeros(len(speed_mps), FUTURE_STEPS)], dim=2)
    return ((future_m - straight) / PLAN_UNIT_M).flatten(1)


def paint_target(images: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B N C"]:
    """Return each token's own cell at half resolution, values about zero; C = 14 * 14 * 3."""
    small = F.avg_pool2d(images.float() / 255 - 0.5, TOKEN_PX // PAINT_PX)
    return F.unfold(small, PAINT_PX, stride=PAINT_PX).transpose(1, 2)


class TowerPretraining(nn.Module):
    """A vision tower under three linear-ish heads."""

    def __init__(self, visual: nn.Module, tokens: int, width: int) -> None:
        super().__init__()
        self.visual = visual
        self.paint = nn.Linear(width, PAINT_PX * PAINT_PX * 3)
        self.cell = nn.Linear(width, CLASSES)
        self.squeeze = nn.Linear(width, 32)
        self.hidden = nn.Sequential(nn.Linear(32 * tokens + 1, 256), nn.GELU())
        self.plan = nn.Linear(256, 2 * FUTURE_STEPS)
        self.event = nn.Linear(256, len(EVENTS))

    def losses(self, pool: Pool, choice: Int[Tensor, " B"]) -> dict[str, Tensor]:
        """Return the weighted objectives; images without a plan count for painting and classes only."""
        index = choice.numpy()
        images = torch.from_numpy(pool.images[index]).permute(0, 3, 1, 2)
        speed_mps, future_m, event = (torch.from_numpy(a[index]) for a in (pool.speed_mps, pool.future_m, pool.event))
        shares = torch.from_numpy(pool.shares[index]).float()
        with PatchMatmul():
            tokens = encode_images(self.visual, images)
        hidden = self.hidden(torch.cat([self.squeeze(tokens).flatten(1), speed_mps[:, None] / 10], dim=1))
        painted, cells, plan, logits = self.paint(tokens), self.cell(tokens), self.plan(hidden), self.event(hidden)
        seen = event != NO_PLAN
        paint = F.mse_loss(painted, paint_target(images))
        path = F.smooth_l1_loss(plan[seen], plan_target(future_m, speed_mps)[seen], beta=0.1)
        name = F.cross_entropy(logits[seen], event[seen])
        cell = F.cross_entropy(cells.flatten(0, 1), shares.flatten(0, 1))
        loss = path + PAINT_WEIGHT * paint + CELL_WEIGHT * cell + EVENT_WEIGHT * name
        return {"loss": loss, "paint": paint, "cell": cell, "plan": path, "event": name}


def train_tower(model: Model, pool: Pool, candidates: Int[Tensor, " M"], schedule: Schedule, run: Run) -> None:
    """Train phase 1, in place on the model's own vision tower, which is frozen afterwards."""
    h, w = token_grid((pool.images.shape[2], pool.images.shape[1]))
    training = TowerPretraining(model.model.visual, h * w, model.config.vision_config.out_hidden_size).train()

    def step(i: int, generator: Generator) -> dict[str, Tensor]:
        return training.losses(pool, run.choice(candidates, generator))

    fit("tower", training, step, schedule, run)
    model.model.visual.eval().requires_grad_(False)
