"""A bare GPU machine has torch, transformers, safetensors and numpy: shapes in signatures are left out there."""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class Shaped:
    """In the place of jaxtyping's types, which only tests look at."""

    def __class_getitem__(cls, of: tuple[Any, str]) -> Any:
        return of[0]


class Shapes(ModuleType):
    """In the place of jaxtyping: any of its types."""

    def __getattr__(self, name: str) -> type[Shaped]:
        if not name[:1].isupper():  # Python asks modules for names of its own
            raise AttributeError(name)
        return Shaped


if find_spec("jaxtyping") is None:
    sys.modules["jaxtyping"] = Shapes("jaxtyping")
    sys.modules["jaxtyping"].__spec__ = ModuleSpec("jaxtyping", None)  # find_spec raises where a module has none
