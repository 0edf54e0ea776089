"""The two training phases: the vision tower, with heads that are dropped afterwards, then the language model on top.

The tower has four objectives: each token paints back the pixels of its own cell and predicts which classes are in it,
all tokens together predict the plan and the event. The classes are those of the pool's own drawn scenes: a real tower
knows what a car is before it is frozen, too. No nuScenes-FG mask is read.

Trained on text alone the language model hardly uses the image: later waypoints follow from earlier ones. So a
regression head comes first, and in the second half a share of the numbers it could copy from is hidden from it.
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from stages.backbone.qwen import TOKEN_PX, Model, Tokenizer, encode_images
from stages.backbone.tokens import positions_around
from stages.pruning.base import Kept
from stages.scenes.base import FUTURE_STEPS, STEP_S
from stages.toy_driver.pool import CLASSES, EVENTS, NO_PLAN, Dataset, Pool
from stages.vla.prefill import Prompt, pruned_prompt, token_view
from stages.vla.toy import PAD, VOCABULARY, numeric_ids, word_id

PAINT_PX = 14  # side of the square that one token paints: half resolution
PLAN_UNIT_M = 3.0
PAINT_WEIGHT, CELL_WEIGHT, EVENT_WEIGHT = 0.3, 0.3, 0.15
HIDDEN_NUMBERS = 0.7  # of the numeric answer inputs of every second sample
UNPRUNED_SHARE, KEEP_RANGE = 0.2, (0.2, 1.0)  # subsets of tokens in training
REGRESSION_WEIGHT = 0.5  # beside the answers
WHOLE_SIGMA, DECIMAL_SIGMA = 0.6, 1.5  # spread of the soft labels over neighbouring numbers


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
    """A model's own vision tower, which sees `tokens` of an image, under three linear-ish heads."""

    def __init__(self, model: Model, tokens: int) -> None:
        super().__init__()
        self.visual, width = model.model.visual, model.config.vision_config.out_hidden_size
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


def soft_labels(whole: Int[Tensor, " I"], decimals: Int[Tensor, " J"], V: int) -> Float[Tensor, "V V"]:
    """Return in row i the target distribution when word i is right; a number shares mass with its neighbours."""
    table = torch.eye(V)
    for ids, sigma in ((whole, WHOLE_SIGMA), (decimals, DECIMAL_SIGMA)):
        steps = torch.arange(len(ids)).float()
        near = torch.exp(-0.5 * ((steps[:, None] - steps[None]) / sigma) ** 2)
        table[ids[:, None], ids[None]] = near / near.sum(1, keepdim=True)
    return table


class LanguageTraining(nn.Module):
    """A whole model whose tower is frozen, with a regression head on the last prompt token."""

    labels: Tensor  # buffers
    numeric: Tensor

    def __init__(self, model: Model, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.model = model
        self.head = nn.Linear(model.config.text_config.hidden_size, 2 * FUTURE_STEPS)
        ids = numeric_ids(tokenizer)
        # "-0" lies between -1 and 0 and must not be taken for a neighbour of the first whole number.
        labels = soft_labels(torch.tensor(ids[1:-10]), torch.tensor(ids[-10:]), len(VOCABULARY))
        self.register_buffer("labels", labels, persistent=False)
        self.register_buffer("numeric", torch.tensor(ids), persistent=False)
        self.pad = word_id(tokenizer, PAD)

    def losses(
        self, phase: str, dataset: Dataset, choice: Int[Tensor, " B"], generator: Generator
    ) -> dict[str, Tensor]:
        """Return the loss of the "regression", or of the "answer" with its text and plan, on random token subsets."""
        prompt = Prompt(dataset.prompts.before[choice], dataset.prompts.after[choice])
        view = token_view(
            dataset.features[choice].float(), (dataset.grid,), prompt.lengths[:1], ("",) * len(choice), ""
        )
        kept = Kept(subset(dataset.grid, len(choice), generator))
        target = plan_target(dataset.future_m[choice], dataset.speed_mps[choice])
        embeds, positions = pruned_prompt(self.model, view, kept, prompt)
        if phase == "regression":
            plan = self.head(self._hidden(embeds, positions)[:, -1])
            return {"loss": F.smooth_l1_loss(plan, target, beta=0.1)}
        ids = dataset.answers[choice]
        given = self._hide_numbers(ids, generator)
        B, S = given.shape
        answer = self.model.get_input_embeddings()(given[:, :-1])
        whole = positions_around((prompt.lengths[0], prompt.lengths[1] + S - 1), view.grids)
        tail = whole[:, :, whole.shape[2] - (S - 1) :].expand(3, B, -1)
        hidden = self._hidden(torch.cat([embeds, answer], 1), torch.cat([positions, tail], 2))
        logits, plan = self.model.lm_head(hidden[:, -S:]), self.head(hidden[:, -S])
        text = F.cross_entropy(logits.flatten(0, 1), self.labels[ids.flatten()])
        path = F.smooth_l1_loss(plan, target, beta=0.1)
        return {"loss": text + REGRESSION_WEIGHT * path, "text": text, "plan": path}

    def _hidden(self, embeds: Float[Tensor, "B L D"], positions: Int[Tensor, "3 B L"]) -> Float[Tensor, "B L D"]:
        output = self.model.model.language_model(inputs_embeds=embeds, position_ids=positions, use_cache=False)
        return output.last_hidden_state

    def _hide_numbers(self, ids: Int[Tensor, "B S"], generator: Generator) -> Int[Tensor, "B S"]:
        numeric = torch.isin(ids, self.numeric)
        hide = torch.rand(ids.shape, generator=generator) < HIDDEN_NUMBERS
        every_second = (torch.arange(len(ids)) % 2 == 0)[:, None]
        return ids.masked_fill(numeric & hide & every_second, self.pad)


def subset(grid: tuple[int, int], B: int, generator: Generator) -> Int[Tensor, "B K"]:
    """Return ascending indices of kept tokens: one K for the batch, a kind of removal drawn for each sample.

    A driver that always saw all tokens fails when a region is missing, and then ranks random thinning first whatever
    the pruners are worth. So it meets thinning, smooth fields, rows, blocks and mixtures, drawn independently of any
    pruner that will be evaluated.
    """
    N = grid[0] * grid[1]
    low, high = KEEP_RANGE
    draw = torch.rand(2, generator=generator)
    K = N if draw[0] < UNPRUNED_SHARE else max(1, round(N * float(low + (high - low) * draw[1])))
    scores = torch.stack([_scores(grid, generator) for _ in range(B)])
    return scores.topk(K, dim=1).indices.sort(dim=1).values


def _scores(grid: tuple[int, int], generator: Generator) -> Float[Tensor, " N"]:
    """Return random weights of the four kinds, mixed; a kind is left out of a mixture two times in three."""
    (h, w), N = grid, grid[0] * grid[1]
    thinning = torch.rand(N, generator=generator)
    coarse = torch.rand(1, 1, 3, 4, generator=generator)
    field = F.interpolate(coarse, size=grid, mode="bilinear", align_corners=True).flatten()
    ramp, kind = torch.linspace(0, 1, h), int(torch.randint(3, (1,), generator=generator))
    rows = (ramp, 1 - ramp, torch.rand(h, generator=generator))[kind]  # down or up the image, or in random order
    coarse = torch.rand(1, 1, -(-h // 2), -(-w // 3), generator=generator)
    blocks = F.interpolate(coarse, scale_factor=(2, 3), mode="nearest")[0, 0, :h, :w].flatten()
    kinds = torch.stack([thinning, field, rows[:, None].expand(h, w).flatten(), blocks])
    weights = torch.rand(4, generator=generator) * (torch.rand(4, generator=generator) < 1 / 3)
    weights[int(torch.randint(4, (1,), generator=generator))] += 1
    return (weights[:, None] * kinds).sum(0) + 1e-3 * torch.rand(N, generator=generator)
