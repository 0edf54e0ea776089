"""What really happened around a key frame, as a protocol wants it."""

import numpy as np
from jaxtyping import Bool, Float

from stages.planning.base import Agents, Truth
from stages.scenes.base import FUTURE_STEPS, Frame
from stages.scenes.poses import inverse, move, rotations


def truth_from_frame(frame: Frame, drivable: Bool[np.ndarray, "1000 1000"] | None) -> Truth:
    """The frame's recorded future and annotated objects in its ego frame, with the drivable area around it."""
    return Truth(
        token=frame.token,
        scene=frame.scene,
        future_m=frame.future_ego_m,
        valid=np.isfinite(frame.future_ego_m).all(axis=1),
        agents=agents_around(frame),
        drivable=drivable,
    )


def agents_around(frame: Frame) -> Agents:
    """Every object annotated now or later, followed through the key frames by its instance; its first size holds."""
    snapshots = (frame.boxes, *frame.future_boxes)
    rows: dict[str, int] = {}
    for boxes in snapshots:
        for instance in boxes.instances:
            rows.setdefault(instance, len(rows))
    categories = [""] * len(rows)
    sizes_lw_m = np.zeros((len(rows), 2))
    centers_m = np.full((len(rows), FUTURE_STEPS + 1, 2), np.nan)
    yaws_rad = np.full((len(rows), FUTURE_STEPS + 1), np.nan)
    ego_from_global = inverse(frame.global_from_ego)
    for step, boxes in reversed(list(enumerate(snapshots))):
        at = [rows[instance] for instance in boxes.instances]
        centers_m[at, step] = move(ego_from_global, boxes.centers_m)[:, :2]
        yaws_rad[at, step] = _yaws_rad(ego_from_global, boxes.rotations_wxyz)
        sizes_lw_m[at] = boxes.sizes_wlh_m[:, [1, 0]]
        for row, category in zip(at, boxes.categories, strict=True):
            categories[row] = category
    return Agents(tuple(categories), sizes_lw_m, centers_m, yaws_rad)


def _yaws_rad(
    ego_from_global: Float[np.ndarray, "4 4"], rotations_wxyz: Float[np.ndarray, "M 4"]
) -> Float[np.ndarray, " M"]:
    turned = ego_from_global[:3, :3] @ rotations(rotations_wxyz)
    return np.arctan2(turned[:, 1, 0], turned[:, 0, 0])
