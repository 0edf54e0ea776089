"""Phase 1: pretrain the vision tower with heads that are dropped afterwards.

Four objectives: each token paints back the pixels of its own cell and predicts which classes are in it, all
tokens together predict the plan and the event. The classes are those of the pool's own drawn scenes: a real tower
knows what a car is before it is frozen, too. No nuScenes-FG mask is read.
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from stages.backbone.patches import TOKEN_PX, PatchMatmul
from stages.backbone.qwen import encode_images
from stages.scenes.base import FUTURE_STEPS, STEP_S
from stages.toy_driver.pool import CLASSES, EVENTS, NO_PLAN, Pool

PAINT_PX = 14  # side of the square that one token paints: half resolution
PLAN_UNIT_M = 3.0
PAINT_WEIGHT, CELL_WEIGHT, EVENT_WEIGHT = 0.3, 0.3, 0.15


def plan_target(future_m: Float[Tensor, "B T 2"], speed_mps: Float[Tensor, " B"]) -> Float[Tensor, "B 12"]:
    """Return the plan less what constant velocity explains, in units of 3 m, so that only the image explains it."""
    steps = torch.arange(1, FUTURE_STEPS + 1) * STEP_S
    straight = torch.stack([speed_mps[:, None] * steps, torch.zeros(len(speed_mps), FUTURE_STEPS)], dim=2)
    return ((future_m - straight) / PLAN_UNIT_M).flatten(1)


def plan_metres(prediction: Float[Tensor, "B 12"], speed_mps: Float[Tensor, " B"]) -> Float[Tensor, "B T 2"]:
    """Return metres: the inverse of `plan_target`."""
    zero = torch.zeros(len(speed_mps), FUTURE_STEPS, 2)
    return (prediction - plan_target(zero, speed_mps)).view(-1, FUTURE_STEPS, 2) * PLAN_UNIT_M


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

    def forward(
        self, images: UInt8[Tensor, "B 3 H W"], speed_mps: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B N C"], Float[Tensor, "B N 6"], Float[Tensor, "B 12"], Float[Tensor, "B E"]]:
        """Return painted cells, class logits of each cell, plan (see `plan_target`), event logits."""
        with PatchMatmul():
            tokens = encode_images(self.visual, images)
        summary = torch.cat([self.squeeze(tokens).flatten(1), speed_mps[:, None] / 10], dim=1)
        hidden = self.hidden(summary)
        return self.paint(tokens), self.cell(tokens), self.plan(hidden), self.event(hidden)

    def losses(
        self,
        images: UInt8[Tensor, "B 3 H W"],
        speed_mps: Float[Tensor, " B"],
        future_m: Float[Tensor, "B T 2"],
        event: Int[Tensor, " B"],
        shares: Float[Tensor, "B N 6"],
    ) -> dict[str, Tensor]:
        """Return the weighted objectives; images without a plan count for painting and classes only."""
        painted, cells, plan, logits = self(images, speed_mps)
        seen = event != NO_PLAN
        paint = F.mse_loss(painted, paint_target(images))
        target = plan_target(future_m, speed_mps)
        path = F.smooth_l1_loss(plan[seen], target[seen], beta=0.1)
        name = F.cross_entropy(logits[seen], event[seen])
        cell = F.cross_entropy(cells.flatten(0, 1), shares.flatten(0, 1))
        loss = path + PAINT_WEIGHT * paint + CELL_WEIGHT * cell + EVENT_WEIGHT * name
        return {"loss": loss, "paint": paint, "cell": cell, "plan": path, "event": name}


def batch(pool: Pool, choice: Int[Tensor, " B"]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return images (B, 3, H, W) uint8, speeds, futures, events and class shares of the chosen pool entries."""
    index = choice.numpy()
    images = torch.from_numpy(pool.images[index]).permute(0, 3, 1, 2)
    speed, future, event = (torch.from_numpy(a[index]) for a in (pool.speed_mps, pool.future_m, pool.event))
    return images, speed, future, event, torch.from_numpy(pool.shares[index]).float()


def tower_step(
    training: TowerPretraining, pool: Pool, rows: tuple[Int[Tensor, " M"], int], step: int, generator: Generator
) -> dict[str, Tensor]:
    """Return the losses of one random batch; `rows` are the images to choose from and how many."""
    candidates, size = rows
    choice = candidates[torch.randint(len(candidates), (size,), generator=generator)]
    return training.losses(*batch(pool, choice))
