"""map_on_ray on a local cluster of two workers: a killed one is made good, errors keep their class, bytes are equal."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from synthetic_root import VERSION, copy_root
from training_workspace import REPOSITORY

from stages.core.errors import DataError, InputError, MachineError

pytestmark = pytest.mark.process
with_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra [ray]")
HERE = Path(__file__).parent


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A program of its own in `folder`: Ray leaves threads and warnings behind."""
    paths = os.pathsep.join(map(str, [REPOSITORY, HERE.parent, HERE]))
    environment = {**os.environ, "PYTHONPATH": paths, "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.run(
        [sys.executable, "-W", "ignore", *words], cwd=folder, env=environment, capture_output=True, text=True
    )


@with_ray
def test_a_worker_killed_on_the_way_costs_its_item_a_second_try_and_nothing_else(tmp_path: Path) -> None:
    done = run(tmp_path, str(HERE / "ray_work.py"), str(tmp_path), "8")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split("done ")[1].split() == [f"item{i}" for i in range(8)]
    workers = {(tmp_path / f"item{i}").read_text().split()[0] for i in range(8)}
    assert (tmp_path / "killed").read_text() not in {(tmp_path / "item3").read_text().split()[0]}
    assert len(workers) >= 2
    assert {(tmp_path / f"item{i}").read_text().split()[1] for i in range(8)} == {str(tmp_path)}


@with_ray
@pytest.mark.parametrize(
    ("item", "error", "words"),
    [("99", DataError, "another item"), ("98", MachineError, "actors that live through an item")],
)
def test_a_refusal_keeps_its_class_and_a_killer_is_not_tried_for_ever(
    item: str, error: type[InputError], words: str, tmp_path: Path
) -> None:
    done = run(tmp_path, str(HERE / "ray_work.py"), str(tmp_path), item)
    assert done.returncode == error.exit_code, done.stderr[-3000:]
    assert words in done.stdout


@with_ray
def test_masks_made_on_ray_have_the_bytes_of_the_local_ones(tmp_path: Path) -> None:
    made = {}
    for engine in ("local", "ray"):
        folder = tmp_path / engine
        copy_root(folder / "nuscenes", 4)
        text = (REPOSITORY / "params.yaml").read_text()
        splits = {"world_train": "synth_train", "world_val": "synth_val", "engine: local": f"engine: {engine}"}
        changes = splits | {
            "root: data/world\n": "root: nuscenes\n",
            "v1.0-mini": VERSION,
            "cpus_per_actor: 1": "cpus_per_actor: 0.5",
        }
        changes |= {"oracle_root: data/world_oracle\n": "oracle_root: null\n", "[oracle, inverse, ": "["}
        changes["images_per_shard: 1000"] = "images_per_shard: 12"
        for old, new in changes.items():
            text = text.replace(old, new)
        (folder / "params.yaml").write_text(text)
        done = run(folder, "-m", "stages.generate_masks")
        assert done.returncode == 0, done.stderr[-3000:]
        made[engine] = {p.name: p.read_bytes() for p in (folder / "data/masks").rglob("*") if p.is_file()}
    assert made["ray"] == made["local"]
    assert len(made["ray"]) == 2 + 4  # manifest and index, two shards of two key frames for each scene


@pytest.mark.skipif(find_spec("ray") is not None, reason="ray is here")
def test_without_the_extra_it_says_how_to_get_it() -> None:
    from ray_work import LOCAL, Work

    from stages.core.shards import map_on_ray

    with pytest.raises(MachineError, match=r"pip install '\.\[ray\]'"):
        list(map_on_ray(Work(Path()), [1], LOCAL))
