"""How a step runs that reads and writes buffers which never move: replayed as a captured CUDA graph, or called."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from stages.errors import MachineError

WARMUPS = 3  # on a side stream, as torch.cuda.graph asks: libraries make their workspaces, kernels are compiled
TOLERANCE = 2e-2  # of a replay, to the greatest value: another algorithm may sum in another order, in half precision


@runtime_checkable
class Step(Protocol):
    """What is run; it can be asked what it left, so that a replay is seen to do its work."""

    def __call__(self) -> None: ...
    def left(self) -> Tensor: ...
    def spoil(self) -> None:
        """Back to before the run, with NaN where its result stood."""


@runtime_checkable
class Runner(Protocol):
    """Runs one step; nothing that it reads or writes is allocated outside it."""

    def __call__(self) -> None: ...


class Eager:
    """The step itself: what a CPU runs, and what launches cost on a GPU."""

    def __init__(self, step: Step) -> None:
        self._step = step

    def __call__(self) -> None:
        self._step()


class CudaGraph:
    """All kernels of the step by one launch. Made before the buffers hold what matters: the warm-ups run the step.

    `device` is where the step works. Streams and graphs are made on the current device, which need not be that one: a
    graph captured elsewhere is empty, and its replay leaves what stood there. Raises MachineError for such a graph.
    """

    def __init__(self, step: Step, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            side = side_stream(torch.cuda.current_device())
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARMUPS):
                    step()
            torch.cuda.current_stream().wait_stream(side)
            self._replay = proven(step, captured)

    def __call__(self) -> None:
        with torch.cuda.device(self._device):
            self._replay()


@cache
def side_stream(card: int) -> torch.cuda.Stream:
    """Where steps of a card warm up and are captured: one stream for all, since cuBLAS holds memory for each.

    torch's own for captures is one for the process, on the card that captured first: on another nothing is captured.
    """
    return torch.cuda.Stream(card)


@contextmanager
def capturing() -> Iterator[torch.cuda.CUDAGraph]:
    """A graph that takes up what is launched inside, in the place of the current card."""
    graph, side = torch.cuda.CUDAGraph(), side_stream(torch.cuda.current_device())
    # A pool of its own: in a shared one another graph's replay would write over what this one leaves behind.
    # Around it the stream of now: a capture that broke off leaves its own one set (torch 2.11)
    with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, stream=side):
        yield graph


def captured(step: Step) -> Callable[[], None]:
    """The replay of the step's graph on the current device."""
    full = list[torch.OutOfMemoryError]()
    try:
        with capturing() as graph:
            try:
                step()
            except torch.OutOfMemoryError as error:
                full.append(error)
                raise
    except RuntimeError as error:
        with suppress(RuntimeError), capturing():
            step.left().clone()  # the next capture that ends well frees the random numbers, which 2.11 leaves capturing
        # Ending a capture that broke off raises an error of its own, which would hide the reason; making the graph that
        # replays takes memory of the driver, whose lack is another kind of error
        if full or "CUDA error: out of memory" in str(error):
            raise torch.OutOfMemoryError(str([*full, error][0])) from error
        raise
    replay: Callable[[], None] = graph.replay
    return replay


def proven(step: Step, capture: Callable[[Step], Callable[[], None]]) -> Callable[[], None]:
    """The replay that `capture` makes, after one that was seen to leave what a plain run leaves.

    Raises MachineError for one that does not.
    """
    step.spoil()
    step()
    wanted = step.left().clone()
    replay = capture(step)
    step.spoil()
    replay()
    left = step.left()
    atol = TOLERANCE * float(wanted.abs().nan_to_num().max())
    if not torch.allclose(left.float(), wanted.float(), rtol=0.0, atol=atol, equal_nan=True):
        raise MachineError(
            wanted="a captured CUDA graph that does what the step does",
            came=f"another result from a {type(step).__name__} on {wanted.device}",
            then="set vla.host to eager in params.yaml, and compare the versions of torch and of the CUDA driver",
        )
    return replay


RunnerOf = Callable[[Step], Runner]


def runner_on(device: torch.device) -> RunnerOf:
    """A captured graph where there are CUDA graphs, else plain calls."""
    return partial(CudaGraph, device=device) if device.type == "cuda" else Eager
