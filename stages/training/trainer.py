"""The training loop: steps, evaluations, checkpoints; it may be killed at any time and goes on to the same weights."""

import logging
import math
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from stages.core.errors import ParamsError, TryAgainError
from stages.core.progress import progress
from stages.training import TrainPruner, engine, resume
from stages.training.data import Batch, Samples, draw
from stages.training.evaluation import MEASURED, SALIENCY, Row, evaluate, histogram, known
from stages.training.model import Reconstruction, losses

log = logging.getLogger(__name__)

COLLAPSED_STEPS = 50  # in a row with (almost) all or none of the tokens kept, before a warning
NAMED = 8  # images that an error names


def nothing(*_: object) -> None:
    """Record nothing."""


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
        tensors = self._resumed()
        module.to(self.device)
        if tensors:
            module.load_state_dict({name: tensors[name] for name in module.state_dict()})
        self._optimizer = engine.ClippedAdamW(_groups(module, options), options.weight_decay, options.zero_stage > 0)
        self._engine = engine.start(module, self._optimizer, options)
        if self.step:
            engine.restore(self._engine, self._optimizer, tensors, self.step)

    @property
    def step(self) -> int:
        """Steps taken so far, those before a kill included."""
        return int(self._state["step"])

    @property
    def best_tag(self) -> str:
        """The checkpoint with the lowest loss on held-out images."""
        return str(self._state["best_tag"])

    def _resumed(self) -> dict[str, Tensor]:
        """The tensors of the newest checkpoint that rank 0 finds, on every rank; none for a fresh start."""
        tensors, state = dict[str, Tensor](), dict[str, Any]()
        if self.rank == 0 and (tag := resume.newest(self.folder)):
            tensors, state = resume.load(self.folder, tag)
        shared: list[Any] = [state, {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}]
        dist.broadcast_object_list(shared)
        state, shapes = shared
        self.history = state.pop("history", [])
        self._state |= state
        for name, (shape, dtype) in shapes.items():
            whole = tensors[name] if self.rank == 0 else torch.empty(shape, dtype=dtype)
            tensors[name] = whole.to(self.device)
            dist.broadcast(tensors[name], 0)
        return tensors

    def run(
        self,
        samples: Samples,
        held_out: Samples,
        watch: Callable[[dict[str, float], int], object] = nothing,
        epoch: Callable[[int], object] = nothing,
    ) -> list[Row]:
        """Train to the last step; returns the history: a row per step and per evaluation (before, and each epoch).

        On rank 0 `watch` gets the numbers of each step, `epoch` the step of each evaluation.
        Raises ParamsError naming the images when a number is not finite; TryAgainError after SIGTERM, its state saved.
        """
        options, count = self.options, len(samples)
        todo = range(self.step, options.steps)
        share = slice(self.rank * self._size, (self.rank + 1) * self._size)
        orders = [draw(count, options.seed, step, options.batch_size)[share] for step in todo]
        if self.step == 0:
            self._evaluate(held_out, watch, epoch)
        saved_s, signals = time.monotonic(), list[int]()
        with engine.quiet(), on_sigterm(lambda number, _: signals.append(number)):
            batches = progress(samples.batches(orders), options.steps, "train_pruner", self.step)
            began_s, waited_s = time.monotonic(), samples.waited_s
            for order, batch in zip(orders, batches, strict=True):
                names = [samples.names[index] for index in order]
                row = known(self._learn(batch.to(self.device), samples.grid, names))
                self.history.append({"step": self.step, "split": "train", **row})
                if self.rank == 0:
                    took_s, waited_s = time.monotonic() - began_s, samples.waited_s - waited_s
                    speed = {"images_per_s": options.batch_size / took_s, "data_wait_share": waited_s / took_s}
                    watch({**_numbers(row), **speed, "memory_gb": memory_gb(self.device)}, self.step)
                better = self._ends_epoch(count) and self._evaluate(held_out, watch, epoch)
                late = time.monotonic() - saved_s > options.checkpoint_every_s
                late, stopped = self._anywhere(late, bool(signals))
                if late or stopped or better or self.step == options.steps:
                    self._save()
                    saved_s = time.monotonic()
                if stopped and self.step < options.steps:
                    got = f"SIGTERM after step {self.step}, which is saved in {self.folder}"
                    fix = "run the same command again; it goes on from there"
                    raise TryAgainError(expected=f"{options.steps} steps", got=got, fix=fix)
                began_s, waited_s = time.monotonic(), samples.waited_s
        return self.history

    def _anywhere(self, *flags: bool) -> list[bool]:
        """Return for each flag, on all ranks, whether any rank raised it."""
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

    def _ends_epoch(self, count: int) -> bool:
        size = self.options.batch_size
        return self.step * size // count > (self.step - 1) * size // count or self.step == self.options.steps

    def _evaluate(self, held_out: Samples, watch: Callable[..., object], epoch: Callable[[int], object]) -> bool:
        """Measure on rank 0; returns on every rank whether this is the best so far."""
        best: list[Any] = [self._state["best_tag"], self._state["best_loss"]]
        if self.rank == 0:
            measured = evaluate(self.module, held_out, self.options, self._size)
            self.history.append({"step": self.step, "split": "held_out", **measured})
            values = _numbers(measured)
            watch({f"held_out_{name}": value for name, value in values.items()}, self.step)
            log.info("step %d held out: %s", self.step, ", ".join(f"{k} {v:.3f}" for k, v in values.items()))
            watch_ranking(measured["auc"], self.step - _pruner_starts_at(self.module, self.options))
            epoch(self.step)
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


def rate_share(step: int, steps: int, warmup_steps: int, starts_at: int = 0) -> float:
    """Share of the peak learning rate at `step`: from `starts_at` a linear warm-up, then half a cosine towards 0."""
    since = step - starts_at
    if since < 0:
        return 0.0
    if since < warmup_steps:
        return (since + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (since - warmup_steps) / max(1, steps - starts_at - warmup_steps)))


def memory_gb(device: torch.device) -> float:
    """Most memory held so far: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def require_finite(what: str, value: float, batch: Batch, names: Sequence[str]) -> None:
    """Raise ParamsError naming images (`names`, sample_data tokens of `batch`) unless `value` is a number.

    Those whose visual tokens are none, where there are such on any rank, else all of the batch. Called by all ranks
    with the same value.
    """
    if math.isfinite(value):
        return
    finite = torch.isfinite(batch.tokens).flatten(1).all(dim=1).tolist()
    suspects = [name for name, whole in zip(names, finite, strict=True) if not whole]
    gathered: list[tuple[list[str], list[str]]] = [([], [])] * dist.get_world_size()
    dist.all_gather_object(gathered, (suspects, list(names)))
    broken, every = ([name for part in parts for name in part] for parts in zip(*gathered, strict=True))
    shown = broken or every
    more = f" and {len(shown) - NAMED} more" if len(shown) > NAMED else ""
    lower = "lower train_pruner.pruner_lr or train_pruner.decoder_lr in params.yaml"
    raise ParamsError(
        expected=f"a finite {what}",
        got=f"{value}, from the images {', '.join(shown[:NAMED])}{more}",
        fix="look at these images: the vision tower makes no numbers of them" if broken else lower,
    )


def watch_collapse(keep_share: float, steps_before: int) -> int:
    """Count the steps in a row in which (almost) all or none of the tokens were kept; warn once, with the remedy."""
    steps = steps_before + 1 if not 0.02 <= keep_share <= 0.98 else 0
    if steps == COLLAPSED_STEPS:
        lowers = "train_pruner.alpha (the background branch is what lowers scores; it needs train_pruner.adversarial)"
        knob = lowers if keep_share > 0.5 else "train_pruner.pruner_lr"
        log.warning("keep share %.2f for %d steps: lower %s", keep_share, steps, knob)
    return steps


def watch_ranking(auc: float | None, steps: int) -> None:
    """Warn when background outranks foreground on held-out images after an epoch in which the pruner, too, took steps.

    Keeping the background is the other local minimum of Eq. 8: the decoder can infer the image from what is missing,
    and the loss stays above that of the right order. Which one a run falls into is decided in its first steps.
    """
    if steps > 0 and auc is not None and auc < 0.5:
        remedy = "raise train_pruner.decoder_first_steps or change its seed"
        log.warning("background outranks foreground (AUC %.2f): %s", auc, remedy)


@contextmanager
def on_sigterm(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Inside, SIGTERM (pre-emption, a scheduler's end of time) calls `handler`."""
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def try_again(*_: object) -> None:
    """Handle SIGTERM: no InputError, which code that catches errors of its own work would take for one of those."""
    log.error("SIGTERM: run the same command again; it goes on from what is whole")
    sys.exit(TryAgainError.exit_code)
