"""Has the data drifted since the champion? Foreground share, saliency entropy and L2 on the canary scenes.

Reads data/masks/index.parquet, results/plans/<pruner>, results/scores/<pruner>.parquet of this checkout, and the
numbers kept with a version. Thresholds and canary scenes are `drift` in params.yaml. Drifted or not, it ends with 0.

    python -m stages.registry.drift recon                       # this checkout against the champion's numbers
    python -m stages.registry.drift --keep candidate recon      # keep this checkout's numbers with a version
"""

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from stages.core.command import run
from stages.core.errors import DataError
from stages.core.io import read_json, read_parquet, write_json
from stages.core.params import Params
from stages.planning.tables import to_markdown
from stages.registry.moves import CHAMPION
from stages.registry.shifts import Signs, entropy, shifts, signs
from stages.registry.versions import Registry

FILE = "drift.json"
HORIZONS_S = (1, 2, 3)


def main(words: argparse.Namespace, params: Params) -> None:
    """Measure; keep, or compare and print."""
    registry = Registry(params.registry.name)
    now = measured(words.pruner, params)
    if words.keep:
        with TemporaryDirectory() as work:
            write_json(Path(work) / FILE, asdict(now))
            registry.attach(registry.version(words.keep), Path(work) / FILE)
        return
    then = kept(registry, words.pruner) if CHAMPION in registry.aliases() else None
    limits = Signs(params.drift.foreground_share, params.drift.saliency_entropy, params.drift.l2_cm)
    found = shifts(then, now, limits) if then else []
    rows = [shift.row() for shift in found]
    told = {"drifted": then is None or any(shift.drifted for shift in found), "champion": then is not None}
    if words.json:
        write_json(Path(words.json), told | {"rows": rows})
    print(to_markdown(rows) if rows else "no champion yet: nothing to hold against\n", end="")


def measured(pruner: str, params: Params) -> Signs:
    """The numbers of this checkout. Raises DataError for a file or a canary scene that is missing."""
    made_by, percent = f"dvc repro score_trained@{pruner}", params.grid.percents[0]
    scores = read_parquet(Path(f"results/scores/{pruner}.parquet"), made_by).to_pylist()
    rows = [row for row in scores if row["pruned_percent"] == percent]
    wanted = params.drift.canary or sorted({row["scene"] for row in rows})
    frames = [row for row in rows if row["scene"] in wanted]
    masks = read_parquet(Path("data/masks/index.parquet"), "dvc repro generate_masks", ["scene", "foreground_share"])
    images = [row for row in masks.to_pylist() if row["scene"] in wanted]
    _check_scenes(wanted, {row["scene"] for row in frames} & {row["scene"] for row in images}, made_by)
    tokens = {row["token"] for row in frames}
    plans = read_parquet(Path(f"results/plans/{pruner}/{percent}.parquet"), made_by, ["token", "scores"]).to_pylist()
    try:
        entropies = [entropy(np.array(plan["scores"], float)) for plan in plans if plan["token"] in tokens]
        return signs([row["foreground_share"] for row in images], entropies, [_l2_cm(row) for row in frames])
    except (TypeError, ValueError) as error:
        raise DataError(expected=f"what {pruner} did on the canary frames", got=str(error), fix=made_by) from error


def _check_scenes(wanted: list[str], there: set[str], made_by: str) -> None:
    lacking = [scene for scene in wanted if scene not in there]
    if lacking or not wanted:
        came = f"no {lacking[0]} ({len(lacking)} lack)" if lacking else "no scored frame at all"
        raise DataError(
            expected="masks and scores of every canary scene", got=came, fix=f"edit drift.canary, or run `{made_by}`"
        )


def _l2_cm(row: dict[str, Any]) -> float:
    return float(100 * np.mean([row[f"l2_m_{s}s"] for s in HORIZONS_S]))


def kept(registry: Registry, pruner: str) -> Signs:
    """The numbers kept with the champion. Raises DataError when there are none."""
    made_by = f"python -m stages.registry.drift --keep {CHAMPION} {pruner}"
    with TemporaryDirectory() as work:
        return Signs(**read_json(registry.fetch(registry.version(CHAMPION), Path(work)) / FILE, made_by))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.registry.drift", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pruner", help="one of grid.trained in params.yaml")
    parser.add_argument("--keep", default="", metavar="VERSION", help="number or alias to keep the numbers with")
    parser.add_argument("--json", default="", help="file that gets the rows")
    run(partial(main, parser.parse_args()))
