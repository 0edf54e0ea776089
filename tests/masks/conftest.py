"""A recipe on a fresh root."""

from pathlib import Path

import pytest
from synthetic_root import VERSION, copy_root

from stages.masks import shard_maker
from stages.masks.recipe import Recipe
from stages.masks.shard_maker import opened


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """Masks of a fresh root in a fresh working directory."""
    monkeypatch.chdir(tmp_path)
    copy_root(tmp_path / "nuscenes")
    for cached in (opened, shard_maker._ready):
        cached.cache_clear()
    return Recipe("nuscenes", VERSION, "nuscenes_geometry", {}, 50, None)
