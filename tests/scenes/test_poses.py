import numpy as np
from pyquaternion import Quaternion

from stages.scenes.base import inverse, move, pose, rotations, yaw_rad


def test_rotations_equal_those_of_pyquaternion() -> None:
    wxyz = np.random.default_rng(0).normal(size=(20, 4))
    expected = [Quaternion(q).rotation_matrix for q in wxyz]  # both normalise
    np.testing.assert_allclose(rotations(wxyz), expected, atol=1e-12)


def test_a_pose_moves_points_into_the_parent_and_its_inverse_back() -> None:
    quarter_turn_left = np.array([np.sqrt(0.5), 0, 0, np.sqrt(0.5)])
    matrix = pose(np.array([10.0, 20.0, 0.0]), quarter_turn_left)
    points = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 5.0]])
    np.testing.assert_allclose(move(matrix, points), [[10, 21, 0], [9, 20, 5]], atol=1e-12)
    np.testing.assert_allclose(move(inverse(matrix), move(matrix, points)), points, atol=1e-12)
    assert np.isclose(yaw_rad(matrix), np.pi / 2)
