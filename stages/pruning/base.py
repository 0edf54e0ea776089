"""Which tokens stay: the contract of a pruner. One method, one file with a class `Pruner`; file name = params key."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stages.backbone.tokens import shares, top_k_ascending
from stages.core import plugins
from stages.core.errors import DataError, ParamsError
from stages.pruning.view import TokenView


@dataclass(frozen=True)
class Kept:
    """The choice: ascending, unique indices; for methods that merge, further tokens with their position ids."""

    indices: Int[Tensor, "B K"]
    extra_tokens: Float[Tensor, "B M D"] | None = None
    extra_positions: Int[Tensor, "3 B M"] | None = None
    finite: Bool[Tensor, ""] | None = None  # were all scores numbers? Stays on the device: reading it waits for it


@dataclass(frozen=True)
class Cut:
    """A place where tokens leave: before decoder layer `layer` (0-based; 0 is before the language model)."""

    layer: int
    keep: int  # visual tokens that go on from there, merged ones counted


class Pruner(ABC):
    """A method that selects a set of tokens, before the language model or inside it."""

    needs_vision: ClassVar[bool] = False  # does it read TokenView.vision? The tower gathers that only on demand
    checks_encoder: ClassVar[bool] = False  # does it compare TokenView.encoder? Hashing a large tower takes seconds

    @abstractmethod
    def select(self, view: TokenView, K: int) -> Kept:
        """Exactly K tokens of each row of `view`, ascending."""

    def select_each(self, view: TokenView, counts: Sequence[int]) -> list[Kept]:
        """One choice per count; methods that nest override this to score once."""
        return [self.select(view, K) for K in counts]

    def cuts(self, N: int, K: int, layers: int) -> tuple[Cut, ...]:
        """Where tokens leave on the way from N to K in a language model of `layers` layers, ascending.

        `select` is called at each with its `keep`. A cut at a layer that does not exist drops nothing.
        """
        return (Cut(0, K),)

    def flops(self, N: int, K: int, D: int, layer_flops: Callable[[int], int], L: int = 0) -> int:
        """What choosing K of N tokens of width D costs, 2 per multiply-add; 0 for a method that looks at nothing.

        `layer_flops(n)` is one decoder layer over n tokens at the shapes asked about, L the text tokens beside the
        visual ones. The tables print this number, and tests/efficiency hold it against torch's counter.
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
        finite = torch.isfinite(scores).all()
        return [Kept(top_k_ascending(scores, K), finite=finite) for K in counts]


class ImageScoringPruner(ScoringPruner):
    """A method that scores the tokens of one image at a time; the images of a prompt share one pool."""

    @abstractmethod
    def score_image(self, view: TokenView) -> Float[Tensor, "B N"]:
        """Scores of a view with one image; those of different images are compared, so their scale must be one."""

    def score(self, view: TokenView) -> Float[Tensor, "B N"]:
        return torch.cat([self.score_image(image) for image in view.images()], dim=1)


@dataclass(frozen=True)
class AttentionPruner(ScoringPruner):
    """A method that scores tokens by the attention of decoder layer `layer` - 1; layer `layer` is the first to read K.

    All images share one pool.
    """

    layer: int = 2

    def __post_init__(self) -> None:
        method = type(self).__module__.rpartition(".")[2]
        check_option(self.layer >= 1, method, "a layer of at least 1, after the one whose attention counts", self.layer)

    def cuts(self, N: int, K: int, layers: int) -> tuple[Cut, ...]:
        return (Cut(self.layer, K),)

    def flops(self, N: int, K: int, D: int, layer_flops: Callable[[int], int], L: int = 0) -> int:
        """A row of attention for each text token."""
        return row_attention_flops(L, N, L, D)


def tokens_by_layer(cuts: Sequence[Cut], N: int, layers: int) -> list[int]:
    """Visual tokens that each of `layers` decoder layers reads."""
    counts = [N] * layers
    for cut in cuts:
        counts[cut.layer :] = [cut.keep] * len(counts[cut.layer :])
    return counts


def row_attention_flops(rows: int, N: int, L: int, D: int) -> int:
    """Queries of `rows` prompt tokens, and their products with the keys of N visual and L text tokens of width D."""
    return 2 * rows * D * D + 2 * rows * (N + L) * D


def check_option(fits: bool, method: str, expected: str, got: object) -> None:
    """Raise ParamsError unless an option of `method` fits."""
    if not fits:
        fix = f"edit pruners.{method} in params.yaml"
        raise ParamsError(expected=f"{expected} for {method}", got=f"{got}", fix=fix)


def everything(view: TokenView) -> Kept:
    """The choice of all tokens."""
    B, N, _ = view.tokens.shape
    return Kept(torch.arange(N, device=view.tokens.device).expand(B, N))


def choose(pruner: Pruner, view: TokenView, K: int, *, per_image: bool) -> Kept:
    """K tokens of one pool, or of each image its share: in proportion to its tokens, K in all."""
    if not per_image or len(view.grids) == 1:
        return pruner.select(view, K)
    images = view.images()
    sizes = [image.tokens.shape[1] for image in images]
    choices = [pruner.select(image, share) for image, share in zip(images, shares(sizes, K), strict=True)]
    extra_tokens = [kept.extra_tokens for kept in choices if kept.extra_tokens is not None]
    extra_positions = [kept.extra_positions for kept in choices if kept.extra_positions is not None]
    finite = [kept.finite for kept in choices if kept.finite is not None]
    return Kept(
        torch.cat([kept.indices + sum(sizes[:i]) for i, kept in enumerate(choices)], dim=1),
        torch.cat(extra_tokens, dim=1) if extra_tokens else None,
        torch.cat(extra_positions, dim=2) if extra_positions else None,
        torch.stack(finite).all() if finite else None,
    )


def check_shape(kept: Kept, B: int, K: int, method: str) -> None:
    """The post-conditions that shapes tell, without waiting for a device. Raises AssertionError naming the method."""
    indices, positions = kept.indices, kept.extra_positions
    merged = 0 if kept.extra_tokens is None else kept.extra_tokens.shape[1]
    assert indices.shape == (B, K - merged), f"{method}: kept {tuple(indices.shape)} + {merged} merged, not {(B, K)}"
    assert indices.dtype == torch.int64, f"{method}: indices are {indices.dtype}"
    if merged:
        assert positions is not None, f"{method}: merged tokens lack position ids"
        assert positions.shape == (3, B, merged), f"{method}: position ids {tuple(positions.shape)} of {merged} merged"


def verdict(kept: Kept, tokens: Float[Tensor, "B N D"]) -> Bool[Tensor, "3"]:
    """Are the indices inside [0, N), unique and ascending, and all numbers finite? Stays on the device."""
    inside = ((kept.indices >= 0) & (kept.indices < tokens.shape[1])).all()
    ascending = (kept.indices.diff(dim=1) > 0).all()
    finite = torch.isfinite(tokens).all()
    return torch.stack([inside, ascending, finite if kept.finite is None else finite & kept.finite])


def check_verdict(held: Bool[Tensor, "3"], method: str) -> None:
    """Raise AssertionError (a faulty method) or DataError (faulty numbers) when a part of `verdict` is False."""
    inside, ascending, finite = held.tolist()  # the one wait for the device
    if not finite:  # first: NaN makes any order
        raise DataError(
            expected=f"finite visual tokens and finite scores from {method}",
            got="NaN or infinity",
            fix="check the pruner's checkpoint and the model's weights, or run in float32",
        )
    assert inside, f"{method}: an index outside the visual tokens"
    assert ascending, f"{method}: indices not unique and ascending"


def available() -> list[str]:
    """Return the names of all pruners: files of this folder with a class `Pruner`, and entry points."""
    return plugins.available("pruners")


def load(name: str, options: Mapping[str, object]) -> Pruner:
    """Return the pruner of a row of params.yaml: its method is named by the option `class`, else by the row itself.

    Raises ParamsError when there is no such method, it does not take one of the options or lacks one.
    """
    key = f"pruners.{name}"
    method = str(options.get("class", name))
    return make(plugins.find("pruners", method, key), {k: v for k, v in options.items() if k != "class"}, key)


def make(cls: type, options: Mapping[str, object], key: str) -> Pruner:
    """Return a pruner of the class. Raises ParamsError when it is no Pruner or the options do not fit."""
    if not (isinstance(cls, type) and issubclass(cls, Pruner)):
        fix = "derive it from Pruner or ScoringPruner; docs/how-to/add_one.md has one of ten lines"
        raise ParamsError(expected=f"a subclass of stages.pruning.base.Pruner for {key}", got=repr(cls), fix=fix)
    return plugins.construct(cls, options, key)
