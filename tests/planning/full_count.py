"""Scoring at full count: 6,019 key frames x 16 cells of pruner and ratio through the real stage.

Not a test: minutes. Prints seconds and memory of each step; `--profile` also where one cell's time goes.

    PYTHONPATH=.:tests python -m tests.planning.full_count FOLDER [--profile]
"""

import argparse
import cProfile
import os
import pstats
import sys
from pathlib import Path

import yaml
from stages.planning.truth_store import FOLDER, TruthStore

from stages import score_plans
from stages.core import io
from stages.core.params import read_params
from tests.masks.full_count import REPOSITORY, measured, run
from tests.planning.full_split import write_all_plans, write_truths

PRUNERS = ["none", "fastv", "sparsevlm", "vispruner", "divprune", "recon"]  # the rows of Table 1: 1 + 5 x 3 cells


def write_params() -> None:
    """The default parameters, on the split that is here."""
    tree = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    tree["scenes"] |= {"eval_split": "val", "oracle_root": None}
    tree["grid"] |= {"pruners": PRUNERS[:-1], "trained": PRUNERS[-1:], "references": []}
    Path("params.yaml").write_text(yaml.safe_dump(tree))


def write_plans() -> None:
    truths = [known.truth for known in TruthStore("val").known()]
    grid = read_params().grid
    for seed, name in enumerate(PRUNERS):
        write_all_plans(name, grid.ratios_of(name), truths, seed)


def score_all() -> str:
    for name in PRUNERS:
        run(sys.executable, "-m", "stages.score_plans", name)
    rows = [row for name in PRUNERS for row in io.read_json(Path(f"results/scores/{name}.json"), "")["rows"]]
    assert {(row["listed"], row["n"], row["incomplete"]) for row in rows} == {(6019, 5119, 900)}
    worst = rows[-1]
    events = {key: worst[f"{key}_events_3s"] for key in ("collision", "intersection")}
    return f"({len(rows)} cells; the last: {worst['l2_cm_3s']:.0f} cm, {events}, {worst['unparsed']} unparsed)"


def profiled() -> None:
    sys.argv = ["score_plans", PRUNERS[-1]]
    with cProfile.Profile() as profile:
        score_plans.main(read_params())
    pstats.Stats(profile).sort_stats("tottime").print_stats(25)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)  # begun before: it goes on
    os.chdir(options.folder)
    os.environ["FASTDRIVE_TRACKING"] = "later"
    write_params()
    if not (FOLDER / io.MANIFEST).exists():
        measured("truths written", lambda: write_truths(FOLDER))
        measured("plans written", write_plans)
    measured("16 cells scored", score_all)
    if options.profile:
        profiled()


if __name__ == "__main__":
    main()
