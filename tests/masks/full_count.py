"""nuScenes-FG at full count: the real stage on 240,960 small images, killed half-way, run again, verified, into DVC.

Not a test: minutes, and some GB of disk. Prints seconds and memory of each step.

    PYTHONPATH=.:tests python -m tests.masks.full_count FOLDER [--scenes 1004]
"""

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.masks.full_root import write_root

REPOSITORY = Path(__file__).parents[2]
EVERYONE = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
DVC = str(Path(sys.executable).parent / "dvc")


def measured(what: str, step: Callable[[], object]) -> None:
    """Run a step; print what it took: seconds, seconds of all its processes, memory of the largest one so far."""
    began_s, used_s = time.perf_counter(), cpu_s()
    found = step()
    took_s, peak_kb = time.perf_counter() - began_s, max(resource.getrusage(who).ru_maxrss for who in EVERYONE)
    print(f"{what}: {took_s:.1f} s ({cpu_s() - used_s:.1f} s of CPU), {peak_kb / 1e3:.0f} MB {found or ''}", flush=True)


def cpu_s() -> float:
    """Of this process and the ended ones that it waited for; not of those killed with their parent."""
    return sum(part for who in EVERYONE for part in resource.getrusage(who)[:2])


def run(*command: str) -> None:
    subprocess.run(command, check=True, env=environment(), stdout=sys.stdout, stderr=subprocess.STDOUT)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONHASHSEED": "0"}


STAGE = [sys.executable, "-m", "stages.generate_masks"]


def write_params(images_per_shard: int) -> None:
    """The default parameters, on the root that is here."""
    tree = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    names = {"root": "nuscenes", "train_split": "full_train", "eval_split": "full_val", "oracle_root": None}
    tree["scenes"] |= names
    tree["grid"]["references"] = []
    tree["generate_masks"] |= {"images_per_shard": images_per_shard}
    Path("params.yaml").write_text(yaml.safe_dump(tree))


def notes() -> dict[str, int]:
    """Finished shards and when each was finished."""
    return {path.stem: path.stat().st_mtime_ns for path in Path("runs/masks").glob("*/*-*.json")}


def killed_half_way(shards: int) -> str:
    """Start the stage, kill it and its workers (-9) when half of the shards are done."""
    child = subprocess.Popen(STAGE, env=environment(), start_new_session=True)
    while len(notes()) < shards // 2:
        if child.poll() is not None:
            raise SystemExit("it ended before it was to be killed")
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    return f"({len(notes())} of {shards} shards are finished)"


def again(kept: dict[str, int]) -> str:
    run(*STAGE)
    after = notes()
    assert {name: after[name] for name in kept} == kept, "a finished shard was made again"
    return f"({len(after)} shards, {len(after) - len(kept)} of them made now)"


def checked_out() -> str:
    shutil.rmtree("data/masks")
    run(DVC, "checkout", "-q")
    manifest = json.loads(Path("data/masks/manifest.json").read_text())
    return f"({len(manifest['files'])} files, {sum(f['size'] for f in manifest['files'].values()) / 1e9:.2f} GB)"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenes", type=int, default=1004)
    parser.add_argument("--images-per-shard", type=int, default=1000)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)  # begun before: it goes on
    os.chdir(options.folder)
    if not Path("nuscenes/v1.0-mini/splits.json").exists():
        measured("tables", lambda: write_root(Path("nuscenes"), options.scenes, max(1, options.scenes * 150 // 1004)))
    write_params(options.images_per_shard)
    planned = options.scenes * 240 // options.images_per_shard
    measured("killed half-way", lambda: killed_half_way(planned))
    kept = notes()
    measured("run again", lambda: again(kept))
    kept = notes()
    measured("second run", lambda: again(kept))
    measured("verify", lambda: run(sys.executable, "-m", "stages.masks.verify", "--sheet", "none", "--named", "3"))
    run(DVC, "init", "--no-scm", "-q")
    run(DVC, "remote", "add", "-q", "-d", "there", str(Path("remote").absolute()))
    measured("dvc add", lambda: run(DVC, "add", "-q", "data/masks"))
    measured("dvc status", lambda: run(DVC, "status", "-q"))
    measured("dvc push", lambda: run(DVC, "push", "-q"))
    measured("dvc checkout", checked_out)


if __name__ == "__main__":
    main()
