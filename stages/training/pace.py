"""How fast this machine trains, measured before the run on real batches; nothing of the module is changed by it."""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from stages.training.data import Batch
from stages.training.model import Reconstruction, losses
from stages.training.options import TrainPruner
from stages.training.work import Pace

ENOUGH_S, ENOUGH_BATCHES = 1.0, 2  # of measuring, whichever takes longer; a first batch before it warms up


def loss_of(module: Reconstruction, batch: Batch, grid: tuple[int, int], options: TrainPruner) -> Float[Tensor, ""]:
    """Total loss of a batch of `grid` (h, w) tokens; the network runs in bf16 autocast where `options.bf16` says so."""
    autocast = torch.autocast(batch.tokens.device.type, torch.bfloat16) if options.bf16 else contextlib.nullcontext()
    with autocast:
        rebuilt = module(batch.tokens, grid)
    return losses(rebuilt, batch, options)[0]


def measure_pace(
    module: Reconstruction,
    batches: Callable[[], Iterator[Batch]],
    grid: tuple[int, int],
    options: TrainPruner,
    device: torch.device,
) -> Pace:
    """The pace of drawing batches, and of forward and backward passes: a second of both, two batches at least.

    `module` is moved to `device`; its weights, gradients and torch's random state stay as they are. Not in it: the
    optimiser's step and the exchange of gradients. Raises ValueError when there are less than three batches.
    """
    module.to(device)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]

    def learn_nothing(batch: Batch) -> int:
        total = loss_of(module, batch.to(device), grid, options)
        torch.autograd.grad(total, trained, allow_unused=True)  # .backward() would write into .grad
        return len(batch)

    with torch.random.fork_rng([device] if device.type == "cuda" else []), closed(batches()) as stream:
        pace, began_s, place = Pace(0, 0.0, 0.0), 0.0, 0
        for place, batch in enumerate(stream):
            drawn_s = now_s(device)
            count = learn_nothing(batch)
            ended_s = now_s(device)
            if place:
                pace = Pace(pace.images + count, pace.encode_s + drawn_s - began_s, pace.learn_s + ended_s - drawn_s)
            if place >= ENOUGH_BATCHES and pace.seconds >= ENOUGH_S:
                return pace
            began_s = ended_s
        raise ValueError(f"wanted one batch to warm up and {ENOUGH_BATCHES} to measure; came {place} to measure")


def now_s(device: torch.device) -> float:
    """The clock after all work that was given to `device`."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextlib.contextmanager
def closed(stream: Iterator[Batch]) -> Iterator[Iterator[Batch]]:
    """`stream`, which lets go of its workers at the end."""
    try:
        yield stream
    finally:
        if isinstance(stream, Generator):
            stream.close()
