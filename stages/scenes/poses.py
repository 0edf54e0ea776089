"""Rotations and poses of nuScenes records as matrices. Pure: numpy in, numpy out."""

import numpy as np
from jaxtyping import Float


def rotations(wxyz: Float[np.ndarray, "M 4"]) -> Float[np.ndarray, "M 3 3"]:
    """Rotation matrices of quaternions; they are normalised first, as the devkit does."""
    w, x, y, z = (wxyz / np.linalg.norm(wxyz, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def pose(translation_m: Float[np.ndarray, " 3"], wxyz: Float[np.ndarray, " 4"]) -> Float[np.ndarray, "4 4"]:
    """The matrix that moves points of the posed frame into its parent."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotations(wxyz[None])[0]
    matrix[:3, 3] = translation_m
    return matrix


def inverse(matrix: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """The inverse of a rigid motion: exact up to rounding, unlike a general solver near singular."""
    rotation = matrix[:3, :3].T
    result = np.eye(4)
    result[:3, :3] = rotation
    result[:3, 3] = -rotation @ matrix[:3, 3]
    return result


def move(a_from_b: Float[np.ndarray, "4 4"], points_b: Float[np.ndarray, "*any 3"]) -> Float[np.ndarray, "*any 3"]:
    """Points of frame b in frame a."""
    return points_b @ a_from_b[:3, :3].T + a_from_b[:3, 3]


def yaw_rad(matrix: Float[np.ndarray, "4 4"]) -> float:
    """Heading of the x axis in the parent's xy plane, counter-clockwise."""
    return float(np.arctan2(matrix[1, 0], matrix[0, 0]))
