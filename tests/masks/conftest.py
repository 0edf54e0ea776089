"""A job on a fresh root, and a published set of one."""

from pathlib import Path

import masks_workspace
import pytest
from synthetic_root import VERSION, copy_root

from stages import generate_masks
from stages.core.params import Params
from stages.masks.job import Job


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Masks of a fresh root in a fresh working directory."""
    monkeypatch.chdir(tmp_path)
    copy_root(tmp_path / "nuscenes")
    masks_workspace.start()
    return Job("nuscenes", VERSION, "nuscenes_geometry", {}, 50, None)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Masks of two scenes of three key frames, made by the stage in a fresh working directory."""
    monkeypatch.chdir(tmp_path)
    params = masks_workspace.write_workspace()
    generate_masks.main(params)
    return params
