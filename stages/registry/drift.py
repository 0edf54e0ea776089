"""Data drift since the champion was registered: foreground share, saliency entropy and L2 on the canary scenes.

Reads data/masks/index.parquet, results/plans/<pruner>, results/scores/<pruner>.parquet of this checkout, and drift.json
of the champion. Thresholds and canary scenes are `drift` in params.yaml.

    python -m stages.registry.drift recon
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Float

from stages.core.command import run
from stages.core.errors import DataError
from stages.core.io import read_json, read_parquet, write_json
from stages.core.params import Params
from stages.planning.tables import to_markdown
from stages.registry.versions import CHAMPION, Registry

FILE = "drift.json"
HORIZONS_S = (1, 2, 3)


@dataclass(frozen=True)
class Means:
    """Means over the canary frames."""

    foreground_share: float  # 0 to 1, of the pixels of an image
    saliency_entropy: float  # 0 to 1, of the scores of an image's tokens
    l2_cm: float  # average of the errors at 1, 2 and 3 s


@dataclass(frozen=True)
class Shift:
    """One measure then and now; drifted if it moved further than `limit`."""

    measure: str
    then: float
    now: float
    limit: float

    @property
    def moved(self) -> float:
        return self.now - self.then

    @property
    def drifted(self) -> bool:
        """True for NaN, too: what cannot be compared may have drifted."""
        return not abs(self.moved) <= self.limit

    def row(self) -> dict[str, str]:
        """A row of the table for people."""
        numbers = {name: f"{getattr(self, name):.4g}" for name in ("then", "now", "moved", "limit")}
        return {"measure": self.measure, **numbers, "drifted": "YES" if self.drifted else "no"}


def shifts(then: Means, now: Means, limits: Means) -> list[Shift]:
    """A row for each measure."""
    return [Shift(name, getattr(then, name), getattr(now, name), getattr(limits, name)) for name in asdict(limits)]


def main(words: argparse.Namespace, params: Params) -> None:
    """Print the comparison with the champion."""
    found = since_champion(Registry(params.registry.name), words.pruner, params)
    print(
        to_markdown([shift.row() for shift in found]) if found else "no champion yet: nothing to compare with\n", end=""
    )


def since_champion(registry: Registry, pruner: str, params: Params) -> list[Shift] | None:
    """Compare this checkout's results with the champion's; None if there is no champion yet."""
    if CHAMPION not in registry.aliases():
        return None
    champion = registry.version(CHAMPION)
    with TemporaryDirectory() as work:
        made_by = f"python -m stages.registry.register {pruner}"
        then = Means(**read_json(registry.fetch(champion, Path(work)) / FILE, made_by))
    limits = Means(params.drift.foreground_share, params.drift.saliency_entropy, params.drift.l2_cm)
    return shifts(then, measured(pruner, params), limits)


def keep(registry: Registry, number: str, pruner: str, params: Params) -> None:
    """Store this checkout's numbers with a version, for later comparisons."""
    with TemporaryDirectory() as work:
        write_json(Path(work) / FILE, asdict(measured(pruner, params)))
        registry.attach(registry.version(number), Path(work) / FILE)


def measured(pruner: str, params: Params) -> Means:
    """The numbers of this checkout. Raises DataError for a missing file or canary scene."""
    made_by, percent = "dvc repro score_plans", params.grid.percents[0]
    scores = read_parquet(Path(f"results/scores/{pruner}.parquet"), made_by).to_pylist()
    rows = [row for row in scores if row["pruned_percent"] == percent]
    canary = params.drift.canary or sorted({row["scene"] for row in rows})
    frames = [row for row in rows if row["scene"] in canary]
    masks = read_parquet(Path("data/masks/index.parquet"), "dvc repro generate_masks", ["scene", "foreground_share"])
    images = [row for row in masks.to_pylist() if row["scene"] in canary]
    missing = [s for s in canary if s not in {row["scene"] for row in frames} & {row["scene"] for row in images}]
    if missing or not canary:
        got = f"no {missing[0]} ({len(missing)} missing)" if missing else "no scored frame"
        raise DataError(
            expected="masks and scores of every canary scene", got=got, fix=f"edit drift.canary, or run `{made_by}`"
        )
    tokens = {row["token"] for row in frames}
    plans = read_parquet(Path(f"results/plans/{pruner}/{percent}.parquet"), made_by, ["token", "scores"]).to_pylist()
    try:
        entropies = [entropy(np.array(plan["scores"], float)) for plan in plans if plan["token"] in tokens]
        errors_cm = [float(100 * np.mean([row[f"l2_m_{s}s"] for s in HORIZONS_S])) for row in frames]
        return means([row["foreground_share"] for row in images], entropies, errors_cm)
    except (TypeError, ValueError) as error:
        raise DataError(expected=f"plans of {pruner} on the canary frames", got=str(error), fix=made_by) from error


def entropy(scores: Float[np.ndarray, " N"]) -> float:
    """Shannon entropy of softmax(scores) over log N: 1 for equal scores, near 0 if one token has all the mass.

    Raises ValueError for fewer than two tokens, and for a score that is not finite.
    """
    if len(scores) < 2 or not np.isfinite(scores).all():
        raise ValueError(f"expected two or more finite scores, got {len(scores)}")
    logits = scores.astype(float) - scores.max()
    log_shares = logits - np.log(np.exp(logits).sum())
    return float(-(np.exp(log_shares) * log_shares).sum() / np.log(len(scores)))


def means(shares: Sequence[float], entropies: Sequence[float], errors_cm: Sequence[float]) -> Means:
    """The means. Raises ValueError for an empty list."""
    lists: Mapping[str, Sequence[float]] = {
        "foreground_share": shares,
        "saliency_entropy": entropies,
        "l2_cm": errors_cm,
    }
    if empty := [name for name, values in lists.items() if not len(values)]:
        raise ValueError(f"no {', no '.join(empty)} on the canary frames")
    return Means(**{name: float(np.mean(values)) for name, values in lists.items()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.registry.drift", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pruner", help="one of grid.trained in params.yaml")
    run(partial(main, parser.parse_args()))
