"""Night, rain and glare: they change the pictures of a drawn scene, and only those."""

from collections import Counter
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import pytest

from stages.scenes.world import scenario, shapes, weather
from stages.scenes.world.camera import RIGS
from stages.scenes.world.drawing import draw
from stages.scenes.world.scenario import (
    CLEAR,
    CONDITIONS,
    GLARE,
    NIGHT,
    RAIN,
    Scenario,
    described,
    draw_condition,
    simulate,
)

SIZE_PX = (448, 252)
BAD_LIGHT = (NIGHT, RAIN, GLARE)
cv2.setNumThreads(1)


@lru_cache(maxsize=64)
def _drawn(seed: int, condition: str, channel: str = "CAM_FRONT") -> tuple[np.ndarray, np.ndarray]:
    return draw(replace(simulate(seed, 8), condition=condition), 2, channel, SIZE_PX)


def test_two_scenes_of_three_are_clear_and_the_rest_is_shared_evenly() -> None:
    counts = Counter(draw_condition(seed) for seed in range(4000))
    assert counts[CLEAR] / 4000 == pytest.approx(0.64, abs=0.03)
    for condition in BAD_LIGHT:
        assert counts[condition] / 4000 == pytest.approx(0.12, abs=0.02)


def test_neighbouring_seeds_do_not_share_their_condition() -> None:
    drawn = [draw_condition(seed) for seed in range(2000)]
    same = np.mean([a == b for a, b in zip(drawn, drawn[1:], strict=False)])
    assert same == pytest.approx(0.64**2 + 3 * 0.12**2, abs=0.05)


def test_the_condition_is_drawn_apart_from_the_scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    def facts(drawn: Scenario) -> list[object]:
        movers = [(a.category, a.size_wlh_m, a.look, a.poses.tobytes()) for a in drawn.actors]
        return [drawn.ego_poses.tobytes(), drawn.program, movers]

    usual = simulate(3, 8)
    for shares in np.eye(4):
        monkeypatch.setattr(scenario, "_SHARES", tuple(shares))
        other = simulate(3, 8)
        assert other.condition == CONDITIONS[int(shares.argmax())]
        assert facts(other) == facts(usual)


def test_a_description_begins_with_its_condition_as_in_nuscenes() -> None:
    assert described(CLEAR, "red, curve") == "red, curve"
    assert [described(name, "red") for name in BAD_LIGHT] == ["Night, red", "Rain, red", "Glare, red"]
    for seed in range(20):
        scenario = simulate(seed, 8)
        first = scenario.description.split(", ")[0].lower()
        assert (first if first in BAD_LIGHT else CLEAR) == scenario.condition


@pytest.mark.parametrize("condition", BAD_LIGHT)
def test_weather_changes_the_image_and_no_pixel_of_the_class_map(condition: str) -> None:
    for seed, channel in ((5, "CAM_FRONT"), (24, "CAM_BACK"), (26, "CAM_FRONT_LEFT")):
        clear, other = _drawn(seed, CLEAR, channel), _drawn(seed, condition, channel)
        np.testing.assert_array_equal(other[1], clear[1])
        assert (other[0] != clear[0]).any()


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("size_px", [(448, 252), (336, 196)])
def test_every_condition_is_drawn_by_every_camera_with_the_same_bytes_again(
    condition: str, size_px: tuple[int, int]
) -> None:
    for channel in RIGS:
        one, other = (draw(replace(simulate(5, 8), condition=condition), 3, channel, size_px) for _ in range(2))
        assert one[0].shape == (size_px[1], size_px[0], 3)
        assert one[0].tobytes() == other[0].tobytes()


def test_a_night_is_dark_and_its_lamps_are_not() -> None:
    for seed in (5, 24, 26):
        clear, night = _drawn(seed, CLEAR)[0], _drawn(seed, NIGHT)[0]
        assert night.mean() < 0.6 * clear.mean()
        assert np.percentile(night, 99.9) > 150


def test_headlights_brighten_the_road_ahead_of_the_car_alone() -> None:
    near_road = (slice(200, 240), slice(190, 250))
    ahead, behind = (_drawn(5, NIGHT, channel)[0][near_road].mean() for channel in ("CAM_FRONT", "CAM_BACK"))
    assert ahead > 1.4 * behind


def test_what_glows_keeps_its_colour_at_night() -> None:
    colors, glows = np.full((2, 3), 200.0), np.array([True, False])
    lamp, wall = weather.lit(colors, glows, np.array([[-30.0, 5.0]] * 2))
    assert lamp.tolist() == [200.0] * 3
    assert wall.max() < 80


def test_rain_takes_colour_away() -> None:
    red = weather.graded(np.array([[220.0, 20.0, 20.0]]), weather.build_weather(0, RAIN))[0]
    assert 50 < red[0] - red[1] < 100
    for seed in (5, 24, 26):
        spread = [np.ptp(_drawn(seed, name)[0].astype(int), axis=-1).mean() for name in (RAIN, CLEAR)]
        assert spread[0] < 0.8 * spread[1]


def test_glare_dazzles_the_camera_that_faces_the_sun_and_no_other() -> None:
    brighter = {channel: _drawn(5, GLARE, channel)[0].mean() / _drawn(5, CLEAR, channel)[0].mean() for channel in RIGS}
    gain = brighter["CAM_BACK"]
    assert brighter["CAM_FRONT"] > 1.15 * gain
    assert brighter["CAM_BACK_LEFT"] == pytest.approx(gain, rel=0.05)
    assert brighter["CAM_BACK_RIGHT"] == pytest.approx(gain, rel=0.05)


@pytest.mark.parametrize("condition", BAD_LIGHT)
def test_things_that_matter_still_stand_out_from_the_road(condition: str) -> None:
    """Their colours differ from the road's by a good part of what they differ by in clear weather."""
    kinds = (shapes.VEHICLE, shapes.HUMAN, shapes.BARRIER)
    contrast = {(name, kind): 0.0 for name in (CLEAR, condition) for kind in kinds}
    for seed in (0, 1, 20, 24, 26):
        for name, kind in contrast:
            image, classes = _drawn(seed, name)
            thing = (classes == kind) & (np.arange(SIZE_PX[1])[:, None] > 118)  # below the horizon, as the road is
            if thing.sum() > 100:
                contrast[name, kind] += float(np.abs(image[thing] - image[classes == shapes.ROAD].mean(0)).mean())
    for kind in kinds:
        assert contrast[condition, kind] > 0.35 * contrast[CLEAR, kind] > 0
