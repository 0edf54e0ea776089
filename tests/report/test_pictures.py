"""Pictures one can check by eye: two tokens, one box, one road."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from one_frame import NO_BOXES, make_frame
from PIL import Image

from stages.report.figures import svg
from stages.report.pictures import birds_eye, jpeg, kept_tokens, tinted

GREY = np.full((40, 80, 3), 200, np.uint8)


def test_kept_cells_stay_as_they_are_and_dropped_ones_are_dark():
    picture = kept_tokens(GREY, np.array([0, 3]), (2, 2))
    assert (picture[1:19, 1:39] == 200).all()
    assert (picture[21:39, 41:79] == 200).all()
    assert (picture[:19, 41:] == 60).all()
    assert (picture[21:, :39] == 60).all()


def test_kept_cells_are_outlined_so_that_they_show_in_the_dark():
    picture = kept_tokens(np.zeros((40, 80, 3), np.uint8), np.array([0]), (2, 2))
    assert (picture[0, :40] == 255).all()
    assert (picture[19, :40] == 255).all()
    assert picture[1:19, 1:39].max() == picture[21:].max() == 0


def test_every_token_has_pixels_when_the_grid_does_not_divide_the_image():
    shares = [(kept_tokens(GREY, np.array([i]), (3, 7)) != 60).all(axis=2).sum() for i in range(21)]
    assert min(shares) >= 13 * 11
    assert sum(shares) == 40 * 80


def test_an_image_is_not_written_into():
    image = GREY.copy()
    tinted(image, np.eye(40, 80, dtype=bool))
    kept_tokens(image, np.array([0]), (2, 2))
    assert (image == 200).all()


def test_tint_is_where_the_foreground_is():
    foreground = np.zeros((40, 40), bool)
    foreground[10:30, 10:30] = True
    picture = tinted(np.full((40, 40, 3), 200, np.uint8), foreground)
    assert (picture[:9] == 200).all()
    blue = picture[20, 20].astype(int)
    assert blue[2] > blue[0]


def test_jpeg_is_the_same_bytes_twice_and_opens():
    first, second = jpeg(GREY), jpeg(GREY.copy())
    assert first == second
    assert Image.open(io.BytesIO(first)).size == (80, 40)


def test_road_from_above_is_the_same_bytes_twice_and_has_no_date():
    frame = replace(make_frame(Path("front.png")), future_ego_m=np.arange(12.0).reshape(6, 2), boxes=NO_BOXES)
    drivable = np.zeros((1000, 1000), bool)
    drivable[450:550] = True
    pictures = [svg(birds_eye(frame, {"none": np.zeros((6, 2)), "recon": np.ones((6, 2))}, drivable)) for _ in range(2)]
    assert pictures[0] == pictures[1]
    assert b"<dc:date>" not in pictures[0]


def test_left_is_left():
    """A plan that goes to ego y = +5 m ends on the negative side of the axis `to the right`."""
    frame = make_frame(Path("front.png"))
    figure = birds_eye(frame, {"left": np.array([[2.0 * i, 5.0] for i in range(1, 7)])}, None)
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "left"]
    assert list(line.get_xdata()) == [0, *[-5.0] * 6]
    assert list(line.get_ydata()) == [0, 2, 4, 6, 8, 10, 12]
