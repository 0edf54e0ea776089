"""Work spread over a Ray cluster by Ray Data: an actor pool, backpressure, items of a killed actor run again.

Needs the extra `[ray]`. Every node must see the checkout and its data under the same path (a shared file system).
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from stages.core import errors
from stages.core.errors import InputError, MachineError
from stages.core.params import RayPool

T = TypeVar("T")

RETRIES = 3  # of an item whose actor died; Ray Data tries for ever, also one that needs too much memory each time


def map_on_ray(function: Callable[[T], str], items: Sequence[T], pool: RayPool) -> Iterator[str]:
    """Yield `function` of each item, as they are done; function and items must be picklable, the results short.

    An InputError of `function` is raised here unchanged. Raises MachineError when ray is not installed, and when an
    item ends its actor each time it is tried.
    """
    try:
        import ray
    except ImportError as error:
        raise MachineError(
            expected="ray, for generate_masks.engine: ray",
            got="no such package here",
            fix="pip install '.[ray]', or set engine: local in params.yaml",
        ) from error
    root = str(Path.cwd())
    ray.init(
        address=pool.address, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": _environment(root)}
    )
    try:
        for row in _dataset(ray, function, items, pool, root).iter_rows():
            if row["error"]:
                raise _refusal(row["error"])
            yield row["result"]
    except ray.exceptions.RayActorError as error:
        raise MachineError(
            expected=f"actors that live through an item ({1 + RETRIES} tries of one)",
            got=str(error).splitlines()[0],
            fix="look into Ray's logs of that node (out of memory?), and run the same command again",
        ) from error
    finally:
        ray.shutdown()


def _dataset(ray: Any, function: Callable[[T], str], items: Sequence[T], pool: RayPool, root: str) -> Any:
    """A row per item, one in a block: an actor gets one at a time, and no more than `shards_ahead` wait for it."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    numbers = ray.data.from_items([{"item": number} for number in range(len(items))], override_num_blocks=len(items))
    return numbers.map(
        Worker,
        fn_constructor_args=(function, list(items), root),
        compute=ray.data.ActorPoolStrategy(
            size=min(pool.actors, len(items)), max_tasks_in_flight_per_actor=1 + pool.shards_ahead
        ),
        num_cpus=pool.cpus_per_actor,
        num_gpus=pool.gpus_per_actor,
        max_task_retries=RETRIES,
    )


class Worker:
    """One actor: a process that calls `function` on one item after another; what it loads stays loaded."""

    def __init__(self, function: Callable[[Any], str], items: list[Any], root: str) -> None:
        os.chdir(root)
        self.function, self.items = function, items

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        """The result, or the InputError as JSON: Ray would wrap it and lose its exit code."""
        try:
            return {"result": self.function(self.items[row["item"]]), "error": ""}
        except InputError as error:
            parts = {"expected": error.expected, "got": error.got, "fix": error.fix}
            return {"result": "", "error": json.dumps([type(error).__name__, parts])}


def _refusal(text: str) -> InputError:
    name, parts = json.loads(text)
    return getattr(errors, name, InputError)(**parts)


def _environment(root: str) -> dict[str, str]:
    """Of the actors: they import this checkout."""
    return {"PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
