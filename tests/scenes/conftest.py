"""The small nuScenes root of tests/synthetic_root.py, opened once."""

import pytest
from synthetic_root import VERSION, copy_root

from stages.scenes.nuscenes import Scenes, open_scenes


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return open_scenes(copy_root(tmp_path_factory.mktemp("nuscenes")), VERSION)
