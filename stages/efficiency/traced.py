"""What a call does to the machine, by counting: how often it makes the host wait for a device, and its peak memory.

Counts of dispatched operators are the same on a CPU, where nothing waits, so a test without a GPU can hold them.
"""

import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Operators whose result the host has to know before it goes on: a number, or the size of an output.
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal", "repeat_interleave")


@dataclass(frozen=True)
class Trace:
    """One call."""

    waits: dict[str, int]  # by operator
    peak_bytes: int  # of the storages that the call made and held at once

    @property
    def host_waits(self) -> int:
        """All of them."""
        return sum(self.waits.values())


def trace(call: Callable[[], object]) -> Trace:
    """Run `call` and watch the operators that it dispatches.

    Scaled-dot-product attention holds its output alone, as a fused kernel does, also where a device decomposes it into
    products (meta does).
    """
    with _Watch() as watch, _Fused(watch):
        call()
    return Trace(dict(watch.waits), watch.peak)


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.held = self.peak = 0
        self.fused = False  # inside a kernel whose own tensors do not count
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        to_host = name == "_to_copy" and args[0].device.type != "cpu" and _on_host(kwargs)
        if any(name.startswith(word) for word in WAITS) or by_mask or to_host:
            self.waits[name] += 1
        given = {_storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and not self.fused and _storage(leaf) not in given:
                self.hold(leaf)
        return result

    def hold(self, tensor: Tensor) -> None:
        """Count the storage of `tensor` until it is let go."""
        storage = tensor.untyped_storage()
        key, size = _storage(tensor), storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._let_go, key, size)

    def _let_go(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.held -= size


class _Fused(TorchFunctionMode):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        self.watch.fused = True
        try:
            result = func(*args, **(kwargs or {}))
        finally:
            self.watch.fused = False
        self.watch.hold(result)
        return result


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _on_host(kwargs: dict[str, Any] | None) -> bool:
    device = (kwargs or {}).get("device")
    return device is not None and torch.device(device).type == "cpu"
