"""Which stream a step is captured on, by a stand-in for CUDA of two cards: torch 2.11's rules, no GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import pytest
import torch

from stages.vla.fast import runner
from stages.vla.fast.runner import CudaGraph


@dataclass(frozen=True)
class Stream:
    """Of a card; `captures` counts as torch's own streams do, by object."""

    card: int
    own: object = field(default_factory=object)

    def wait_stream(self, other: "Stream") -> None:
        assert other.card == self.card


class Cards:
    """What of torch.cuda a capture touches."""

    def __init__(self) -> None:
        self.card = 0
        self.current = {0: Stream(0), 1: Stream(1)}
        self.captured_on = list[Stream]()
        self.whole = 0  # captures that ended well
        self.default: Stream | None = None  # as torch.cuda.graph makes it: once, on the card of the first capture

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        before, self.card = self.card, device.index
        yield
        self.card = before

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        card, before = self.card, self.current[stream.card]
        self.card, self.current[stream.card] = stream.card, stream
        try:
            yield
        finally:
            self.card, self.current[stream.card] = card, before

    @contextmanager
    def graph(self, graph: object, stream: Stream | None = None) -> Iterator[None]:
        self.default = self.default or Stream(self.card)
        side = stream or self.default
        self.card, card, before = side.card, self.card, self.current[side.card]
        self.current[side.card] = side
        self.captured_on.append(side)
        yield  # and where the step raises, 2.11 raises at the end of the capture, its stream still current
        self.whole += 1
        self.card, self.current[side.card] = card, before


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Cards:
    made = Cards()
    for name in ("device", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, getattr(made, name))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(device.index))
    monkeypatch.setattr(runner, "side_stream", cache(Stream), raising=False)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: made.current[made.card])
    monkeypatch.setattr(torch.cuda, "current_device", lambda: made.card)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    return made


class Graph:
    def replay(self) -> None:
        """The number is there already."""


class Six:
    """Leaves a number; its calls are counted, and the one told may break."""

    def __init__(self, breaks_at: int = 0, why: str = "operation not permitted when stream is capturing") -> None:
        self.number, self.calls, self._breaks_at, self._why = torch.zeros(1), 0, breaks_at, why

    def __call__(self) -> None:
        self.calls += 1
        self.number.fill_(6)
        if self.calls == self._breaks_at:
            raise RuntimeError(self._why)

    def left(self) -> torch.Tensor:
        return self.number

    def spoil(self) -> None:
        """A replay here does nothing, so neither does this."""


def test_each_card_captures_on_a_stream_of_its_own(cards: Cards) -> None:
    for card in (0, 1, 1):
        CudaGraph(Six(), torch.device("cuda", card))()
    assert [stream.card for stream in cards.captured_on] == [0, 1, 1]
    assert cards.captured_on[1] is cards.captured_on[2]


def test_a_capture_that_breaks_off_leaves_the_stream_that_was_current(cards: Cards) -> None:
    before = dict(cards.current)
    with pytest.raises(RuntimeError, match="not permitted"):
        CudaGraph(Six(breaks_at=runner.WARMUPS + 2), torch.device("cuda", 0))
    assert cards.current == before
    assert (len(cards.captured_on), cards.whole) == (2, 1)  # a second one, for the random generator's sake


def test_a_driver_without_memory_for_a_graph_is_out_of_memory_as_torch_is(cards: Cards) -> None:
    step = Six(
        breaks_at=runner.WARMUPS + 2, why="CUDA error: out of memory\nCUDA kernel errors might be reported later"
    )
    with pytest.raises(torch.OutOfMemoryError, match="CUDA error: out of memory"):
        CudaGraph(step, torch.device("cuda", 0))
