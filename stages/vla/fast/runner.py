"""How a step runs that reads and writes buffers which never move: replayed as a captured CUDA graph, or called."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch

WARMUPS = 3  # on a side stream, as torch.cuda.graph asks: libraries make their workspaces, kernels are compiled

Step = Callable[[], None]


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
    """All kernels of the step by one launch. Made before the buffers hold what matters: the warm-ups run the step."""

    def __init__(self, step: Step) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARMUPS):
                step()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # A pool of its own: in a shared one another graph's replay would write over what this one leaves behind
        with torch.cuda.graph(self._graph):
            step()

    def __call__(self) -> None:
        self._graph.replay()


RunnerOf = Callable[[Step], Runner]


def runner_on(device: torch.device) -> RunnerOf:
    """A captured graph where there are CUDA graphs, else plain calls."""
    return CudaGraph if device.type == "cuda" else Eager
