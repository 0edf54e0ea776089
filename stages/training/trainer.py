"""The training loop: steps, evaluations, checkpoints; it may be killed at any time and goes on to the same weights."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from stages.core.errors import ParamsError, TryAgainError
from stages.core.progress import progress
from stages.training import engine, resume
from stages.training.data import Batch, Samples, draw
from stages.training.evaluation import MEASURED, SALIENCY, Row, evaluate, histogram, known
from stages.training.model import Reconstruction, losses
from stages.training.optimizer import ClippedAdamW, rate_share
from stages.training.options import TrainPruner
from stages.training.watching import (
    memory_gb,
    require_finite,
    terminations,
    watch_collapse,
    watch_ranking,
)

log = logging.getLogger(__name__)


def nothing(*_: object) -> None:
    """Record nothing."""


@dataclass(frozen=True)
class Watch:
    """Where a run tells of itself, on rank 0: the numbers of a step, and the end of an epoch (step 0 too)."""

    numbers: Callable[[dict[str, float], int], None] = nothing
    epoch: Callable[[int], None] = nothing


class Trainer:
    """A run of `options.steps` steps in `folder`, taken up where its newest whole checkpoint stands.

    `config` goes beside the weights of each checkpoint. The same number of ranks goes on to the same bits (on a CPU).
    Raises ParamsError when the ranks cannot share a batch evenly.
    """

    def __init__(
        self, module: Reconstruction, options: TrainPruner, folder: Path, config: Mapping[str, Any] | None = None
    ) -> None:
        self.module, self.options, self.folder, self.config = module, options, folder, dict(config or {})
        self.device = engine.join_ranks()
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self._size = engine.batch_per_rank(options)
        self.history = list[Row]()
        self._state: dict[str, Any] = {"step": 0, "collapsed": 0, "best_tag": "", "best_loss": None}
        tensors = self._taken_up()
        names = module.to(self.device).state_dict()
        if tensors:
            module.load_state_dict({name: tensors[name] for name in names})
        self._optimizer = ClippedAdamW(_groups(module, options), options.weight_decay, options.zero_stage > 0)
        self._engine = engine.start(module, self._optimizer, options)
        if self.step:
            engine.restore(self._engine, self._optimizer, tensors, self.step)

    @property
    def step(self) -> int:
        """Steps taken so far, those before a kill included."""
        return int(self._state["step"])

    @property
    def best_step(self) -> int:
        """The step after which the loss on held-out images was lowest."""
        return int(self.best_tag.removeprefix("step_"))

    @property
    def best_tag(self) -> str:
        """The checkpoint with the lowest loss on held-out images."""
        return str(self._state["best_tag"])

    def _taken_up(self) -> dict[str, Tensor]:
        """The tensors of the newest checkpoint that rank 0 finds, on every rank; none for a fresh start."""
        tensors, state = dict[str, Tensor](), dict[str, Any]()
        if self.rank == 0 and (tag := resume.newest(self.folder)):
            tensors, state = resume.load(self.folder, tag)
        told: list[Any] = [state, {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}]
        dist.broadcast_object_list(told)
        state, shapes = told
        self.history = state.pop("history", [])
        self._state |= state
        for name, (shape, dtype) in shapes.items():
            whole = tensors[name] if self.rank == 0 else torch.empty(shape, dtype=dtype)
            tensors[name] = whole.to(self.device)
            dist.broadcast(tensors[name], 0)
        return tensors

    def run(self, samples: Samples, held_out: Samples, watch: Watch) -> list[Row]:
        """Train to the last step; returns the history: a row per step and per evaluation (before, and each epoch).

        Raises ParamsError naming the images when a number is not finite; TryAgainError after SIGTERM, its state saved.
        """
        options, count = self.options, len(samples)
        todo = range(self.step, options.steps)
        orders = [draw(count, options.seed, step, options.batch_size)[self._mine()] for step in todo]
        if self.step == 0:
            self._evaluate(held_out, watch)
        saved_s = time.monotonic()
        with engine.quiet(), terminations() as seen:
            batches = progress(samples.batches(orders), options.steps, "train_pruner", self.step)
            began_s, waited_s = time.monotonic(), samples.waited_s
            for order, batch in zip(orders, batches, strict=True):
                row = self._learn(batch.to(self.device), samples.grid, [samples.names[index] for index in order])
                self._tell(watch, row, samples.waited_s - waited_s, time.monotonic() - began_s)
                better = self._ends_epoch(count) and self._evaluate(held_out, watch)
                late = time.monotonic() - saved_s > options.checkpoint_every_s
                late, stopped = self._anywhere(late, bool(seen))
                if late or stopped or better or self.step == options.steps:
                    self._save()
                    saved_s = time.monotonic()
                if stopped and self.step < options.steps:
                    came = f"SIGTERM after step {self.step}, which is saved in {self.folder}"
                    then = "run the same command again; it goes on from there"
                    raise TryAgainError(expected=f"{options.steps} steps", got=came, fix=then)
                began_s, waited_s = time.monotonic(), samples.waited_s
        return self.history

    def _mine(self) -> slice:
        return slice(self.rank * self._size, (self.rank + 1) * self._size)

    def _anywhere(self, *flags: bool) -> list[bool]:
        """What any rank says of each flag: the same answer on all of them."""
        raised = torch.tensor(flags, dtype=torch.float32, device=self.device)
        dist.all_reduce(raised)
        return (raised > 0).tolist()

    def _learn(self, batch: Batch, grid: tuple[int, int], names: list[str]) -> dict[str, Any]:
        """One step; its numbers, means over all ranks, and the histogram of this rank's saliency."""
        for group in self._optimizer.param_groups:
            share = rate_share(self.step, self.options.steps, self.options.warmup_steps, group["starts_at"])
            group["lr"] = share * group["peak_lr"]
        rebuilt = self._engine(batch.tokens, grid)
        total, fore, back = losses(rebuilt, batch, self.options)
        means = torch.stack([total, fore, back, rebuilt.keep.mean()]).detach()
        dist.all_reduce(means)
        row: dict[str, Any] = dict(zip(MEASURED, (means / self.world).tolist(), strict=True))
        require_finite(f"loss at step {self.step + 1}", row["loss"], batch, names)
        self._engine.backward(total)
        self._engine.step()
        self._state["step"] += 1
        for group in self._optimizer.param_groups:
            norm = row[f"{group['name']}_grad_norm"] = float(self._optimizer.norms[group["name"]])
            row[f"{group['name']}_lr"] = group["lr"]
            require_finite(f"gradient of the {group['name']} at step {self.step}", norm, batch, names)
        self._state["collapsed"] = watch_collapse(row["keep_share"], self._state["collapsed"])
        return row | {SALIENCY: histogram(rebuilt.scores)}

    def _tell(self, watch: Watch, row: Mapping[str, Any], waited_s: float, took_s: float) -> None:
        measured = known(row)
        self.history.append({"step": self.step, "split": "train", **measured})
        speed = {"images_per_s": self.options.batch_size / took_s, "data_wait_share": waited_s / took_s}
        if self.rank == 0:
            watch.numbers({**_numbers(measured), **speed, "memory_gb": memory_gb(self.device)}, self.step)

    def _ends_epoch(self, count: int) -> bool:
        size = self.options.batch_size
        return self.step * size // count > (self.step - 1) * size // count or self.step == self.options.steps

    def _evaluate(self, held_out: Samples, watch: Watch) -> bool:
        """Measure on rank 0; returns on every rank whether this is the best so far."""
        best: list[Any] = [self._state["best_tag"], self._state["best_loss"]]
        if self.rank == 0:
            measured = evaluate(self.module, held_out, self.options, self._size)
            self.history.append({"step": self.step, "split": "held_out", **measured})
            values = _numbers(measured)
            watch.numbers({f"held_out_{name}": value for name, value in values.items()}, self.step)
            log.info("step %d held out: %s", self.step, ", ".join(f"{k} {v:.3f}" for k, v in values.items()))
            watch_ranking(measured["auc"], self.step - _pruner_starts_at(self.module, self.options))
            watch.epoch(self.step)
            loss = measured["loss"]
            if loss is None or math.isinf(loss):
                best = [None, None]
            elif self.step and (best[1] is None or loss < best[1]):
                best = [resume.tag_of(self.step), loss]
        dist.broadcast_object_list(best)
        if best[0] is None:
            raise ParamsError(
                expected=f"a finite loss on the {len(held_out)} held-out images after step {self.step}",
                got="none",
                fix="lower train_pruner.pruner_lr or train_pruner.decoder_lr in params.yaml",
            )
        better = best[0] != self._state["best_tag"]
        self._state |= {"best_tag": best[0], "best_loss": best[1]}
        return better

    def _save(self) -> None:
        tensors = engine.gather(self._engine, self._optimizer)
        if self.rank == 0:
            state = self._state | {"history": self.history}
            resume.save(self.folder, resume.tag_of(self.step), tensors, state, (self.module.pruner, self.config))
            resume.drop_old(self.folder, self.options.checkpoints_kept, self.best_tag)
        dist.barrier()


def _groups(module: Reconstruction, options: TrainPruner) -> list[dict[str, Any]]:
    """The pruner and, where there is one, the decoder.

    Departure: the decoder learns alone at first. Under one that cannot paint yet, what the pruner's random weights
    happen to keep decides whether it goes towards the foreground or the background (README, "Seeds").
    """
    starts_at = _pruner_starts_at(module, options)
    pruner = {"peak_lr": options.pruner_lr, "clip_norm": options.pruner_clip_norm, "starts_at": starts_at}
    groups = [{"name": "pruner", "params": list(module.pruner.parameters()), **pruner}]
    if module.decoder is not None:
        decoder = {"peak_lr": options.decoder_lr, "clip_norm": options.decoder_clip_norm, "starts_at": 0}
        groups.append({"name": "decoder", "params": list(module.decoder.parameters()), **decoder})
    return groups


def _pruner_starts_at(module: Reconstruction, options: TrainPruner) -> int:
    return options.decoder_first_steps if module.decoder is not None else 0


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if isinstance(value, int | float)}
