"""The sections of the page, in its order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.errors import DataError
from stages.core.params import Params, Vla
from stages.core.provenance import code_commit, locked_outs
from stages.masks.mask_set import MaskSet
from stages.registry.gate import judge
from stages.registry.versions import read_evidence, results_of
from stages.report import figures, page, paper
from stages.report.driving import CONTROLS, UNPRUNED, recorded
from stages.report.figures import svg
from stages.report.images import encoded, kept_tokens, road_from_above, shrunk, tinted
from stages.report.inputs import TRAINING, Cell, Inputs, Row, Samples, read_answers
from stages.report.page import Cases, Gallery, Picture, Sheet, block, interval, ratio
from stages.scenes.base import Frame
from stages.scenes.images import read_image
from stages.scenes.nuscenes import Scenes

FRONT = "CAM_FRONT"
WIDE_PX, SMALL_PX = 560, 240  # pictures of a gallery, and of a case
SHOWN = 12  # signs of a hash

SMALL_WORLD = (
    "The data set is drawn and the driver is small (the embedded default): protocol and comparison are the paper's, "
    "the metres are not to be set beside its own. What this can show: which pruner keeps the information that this "
    "driver needs; not which one is best on a real VLA."
)
DRIVER = (
    "The driver is the true Qwen2.5-VL class at small width, with the current speed as its only prompt: "
    "{tower[samples]:,} samples of {tower[images]:,} drawn images for the vision tower, frozen afterwards, then "
    "{language[samples]:,} samples for the language model, of {tower[scenes]:,} scenes that the data set has not. In "
    "training it has met random token subsets of every kind, drawn independently of every pruner here."
)
APART = (
    "The paper's own rows as printed, Impromptu-VLA on the 6,019 entries of nuScenes. Driver, world and tokens are "
    "others: only the order may be set beside ours. N of each row, intervals and unparsed answers are not printed."
)
UNKNOWN = "Of the paper's rows N, checkpoint and unparsed answers are not known: it does not state them."
TABLE_4 = ("table4", "table4_flops", "table4_flops_7b", "table4_flops_driver", "table4_latency", "table4_phases")
GATE = "Limits of registry in params.yaml; `fastdrive promote` also asks for the lineage and the champion."
WORST = (
    "The key frames with the largest error at 3 s, each at the prune ratio where it is worst. Left the front camera "
    "with the dropped tokens dark; right the road from above, recorded path black, plan orange."
)


@dataclass(frozen=True)
class Report:
    """Everything that the page shows."""

    params: Params
    inputs: Inputs
    methods: list[Row]  # rows of Table 1
    tables: Mapping[str, Sheet]  # of driving and of cost
    setting: str  # how the driver's numbers were made
    papers: bool  # in the paper's own setting
    scenes: Scenes

    def blocks(self, *names: str, **options: Any) -> list[page.Block]:
        """Return those of the tables that there are."""
        return [block(self.tables[name], name, **options) for name in names if name in self.tables]


def sections(report: Report) -> list[page.Section]:
    """Return the whole page. Raises DataError naming the stage whose files are missing."""
    params, masks = report.params, MaskSet()
    limits = gate_limits(params)
    shown = show_frames(report.scenes, params)
    driver = report.inputs.driver
    words: list[page.Block] = [DRIVER.format(**driver["trained"])] if driver else []
    parts: dict[str, list[page.Block]] = {
        "Result in brief": _brief(report, limits),
        "The driver": words + report.blocks("driver", "driver_events", "driver_pool"),
        "The oracle bound": report.blocks("oracle_bound"),
        "Table 1: driving": _table_1(report),
        "Table 2: what training learns from": _ablation(report, 2),
        "Table 3: text attention": _ablation(report, 3),
        "By scenario": report.blocks(
            "scenarios", title="{event}: {n} frames of {scenes} scene(s)".format_map, hide=("Event", "N", "Scenes")
        ),
        "Table 4: efficiency": report.blocks(*TABLE_4),
        "Accuracy against cost": _tradeoff(report),
        "Throughput of planning": report.blocks("throughput"),
        "Training and reconstructions": _training(report),
        "Kept tokens": [part for one in shown for part in kept_galleries(*one, masks, params)],
        "Plans from above": [_plans(*one, report) for one in shown],
        f"The worst {params.make_report.worst_samples} of each pruner": _worst(report),
        "Foreground": [
            *_mask_pictures(shown[0][0], report.scenes, masks, params),
            *report.blocks("masks"),
            *report.blocks("ranking", stacked=True),
        ],
        "Gate": [block(Sheet(GATE, limits, {key: f"{{{key}}}" for key in limits[0]}))] if limits else [],
    }
    return [page.Section(title, blocks) for title, blocks in parts.items() if blocks]


def _chart(figure: Any, alt: str, caption: str = "") -> Gallery:
    return Gallery([Picture(svg(figure), "svg+xml", f"{alt}; the numbers are in a table of this section", caption)])


def _brief(report: Report, limits: Sequence[Row]) -> list[page.Block]:
    params, grid, rows = report.params, report.params.grid, report.methods
    unpruned = next(row for row in rows if row["method"] == UNPRUNED)
    main = [row for row in rows if row["method"] in grid.trained[:1]]
    evaluated = set(report.scenes.split(params.scenes.eval_split))
    common = len(evaluated & set(report.scenes.split(params.scenes.train_split)))
    seeds = [f"training {params.training(name).seed}" for name in grid.trained[:1]]
    made = locked_outs(Path.cwd())
    names = [params.scenes.root, "data/masks", *(f"models/{name}" for name in grid.trained[:1])]
    l2 = {"": interval("l2_cm_avg", ".1f").replace(" [", " cm [")}
    pairs = {
        "Evaluated on": f"{report.inputs.about['split']} of {params.scenes.root}: N = {unpruned['n']}, "
        f"{unpruned['scenes']} scenes",
        "Trained on": f"{params.scenes.train_split}: {common} scenes shared with the evaluation",
        "Driver": f"{params.vla.name} from {params.vla.checkpoint}",
        "Visual tokens": f"{unpruned['tokens_total']}, pruned by {', '.join(f'{p} %' for p in grid.percents)}",
        "Seeds": ", ".join([*seeds, f"intervals {params.score_plans.seed}"]),
        **{f"L2 {row['method']}, {row['pruned_percent']} %": page.cells([row], l2)[0][0] for row in [unpruned, *main]},
        "Commit": code_commit(Path.cwd()),
        "Data and weights (md5 in dvc.lock)": ", ".join(f"{n} {made[n][:SHOWN]}" for n in names if made.get(n)),
    }
    missed = [row for row in limits if row["passed"] != "yes"]
    gate = [f"Gate: {(grid.trained or [''])[0]} keeps {len(limits) - len(missed)} of {len(limits)} limits."]
    small = [SMALL_WORLD] if params.scenes.oracle_root else []
    how = f"How the numbers of driving were made: {report.setting} {UNKNOWN if report.papers else ''}"
    return [*(gate if limits else []), {label: value for label, value in pairs.items() if value}, *small, how]


def gate_limits(params: Params) -> list[Row]:
    """Judge the main trained pruner by the limits of `registry`, without its lineage and a registry's champion.

    Raises ParamsError for a ratio without limits; DataError naming the stage whose results are missing.
    """
    if not params.grid.trained:
        return []
    name = params.grid.trained[0]
    evidence = read_evidence(results_of(name, Path("results")), name, "", {}, "dvc repro profile_efficiency")
    return [row for row in judge(evidence, None, params).rows() if "% pruned" in row["rule"]]


def _table_1(report: Report) -> list[page.Block]:
    grid, rows = report.params.grid, report.methods

    def title(row: Mapping[str, Any]) -> str:
        if row["method"] in CONTROLS:
            return "Controls: a black image, another scene's, and the best guess without any"
        return "Bounds: plans that see no image" if row["method"] in grid.bounds else ratio(row)

    names = [name for name in grid.methods if name != UNPRUNED]
    of = f"over the ratio for {', '.join(names)}"
    charts = [
        _chart(
            figures.l2_by_ratio(rows, names),
            f"L2 {of}",
            "L2 by prune ratio; intervals are in the table above and in the differences below.",
        ),
        _chart(
            figures.against_ratio(rows, names),
            f"Difference to the unpruned driver {of}",
            "Against the unpruned driver, with the 95 % band of paired resamples; the others pale.",
        ),
    ]
    shown = report.blocks("table1", title=title, stacked=True) + charts
    shown += report.blocks("table1_differences", title=title)
    return shown + report.blocks("table1_intervals", title=title, stacked=True) + _printed(report, 1)


def _printed(report: Report, number: int) -> list[page.Block]:
    """Return the paper's own rows, where they cannot stand among ours."""
    learned = paper.LEARNED if number == 2 else {}
    columns = {"Method": "{method}", "Pruned (%)": "{pruned_percent}", **learned, **paper.columns(printed=True)}
    return [] if report.papers else [block(Sheet(APART, paper.table(number), columns))]


def _ablation(report: Report, number: int) -> list[page.Block]:
    names = f"table{number}", f"table{number}_differences"
    shown = report.blocks(*names, title=lambda row: "", hide=("Pruned (%)", "Tokens"), stacked=True)
    return shown + _printed(report, number) if shown else []


def _tradeoff(report: Report) -> list[page.Block]:
    figure = figures.tradeoff(report.tables["tradeoff"].rows)
    return [_chart(figure, "L2 and Collision against TFLOPs, MFLOPs and milliseconds"), *report.blocks("tradeoff")]


STRIPS = {
    "reconstruction": "from the top: image, foreground as target and as painted, background as target and, where it "
    "is, as painted",
    "kept_tokens": "from the top: image, kept at 25, 50 and 75 % pruned",
}


def _training(report: Report) -> list[page.Block]:
    """Each trained pruner with its curves and the pictures of its last evaluation."""
    shown = report.blocks("training")
    for name, history in report.inputs.histories.items():
        reconstructs = report.params.training(name).objective == "reconstruction"
        loss = "loss (Eq. 7)" if reconstructs else "loss of the mask"
        alt = f"Training of {name}: losses; share of kept tokens and AUC for foreground; saliency over the steps"
        shown.append(_chart(figures.training_curves(history, loss), alt, name))
        shown.append(strips(name, STRIPS if reconstructs else ["kept_tokens"]))
    return shown


def strips(name: str, kinds: Iterable[str]) -> Gallery:
    """Return held-out images at the last evaluation, a column each: what is rebuilt, and what is kept."""
    pictures = []
    for kind in kinds:
        paths = sorted((TRAINING / name / "epochs").glob(f"{kind}_*.png"))  # steps have seven digits
        if not paths:
            made_by = f"dvc repro train_pruner@{name}"
            raise DataError(expected=f"{kind}_*.png of {name}", got="none", fix=f"run `{made_by}`")
        step = f"step {int(paths[-1].stem.rsplit('_', 1)[1])}"
        pictures.append(Picture(paths[-1].read_bytes(), "png", f"{name} at {step}", f"{step}, {STRIPS[kind]}"))
    return Gallery(pictures, across=len(pictures))


Shown = tuple[Frame, dict[Cell, Row]]  # a key frame with the answers of each method and prune ratio


def title_of(frame: Frame) -> str:
    """Return scene, key frame and speed in words."""
    return f"{frame.scene}, key frame {frame.token}, {frame.speed_mps:.1f} m/s"


def show_frames(scenes: Scenes, params: Params) -> list[Shown]:
    """Return key frames spread evenly over those of the split whose future is recorded, with the answers."""
    grid, count = params.grid, params.make_report.overlay_frames
    tokens = scenes.tokens(params.scenes.eval_split)
    later = [tokens[int((i + 0.5) * len(tokens) / count) :] for i in range(count)]
    found = [next((frame for frame in map(scenes.frame, part) if frame.complete), None) for part in later]
    frames = [frame for frame in found if frame is not None]
    methods = [name for name in [*grid.trained, *grid.pruners] if name != UNPRUNED]
    order = [(UNPRUNED, 0), *((name, percent) for name in methods for percent in grid.percents)]
    answers = read_answers(order, {frame.token for frame in frames}, grid)
    return [(f, {cell: rows[f.token] for cell, rows in answers.items() if f.token in rows}) for f in frames]


def kept_galleries(frame: Frame, answers: Mapping[Cell, Row], masks: MaskSet, params: Params) -> list[page.Block]:
    """Return the front image and its foreground; then what every method kept, at the ratio that the reader chooses."""
    camera, vla = frame.cameras[FRONT], params.vla
    image = read_image(camera.path, vla.size_px, vla.fit)
    tint = shrunk(tinted(read_image(camera.path, camera.size_px), masks.mask(camera.token)), WIDE_PX)
    what = f"front camera of {title_of(frame)}"
    first = [
        Picture(encoded(image), "jpeg", f"{what}, as the driver sees it", "as the driver sees it"),
        Picture(encoded(tint), "jpeg", f"{what}, foreground tinted", "foreground"),
    ]
    steps = []
    for percent in params.grid.percents:
        pictures = []
        for name, answer in ((cell[0], answer) for cell, answer in answers.items() if cell[1] == percent):
            alt = f"{what}: the tokens {name} kept at {percent} % pruned, the others darkened"
            pictures.append(Picture(encoded(_kept(image, answer), "webp"), "webp", alt, name))
        steps.append((f"{percent} % pruned", Gallery(pictures, across=min(5, max(1, len(pictures))))))
    slider = page.Slider(f"Kept tokens, {title_of(frame)}", "Prune ratio", steps, start=len(steps) // 2)
    return [Gallery(first, across=3, title=title_of(frame)), slider]


def _kept(image: NDArray[np.uint8], answer: Row) -> NDArray[np.uint8]:
    return kept_tokens(image, np.array(answer["kept"], np.int64), (answer["grid_h"], answer["grid_w"]))


def _plans(frame: Frame, answers: Mapping[Cell, Row], report: Report) -> Gallery:
    """A frame from above, a picture per ratio: recorded path, unpruned plan, and those of overlay_methods."""
    drivable, pictures = report.scenes.drivable_mask(frame), []
    for percent in report.params.grid.percents:
        order = ((UNPRUNED, 0), *((name, percent) for name in report.params.make_report.overlay_methods))
        plans_m = {name: _path_m(answers[name, at]) for name, at in order if (name, at) in answers}
        paths = f"the recorded path, and the plans of {', '.join(plans_m)} at {percent} % pruned"
        road = road_from_above(frame, plans_m, drivable)
        pictures.append(Picture(road, "svg+xml", f"From above, {title_of(frame)}: {paths}", f"{percent} % pruned"))
    return Gallery(pictures, 3, title_of(frame))


def _path_m(answer: Row) -> NDArray[np.float64]:
    return np.array(answer["waypoints_m"], np.float64).reshape(6, 2)


def worst_rows(samples: Samples, name: str, percents: Sequence[int], count: int) -> list[Row]:
    """Return the `count` samples with the largest error at 3 s, each once at its worst ratio, worst first."""
    rows = pd.concat([recorded(samples[name, percent]) for percent in percents])
    rows = rows.sort_values(["l2_at_cm_3s", "token"], ascending=[False, True], kind="stable")
    worst: list[Row] = rows.drop_duplicates("token").head(count).to_dict("records")
    return worst


def _worst(report: Report) -> list[page.Block]:
    """The worst samples of each pruner: what it kept, where the plan led, and the answer word for word."""
    params, grid, scenes = report.params, report.params.grid, report.scenes
    count = params.make_report.worst_samples
    found = {n: worst_rows(report.inputs.samples, n, grid.ratios_of(n), count) for n in grid.methods}
    frames = {token: scenes.frame(token) for token in sorted({row["token"] for rows in found.values() for row in rows})}
    order = list(dict.fromkeys((name, row["pruned_percent"]) for name, rows in found.items() for row in rows))
    answers, roads = read_answers(order, frames, grid), {token: scenes.drivable_mask(f) for token, f in frames.items()}
    shown: list[page.Block] = [WORST] if frames else []
    for name, rows in found.items() if frames else ():
        ends_m = [row["l2_at_cm_3s"] / 100 for row in rows]
        what = f"{len(rows)} key frames, {ends_m[-1]:.1f} to {ends_m[0]:.1f} m off after 3 s" if rows else "none scored"
        cases = []
        for row in rows:
            token, percent = row["token"], row["pruned_percent"]
            cases.append(_case(row, answers[name, percent][token], frames[token], roads[token], params.vla))
        shown.append(Cases(f"{name}: {what}", cases))
    return shown


def _case(row: Row, answer: Row, frame: Frame, drivable: NDArray[np.bool_], vla: Vla) -> tuple[list[Picture], str, str]:
    what, at = title_of(frame), ratio(row).lower()
    image = read_image(frame.cameras[FRONT].path, vla.size_px, vla.fit)
    picture = encoded(shrunk(_kept(image, answer) if row["pruned_percent"] else image, SMALL_PX), "webp")
    road = road_from_above(frame, _path_m(answer), drivable)
    events = {"collision_3s": "collides", "intersection_3s": "leaves the road"}
    notes = [at, *(words for key, words in events.items() if row[key]), *(() if answer["parsed"] else ("not parsed",))]
    pictures = [
        Picture(picture, "webp", f"{what}: what was kept, {at}"),
        Picture(road, "svg+xml", f"{what}: recorded and planned path from above"),
    ]
    off_m = row["l2_at_cm_3s"] / 100
    return pictures, f"{off_m:.1f} m off after 3 s, {', '.join(notes)}: {what}", answer["answer"]


def _mask_pictures(frame: Frame, scenes: Scenes, masks: MaskSet, params: Params) -> list[Gallery]:
    """The cameras of a key frame, then images with least and most foreground: where an annotator fails it shows."""
    count, tokens = params.make_report.mask_samples, set(scenes.tokens(params.scenes.eval_split))
    found = {"": [masks.row(camera.token) for camera in frame.cameras.values()][:count]}
    evaluated = [row for row in masks.rows if row["sample"] in tokens]
    found |= extremes(evaluated, count) if evaluated else {}
    galleries = []
    for title, rows in found.items():
        pictures = []
        for row in rows:
            camera = (own := scenes.frame(row["sample"])).cameras[row["camera"]]
            picture = shrunk(tinted(read_image(camera.path, camera.size_px), masks.mask(camera.token)), WIDE_PX)
            where, share = f"{row['camera']} of {own.scene}", f"{100 * row['foreground_share']:.1f} % foreground"
            alt = f"{where}, its foreground tinted: {share}"
            pictures.append(Picture(encoded(picture), "jpeg", alt, f"{where}: {share}"))
        galleries += [Gallery(pictures, across=3, title=title)] if pictures else []
    return galleries


def extremes(rows: Sequence[Row], count: int) -> dict[str, list[Row]]:
    """Return the `count` rows with the least and with the most `foreground_share`, one per scene and camera."""
    found: dict[str, list[Row]] = {}
    for most, title in ((False, "Least foreground"), (True, "Most foreground")):
        order = pd.DataFrame(rows).sort_values(["foreground_share", "token"], ascending=[not most, True])
        found[title] = order.drop_duplicates(["scene", "camera"]).head(count).to_dict("records")
    return found
