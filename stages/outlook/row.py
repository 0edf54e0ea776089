"""One line of the outlook, and the two estimates in it: what there is to do, and how long it takes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """`amount` of `unit`: amounts of one unit compare. `read_bytes`: what decoding reads at least, on one device."""

    amount: int | float
    unit: str
    formula: str
    flops: bool = False
    read_bytes: int | float = 0


@dataclass(frozen=True)
class Time:
    """`seconds` and where they come from; a guess is anything but this very work, scaled, as measured here."""

    seconds: float
    basis: str
    guess: bool


@dataclass(frozen=True)
class Row:
    """One stage; nothing is estimated of a fresh one, and None stands for what nothing tells."""

    stage: str
    stale: bool
    why: str
    work: str = ""
    time: Time | None = None
    gpu_hours: float = 0.0
    memory_bytes: float | None = None
    memory_guess: bool = False
    disk_bytes: float | None = None
    disk_guess: bool = False
    on_gpu: bool = False  # its work, and so its memory
