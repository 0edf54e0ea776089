"""What the test of the Ray engine sends to its actors, and the program that starts them; run by test_on_ray.

python ray_work.py FOLDER COUNT          # COUNT items; the first actor that comes to item 3 is killed (-9)
"""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from stages.core import shards
from stages.core.errors import DataError, InputError
from stages.core.params import RayPool

LOCAL = RayPool(address=None, actors=2, cpus_per_actor=0.5, gpus_per_actor=0.0, shards_ahead=1)


@dataclass(frozen=True)
class Work:
    """Writes who worked on an item; item 3 kills its process once, 98 each time; 99 is wrong."""

    folder: Path

    def __call__(self, item: int) -> str:
        killed = self.folder / "killed"
        if item == 3 and not killed.exists():
            killed.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        if item == 98:
            os.kill(os.getpid(), signal.SIGKILL)
        if item == 99:
            raise DataError(expected="another item", got="99", fix="nothing")
        (self.folder / f"item{item}").write_text(f"{os.getpid()} {Path.cwd()}")
        return f"item{item}"


if __name__ == "__main__":
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    items = list(range(count)) if count < 98 else [1, count]
    shards.RETRIES = shards.RETRIES if count != 98 else 0  # the others take a minute
    try:
        print("done", *sorted(shards.map_on_ray(Work(folder), items, LOCAL), key=lambda name: int(name[4:])))
    except InputError as error:
        print(error)
        sys.exit(error.exit_code)
