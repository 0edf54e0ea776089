"""The referee itself: it must see a false number, a case that nobody judges, and a folder without cases."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.reference.planning_cases import INPUTS, omnidrive_truth, sums_m
from tests.reference.referee import case_files, family_of, judge

CASES = Path(__file__).parents[1] / "cases"
EXPECTED = {  # what each case expects of us; a table has its expectations in its last column
    "divprune_gauss_n16_d8_r25": ["order", "keep_sorted", "distance"],
    "divprune_quirk_duplicates": ["order", "distance"],
    "vispruner_n64_t16_r50": ["important", "diverse", "mask", "keep_sorted"],
    "vispruner_parity_n49_t24": ["important", "diverse", "mask"],
    "vispruner_quirk_odd_residual": ["table"],
    "fastv_hf_h4_n49_k3_r25": ["score", "rank_order", "keep_visual_sorted", "keep_sequence", "position_ids"],
    "sparsevlm_raters_0": ["relevance", "raters"],
    "sparsevlm_topk_retain64_layer15": ["score", "keep"],
    "sparsevlm_v1_rank_0": ["score", "keep"],
    "sparsevlm_cluster_merge_0": ["merged", "centers", "assignment", "density", "score"],
    "sparsevlm_forward_retain64": ["raters", "num_token_per_layer"]
    + [f"{name}_l{layer}" for name in ("vis_in", "vis_out", "hidden_after", "pos_after") for layer in (2, 6, 15)],
    "cdpruner_n64_t16": ["relevance", "order", "mask"],
    "visionzip_n64_d10_c4": ["dominant_topk", "all_indices", "target_indices", "contextual_tokens", "tokens_out"],
    "prune2drive_tfps_n64_k16": ["order"],
    "keep_count_rounding": ["table"],
    "planning/omnidrive": ["rows"],
    "planning/bevplanner": ["box_and_point_col_by_horizon"],
    "planning/uniad": ["per_sample_obj_col", "per_sample_obj_box_col", "per_sample_L2"],
    "planning/stp3": [f"{name}_{s}s" for name in ("box", "pt") for s in (1, 2, 3)],
    "planning/vad": ["L2", "obj_col", "obj_box_col", "seg_packed", "ped_packed"],
    "planning/impromptu": ["gt_box_coll", "box_coll_masked", "L2", "valid"],
}


def falsified(array: NDArray) -> NDArray:
    """The array with one number changed: its first, of a table the expectation in the first row."""
    changed = np.atleast_1d(array).copy()
    place = (0, -1) if array.ndim == 2 and array.dtype == np.float64 else (0,) * changed.ndim
    changed[place] = not changed[place] if array.dtype == bool else np.nan_to_num(changed[place]) + 1
    return changed.reshape(array.shape)


@pytest.mark.parametrize(("case", "name"), [(case, name) for case, names in EXPECTED.items() for name in names])
def test_a_false_number_fails(tmp_path: Path, case: str, name: str) -> None:
    shutil.copy(CASES / "planning" / "omnidrive.npz", tmp_path)  # the inputs of bevplanner's
    arrays = dict(np.load(CASES / f"{case}.npz"))
    arrays[name] = falsified(arrays[name])
    path = tmp_path / f"{Path(case).name}.npz"
    np.savez(path, **arrays)
    with pytest.raises(AssertionError):
        judge(path)


@pytest.mark.parametrize("case", EXPECTED)
def test_a_case_without_what_it_must_have_fails(tmp_path: Path, case: str) -> None:
    shutil.copy(CASES / "planning" / "omnidrive.npz", tmp_path)
    path = tmp_path / f"{Path(case).name}.npz"
    np.savez(path, **{"meta_json": "{}", "other": np.zeros(3)})
    with pytest.raises(AssertionError, match=r"lacks|has one of"):
        judge(path)


def test_a_false_waypoint_of_an_answer_fails(tmp_path: Path) -> None:
    answers = json.loads((CASES / "planning" / "impromptu_parse.json").read_text())
    for i, answer in enumerate(answers):
        changed = copy.deepcopy(answer)
        changed["traj_lidar" if "traj_lidar" in changed else "traj"][0][1] += 0.01
        (tmp_path / "impromptu_parse.json").write_text(json.dumps([*answers[:i], changed, *answers[i + 1 :]]))
        with pytest.raises(AssertionError, match=f"answer {i}"):
            judge(tmp_path / "impromptu_parse.json")


def test_an_answer_without_what_it_must_have_fails(tmp_path: Path) -> None:
    (tmp_path / "impromptu_parse.json").write_text(json.dumps([{"mode": "x-y", "text": ""}]))
    with pytest.raises(AssertionError, match="lacks 'traj_lidar'"):
        judge(tmp_path / "impromptu_parse.json")


def test_a_case_without_the_case_beside_it_fails(tmp_path: Path) -> None:
    shutil.copy(CASES / "planning" / "bevplanner.npz", tmp_path)
    with pytest.raises(AssertionError, match="lacks omnidrive.npz beside it"):
        judge(tmp_path / "bevplanner.npz")


def test_a_case_of_no_known_family_fails_and_says_which_there_are(tmp_path: Path) -> None:
    shutil.copy(CASES / "divprune_gauss_n16_d8_r25.npz", tmp_path / "divination_n16.npz")
    with pytest.raises(AssertionError, match=r"no family judges divination_n16.npz; known: .*cdpruner, divprune"):
        judge(tmp_path / "divination_n16.npz")


def test_a_folder_without_cases_is_a_wrong_call(tmp_path: Path) -> None:
    (tmp_path / "synth-nusc").mkdir()
    (tmp_path / "notes.json").touch()
    np.savez(tmp_path / "synth-nusc" / "divprune_map.npz", map=np.zeros(1))
    with pytest.raises(pytest.UsageError, match="no case file"):
        case_files(tmp_path)
    with pytest.raises(pytest.UsageError, match="no case file"):
        case_files(tmp_path / "absent")


def test_the_longest_family_that_a_name_begins_with_judges_files_of_its_kind() -> None:
    names = {"qwen_lm_tiny_fastv_k2_r50.npz": "qwen_lm_tiny", "omnidrive.npz": "omnidrive",
             "vispruner_n144_t36_r50.npz": "vispruner", "fastvlm_n64.npz": None, "impromptu_prompts.json": None,
             "impromptu_parse_more.json": "impromptu_parse", "impromptu_more.npz": "impromptu"}  # fmt: skip
    assert {name: family_of(Path(name)) for name in names} == names


@pytest.mark.parametrize("beside", ["omnidrive_more.npz", "omnidrive.npz", None])
def test_a_case_of_another_name_finds_its_inputs_beside_it_or_has_them(tmp_path: Path, beside: str | None) -> None:
    path, inputs = tmp_path / "bevplanner_more.npz", np.load(CASES / "planning" / "omnidrive.npz")
    own = dict(np.load(CASES / "planning" / "bevplanner.npz"))
    if beside is None:
        own |= {name: inputs[name] for name in (*INPUTS, "pred_ego")}
    else:
        shutil.copy(CASES / "planning" / "omnidrive.npz", tmp_path / beside)
    np.savez(path, **own)
    judge(path)


def test_agents_turn_and_vanish_where_a_case_says_so() -> None:
    case = dict(np.load(CASES / "planning" / "omnidrive.npz"))
    agents = case["boxes"].shape[1]
    turns, here = np.full((48, agents, 6, 1), 0.1), np.ones((48, agents, 6))
    here[:, :, 2] = 0
    yaws = omnidrive_truth(case | {"fut_yaw": turns, "fut_mask": here}, 0).agents.ego.yaws_rad
    first = omnidrive_truth(case, 0).agents.ego.yaws_rad[:, 0]
    assert np.isnan(yaws[:, 3]).all()
    np.testing.assert_allclose(yaws[:, 6] - first, 0.6)
    np.testing.assert_allclose(yaws[:, 0], first)


def test_sums_of_many_samples_are_as_exact_as_their_float32() -> None:
    assert sums_m(np.full((48, 6), 2.0)) == 1e-4
    assert sums_m(np.full((960, 6), 2.0)) == 4 * 2**-13  # of a sum of 1,920
