"""Where annotators whose models fill a GPU may work: one process on each, and none on a CPU unasked."""

import logging

from stages.core.errors import ParamsError
from stages.masks.base import Annotator, OnGpu

log = logging.getLogger(__name__)


def local_workers(annotator: Annotator, asked: int) -> int:
    """How many processes of this machine: as many as asked, but on GPUs one for each."""
    gpus = annotator.gpus if isinstance(annotator, OnGpu) else None
    if not gpus or asked <= gpus:
        return asked
    log.warning("generate_masks.workers: %d of %d, because %d GPUs are here", gpus, asked, gpus)
    return gpus


def check_actors(annotator: Annotator, gpus_per_actor: float) -> None:
    """Raises ParamsError for actors without a GPU, unless the annotator is told to work without."""
    if isinstance(annotator, OnGpu) and annotator.gpus is not None and not gpus_per_actor:
        raise ParamsError(
            expected="a part of a GPU for each actor (generate_masks.ray.gpus_per_actor) of this annotator",
            got="0, with which Ray hides the GPUs and the models would run on the CPU",
            fix="set gpus_per_actor: 1 (0.5: two actors share one), or the annotator's device: cpu",
        )
