import numpy as np
import pytest

from stages.masks import agreement

OURS = np.array([[1, 1, 2], [0, 0, 2]], np.uint8)
TRUTH = np.array([[1, 0, 2], [0, 2, 1]], np.uint8)


def test_overlap_counts_pixels_of_foreground_and_of_each_class() -> None:
    sums = agreement.overlap(OURS, TRUTH)
    assert sums[0].tolist() == [3, 5]  # foreground in both, in either
    assert sums[1].tolist() == [1, 3]  # road
    assert sums[2].tolist() == [1, 3]  # vehicle
    assert sums[3:].tolist() == [[0, 0]] * 3


def test_the_interval_is_a_point_when_all_scenes_agree_and_wide_when_they_do_not() -> None:
    assert agreement.interval(np.array([[3, 4]] * 5), 200, seed=0).tolist() == [0.75, 0.75]
    low, high = agreement.interval(np.array([[9, 10], [1, 10], [5, 10], [7, 10]]), 500, seed=0)
    assert low < 22 / 40 < high


def test_tables_sum_pixels_before_they_divide() -> None:
    small, large = agreement.overlap(OURS, TRUTH).tolist(), (10 * agreement.overlap(OURS, OURS)).tolist()
    shares = [{"split": "a", "camera": "CAM_FRONT", "images": 2, "foreground_share": 0.5}]
    table = agreement.agreement_table([{"CAM_FRONT": small}, {"CAM_FRONT": large}], shares)
    by_name = {(row["of"], row["name"]): row for row in table}
    front = by_name["camera", "CAM_FRONT"]
    assert (front["both_px"], front["either_px"], front["images"], front["scenes"]) == (3 + 40, 5 + 40, 2, 2)
    assert front["iou"] == pytest.approx(43 / 45)
    assert by_name["camera", "mean"]["iou"] == pytest.approx(43 / 45)
    assert by_name["class", "human"]["iou"] is None
    assert by_name["class", "mean"]["iou"] == pytest.approx((21 / 23 + 21 / 23) / 2)


def test_shares_are_means_per_split_and_camera() -> None:
    rows = [{"split": "a", "camera": "CAM_BACK", "foreground_share": share} for share in (0.2, 0.4)]
    assert agreement.share_table(rows) == [
        {"split": "a", "camera": "CAM_BACK", "images": 2, "foreground_share": pytest.approx(0.3)}
    ]
    tree = agreement.metrics_tree(agreement.share_table(rows), [])
    assert tree == {"images": {"a": {"CAM_BACK": 2}}, "foreground_share": {"a": {"CAM_BACK": 0.3}}, "iou": {}}
