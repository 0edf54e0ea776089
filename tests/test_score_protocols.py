"""Every protocol from the tables of a data set to its table of scores, through the stages."""

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from stages.planning.truth_store import FOLDER, Known, publish, write_scene
from synthetic_root import JUDGED, VERSION, copy_root

from stages import score_plans
from stages.core import io
from stages.core.params import read_params
from stages.planning import base
from stages.planning.truths import truth_from_frame
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.vla.bounds import plan_bound
from stages.vla.plans import plans_path, write_plans

PARAMS = Path(__file__).parents[1] / "params.yaml"
N = {"uniad": 14, "stp3": 6}  # of 14 key frames the last 6 lack a whole future, the first 2 a whole past


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return open_scenes(copy_root(tmp_path_factory.mktemp("nuscenes")), VERSION)


@pytest.fixture(scope="module")
def truths(scenes: Scenes) -> list[Known]:
    frames = [scenes.frame(token) for token in scenes.tokens("synth_val")]
    found = [truth_from_frame(frame, scenes.drivable_mask(frame), scenes.surroundings(frame)) for frame in frames]
    return [Known(truth, None, None) for truth in found]


@pytest.mark.parametrize("protocol", base.available())
def test_a_protocol_scores_the_recorded_future_and_a_guess(
    protocol: str, scenes: Scenes, truths: list[Known], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    publish(FOLDER, write_scene(FOLDER, JUDGED, truths), {"split": "synth_val", "drawn": False})
    tree = yaml.safe_load(PARAMS.read_text())
    tree["scenes"] |= {"version": VERSION, "eval_split": "synth_val", "oracle_root": None}
    tree["grid"]["references"] = ["other_image", "black_image", "blind_floor"]
    tree["score_plans"] |= {"resamples": 20, "protocol": protocol}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    rows = {}
    for name in ("recorded_future", "constant_velocity"):
        frames = [scenes.frame(token) for token in scenes.tokens("synth_val")]
        write_plans(plans_path(name, 0), [plan_bound(name, frame) for frame in frames])
        monkeypatch.setattr(sys, "argv", ["score_plans", name])
        score_plans.main(read_params())
        (rows[name],) = io.read_json(Path(f"results/scores/{name}.json"), "make")["rows"]
    recorded, guessed = rows["recorded_future"], rows["constant_velocity"]
    assert recorded["n"] == guessed["n"] == N.get(protocol, 8)
    assert recorded["l2_cm_avg"] == recorded["collision_pct_avg"] == recorded["collision_events_3s"] == 0
    assert guessed["l2_cm_avg"] > 0
    known = protocol in ("omnidrive", "bevplanner")
    assert (recorded["intersection_pct_avg"] is not None) == known
    assert np.isfinite([guessed["collision_pct_3s_low"], guessed["collision_pct_3s_high"]]).all()
