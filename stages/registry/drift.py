"""Data drift since the champion was registered: foreground share, saliency entropy and L2 on the canary scenes.

Reads data/masks/index.parquet, results/plans/<pruner>, results/scores/<pruner>.parquet of this checkout, and drift.json
of the champion. Thresholds and canary scenes are `drift` in params.yaml.

    python -m stages.registry.drift recon
"""

import argparse
from dataclasses import dataclass
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
from stages.registry.versions import CHAMPION, Registry, average

FILE = "drift.json"


@dataclass(frozen=True)
class Shift:
    """One measure then and now; drifted if it moved further than `limit`."""

    measure: str
    then: float
    now: float
    limit: float

    @property
    def drifted(self) -> bool:
        """True for NaN, too: what cannot be compared may have drifted."""
        return not abs(self.now - self.then) <= self.limit

    def row(self) -> dict[str, str]:
        """A row of the table for people."""
        numbers = {"then": self.then, "now": self.now, "moved": self.now - self.then, "limit": self.limit}
        text = {name: f"{value:.4g}" for name, value in numbers.items()}
        return {"measure": self.measure, **text, "drifted": "YES" if self.drifted else "no"}


def main(words: argparse.Namespace, params: Params) -> None:
    """Print the comparison with the champion."""
    found = since_champion(Registry(params.registry.name), words.pruner, params)
    print(to_markdown([shift.row() for shift in found]) if found else "no champion yet: nothing to compare with")


def since_champion(registry: Registry, pruner: str, params: Params) -> list[Shift] | None:
    """Compare this checkout's results with the champion's; None if there is no champion yet."""
    if CHAMPION not in registry.aliases():
        return None
    with TemporaryDirectory() as work:
        copy = registry.fetch(registry.version(CHAMPION), Path(work))
        then: dict[str, float] = read_json(copy / FILE, f"python -m stages.registry.register {pruner}")
    now = measured(pruner, params).items()
    return [Shift(name, then[name], value, getattr(params.drift, name)) for name, value in now]


def keep(registry: Registry, number: str, pruner: str, params: Params) -> None:
    """Store this checkout's numbers with a version, for later comparisons."""
    with TemporaryDirectory() as work:
        write_json(Path(work) / FILE, measured(pruner, params))
        registry.attach(registry.version(number), Path(work) / FILE)


def measured(pruner: str, params: Params) -> dict[str, float]:
    """Return means of this checkout over the canary frames: two shares, and centimetres averaged over 1, 2, 3 s.

    Raises DataError for a missing file or canary scene.
    """
    made_by, percent = "dvc repro score_plans", params.grid.percents[0]
    scores = read_parquet(Path(f"results/scores/{pruner}.parquet"), made_by).to_pylist()
    rows = [row for row in scores if row["pruned_percent"] == percent]
    masks = read_parquet(Path("data/masks/index.parquet"), "dvc repro generate_masks", ["scene", "foreground_share"])
    canary = set(params.drift.canary or [row["scene"] for row in rows])
    frames = [row for row in rows if row["scene"] in canary]
    images = [row for row in masks.to_pylist() if row["scene"] in canary]
    missing = sorted(canary - ({row["scene"] for row in frames} & {row["scene"] for row in images}))
    if missing or not canary:
        got, fix = ", ".join(missing) or "no scored frame", f"edit drift.canary, or run `{made_by}`"
        raise DataError(expected="masks and scores of every canary scene", got=f"none of {got}", fix=fix)
    tokens = {row["token"] for row in frames}
    plans = read_parquet(Path(f"results/plans/{pruner}/{percent}.parquet"), made_by, ["token", "scores"]).to_pylist()
    return {
        "foreground_share": float(np.mean([row["foreground_share"] for row in images])),
        "saliency_entropy": float(
            np.mean([entropy(np.array(p["scores"], float)) for p in plans if p["token"] in tokens])
        ),
        "l2_cm": float(np.mean([average(row, "l2_m") for row in frames])),
    }


def entropy(scores: Float[np.ndarray, " N"]) -> float:
    """Shannon entropy of softmax(scores) over log N: 1 for equal scores, near 0 if one token has all the mass."""
    logits = scores.astype(float) - scores.max()
    log_shares = logits - np.log(np.exp(logits).sum())
    return float(-(np.exp(log_shares) * log_shares).sum() / np.log(len(scores)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.registry.drift", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pruner", help="one of grid.trained in params.yaml")
    run(partial(main, parser.parse_args()))
