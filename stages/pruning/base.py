"""Which tokens stay: the contract of a pruner. One method, one file with a class `Pruner`; file name = params key."""

import difflib
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stages.errors import DataError, ParamsError
from stages.tokens import top_k_ascending


@dataclass(frozen=True)
class TokenView:
    """All that a pruner may see of a batch of equal-sized images."""

    tokens: Float[Tensor, "B N D"]  # visual tokens after the merger, reading order
    grid: tuple[int, int]  # (h, w), h * w = N
    positions: Int[Tensor, "3 B N"]  # M-RoPE ids of the visual tokens
    keys: tuple[str, ...]  # B sample names: what randomness is drawn from, so that a batch equals its singles
    encoder: str  # fingerprint of the vision encoder that made the tokens
    sources: tuple[str, ...] = ()  # sample_data tokens: what a ruler looks its truth up by; no method under test may


@dataclass(frozen=True)
class Kept:
    """The choice: ascending, unique indices; for methods that merge, further tokens with their position ids."""

    indices: Int[Tensor, "B K"]
    extra_tokens: Float[Tensor, "B M D"] | None = None
    extra_positions: Int[Tensor, "3 B M"] | None = None


class Pruner(ABC):
    """A method that selects a set of tokens before the language model."""

    @abstractmethod
    def select(self, view: TokenView, K: int) -> Kept:
        """Exactly K tokens of each row of `view`, ascending."""

    def select_each(self, view: TokenView, counts: Sequence[int]) -> list[Kept]:
        """One choice per count; methods that nest override this to score once."""
        return [self.select(view, K) for K in counts]

    def flops(self, N: int, K: int, D: int, layer_flops: Callable[[int], int]) -> int:
        """What choosing K of N tokens of width D costs, 2 per multiply-add; 0 for a method that looks at nothing.

        `layer_flops(n)` is one decoder layer over n tokens at the shapes asked about. The tables print this number, and
        tests/efficiency hold it against torch's counter.
        """
        return 0


class ScoringPruner(Pruner):
    """A method that scores tokens; the K highest are kept, whatever K."""

    @abstractmethod
    def score(self, view: TokenView) -> Float[Tensor, "B N"]:
        """Higher is kept."""

    def select(self, view: TokenView, K: int) -> Kept:
        return self.select_each(view, [K])[0]

    def select_each(self, view: TokenView, counts: Sequence[int]) -> list[Kept]:
        scores = self.score(view)
        if not bool(torch.isfinite(scores).all()):
            raise DataError(
                wanted=f"finite scores from {type(self).__module__}",
                came=f"{int((~torch.isfinite(scores)).sum())} NaN or infinite ones",
                then="check the pruner's checkpoint: `dvc repro train_pruner`",
            )
        return [Kept(top_k_ascending(scores, K)) for K in counts]


def check_kept(kept: Kept, B: int, N: int, K: int, method: str) -> Kept:
    """The post-conditions that hold for every method; returns `kept`. Raises AssertionError naming the method."""
    indices = kept.indices
    merged = 0 if kept.extra_tokens is None else kept.extra_tokens.shape[1]
    assert indices.shape == (B, K - merged), f"{method}: kept {tuple(indices.shape)} + {merged} merged, not {(B, K)}"
    assert indices.dtype == torch.int64, f"{method}: indices are {indices.dtype}"
    if indices.numel():
        inside = bool((indices[:, 0] >= 0).all()) and bool((indices[:, -1] < N).all())
        assert inside, f"{method}: index outside [0, {N})"
    assert bool((indices.diff(dim=1) > 0).all()), f"{method}: indices not unique and ascending"
    return kept


def available() -> list[str]:
    """Names of the pruners in this folder."""
    package = importlib.import_module("stages.pruning")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name != "base")


def load(name: str, options: Mapping[str, object]) -> Pruner:
    """The pruner of file `stages/pruning/<name>.py`, made with its params.

    Raises ParamsError when there is no such file or it does not take one of the options.
    """
    names = available()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise ParamsError(
            wanted=f"a pruner of stages/pruning: {', '.join(names)}",
            came=repr(name) + (f" (did you mean {near[0]!r}?)" if near else ""),
            then="edit grid.pruners in params.yaml, or add the file",
        )
    cls = importlib.import_module(f"stages.pruning.{name}").Pruner
    known = [f.name for f in fields(cls) if f.init]
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ParamsError(
                wanted=f"options of {name}: {', '.join(known) or 'none'}",
                came=repr(key) + (f" (did you mean {near[0]!r}?)" if near else ""),
                then=f"edit pruners.{name} in params.yaml",
            )
    return cls(**options)
