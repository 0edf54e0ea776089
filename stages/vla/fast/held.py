"""What is captured holds memory of its own: kept within bounds, and given back when the device has no more."""

import logging
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import torch

log = logging.getLogger(__name__)

T = TypeVar("T")


class Held(Generic[T]):
    """Things by key, each with a size; those used longest ago are let go beyond `most` of them or `size` in all."""

    def __init__(self, most: int, size: int | None = None) -> None:
        self._most, self._size = most, size
        self._things: dict[Hashable, tuple[T, int]] = {}

    def __len__(self) -> int:
        return len(self._things)

    def get(self, key: Hashable, make: Callable[[], T], size: int = 1) -> T:
        """The thing of `key`, made where there is none; it is the last to go, and alone may be larger than allowed."""
        if key not in self._things:
            self._make_room(size)  # ahead of making: memory is free before more is taken
            self._things[key] = make(), size
        self._things[key] = self._things.pop(key)
        return self._things[key][0]

    def drop(self, key: Hashable) -> None:
        """Let one go, if it is there."""
        self._things.pop(key, None)

    def clear(self) -> None:
        """Let all go."""
        self._things.clear()

    def values(self) -> list[T]:
        """What is held, the one used last at the end."""
        return [thing for thing, _ in self._things.values()]

    def _make_room(self, size: int) -> None:
        while self._things and (len(self._things) >= self._most or self._too_large(size)):
            self._things.pop(next(iter(self._things)))

    def _too_large(self, size: int) -> bool:
        return self._size is not None and sum(part for _, part in self._things.values()) + size > self._size


def plainly_when_full(call: Callable[[bool], T], forget: Callable[[], None]) -> T:
    """`call(False)`; where the device's memory does not suffice, `forget` and `call(True)`: plainly, nothing captured.

    Raises torch.OutOfMemoryError when that does not fit either.
    """
    try:
        return call(False)
    except torch.OutOfMemoryError as error:  # it holds the frames and their tensors: let go before the second try
        log.warning("out of memory; captured steps are dropped and this one runs plainly: %s", error)
    forget()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return call(True)
