"""Keys and values of a language model in one place that never moves, as a captured graph needs them."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

ROUND_TO = 64  # entries: so that lengths that differ by a few tokens share a place


def rounded_up(tokens: int, to: int = ROUND_TO) -> int:
    """The next multiple of 64, or of another number."""
    return -(-tokens // to) * to


@dataclass(frozen=True)
class StaticCache:
    """Rotated keys and values of all layers, S places for each row.

    Heads before places: of one head all places lie side by side, so that a product over them needs no copy.
    """

    keys: Float[Tensor, "layers B kv_heads S d"]
    values: Float[Tensor, "layers B kv_heads S d"]

    @classmethod
    def empty(cls, shape: tuple[int, int, int, int, int], like: Tensor) -> "StaticCache":
        """Zeros, of the kind and on the device of `like`: what is masked must be a number all the same."""
        return cls(like.new_zeros(shape), like.new_zeros(shape))

    @property
    def places(self) -> int:
        """S."""
        return self.keys.shape[3]

    def first(self, places: int) -> "StaticCache":
        """The same memory, as far as `places`."""
        return StaticCache(self.keys[:, :, :, :places], self.values[:, :, :, :places])

    def rows(self, B: int) -> "StaticCache":
        """The same memory, of the first B rows."""
        return StaticCache(self.keys[:, :B], self.values[:, :B])

    def write(
        self, layer: int, start: int, keys: Float[Tensor, "B kv_heads L d"], values: Float[Tensor, "B kv_heads L d"]
    ) -> None:
        """Fill the L places from `start` on."""
        end = start + keys.shape[2]
        self.keys[layer, :, :, start:end].copy_(keys)
        self.values[layer, :, :, start:end].copy_(values)

    def write_at(
        self,
        layer: int,
        place: Int[Tensor, "1"],
        keys: Float[Tensor, "B kv_heads 1 d"],
        values: Float[Tensor, "B kv_heads 1 d"],
    ) -> None:
        """Fill the place whose number the device holds."""
        self.keys[layer].index_copy_(2, place, keys)
        self.values[layer].index_copy_(2, place, values)

    def begin_with(self, prefix: "StaticCache") -> None:
        """Copy a single row's beginning into every row."""
        L = prefix.places
        self.keys[:, :, :, :L].copy_(prefix.keys)
        self.values[:, :, :, :L].copy_(prefix.values)

    def copy(self, places: int) -> "StaticCache":
        """The first row as far as `places`, in memory of its own."""
        return StaticCache(self.keys[:, :1, :, :places].clone(), self.values[:, :1, :, :places].clone())
