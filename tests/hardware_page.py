"""Memory and time of the paper's profile by stage, as stages/outlook computes them: docs/reference/hardware.md."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.efficiency.shapes import ModelShape
from stages.journal.graph import Stage, read_graph
from stages.outlook import timing
from stages.outlook.history import reference
from stages.outlook.memory import memory_bytes
from stages.outlook.row import Work
from stages.outlook.shape import driver_parameters, driver_shape, trained_parameters
from stages.outlook.timing import Known, Peaks, lanes_of, on_card, time_of
from stages.outlook.work import work_of
from stages.params import Params, read_params
from tests.pipe_table import table

PROFILE = Path("infra/params/paper.yaml")
FRAMES = {"train": 28130, "eval": 6019}  # key frames of nuScenes' splits
CORES = 2  # of the machine whose rates are scaled
# Counted on the packages' own models (tests/test_hardware_page.py); fp32, as they are held: bf16 is autocast's
SAM_VIT_H, DINO_SWIN_T, FP32_BYTES = 641_090_608, 172_839_682, 4
NO_FORMULA = "no formula"


@dataclass(frozen=True)
class Cards:
    """`count` cards of `memory_bytes` each; `peaks` None where neither code nor research states any."""

    name: str
    memory_bytes: float
    count: int
    peaks: Peaks | None


MACHINES = (
    Cards("one 24 GB card", 24e9, 1, None),
    Cards("one H200 (141 GB)", 141e9, 1, timing.H200),
    Cards("2 x H800 (80 GB each)", 80e9, 2, timing.H800),
)


@dataclass(frozen=True)
class Setting:
    """What all rows are computed with."""

    params: Params
    shape: ModelShape
    graph: Mapping[str, Stage]

    def work(self, name: str) -> Work | None:
        """Of a stage or cell at the paper's profile."""
        return work_of(self.graph[name], self.params, FRAMES, self.shape)


def gpu_rows(params: Params) -> dict[str, tuple[str, int]]:
    """Words of a row -> the cell that it is computed for, and how many cells are like it."""
    grid = params.grid
    controls = [name for name in grid.references if grid.ratios_of(name) == [0]]
    ruled = [name for name in grid.references if name not in controls]
    pruned = [name for name in grid.pruners if name != "none"]
    rows = {f"`train_pruner@{name}`": (f"train_pruner@{name}", 1) for name in grid.trained}
    rows["`plan_routes@none`"] = ("plan_routes@none", 1)
    rows[f"`plan_routes`, a pruner ({', '.join(pruned)})"] = (f"plan_routes@{pruned[0]}", len(pruned))
    rows[f"`plan_trained` ({', '.join(grid.trained)})"] = (f"plan_trained@{grid.trained[0]}", len(grid.trained))
    rows[f"`plan_references` ({', '.join(ruled)})"] = (f"plan_references@{ruled[0]}", len(ruled))
    rows[f"`plan_references` ({', '.join(controls)})"] = (f"plan_references@{controls[0]}", len(controls))
    cells = len(grid.pruners) + len(grid.trained)
    rows["`profile_efficiency`, `profile_trained`"] = (f"profile_efficiency@{pruned[0]}", cells)
    return rows


def computed(root: Path) -> Iterator[str]:
    """The page's parts about the paper's profile; reads what the checkout at `root`, the working directory, holds."""
    params = read_params(root / PROFILE)
    setting = Setting(params, driver_shape(params.vla), read_graph(root))
    yield (
        "**Nothing on this page was measured on a GPU.** "
        "Numbers are computed or guessed, but for what a CPU run held and took.\n"
    )
    yield f"## On a GPU, not measured: nuScenes and the 3B model ({PROFILE})\n"
    yield from _on_gpu(setting)
    yield from _on_cpu(setting)
    benches = [f"`{path.relative_to(root)}`" for path in sorted((root / "infra/benchmarks").glob("*.json"))]
    yield (
        "\nTo measure: `make bench-gpu` times phases at 3B shapes with random weights and writes `infra/benchmarks`, "
        f"which the report shows. There: {', '.join(benches) or 'nothing yet'}. `fastdrive plan` replaces guesses by "
        "what your machine measured.\n"
    )


def _on_gpu(setting: Setting) -> Iterator[str]:
    yield from _notes(setting)
    sam = setting.params.generate_masks.model_copy(update={"annotator": "grounded_sam"})
    masks = Setting(setting.params.model_copy(update={"generate_masks": sam}), setting.shape, setting.graph)
    weights = f"weights alone {detector_bytes() / 1e9:.1f} GB"
    told = [f"{weights}; {time_guess(masks.work('generate_masks'), cards)}" for cards in MACHINES]
    rows = [["`generate_masks` by grounded_sam", 1, *told, "no"]]
    for words, (name, cells) in gpu_rows(setting.params).items():
        needed = [
            memory_bytes(setting.graph[name], setting.params, FRAMES, setting.shape, one.count) for one in MACHINES
        ]
        times = [time_guess(setting.work(name), cards) for cards in MACHINES]
        fits = [fitted(each, cards.memory_bytes) for each, cards in zip(needed, MACHINES, strict=True)]
        rows.append([words, cells, *map("; ".join, zip(fits, times, strict=True)), "no"])
    yield table(["stage", "cells", *(cards.name for cards in MACHINES), "measured on a GPU"], rows)


def _notes(setting: Setting) -> Iterator[str]:
    """How the numbers of the first table came about, and what is not in them."""
    params, shape = setting.params, setting.shape
    main, batch = params.grid.trained[0], params.plan_routes.batch_size
    learnt = trained_parameters(shape, params.training(main)) / 1e6
    yield "GB of one card, computed, and time of one cell, guessed.\n"
    yield (
        "- GB: closed forms of `stages/outlook/memory.py`, what torch holds, without what kernels take. The driver has "
        f"{driver_parameters(shape) / 1e9:.2f} G parameters, `train_pruner@{main}` learns {learnt:.0f} M. Planning: "
        f"{batch} requests at once, as if nothing were pruned, without what choosing holds (ReconPruner: "
        f"{2 * shape.pruner_parameters / 1e9:.2f} GB of weights). Profiling has one request, so needs less."
    )
    yield (
        f"- Time: (FLOPs of `stages/outlook/work.py` / {timing.FLOPS_SHARE:.0%} of the peak + bytes read in decoding / "
        f"{timing.BYTES_SHARE:.0%} of the peak) / cards; both shares are guesses. Not in it: choosing tokens, so all "
        "pruners cost the same; reading images."
    )
    yield (
        f"- Peaks: H800 {_peaks(timing.H800)}, as its maker says; H200 {_peaks(timing.H200)}, a large product and copy "
        "by research/efficiency.md 3: of two kinds, so do not compare the cards. Of 24 GB cards none is stated."
    )
    yield (
        f"- grounded_sam: SAM ViT-H and Grounding DINO Swin-T in fp32; no formula for activations. "
        f"{timing.GROUNDED_SAM_IMAGE_S:.0f} s an image as the paper's are said to take, on any card. Profiling is "
        "bound by launches: no formula.\n"
    )


def detector_bytes() -> int:
    """Weights of Grounding DINO and SAM."""
    return FP32_BYTES * (SAM_VIT_H + DINO_SWIN_T)


def fitted(needed: float, there: float) -> str:
    """Bytes in GB, and whether they are there."""
    return f"{needed / 1e9:.1f} GB {'fits' if needed <= there else 'does not fit: lower the batch size'}"


def _peaks(peaks: Peaks) -> str:
    return f"{peaks.flops_per_s / 1e12:.0f} TFLOP/s and {peaks.bytes_per_s / 1e12:.3g} TB/s"


def time_guess(work: Work | None, cards: Cards) -> str:
    """Hours in words, or why there are none."""
    if work is None:
        return NO_FORMULA
    if work.flops and cards.peaks is None:
        return "no peak stated"
    by_flops = on_card(work, cards.count, cards.peaks) if work.flops and cards.peaks else None
    time = by_flops or time_of("", "", work, cards.count, [])  # by images; of anything else nothing is known
    return f"{_hours(time.seconds)} h (guess)" if time else NO_FORMULA


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2g}" if seconds < 36e4 else f"{seconds / 3600:.0f}"


def _on_cpu(setting: Setting) -> Iterator[str]:
    yield (
        f"\n## On the CPU, not measured: the same profile on {CORES} cores, beside any of the cards\n\nHours: computed "
        "from a measured CPU rate, that of the last table's run on the small drawn world, times the work. Real images "
        "are larger and real scenes fuller, so expect more; the report counts as one page whatever is on it. GB: a "
        "process and its `workers` as `stages/outlook/memory.py` has them, beside what the small run held.\n"
    )
    known = {each.name: (each, held_mb) for each, held_mb in known_here(setting.graph)}
    rows = []
    for name in (
        "generate_masks",
        "prepare_truths",
        "plan_bounds@constant_velocity",
        "score_plans@fastv",
        "make_report",
    ):
        stage, work = setting.graph[name], setting.work(name)
        lanes = lanes_of(stage.module, setting.params, CORES, 0)
        then, held_mb = known[name]
        time = time_of(name, stage.module, work, lanes, [then]) if work else None
        needed = memory_bytes(stage, setting.params, FRAMES, setting.shape, 1)
        by = f" by {setting.params.generate_masks.annotator}" if name == "generate_masks" else ""
        cells = (f"`{name}`{by}", f"{needed / 1e9:.1f}", f"{held_mb / 1e3:.1f}", work.formula if work else "")
        rows.append([*cells, _hours(time.seconds) if time else NO_FORMULA])
    head = ["stage", "GB, computed", "GB the small run held", "work", "hours, computed from a measured CPU rate"]
    yield table(head, rows)


def known_here(graph: Mapping[str, Stage]) -> Iterator[tuple[Known, float]]:
    """The runs of stages/outlook/reference.json, and the MB that all processes of each held."""
    for record in reference():
        params = Params.model_validate_json(json.dumps(record.params))
        stage = graph[record.stage]
        work = work_of(stage, params, record.key_frames, driver_shape(params.vla))
        lanes = lanes_of(stage.module, params, record.cores, 0)
        held_mb = record.memory_mb + record.worker_memory_mb * (lanes if lanes > 1 else 0)
        if work is not None:
            yield Known(stage.name, stage.module, work, record.seconds, lanes, here=False), held_mb
