"""One key frame with a front image and nothing around: enough for a driver."""

from pathlib import Path

import numpy as np

from stages.scenes.base import Boxes, Camera, Frame

NO_BOXES = Boxes((), (), np.empty((0, 3)), np.empty((0, 3)), np.empty((0, 4)))


def make_frame(image: Path, token: str = "sample-0") -> Frame:
    """A frame at the map's origin whose front image is `image`; the car stands still for the next 3 s."""
    return Frame(
        token,
        scene="scene-1",
        location="nowhere",
        description="",
        timestamp_us=0,
        global_from_ego=np.eye(4),
        ego_from_lidar=np.eye(4),
        cameras={"CAM_FRONT": Camera("CAM_FRONT", "image-0", image, (84, 56), np.eye(3), np.eye(4))},
        boxes=NO_BOXES,
        speed_mps=5.0,
        future_ego_m=np.zeros((6, 2)),
    )
