"""How the scenes of a drawn world are chosen and laid out, and what its truth says when it is damaged."""

from pathlib import Path

import pytest

from stages.core.errors import DataError
from stages.core.params import read_params
from stages.scenes.oracle import EVENTS_FILE, read_events
from stages.scenes.world.recording import lay_out
from stages.scenes.world.scenario import CONDITIONS, LOCATIONS, draw_condition, simulate
from stages.scenes.world.setting import main_ring
from stages.scenes.world.tables import scene_names


def test_a_missing_or_damaged_list_of_events_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dvc repro make_world"):
        read_events(tmp_path)
    (tmp_path / EVENTS_FILE).write_text('{"0": 1}')
    with pytest.raises(DataError, match="sample tokens and event names"):
        read_events(tmp_path)


def test_the_committed_val_scenes_hold_every_condition() -> None:
    mine = read_params(Path(__file__).parents[2] / "params.yaml").make_world
    first = mine.seed + mine.train_scenes
    assert {draw_condition(first + index) for index in range(mine.val_scenes)} == set(CONDITIONS)


def test_scenes_on_one_map_stay_apart() -> None:
    sites = lay_out(scene_names(12), [simulate(seed, 8) for seed in range(12)])
    for location in LOCATIONS:
        spans = []
        for site in sites:
            if site.scenario.location == location:
                points = site.to_map(main_ring(site.scenario.road))
                assert points.min() >= 99
                spans.append((points[:, 0].min(), points[:, 0].max()))
        spans.sort()
        assert all(right[0] - left[1] > 150 for left, right in zip(spans, spans[1:], strict=False))
