"""Scores of two scenes of ten and eight key frames, in which the car drives 1 m a step straight on."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import plain_truth
import pytest
import yaml
from synthetic_root import VERSION, copy_root

from stages import score_plans
from stages.core import io
from stages.core.errors import DataError
from stages.core.params import Params, read_params
from stages.core.plugins import available
from stages.planning import scoring
from stages.planning.base import Truth
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.vla.plans import Plan, plans_path, write_plans

PARAMS = Path(__file__).parents[1] / "params.yaml"
LENGTHS = {"a": 10, "b": 8}
AHEAD_M = np.stack([np.arange(1.0, 7.0), np.zeros(6)], axis=1)
LIDAR_AHEAD_M = np.array([0, 0.5])  # x right, y forward: its path is that much longer than the IMU's
TOKENS = [f"{scene}{i}" for scene, length in LENGTHS.items() for i in range(length)]
WHOLE = ["a0", "a1", "a2", "a3", "b0", "b1"]  # have a whole future


class FakeScenes(Scenes):
    """Scenes and sample tokens alone."""

    def __init__(self) -> None:
        """No tables."""

    def split(self, name: str) -> list[str]:
        return list(LENGTHS)

    def tokens_of_scene(self, scene: str) -> list[str]:
        return [f"{scene}{i}" for i in range(LENGTHS[scene])]


def fake_truths(scene: str, root: str, version: str, oracle_root: str | None) -> list[Truth]:
    """The truths of a scene, with a class map where the world is drawn."""
    classes = np.zeros((40, 20), np.uint8)  # on a grid of 4 x 2 tokens: row 0 background, 1 road, 2 and 3 a vehicle
    classes[5:25] = 1  # half of row 0, which is not enough, and all of row 1
    classes[25:40] = 2  # half of row 2, and row 3
    truths = []
    for i in range(LENGTHS[scene]):
        steps = min(6, LENGTHS[scene] - 1 - i)
        truth = plain_truth.truth(AHEAD_M, known_steps=steps, past_steps=i, token=f"{scene}{i}", scene=scene)
        truth = replace(truth, future_lidar_m=truth.future_lidar_m + LIDAR_AHEAD_M)
        truths.append(truth if oracle_root is None else replace(truth, event="curve", classes=classes))
    return truths


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(score_plans, "open_scenes", lambda root, version: FakeScenes())
    monkeypatch.setattr(scoring, "truths_of", fake_truths)


def plan(
    row: str = "none",
    percent: int = 0,
    tokens: Sequence[str] = TOKENS,
    unparsed: Sequence[str] = (),
    ranks: bool = False,
) -> None:
    """Write plans that stay 1 m behind what was driven in scene a and 2 m in b, and keep half of 4 x 2 tokens."""
    behind_m = {"a": np.array([1.0, 0]), "b": np.array([2.0, 0])}
    scores = [np.arange(8, 0, -1, dtype=np.float32), np.arange(8, dtype=np.float32)]  # upper or lower tokens first
    plans = []
    for i, t in enumerate(tokens):
        counts = np.arange(4), 4, 8, (4, 2)
        plans.append(
            Plan(t, AHEAD_M - behind_m[t[0]], "", t not in unparsed, *counts, scores[i % 2] if ranks else None)
        )
    write_plans(plans_path(row, percent), plans)


def params(
    grid: dict[str, list[str]] | None = None, scenes: dict[str, object] | None = None, **options: object
) -> Params:
    tree = yaml.safe_load(PARAMS.read_text())
    tree["scenes"] |= {"eval_split": "val", "oracle_root": None} | (scenes or {})
    tree["grid"] |= {"pruners": ["none"], "trained": [], "references": [], "bounds": []} | (grid or {})
    tree["make_report"]["overlay_methods"] = []
    tree["score_plans"] |= {"resamples": 50, "workers": 1, **options}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    return read_params()


def read(row: str = "none") -> tuple[dict, list[dict], list[dict]]:
    """Return notes, totals by ratio and samples of a row."""
    notes = io.read_json(Path(f"results/scores/{row}.json"), "make")
    return notes, notes["rows"], io.read_parquet(Path(f"results/scores/{row}.parquet"), "make").to_pylist()


def score(**options: object) -> tuple[dict, dict, list[str]]:
    """Score the unpruned driver: notes, the one total, tokens of the samples."""
    score_plans.main(params(**options))
    notes, (row,), samples = read()
    return notes, row, [sample["token"] for sample in samples]


def ask(*tokens: str) -> dict[str, str]:
    """Write a question file about the tokens, and name it as params do."""
    path = Path("questions.json")
    path.write_text(json.dumps([{"id": token, "images": [], "messages": []} for token in tokens]))
    return {"samples": str(path), "samples_sha256": io.sha256(path)}


def test_every_row_and_ratio_has_totals_and_every_sample_a_line() -> None:
    plan()
    for percent in (25, 50, 75):
        plan("divprune", percent)
    score_plans.main(params({"pruners": ["none", "divprune"]}))
    _, rows, samples = read("divprune")
    assert [(row["pruned_percent"], row["tokens_kept"], row["tokens_total"]) for row in rows] == [
        *((25, 4, 8), (50, 4, 8), (75, 4, 8))
    ]
    assert [sample["token"] for sample in samples] == WHOLE * 3
    assert read("none")[1][0]["l2_cm_avg"] == pytest.approx((4 * 100 + 2 * 200) / 6)
    metrics = io.read_json(Path("metrics/scores.json"), "make")
    assert list(metrics) == ["divprune", "none"]
    assert metrics["none"]["0"]["l2_cm_avg"] == 133.333  # six digits


def test_scoring_twice_gives_the_same_bytes() -> None:
    plan()
    outs = [Path("results/scores/none.json"), Path("results/scores/none.parquet"), Path("metrics/scores.json")]
    score()
    first = [path.read_bytes() for path in outs]
    score()
    assert [path.read_bytes() for path in outs] == first


@pytest.mark.parametrize(
    ("name", "listed", "scored"), [("all", 18, WHOLE), ("complete", 6, WHOLE), ("stp3", 2, ["a2", "a3"])]
)
def test_each_list_scores_its_own_samples(name: str, listed: int, scored: list[str]) -> None:
    plan()
    notes, row, samples = score(samples=name)
    assert samples == scored
    assert (notes["samples"], notes["listed"], notes["repeated"]) == (name, listed, 0)
    assert notes["incomplete"] == row["incomplete"] == notes["not_counted"] == listed - len(scored)
    assert (row["n"], row["planned"]) == (len(scored), 18)
    assert bool(notes["departs"]) == (name == "stp3")


def test_an_entry_that_stands_twice_counts_twice() -> None:
    plan()
    notes, row, samples = score(**ask("b0", "a0", "b0", "b0", "a9"))
    assert samples == ["a0", "b0", "b0", "b0"]
    assert (notes["listed"], notes["repeated"], notes["incomplete"], row["n"], row["scenes"]) == (5, 2, 1, 4, 2)
    assert (row["l2_m_sum_3s"], row["l2_cm_avg"]) == (1 + 3 * 2, 175)
    assert (row["l2_cm_avg_low"], row["l2_cm_avg_high"]) == (100, 200)  # whole scenes are drawn: one alone, or both


def test_a_driver_that_answered_the_question_file_needs_no_other_plans() -> None:
    plan(tokens=["a0", "b0"])
    assert score(**ask("a0", "b0", "b0"))[1]["planned"] == 2
    with pytest.raises(DataError, match="4 tokens lacking"):
        score(samples="complete")


@pytest.mark.parametrize(("protocol", "n"), [("uniad", 18), ("stp3", 2)])
def test_a_protocol_counts_samples_by_its_own_rule(protocol: str, n: int) -> None:
    plan()
    notes, row, _ = score(samples="all", protocol=protocol)
    assert (row["n"], notes["incomplete"], notes["not_counted"]) == (n, 12, 18 - n)


@pytest.mark.parametrize(
    ("policy", "n", "skipped", "l2_cm"), [("zeros", 6, 0, (4 * 100 + 2 * 350) / 6), ("skip", 4, 2, 100)]
)
def test_unparsed_answers_stand_still_or_leave_the_denominator(policy: str, n: int, skipped: int, l2_cm: float) -> None:
    plan(unparsed=("b0", "b1", "b7"))  # the last is not counted: its future is cut short
    notes, row, samples = score(unparsed=policy)
    assert (notes["skipped"], row["skipped"], row["unparsed"]) == (skipped, skipped, 2)
    assert (row["n"], len(samples)) == (n, n)
    assert row["l2_cm_3s"] == pytest.approx(l2_cm)  # standing still is 1 to 6 m behind: 3.5 m


def test_kept_and_ranked_tokens_are_compared_with_the_truth_of_a_drawn_world() -> None:
    for percent in (25, 50, 75):
        plan("random_keep", percent, ranks=percent == 25)
    score_plans.main(params({"pruners": ["random_keep"]}, {"oracle_root": "oracle"}))
    _, rows, samples = read("random_keep")
    assert {sample["event"] for sample in samples} == {"curve"}
    assert rows[0]["foreground_recall"] == pytest.approx(2 / 6)  # rows 1, 2, 3 are foreground, 0 and 1 are kept
    assert rows[0]["object_recall"] == 0
    assert [sample["object_auc"] for sample in samples] == [0.0, 1.0, 0.0, 1.0, 0.0, 1.0] * 3
    assert [(row["object_auc"], row["object_auc_n"]) for row in rows] == [(0.5, 6)] * 3


def test_answers_of_the_lidars_path_are_compared_with_it() -> None:
    plan()
    assert score(**ask("a0"))[1]["l2_cm_avg"] == 100
    assert score(**ask("a0"), answers_follow="lidar")[1]["l2_cm_avg"] == pytest.approx(150)


def test_plans_that_are_missing_are_told_with_the_stage_that_makes_them() -> None:
    with pytest.raises(DataError, match=r"results/plans/none/0\.parquet.*dvc repro plan_routes@none"):
        score()


@pytest.mark.parametrize("protocol", available("protocols"))
def test_every_protocol_scores_a_data_set_and_the_rows_that_look_at_no_image(
    protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    root = copy_root(Path("nuscenes"))
    source = {"root": str(root), "version": VERSION, "eval_split": "synth_val"}
    score_plans.main(
        params({"pruners": [], "bounds": ["constant_velocity", "recorded_future"]}, source, protocol=protocol)
    )
    (recorded,), (guessed,) = read("recorded_future")[1], read("constant_velocity")[1]
    counted = {"uniad": 14, "stp3": 6}  # of 14 key frames the last 6 lack a whole future, the first 2 a whole past
    assert recorded["n"] == guessed["n"] == counted.get(protocol, 8)
    assert recorded["l2_cm_avg"] == recorded["collision_pct_avg"] == recorded["collision_events_3s"] == 0
    assert guessed["l2_cm_avg"] > 0
    assert (recorded["intersection_pct_avg"] is not None) == (protocol in ("omnidrive", "bevplanner"))
    plans = io.read_parquet(plans_path("constant_velocity", 0), "make")
    assert plans["token"].to_pylist() == open_scenes(root, VERSION).tokens("synth_val")
