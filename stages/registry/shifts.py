"""Has what a pruner sees changed? Means of a list of canary frames, held against those of the champion's day; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Signs:
    """Means over the canary frames."""

    foreground_share: float  # 0 to 1, of the pixels of an image
    saliency_entropy: float  # 0 to 1, of the scores of an image's tokens
    l2_cm: float  # average of the errors at 1, 2 and 3 s


@dataclass(frozen=True)
class Shift:
    """One measure then and now; `moved` is now - then, drifted when it is further from 0 than `limit`."""

    measure: str
    then: float
    now: float
    limit: float

    @property
    def moved(self) -> float:
        return self.now - self.then

    @property
    def drifted(self) -> bool:
        """True, too, for a number that is NaN: what cannot be compared is no proof of calm."""
        return not abs(self.moved) <= self.limit

    def row(self) -> dict[str, str]:
        """What people see."""
        said = {name: f"{getattr(self, name):.4g}" for name in ("then", "now", "moved", "limit")}
        return {"measure": self.measure, **said, "drifted": "YES" if self.drifted else "no"}


def shifts(then: Signs, now: Signs, limits: Signs) -> list[Shift]:
    """A row for each measure."""
    return [Shift(name, getattr(then, name), getattr(now, name), getattr(limits, name)) for name in asdict(limits)]


def entropy(scores: Float[np.ndarray, " N"]) -> float:
    """Shannon entropy of softmax(scores) over log N: 1 for scores that are all equal, near 0 when one token has it all.

    Raises ValueError for fewer than two tokens, and for a score that is not finite.
    """
    if len(scores) < 2 or not np.isfinite(scores).all():
        raise ValueError(f"wanted two or more finite scores; got {len(scores)}")
    logits = scores.astype(float) - scores.max()
    log_shares = logits - np.log(np.exp(logits).sum())
    return float(-(np.exp(log_shares) * log_shares).sum() / np.log(len(scores)))


def signs(shares: Sequence[float], entropies: Sequence[float], errors_cm: Sequence[float]) -> Signs:
    """The means. Raises ValueError when there is nothing to take one of."""
    lists: Mapping[str, Sequence[float]] = {
        "foreground_share": shares,
        "saliency_entropy": entropies,
        "l2_cm": errors_cm,
    }
    empty = [name for name, values in lists.items() if not len(values)]
    if empty:
        raise ValueError(f"no {', no '.join(empty)} on the canary frames")
    return Signs(**{name: float(np.mean(values)) for name, values in lists.items()})
