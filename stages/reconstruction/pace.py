"""How fast this machine trains, measured before the run on real batches; nothing of the module is changed by it."""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from stages.reconstruction.data import Batch
from stages.reconstruction.model import Reconstruction, losses
from stages.reconstruction.options import TrainPruner
from stages.reconstruction.work import Pace

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
    """The pace of drawing batches, forward and backward passes: a second of them, two batches at least.

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
        for batch in islice(stream, 1):
            learn_nothing(batch)
        began_s, images, count = now_s(device), 0, 0
        for count, batch in enumerate(stream, start=1):
            images += learn_nothing(batch)
            if count >= ENOUGH_BATCHES and time.perf_counter() - began_s >= ENOUGH_S:
                break
        if count < ENOUGH_BATCHES:
            raise ValueError(f"wanted one batch to warm up and {ENOUGH_BATCHES} to measure; came {count} to measure")
        return Pace(images, now_s(device) - began_s)


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
