"""Which samples are scored: two scenes of ten and eight key frames, in which the ego drives 1 m a step straight on."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import plain_truth
import pytest
import yaml
from stages.planning.truth_store import FOLDER, Known, publish, write_scene

from stages import score_plans
from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.core.params import Params, read_params
from stages.vla.base import Plan
from stages.vla.plans import plans_path, write_plans

REPOSITORY = Path(__file__).parents[1]
LENGTHS = {"a": 10, "b": 8}
AHEAD_M = np.stack([np.arange(1.0, 7.0), np.zeros(6)], axis=1)
LIDAR_AHEAD_M = np.array([0, 0.5])  # x right, y forward: its path is that much longer than the IMU's
TOKENS = [f"{scene}{i}" for scene, length in LENGTHS.items() for i in range(length)]
WHOLE = ["a0", "a1", "a2", "a3", "b0", "b1"]  # have a whole future


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["score_plans", "none"])
    frames = []
    for scene, length in LENGTHS.items():
        left = [min(6, length - 1 - i) for i in range(length)]
        truths = [
            plain_truth.truth(AHEAD_M, known_steps=n, past_steps=i, token=f"{scene}{i}", scene=scene)
            for i, n in enumerate(left)
        ]
        truths = [replace(truth, future_lidar_m=truth.future_lidar_m + LIDAR_AHEAD_M) for truth in truths]
        frames += write_scene(FOLDER, scene, [Known(truth, None, None) for truth in truths])
    publish(FOLDER, frames, {"split": "val", "drawn": False})


def plan(tokens: list[str], unparsed: tuple[str, ...] = ()) -> None:
    """Plans that stay 1 m behind what was driven in scene a and 2 m in b."""
    behind_m = {"a": np.array([1.0, 0]), "b": np.array([2.0, 0])}
    plans = [
        Plan(t, AHEAD_M - behind_m[t[0]], "answer", t not in unparsed, np.arange(2), 2, 4, grid=(2, 2)) for t in tokens
    ]
    write_plans(plans_path("none", 0), plans)


def params(**mine: object) -> Params:
    tree = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    tree["scenes"] |= {"eval_split": "val", "oracle_root": None}
    tree["grid"]["references"] = []  # rulers want the truth
    tree["score_plans"] |= {"resamples": 50, **mine}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    return read_params()


def score(**mine: object) -> tuple[dict, dict, list[str]]:
    """The notes, the one row, and the tokens of the samples."""
    score_plans.main(params(**mine))
    notes = io.read_json(Path("results/scores/none.json"), "make")
    samples = io.read_parquet(Path("results/scores/none.parquet"), "make")["token"].to_pylist()
    return notes, notes["rows"][0], samples


def ask(*tokens: str) -> dict[str, str]:
    """A question file about the tokens, as params name it."""
    path = Path("questions.json")
    path.write_text(json.dumps([{"id": token, "images": [], "messages": []} for token in tokens]))
    return {"samples": str(path), "samples_sha256": io.sha256(path)}


@pytest.mark.parametrize(
    ("name", "listed", "scored"), [("all", 18, WHOLE), ("complete", 6, WHOLE), ("stp3", 2, ["a2", "a3"])]
)
def test_each_list_scores_its_own_samples(name: str, listed: int, scored: list[str]) -> None:
    plan(TOKENS)
    notes, row, samples = score(samples=name)
    assert samples == scored
    assert (notes["samples"], notes["listed"], notes["repeated"]) == (name, listed, 0)
    assert notes["incomplete"] == row["incomplete"] == notes["not_counted"] == listed - len(scored)
    assert (row["n"], row["planned"]) == (len(scored), 18)


def test_an_entry_that_stands_twice_counts_twice() -> None:
    plan(TOKENS)
    notes, row, samples = score(**ask("b0", "a0", "b0", "b0", "a9"))
    assert samples == ["a0", "b0", "b0", "b0"]
    assert (notes["listed"], notes["repeated"], notes["incomplete"], row["n"], row["scenes"]) == (5, 2, 1, 4, 2)
    assert score(**ask("a9", "a9", "b0"))[0]["incomplete"] == 2
    assert (row["l2_m_sum_3s"], row["l2_cm_avg"]) == (1 + 3 * 2, 175)
    assert (row["l2_cm_avg_low"], row["l2_cm_avg_high"]) == (100, 200)  # whole scenes are drawn: one alone, or both


def test_a_driver_that_answered_the_question_file_needs_no_other_plans() -> None:
    plan(["a0", "b0"])
    assert score(**ask("a0", "b0", "b0"))[1]["planned"] == 2
    with pytest.raises(DataError, match=r"each of the 6 key frames to score .* 4 tokens lacking \(first: a1\)"):
        score(samples="complete")


def test_a_protocol_that_masks_what_is_not_recorded_counts_every_sample() -> None:
    plan(TOKENS)
    notes, row, samples = score(samples="all", protocol="uniad")
    assert (row["n"], notes["incomplete"], notes["not_counted"]) == (18, 12, 0)
    assert (notes["departs"], samples) == (None, TOKENS)
    assert notes["times"] == "the steps at 1, 2, 3 s; 0 where no future is recorded"


def test_a_whole_future_and_being_counted_are_two_things() -> None:
    plan(TOKENS)
    notes, row, samples = score(samples="all", protocol="stp3")
    assert (notes["incomplete"], notes["not_counted"], row["n"], samples) == (12, 16, 2, ["a2", "a3"])


@pytest.mark.parametrize(
    ("policy", "n", "skipped", "l2_cm"), [("zeros", 6, 0, (4 * 100 + 2 * 350) / 6), ("skip", 4, 2, 100)]
)
def test_unparsed_answers_stand_still_or_leave_the_denominator(policy: str, n: int, skipped: int, l2_cm: float) -> None:
    plan(TOKENS, unparsed=("b0", "b1", "b7"))  # the last is not counted: its future is cut short
    notes, row, samples = score(unparsed=policy)
    assert (notes["unparsed"], notes["skipped"], row["skipped"], row["unparsed"]) == (policy, skipped, skipped, 2)
    assert (row["n"], len(samples)) == (n, n)
    assert row["l2_cm_3s"] == pytest.approx(l2_cm)  # standing still is 1 to 6 m behind: 3.5 m


def test_a_repeated_answer_that_is_skipped_is_skipped_as_often() -> None:
    plan(TOKENS, unparsed=("b0",))
    _, row, _ = score(unparsed="skip", **ask("a0", "b0", "b0"))
    assert (row["n"], row["unparsed"], row["skipped"]) == (1, 2, 2)


def test_a_list_that_the_official_code_does_not_score_is_said_in_the_notes(caplog: pytest.LogCaptureFixture) -> None:
    plan(TOKENS)
    said = "the official code of omnidrive scores the list all or complete, not stp3"
    assert score(samples="stp3")[0]["departs"] == said
    assert said in caplog.text
    assert score(samples="all")[0]["departs"] is None


def test_a_question_file_needs_its_hash_in_params() -> None:
    plan(TOKENS)
    named = ask("a0")
    with pytest.raises(ParamsError, match=f"samples_sha256.* null; next: set .* to {named['samples_sha256']}"):
        score(samples=named["samples"])
    with pytest.raises(DataError, match=f"with sha256 {'0' * 64}; got {named['samples_sha256']}"):
        score(samples=named["samples"], samples_sha256="0" * 64)


def test_a_question_file_that_is_not_there_or_no_json_is_named() -> None:
    plan(TOKENS)
    with pytest.raises(DataError, match=r"question file test\.json.* no such file; .*score_plans\.samples"):
        score(samples="test.json")
    Path("test.json").write_text("[{")
    with pytest.raises(DataError, match=r"JSON in test\.json"):
        score(samples="test.json", samples_sha256=io.sha256(Path("test.json")))


def test_a_list_by_no_known_name_is_refused() -> None:
    plan(TOKENS)
    with pytest.raises(ParamsError, match="'completed' .did you mean 'complete'"):
        score(samples="completed")


def test_plans_of_another_split_are_refused() -> None:
    plan([*TOKENS, "b8"])
    with pytest.raises(DataError, match=r"19 rows, 1 tokens of another split \(first: b8\).*plan_routes@none"):
        score()


def test_answers_of_the_lidars_path_are_held_against_it() -> None:
    plan(TOKENS)
    assert score(**ask("a0"))[1]["l2_cm_avg"] == 100
    assert score(**ask("a0"), answers_follow="lidar")[1]["l2_cm_avg"] == pytest.approx(150)
