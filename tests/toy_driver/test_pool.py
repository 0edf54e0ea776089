"""The driver's pool of drawn images."""

from pathlib import Path

import numpy as np
import pytest

from stages.scenes.world import scenario
from stages.toy_driver import pool
from stages.toy_driver.pool import NAMES, NO_PLAN, Job, class_shares, draw_pool, split_by_scene

JOBS = [Job(seed, 3, (112, 63), (84, 56)) for seed in (41, 42)]


def test_class_shares_of_a_token_are_of_its_own_pixels() -> None:
    classes = np.array([[1, 1, 0, 2], [1, 1, 0, 0]], np.uint8)  # two tokens of 2 x 2 pixels
    assert class_shares(classes, (1, 2)).tolist() == [[0, 1, 0, 0, 0, 0], [0.75, 0, 0.25, 0, 0, 0]]
    assert pool.EVENTS == scenario.EVENTS


def test_a_stopped_pool_goes_on_with_the_scenes_that_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Front images have plans, side images none."""
    whole = draw_pool(tmp_path / "whole", JOBS, 1)
    assert (whole.images.shape, whole.shares.shape) == ((8, 56, 84, 3), (8, 6, 6))
    np.testing.assert_allclose(whole.shares.astype(float).sum(axis=2), 1, atol=2e-3)
    assert whole.planned().tolist() == [0, 1, 2, 4, 5, 6]
    assert whole.event[3] == whole.event[7] == NO_PLAN
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


def test_the_last_scenes_are_held_out() -> None:
    learned, held_out = split_by_scene(12, 4, 1)
    assert (learned.tolist(), held_out.tolist()) == (list(range(9)), [9, 10, 11])
