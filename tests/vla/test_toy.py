"""The committed driver with a ruler: the truth that is looked up is that of the image it is shown."""

from pathlib import Path

import cv2
import numpy as np
from one_frame import make_frame
from PIL import Image

from stages.core.params import read_params
from stages.pruning import base
from stages.vla.base import DriverOptions
from stages.vla.toy import Driver


def test_a_ruler_keeps_the_true_objects_of_the_image_that_is_driven(tmp_path: Path) -> None:
    vla = read_params(Path("params.yaml")).vla
    W, H = vla.size_px
    cv2.imwrite(str(tmp_path / "front.png"), np.full((H, W, 3), 90, np.uint8))
    (tmp_path / "scene-1").mkdir()
    classes = np.zeros((H, W), np.uint8)
    classes[-28:, :56] = 2  # a vehicle on the two lower left tokens
    Image.fromarray(classes).save(tmp_path / "scene-1" / "image-0.png")
    driver = Driver(DriverOptions(Path(vla.checkpoint), vla.size_px, vla.fit, 1))
    ruler = base.load("oracle", {"oracle_root": str(tmp_path), "fit": vla.fit})
    h, w = H // 28, W // 28
    ((plan,),) = driver.plan([make_frame(tmp_path / "front.png")], ruler, [90]).values()
    assert plan.tokens_kept < h * w // 9
    assert {(h - 1) * w, (h - 1) * w + 1} <= set(plan.kept.tolist())
