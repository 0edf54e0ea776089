"""How many processes an annotator gets, and which actors are refused."""

import logging
from dataclasses import dataclass
from typing import Any

import pytest

from stages.core.errors import ParamsError
from stages.masks.placing import check_actors, local_workers


@dataclass
class Hungry:
    """Wants a GPU, or is told to do without (None)."""

    gpus: int | None
    images_at_once: int = 1

    def annotate(self, images: Any) -> list[Any]:
        return []


@pytest.mark.parametrize(("gpus", "workers"), [(1, 1), (4, 4), (16, 16), (32, 16), (0, 16), (None, 16)])
def test_on_gpus_there_is_one_process_for_each(
    gpus: int | None, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert local_workers(Hungry(gpus), 16) == workers
    assert ("because" in caplog.text) == (workers < 16)


def test_actors_without_a_gpu_are_refused_unless_the_cpu_was_asked_for() -> None:
    for gpus in (0, 1):
        with pytest.raises(ParamsError, match="set gpus_per_actor: 1 .*or the annotator's device: cpu"):
            check_actors(Hungry(gpus), 0.0)
        check_actors(Hungry(gpus), 0.5)
    check_actors(Hungry(None), 0.0)
