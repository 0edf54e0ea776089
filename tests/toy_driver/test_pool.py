"""The driver's pool of drawn images."""

from pathlib import Path

import numpy as np
import pytest

from stages.toy_driver import pool
from stages.toy_driver.pool import NAMES, NO_PLAN, Job, class_shares, draw_pool

JOBS = [Job(seed, 3, (112, 63), (84, 56)) for seed in (41, 42)]


def test_class_shares_of_a_token_are_of_its_own_pixels() -> None:
    classes = np.array([[1, 1, 0, 2], [1, 1, 0, 0]], np.uint8)  # two tokens of 2 x 2 pixels
    assert class_shares(classes, (1, 2)).tolist() == [[0, 1, 0, 0, 0, 0], [0.75, 0, 0.25, 0, 0, 0]]


def test_a_pool_holds_front_images_with_plans_and_side_images_without(tmp_path: Path) -> None:
    drawn = draw_pool(tmp_path, JOBS, 1)
    assert drawn.images.shape == (8, 56, 84, 3)
    assert drawn.shares.shape == (8, 6, 6)
    np.testing.assert_allclose(drawn.shares.astype(float).sum(axis=2), 1, atol=2e-3)
    assert drawn.planned().tolist() == [0, 1, 2, 4, 5, 6]
    assert drawn.event[3] == drawn.event[7] == NO_PLAN


def test_a_stopped_pool_goes_on_with_the_scenes_that_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = draw_pool(tmp_path / "whole", JOBS, 1)
    draw, seeds = pool.draw_scene, []

    def stop_at_the_second(job: Job) -> pool.Pool:
        seeds.append(job.seed)
        if len(seeds) == 2:
            raise KeyboardInterrupt
        return draw(job)

    monkeypatch.setattr(pool, "draw_scene", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        draw_pool(tmp_path / "part", JOBS, 1)
    resumed = draw_pool(tmp_path / "part", JOBS, 1)
    assert seeds == [41, 42, 42]
    assert all(np.array_equal(getattr(resumed, name), getattr(whole, name)) for name in NAMES)
    assert not (tmp_path / "part" / "scenes").exists()
