"""Data drift since the champion was registered: foreground share, saliency entropy and L2 on the canary scenes.

python -m stages.registry.drift recon     # the masks, plans and scores of now; limits: `drift` in params.yaml
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from stages.core.command import run
from stages.core.errors import DataError
from stages.core.io import read_parquet
from stages.core.params import Params
from stages.planning.tables import to_markdown
from stages.registry.versions import CHAMPION, Registry, average

TAG = "drift."


def main(words: argparse.Namespace, params: Params) -> None:
    rows = since_champion(Registry(params.registry.name), words.pruner, params)
    print(to_markdown(rows) if rows else "no champion with drift numbers yet: nothing to compare with")


def since_champion(registry: Registry, pruner: str, params: Params) -> list[dict[str, str]] | None:
    """Compare this checkout's results with the champion's, a row for each measure; None if no champion has numbers."""
    tags = registry.version(CHAMPION).tags if CHAMPION in registry.aliases() else {}
    if not any(key.startswith(TAG) for key in tags):
        return None
    limits = params.drift
    return [
        compared(measure, float(tags.get(f"{TAG}{measure}", "nan")), now, getattr(limits, measure))
        for measure, now in measured(pruner, params).items()
    ]


def compared(measure: str, then: float, now: float, limit: float) -> dict[str, str]:
    """A row of the table: drifted if it moved further than `limit`, or is NaN, which cannot be compared."""
    moved = now - then
    text = {name: f"{value:.4g}" for name, value in {"then": then, "now": now, "moved": moved, "limit": limit}.items()}
    return {"measure": measure, **text, "drifted": "no" if abs(moved) <= limit else "YES"}


def keep(registry: Registry, number: str, pruner: str, params: Params) -> None:
    """Store this checkout's numbers as tags of a version, for later comparisons."""
    registry.tag(number, {f"{TAG}{measure}": repr(value) for measure, value in measured(pruner, params).items()})


def measured(pruner: str, params: Params) -> dict[str, float]:
    """Return means over the canary frames, L2 over 1, 2, 3 s in cm. Raises DataError for a missing file or scene."""
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
