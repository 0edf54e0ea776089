"""One check for each family of planning cases: our protocols give what the official metric classes gave."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import plain_truth
from numpy.typing import NDArray

from stages.planning import bevplanner, impromptu, occupancy, omnidrive, stp3, uniad, vad
from stages.planning.base import Track, Truth, any_up_to, mean_up_to
from stages.vla.impromptu import MODES, parse_answer

Case = Mapping[str, NDArray]
LEAST_M = 1e-4
DIGITS = 6e-6  # answers' expectations are printed with five decimals, of numbers in float32
OTHERS = tuple(f"movable_object.{n}" for n in ("barrier", "trafficcone", "pushable_pullable", "debris"))
CATEGORIES = (  # rows of the plain nuScenes category table
    *(f"human.pedestrian.{n}" for n in ("adult", "child", "wheelchair", "stroller", "personal_mobility")),
    *("human.pedestrian.police_officer", "human.pedestrian.construction_worker", "animal"),
    *(f"vehicle.{n}" for n in ("car", "motorcycle", "bicycle", "bus.bendy", "bus.rigid", "truck", "construction")),
    *("vehicle.emergency.ambulance", "vehicle.emergency.police", "vehicle.trailer", *OTHERS),
    "static_object.bicycle_rack",
)
CATEGORIES_OF_VAD = (  # with a noise row; the others in alphabetical order
    *("noise", *sorted(CATEGORIES)),
)
INPUTS = ("gt_ego", "mask", "boxes", "n_agents", "fut_traj", "fut_idx", "drivable_packed")  # of an omnidrive case


def unpacked(bits: NDArray) -> NDArray[np.bool_]:
    return np.unpackbits(bits, axis=-1).astype(bool)


def lengths_agree(case: Case, *names: str) -> None:
    assert {len(case[name]) for name in names} == {len(case["pred_lidar"])} != {0}


def sums_m(l2_m: NDArray[np.floating]) -> float:
    """How far the official L2 (samples, steps) may be off: differences of float32 sums over all samples."""
    return max(LEAST_M, 4 * float(np.spacing(np.float32(np.nansum(l2_m, axis=0).max()))))


def omnidrive_truth(cases: Case, i: int) -> Truth:
    """Agents keep their heading and are always there where the case has no `fut_yaw` (turns) and `fut_mask`."""
    boxes = cases["boxes"][i, : cases["n_agents"][i]]
    steps_m = np.concatenate([boxes[:, None, :2], cases["fut_traj"][i, : len(boxes)]], axis=1)

    def now_and_later(name: str, default: int) -> NDArray:
        shape = (len(boxes), 6)
        later = cases[name][i, : len(boxes)].reshape(shape) if name in cases else np.full(shape, float(default))
        return np.pad(later, ((0, 0), (1, 0)), constant_values=default)

    turns, here = now_and_later("fut_yaw", 0), now_and_later("fut_mask", 1)
    yaws = np.where(here == 1, np.concatenate([boxes[:, 6:7], turns[:, 1:]], axis=1).cumsum(axis=1), np.nan)
    categories = [CATEGORIES[int(row)] for row in cases["fut_idx"][i, : len(boxes), 0]]
    agents = plain_truth.agents(categories, boxes[:, 3:5], steps_m.cumsum(axis=1), yaws)
    truth = plain_truth.truth(cases["gt_ego"][i], agents, unpacked(cases["drivable_packed"][i]), token=str(i))
    return replace(truth, valid=cases["mask"][i, :, 0] == 1)


def check_omnidrive(case: Case, meta: dict[str, Any]) -> None:
    assert [key.rsplit("_", 1)[0] for key in case["keys"][:-1:3]] == ["plan_obj_box_col", "plan_boundary", "l2"]
    assert len(case["rows"]) == len(case["pred_ego"])
    for i, row in enumerate(case["rows"]):
        for precision in (np.float32, np.float64):
            result = plain_truth.score("omnidrive", case["pred_ego"][i].astype(precision), omnidrive_truth(case, i))
            assert (result is not None) == bool(row[9]), f"sample {i}"
            if result is None:
                assert not row[:9].any(), f"sample {i}"
                continue
            assert [*result.collision, *result.intersection] == [*row[:6]], f"sample {i}"
            np.testing.assert_allclose(result.l2_m, row[6:9], rtol=1e-6, err_msg=f"sample {i}")


def check_bevplanner(case: Case, meta: dict[str, Any]) -> None:
    """On its own samples and vehicles, or those of the omnidrive case beside it."""
    official = case["box_and_point_col_by_horizon"]
    assert 0 < len(official) <= len(case["pred_ego"])
    for i, (box, point) in enumerate(np.moveaxis(official, 2, 1)):
        truth = replace(omnidrive_truth(case, i), valid=np.ones(6, bool))  # the metric class asks nobody
        prepared = bevplanner.with_vehicles(truth, omnidrive.vehicles(truth))
        assert bevplanner.judge(case["pred_ego"][i], prepared).collision.tolist() == box.tolist(), f"sample {i}"
        hits = bevplanner.measure(case["pred_ego"][i], prepared).center_hits
        assert any_up_to(hits).tolist() == point.tolist(), f"sample {i}"


def check_stp3(case: Case, meta: dict[str, Any]) -> None:
    """What each sample adds to the three official metrics, which see the first 2, 4 and 6 steps."""
    kinds = {"box": "box_hits", "pt": "center_hits"}
    lengths_agree(case, *(f"{kind}_{s}s" for kind in kinds for s in (1, 2, 3)))
    for i, pred in enumerate(case["pred_lidar"]):
        truth, plan_m = plain_truth.truth(plain_truth.in_ego(case["gt_lidar"][i])), plain_truth.in_ego(pred)
        prepared = occupancy.with_raster(truth, unpacked(case["seg_packed"][i]), occupancy.ego_cells)
        steps, score = occupancy.measure(plan_m, prepared, occupancy.ego_cells), stp3.judge(plan_m, prepared)
        for s in (1, 2, 3):
            for kind, name in kinds.items():
                official = case[f"{kind}_{s}s"][i]
                assert getattr(steps, name)[: 2 * s].tolist() == official.tolist(), f"sample {i}, {kind}, {s} s"
            assert score.collision[s - 1] == case[f"box_{s}s"][i].astype(float).mean()


def check_uniad(case: Case, meta: dict[str, Any]) -> None:
    """What each sample adds to the official metric's sums, step by step."""
    names = ("per_sample_obj_col", "per_sample_obj_box_col", "per_sample_L2")
    lengths_agree(case, *names)
    atol_m = sums_m(case["per_sample_L2"])
    for i, pred in enumerate(case["pred_lidar"]):
        truth, plan_m = plain_truth.truth(plain_truth.in_ego(case["gt_lidar"][i])), plain_truth.in_ego(pred)
        occupied = unpacked(case["seg_packed"][i]) | case["seg_is255"][i][:, None, None]
        prepared = occupancy.with_raster(replace(truth, valid=case["mask"][i, :, 0] == 1), occupied, uniad.cells)
        steps, score = occupancy.measure(plan_m, prepared, uniad.cells), uniad.judge(plan_m, prepared)
        center, box, l2_m = (case[name][i] for name in names)
        assert (steps.center_hits.tolist(), steps.box_hits.tolist()) == (center.tolist(), box.tolist()), f"sample {i}"
        np.testing.assert_allclose(steps.l2_m, l2_m, atol=atol_m, err_msg=f"sample {i}")
        assert score.collision.tolist() == box[1::2].tolist()
        np.testing.assert_allclose(score.l2_m, l2_m[1::2], atol=atol_m)


def vad_truth(case: Case, i: int) -> Truth:
    """Objects as VAD's loader hands them over: a box now, then steps, turns and a mask."""
    boxes, feats = (case[name][i, : case["n_agents"][i]] for name in ("boxes", "feats"))
    steps_m, turns, known = feats[:, :12].reshape(-1, 6, 2), feats[:, 28:34], feats[:, 12:18] == 1
    gone = np.pad(~known, ((0, 0), (1, 0)))
    centers_m = boxes[:, None, :2] + np.pad(steps_m.cumsum(axis=1), ((0, 0), (1, 0), (0, 0)))
    yaws = -1 * (boxes[:, 6:7] + np.float32(np.pi / 2)) + np.pad(turns.cumsum(axis=1), ((0, 0), (1, 0)))
    centers_m, yaws = np.where(gone[..., None], np.nan, centers_m), np.where(gone, np.nan, yaws)
    categories = [CATEGORIES_OF_VAD[int(row)] for row in feats[:, 27]]
    agents = plain_truth.agents(categories, boxes[:, [4, 3]], plain_truth.in_ego(centers_m), yaws)
    agents = replace(agents, lidar=Track(centers_m, yaws))
    return replace(plain_truth.truth(plain_truth.in_ego(case["gt_lidar"][i]), agents), valid=case["valid"][i].repeat(6))


def check_vad(case: Case, meta: dict[str, Any]) -> None:
    """Rasters cell by cell, and the means of each sample up to each horizon."""
    lengths_agree(case, "L2", "obj_col", "obj_box_col", "valid")
    for i, pred in enumerate(case["pred_lidar"]):
        truth, plan_m = vad_truth(case, i), plain_truth.in_ego(pred)
        prepared = vad.with_agents(replace(truth, valid=np.ones(6, bool)), vad.drawn(truth.agents))
        drawn = unpacked(case["seg_packed"][i] | case["ped_packed"][i])
        np.testing.assert_array_equal(prepared.occupied, drawn, err_msg=f"sample {i}")
        steps, score = occupancy.measure(plan_m, prepared, vad.cells), vad.judge(plan_m, prepared)
        np.testing.assert_allclose(score.l2_m, case["L2"][i], rtol=1e-5, atol=1e-6, err_msg=f"sample {i}")
        np.testing.assert_allclose(score.collision, case["obj_box_col"][i], err_msg=f"sample {i}")
        np.testing.assert_allclose(mean_up_to(steps.center_hits), case["obj_col"][i], err_msg=f"sample {i}")
        assert (vad.prepare(truth) is not None) == case["valid"][i], f"sample {i}"


def impromptu_truth(case: Case, i: int) -> Truth:
    """Every box is an object of its own that is there in one key frame."""
    boxes = case["fut_boxes"][i]
    step, box = np.nonzero(np.isfinite(boxes[..., 0]))
    there, row = boxes[step, box], np.arange(len(step))
    centers_m = np.full((len(step), 7, 2), np.nan, boxes.dtype)
    yaws = np.full((len(step), 7), np.nan, boxes.dtype)
    centers_m[row, step + 1], yaws[row, step + 1] = there[:, :2], there[:, 6]
    agents = plain_truth.agents(["movable_object.barrier"] * len(step), there[:, 3:5], centers_m, yaws)
    truth = plain_truth.truth(plain_truth.in_ego(case["gt_lidar"][i]), replace(agents, lidar=Track(centers_m, yaws)))
    return replace(truth, valid=case["mask"][i].all(axis=1))


def check_impromptu(case: Case, meta: dict[str, Any]) -> None:
    """Step by step; a sample without a whole future has no numbers."""
    names = ("gt_box_coll", "box_coll_masked", "L2")
    lengths_agree(case, *names, "valid")
    atol_m = sums_m(case["L2"])
    for i, pred in enumerate(case["pred_lidar"]):
        truth, plan_m = impromptu_truth(case, i), plain_truth.in_ego(pred)
        recorded, box, l2_m = (case[name][i] for name in names)
        prepared = impromptu.prepare(truth)
        assert (prepared is not None) == case["valid"][i], f"sample {i}"
        if prepared is None:
            assert np.isnan([recorded, box, l2_m]).all(), f"sample {i}"
            continue
        steps, score = impromptu.measure(plan_m, prepared), impromptu.judge(plan_m, prepared)
        assert prepared.recorded_hits.tolist() == recorded.tolist(), f"sample {i}"
        assert steps.box_hits.tolist() == box.tolist(), f"sample {i}"
        np.testing.assert_allclose(steps.l2_m, l2_m, atol=atol_m, err_msg=f"sample {i}")
        np.testing.assert_allclose(score.collision, mean_up_to(box), err_msg=f"sample {i}")


def check_impromptu_parse(case: Case, meta: dict[str, Any]) -> None:
    """Every answer gives the trajectory that Impromptu-VLA's own evaluator, or its closed-loop server, reads.

    The evaluator has x right, y forward; the server x forward, y left.
    """
    assert len(case["cases"])
    for i, answer in enumerate(case["cases"]):
        expected = np.array(answer["traj_lidar" if answer["mode"] in MODES else "traj"], float)
        found = parse_answer(answer["text"], answer["mode"]).waypoints_m
        found = plain_truth.in_lidar(found) if answer["mode"] in MODES else found
        assert found.shape == expected.shape, f"answer {i}: {found.shape}, not {expected.shape}"
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=DIGITS, err_msg=f"answer {i}: {answer['text']}")
