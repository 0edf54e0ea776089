"""The table's rows: what each stage of the graph is to cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.core.journal.graph import Stage
from stages.core.params import Params
from stages.efficiency.shapes import ModelShape
from stages.outlook.disk import outs_bytes, scratch_bytes
from stages.outlook.history import Past, image_width_px
from stages.outlook.machine import Machine
from stages.outlook.memory import memory_bytes
from stages.outlook.row import Row, Work
from stages.outlook.staleness import State
from stages.outlook.timing import lanes_of, time_of
from stages.outlook.work import work_of

ON_GPU = ("stages.train_pruner", "stages.plan_routes", "stages.profile_efficiency")


@dataclass(frozen=True)
class Setting:
    """What all rows are estimated with."""

    params: Params
    frames: Mapping[str, int | None]
    shape: ModelShape
    machine: Machine
    past: Sequence[Past]


def rows(graph: Mapping[str, Stage], states: Mapping[str, State], setting: Setting) -> list[Row]:
    """In the graph's order."""
    return [
        _row(graph[name], state, setting) if state.stale else Row(name, False, "") for name, state in states.items()
    ]


def _row(stage: Stage, state: State, setting: Setting) -> Row:
    params, here = setting.params, setting.machine
    work = work_of(stage, params, setting.frames, setting.shape)
    gpu = on_gpu(stage, params, here)
    gpus = here.gpus_for(params) if gpu else 0
    lanes = lanes_of(stage.module, params, here.cores, gpus)
    time = time_of(stage.name, stage.module, work, lanes, [each.known for each in setting.past]) if work else None
    memory, memory_guess = _memory(stage, work, setting, lanes)
    disk, disk_guess = _disk(stage, work, setting)
    return Row(
        stage.name,
        stale=True,
        why=state.why,
        work=work.formula if work else "",
        time=time,
        gpu_hours=time.seconds * lanes / 3600 if time and gpu else 0.0,
        memory_bytes=memory,
        memory_guess=memory_guess,
        disk_bytes=disk,
        disk_guess=disk_guess,
        on_gpu=gpu,
    )


def on_gpu(stage: Stage, params: Params, here: Machine) -> bool:
    """Whether the stage's work is on GPUs: where there are some, and of a released driver, which needs them."""
    if stage.module == "stages.generate_masks":
        return params.generate_masks.annotator == "grounded_sam"
    return stage.module in ON_GPU and (bool(here.gpus) or params.vla.name != "toy")


def _memory(stage: Stage, work: Work | None, setting: Setting, lanes: int) -> tuple[float | None, bool]:
    """As measured here on the same work; a closed form otherwise."""
    same = [p for p in setting.past if work and p.known.here and p.known.name == stage.name and p.known.work == work]
    if same:
        record = same[-1].record
        if record.gpu_memory_mb:
            return record.gpu_memory_mb * 1e6, False
        return (record.memory_mb + record.worker_memory_mb * (lanes if lanes > 1 else 0)) * 1e6, False
    return memory_bytes(stage, setting.params, setting.frames, setting.shape, lanes), True


def _disk(stage: Stage, work: Work | None, setting: Setting) -> tuple[float | None, bool]:
    """Outs as they were before, as much more as there is more of what they are of; with what the stage works in."""
    alike = [past for past in setting.past if past.known.module == stage.module]
    same = [past for past in alike if past.known.name == stage.name] or alike
    if not same or work is None:
        return None, True
    then = same[-1]
    grows = growth(stage, work, then, setting)
    scratch = scratch_bytes(stage, setting.params, setting.frames, setting.shape)
    return outs_bytes(then.record.out_bytes, grows) + scratch, bool(not then.known.here or grows != 1 or scratch)


def growth(stage: Stage, work: Work, then: Past, setting: Setting) -> float:
    """How much more a stage writes than it did in `then`."""
    match stage.module.removeprefix("stages."):
        case "make_world":
            return work.amount / then.known.work.amount
        case "generate_masks":  # a 1-bit picture is as long as its outlines
            wider = image_width_px(setting.params) / then.image_width_px
            return wider * work.amount / then.known.work.amount
        case "train_pruner":
            return setting.shape.pruner_parameters / then.shape.pruner_parameters
        case "plan_routes" | "score_plans":
            return (setting.frames["eval"] or 0) / (then.record.key_frames["eval"] or 1)
    return 1.0
