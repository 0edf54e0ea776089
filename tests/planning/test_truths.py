from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic_root import JUDGED, VERSION, copy_root

from stages.core.errors import DataError
from stages.planning import truths
from stages.planning.base import Truth
from stages.planning.truths import for_lidar_plans, key_frames, truth_from_frame, truths_of
from stages.scenes.base import NOT_SAID, Boxes, Frame, Marks, Surroundings, pose
from stages.scenes.nuscenes import open_scenes

TURN = np.pi / 2
EGO_AT = np.array(
    [[0, -1, 0, 100], [1, 0, 0, 50], [0, 0, 1, 0], [0, 0, 0, 1.0]]
)  # at (100, 50), heading along global y
EGO_FROM_LIDAR = pose(
    np.array([1.0, 0, 2]), np.array([np.cos(TURN / 2), 0, 0, -np.sin(TURN / 2)])
)  # 1 m ahead, y forward


def boxes(*rows: tuple[str, float, float, float]) -> Boxes:
    """Cars of 2 x 4 m: instance, x, y, yaw in the global frame."""
    yaws = np.array([row[3] for row in rows])
    return Boxes(
        categories=("vehicle.car",) * len(rows),
        instances=tuple(row[0] for row in rows),
        centers_m=np.array([[row[1], row[2], 0.0] for row in rows]).reshape(-1, 3),
        sizes_wlh_m=np.tile([2.0, 4.0, 1.5], (len(rows), 1)),
        rotations_wxyz=np.stack([np.cos(yaws / 2), 0 * yaws, 0 * yaws, np.sin(yaws / 2)], axis=1),
    )


def truth(now: Boxes, *later: Boxes, ego: np.ndarray = EGO_AT) -> Truth:
    """Of a key frame whose box i of step t is seen at level i and has t lidar points."""
    future_m = np.full((6, 2), np.nan)
    future_m[: len(later)] = 0
    frame = Frame("token", "scene", "town", "", 0, ego, EGO_FROM_LIDAR, {}, now, 0.0, future_m, later)
    marks = [
        Marks(np.arange(len(each)), np.full(len(each), step), np.zeros(len(each), int))
        for step, each in enumerate((now, *later))
    ]
    around = Surroundings(2, frozenset({"b"}), tuple(marks), np.tile([3.0, 4.0], (6, 1)), np.empty((0, 2, 2)))
    return truth_from_frame(frame, None, around)


def test_a_car_is_seen_in_the_ego_frame_and_from_the_lidar_a_metre_ahead_with_x_to_the_right() -> None:
    agents = truth(boxes(("a", 98, 60, TURN))).agents
    np.testing.assert_allclose(agents.ego.centers_m[0, 0], [10, 2], atol=1e-9)  # 10 m ahead, 2 m to the left
    assert agents.ego.yaws_rad[0, 0] == pytest.approx(0)  # heading as the ego
    assert agents.sizes_lw_m.tolist() == [[4, 2]]
    np.testing.assert_allclose(agents.lidar.centers_m[0, 0], [-2, 9], atol=1e-9)
    assert agents.lidar.yaws_rad[0, 0] == pytest.approx(TURN)


def test_level_leaves_out_pitch_and_roll_of_the_ego() -> None:
    nose_up = EGO_AT @ pose(np.zeros(3), np.array([np.cos(0.05), 0, -np.sin(0.05), 0]))  # 0.1 rad
    agents = truth(boxes(("a", 98, 60, TURN)), ego=nose_up).agents
    np.testing.assert_allclose(agents.level.centers_m[0, 0], [10, 2], atol=1e-9)
    np.testing.assert_allclose(agents.ego.centers_m[0, 0], [10 * np.cos(0.1), 2], atol=1e-9)


def test_a_car_is_followed_by_its_instance_and_its_marks_go_with_it() -> None:
    now, then = boxes(("a", 100, 60, TURN), ("b", 100, 70, TURN)), boxes(("b", 100, 75, TURN), ("c", 90, 50, TURN))
    agents = truth(now, then).agents
    assert agents.annotated[:, :3].tolist() == [[True, False, False], [True, True, False], [False, True, False]]
    np.testing.assert_allclose(agents.ego.centers_m[1, :2], [[20, 0], [25, 0]], atol=1e-9)
    np.testing.assert_allclose(agents.ego.centers_m[2, 1], [0, 10], atol=1e-9)
    assert agents.visibilities[:, :2].tolist() == [[0, NOT_SAID], [1, 0], [NOT_SAID, 1]]
    assert agents.lidar_points[:, :2].tolist() == [[0, NOT_SAID], [0, 1], [NOT_SAID, 1]]
    assert (agents.lidar_points[:, 2:] == NOT_SAID).all()


def test_an_object_is_seen_if_visible_now_or_just_before() -> None:
    now = boxes(("z", 90, 60, TURN), ("y", 95, 60, TURN), ("b", 100, 70, TURN))  # levels 0, 1, 2
    later = boxes(("y", 95, 61, TURN), ("c", 90, 50, TURN))
    assert truth(now, later).agents.seen.tolist() == [True, False, True, False]
    hidden = boxes(("a", 100, 60, TURN), ("b", 100, 70, TURN))  # b: level 1 now, seen before
    assert truth(hidden).agents.seen.tolist() == [True, True]


def test_for_plans_of_the_lidar_the_future_is_that_of_the_lidar() -> None:
    sample = truth(boxes(), *[boxes()] * 6)
    assert for_lidar_plans(sample).future_m.tolist() == [[4, -3]] * 6  # 4 m ahead, 3 m to the right
    assert sample.future_m.tolist() == [[0, 0]] * 6


def test_a_scene_comes_with_events_and_class_maps_where_the_world_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_root(tmp_path / "nuscenes")
    scenes = open_scenes(root, VERSION)
    split = key_frames(scenes, "synth_val")
    assert [frame.token for frame in split] == scenes.tokens("synth_val")
    for i, frame in enumerate(split):
        path = tmp_path / "oracle" / JUDGED / f"{scenes.frame(frame.token).cameras['CAM_FRONT'].token}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((3, 5), i, np.uint8)).save(path)
    monkeypatch.setattr(truths, "events_of", lambda root: {frame.token: "curve" for frame in split})
    known = truths_of(JUDGED, str(root), VERSION, str(tmp_path / "oracle"))
    assert [int(one.classes.min()) for one in known if one.classes is not None] == list(range(14))
    assert [bool(one.valid.all()) for one in known] == [frame.complete for frame in split]
    assert {one.event for one in known} == {"curve"}
    with pytest.raises(DataError, match="class map"):
        truths_of(JUDGED, str(root), VERSION, str(tmp_path / "nowhere"))
    monkeypatch.setattr(truths, "events_of", lambda root: {})
    with pytest.raises(DataError, match="event"):
        truths_of(JUDGED, str(root), VERSION, str(tmp_path / "oracle"))
    bare = truths_of(JUDGED, str(root), VERSION, None)
    assert bare[0].event is bare[0].classes is None
