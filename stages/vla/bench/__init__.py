"""The benchmark for a GPU machine, which may lack jaxtyping: shapes are checked in tests alone, so a stand-in does."""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class _Unchecked:
    """`Float[Tensor, "B N"]` is `Tensor`."""

    def __class_getitem__(cls, of: tuple[Any, str]) -> Any:
        return of[0]


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> type[_Unchecked]:
        if name.startswith("_"):  # `inspect` asks every module for its file
            raise AttributeError(name)
        return _Unchecked


if find_spec("jaxtyping") is None:
    sys.modules["jaxtyping"] = _StandIn("jaxtyping")
    sys.modules["jaxtyping"].__spec__ = ModuleSpec("jaxtyping", None)
