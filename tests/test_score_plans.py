import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from stages.planning.truth_store import FOLDER, Known, publish, write_scene
from synthetic_root import JUDGED, VERSION, copy_root

from stages import score_plans
from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.core.params import Params, read_params
from stages.planning.truths import truth_from_frame
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.vla.base import Plan
from stages.vla.bounds import plan_bound
from stages.vla.plans import plans_path, write_plans

REPOSITORY = Path(__file__).parents[1]
COMPLETE, FRAMES = 8, 14  # of the scene of 14 key frames, the last 6 have no whole future


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return open_scenes(copy_root(tmp_path_factory.mktemp("nuscenes")), VERSION)


@pytest.fixture(scope="module")
def truths(scenes: Scenes) -> list[Known]:
    frames = [scenes.frame(token) for token in scenes.tokens("synth_val")]
    found = [truth_from_frame(frame, scenes.drivable_mask(frame), scenes.surroundings(frame)) for frame in frames]
    return [Known(truth, None, None) for truth in found]


@pytest.fixture
def params(truths: list[Known], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The default parameters on the small scene, in a working directory of its own with its truths."""
    monkeypatch.chdir(tmp_path)
    prepare(truths)
    return changed()


def prepare(truths: list[Known]) -> None:
    publish(FOLDER, write_scene(FOLDER, JUDGED, truths), {"split": "synth_val", "drawn": truths[0].classes is not None})


def changed(**mine: object) -> Params:
    tree = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    tree["scenes"] |= {"version": VERSION, "eval_split": "synth_val", "oracle_root": None}
    tree["grid"]["references"] = ["other_image", "black_image", "blind_floor"]  # rulers want the truth
    tree["score_plans"] |= {"resamples": 50, **mine}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    return read_params()


def tokens(scenes: Scenes) -> list[str]:
    return scenes.tokens("synth_val")


def write(scenes: Scenes, name: str, percent: int, unparsed: int = 0) -> list[Plan]:
    """Plans that keep the upper half of a 4 x 2 grid and follow the recorded future; the first `unparsed` are so."""
    driven = [plan_bound("recorded_future", scenes.frame(token)).waypoints_m for token in tokens(scenes)]
    plans = [
        Plan(token, path_m, "answer", i >= unparsed, np.arange(4), tokens_kept=4, tokens_total=8, grid=(4, 2))
        for i, (token, path_m) in enumerate(zip(tokens(scenes), driven, strict=True))
    ]
    write_plans(plans_path(name, percent), plans)
    return plans


def prepare_a_drawn_world(truths: list[Known]) -> None:
    """A class map for each frame, on the 4 x 2 grid: row 0 background, row 1 road, rows 2 and 3 a vehicle."""
    classes = np.zeros((40, 20), np.uint8)
    classes[5:25] = 1  # road: half of row 0 of the grid, which is not enough, and all of row 1
    classes[25:40] = 2  # a vehicle: half of row 2, and row 3
    prepare([replace(one, event="curve", classes=classes) for one in truths])


def score(name: str, params: Params, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.setattr(sys, "argv", ["score_plans", name])
    score_plans.main(params)
    return io.read_json(Path(f"results/scores/{name}.json"), "make")


def test_the_recorded_future_scores_zero(scenes: Scenes, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plans(
        plans_path("recorded_future", 0), [plan_bound("recorded_future", scenes.frame(t)) for t in tokens(scenes)]
    )
    scores = score("recorded_future", params, monkeypatch)
    (row,) = scores["rows"]
    assert (scores["protocol"], scores["split"]) == ("omnidrive", "synth_val")
    assert (row["method"], row["pruned_percent"], row["tokens_total"]) == ("recorded_future", 0, None)
    assert (row["n"], row["incomplete"], row["unparsed"]) == (COMPLETE, FRAMES - COMPLETE, 0)
    assert row["l2_cm_avg"] == row["collision_pct_avg"] == 0
    assert io.read_json(Path("metrics/scores/recorded_future.json"), "make")["0"]["n"] == COMPLETE


def test_standing_still_scores_worse_than_a_constant_velocity(
    scenes: Scenes, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [scenes.frame(token) for token in tokens(scenes)]
    write_plans(plans_path("constant_velocity", 0), [plan_bound("constant_velocity", frame) for frame in frames])
    write(scenes, "none", 0, unparsed=FRAMES)
    (moving,) = score("constant_velocity", params, monkeypatch)["rows"]
    (still,) = score("none", params, monkeypatch)["rows"]
    future_m = np.array([np.linalg.norm(frame.future_ego_m, axis=1) for frame in frames if frame.complete])
    assert still["unparsed"] == COMPLETE
    assert still["l2_cm_3s"] == pytest.approx(100 * future_m.mean())
    assert 0 <= moving["l2_cm_avg"] < still["l2_cm_avg"]


def test_every_ratio_has_a_row_and_every_sample_a_line(
    scenes: Scenes, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    for percent in (25, 50, 75):
        write(scenes, "divprune", percent)
    rows = score("divprune", params, monkeypatch)["rows"]
    assert [row["pruned_percent"] for row in rows] == [25, 50, 75]
    assert all((row["tokens_kept"], row["tokens_total"]) == (4, 8) for row in rows)
    samples = io.read_parquet(Path("results/scores/divprune.parquet"), "make").to_pylist()
    assert [sample["token"] for sample in samples] == tokens(scenes)[:COMPLETE] * 3
    assert {(sample["scene"], sample["parsed"], sample["event"]) for sample in samples} == {(JUDGED, True, None)}
    assert {sample["l2_at_cm_3s"] for sample in samples} == {0}


def test_unparsed_answers_stand_still_or_are_left_out(
    scenes: Scenes, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(scenes, "none", 0, unparsed=2)
    (zeros,) = score("none", params, monkeypatch)["rows"]
    (skipped,) = score("none", changed(unparsed="skip"), monkeypatch)["rows"]
    assert (zeros["n"], zeros["unparsed"]) == (COMPLETE, 2)
    assert (skipped["n"], skipped["unparsed"]) == (COMPLETE - 2, 2)
    assert zeros["l2_cm_avg"] > skipped["l2_cm_avg"] == 0


def test_with_no_answer_left_every_value_is_absent(
    scenes: Scenes, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(scenes, "none", 0, unparsed=FRAMES)
    (row,) = score("none", changed(unparsed="skip"), monkeypatch)["rows"]
    assert (row["n"], row["unparsed"], row["l2_cm_avg"]) == (0, COMPLETE, None)
    samples = io.read_parquet(Path("results/scores/none.parquet"), "make")
    assert samples.num_rows == 0
    assert "collision_3s" in samples.column_names


def test_recalls_are_measured_where_the_truth_is_known(
    scenes: Scenes, truths: list[Known], params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(scenes, "none", 0)
    prepare_a_drawn_world(truths)
    (row,) = score("none", params, monkeypatch)["rows"]
    samples = io.read_parquet(Path("results/scores/none.parquet"), "make").to_pylist()
    assert {sample["event"] for sample in samples} == {"curve"}
    assert row["foreground_recall"] == pytest.approx(2 / 6)  # rows 1, 2, 3 are foreground, 0 and 1 are kept
    assert row["object_recall"] == 0


def test_a_ranking_is_held_against_the_truth_at_every_ratio(
    scenes: Scenes, truths: list[Known], params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    upper_first, lower_first = np.arange(8, 0, -1, dtype=np.float32), np.arange(8, dtype=np.float32)
    for percent in (25, 50, 75):
        plans = write(scenes, "recon", percent)
        if percent == 25:  # every second frame is ranked the right way round
            ranked = [replace(p, scores=lower_first if i % 2 else upper_first) for i, p in enumerate(plans)]
            write_plans(plans_path("recon", percent), ranked)
    prepare_a_drawn_world(truths)
    rows = score("recon", params, monkeypatch)["rows"]
    samples = io.read_parquet(Path("results/scores/recon.parquet"), "make").to_pylist()
    assert [sample["object_auc"] for sample in samples] == [0.0, 1.0] * (COMPLETE // 2) * 3
    assert [sample["foreground_auc"] for sample in samples[:2]] == [0.0, 1.0]
    assert [(row["object_auc"], row["foreground_auc"], row["object_auc_n"]) for row in rows] == [
        (0.5, 0.5, COMPLETE)
    ] * 3
    assert rows[0]["object_auc_low"] < 0.5 < rows[0]["object_auc_high"]


def test_scoring_twice_gives_the_same_bytes(scenes: Scenes, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    write(scenes, "none", 0)
    outs = [Path("results/scores/none.json"), Path("results/scores/none.parquet"), Path("metrics/scores/none.json")]
    score("none", params, monkeypatch)
    first = [hashlib.sha256(path.read_bytes()).hexdigest() for path in outs]
    score("none", params, monkeypatch)
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in outs] == first


def test_missing_plans_name_the_command_that_makes_them(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"results/plans/recon/25\.parquet.*dvc repro plan_trained@recon"):
        score("recon", params, monkeypatch)
    with pytest.raises(DataError, match=r"results/plans/other_image/0\.parquet.*plan_references@other_image"):
        score("other_image", params, monkeypatch)
    assert not Path("results/scores").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda plans: plans[:-1], "1 tokens lacking"),
        (lambda plans: [*plans, plans[0]], "1 tokens twice"),
    ],
)
def test_plans_that_do_not_fit_the_split_are_refused(
    spoil: object, message: str, scenes: Scenes, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plans(plans_path("none", 0), spoil(write(scenes, "none", 0)))
    with pytest.raises(DataError, match=message):
        score("none", params, monkeypatch)


def test_without_prepared_truths_the_command_that_makes_them_is_named(
    scenes: Scenes, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(scenes, "none", 0)
    (FOLDER / io.MANIFEST).unlink()
    with pytest.raises(DataError, match="complete data/truths.*dvc repro prepare_truths"):
        score("none", params, monkeypatch)


def test_scoring_opens_no_data_set() -> None:
    program = "import sys; sys.modules['nuscenes'] = None; sys.modules['stages.scenes.nuscenes'] = None\n"
    subprocess.run([sys.executable, "-c", program + "import stages.score_plans"], cwd=REPOSITORY, check=True)


def test_an_unknown_cell_is_refused(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParamsError, match="'fastest'"):
        score("fastest", params, monkeypatch)
