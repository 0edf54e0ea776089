"""Report: scores, profiles, masks and training -> one static page, and its tables as CSV, Markdown and LaTeX.

Inputs: results/, metrics/, data/masks, scenes.root. Outs: reports/index.html, reports/tables/*, reports/plots/*,
reports/figures/*, metrics/summary.json.

    python -m stages.make_report
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core import tracking
from stages.core.command import run
from stages.core.io import write_bytes, write_json, write_text
from stages.core.params import Grid, Params
from stages.core.provenance import code_commit
from stages.report import costs, paper
from stages.report.driving import driving, summary
from stages.report.inputs import Inputs, Row, read_inputs, setting
from stages.report.page import Sheet, exported, frame_of, interval, render
from stages.report.sections import Report, sections
from stages.scenes.nuscenes import open_scenes

log = logging.getLogger(__name__)
TITLE = "FastDrive: pruning the visual tokens of a driving model"
PAGE, TABLES, PLOTS, FIGURES = (Path("reports") / name for name in ("index.html", "tables", "plots", "figures"))
SCORES = Path("results/scores")

MASKS = {
    **{"By": "{of}", "Of": "{name}", "IoU [95 %]": interval("iou", ".3f"), "Images": "{images}", "Scenes": "{scenes}"},
    **{"Both (px)": "{both_px:,}", "Either (px)": "{either_px:,}"},
}
TRAINING = {
    "Trained pruner": "{method}",
    "Images": "{held_out_images}",
    "Loss": "{loss:.4f}",
    "foreground": "{loss_fore:.4f}",
    "background": "{loss_back:.4f}",
    "Keep share": "{keep_share:.3f}",
    "AUC": "{auc:.3f}",
    "AUC, row prior": "{auc_row_prior:.3f}",
    **{f"Recall, {percent} % pruned": f"{{recall_{percent}:.3f}}" for percent in (25, 50, 75)},
}


def main(params: Params) -> None:
    """Write the tables, the page last."""
    with tracking.stage_run("make_report", params) as record:
        inputs = read_inputs(params)
        papers = paper.same_setting(inputs.about, inputs.scores, params.vla.name)
        every, methods, driven = driving(inputs, params, papers)
        made = setting(inputs.about, methods, params, code_commit(Path.cwd()))
        tables = driven | costs.tables(inputs, methods, params) | _small_tables(inputs)
        for name, sheet in tables.items():
            note = f" {made}" if name in driven else ""
            for suffix, text in exported(replace(sheet, caption=sheet.caption + note)).items():
                write_text(TABLES / f"{name}.{suffix}", text)
            record.table(name, frame_of(sheet.rows).to_dict("records"))
        for name, frame in plots(inputs, methods, params.grid).items():
            write_text(PLOTS / name, frame.to_csv(index=False))
        headline = summary(every, inputs.training)
        write_json(Path("metrics/summary.json"), headline)
        record.metrics(headline)
        scenes = open_scenes(params.scenes.root, params.scenes.version)
        shown = sections(Report(params, inputs, methods, tables, made, papers, scenes))
        for section in shown:
            for name, picture in section.pictures().items():
                write_bytes(FIGURES / name, picture)
        page = render(TITLE, shown)
        write_text(PAGE, page)
        for path in (PAGE, TABLES, FIGURES, SCORES):  # the last for `fastdrive report --compare`
            record.artifact(path)
    log.info("make_report: %s, %.1f MB; open it in a browser", PAGE, len(page) / 1e6)


def _small_tables(inputs: Inputs) -> dict[str, Sheet]:
    masks = [
        {"of": of, "name": name, **values, "iou_low": values.get("low"), "iou_high": values.get("high")}
        for of in ("class", "camera")
        for name, values in sorted(inputs.masks.get("iou", {}).get(of, {}).items(), key=lambda item: item[0] == "mean")
    ]
    training = [
        {"method": name, "held_out_images": metrics.get("held_out_images"), **metrics["held_out"]}
        for name, metrics in inputs.training.items()
    ]
    of_masks = (
        "Agreement of the masks with the drawn world's truth: intersection over union, 95 % intervals over scenes."
    )
    of_training = (
        "Last evaluation on held-out images of the training scenes. Keep share: tokens with S > 0. AUC: how S ranks "
        "tokens under the masks' foreground; the row prior looks at no image and prefers lower rows."
    )
    tables = {"masks": Sheet(of_masks, masks, MASKS), "training": Sheet(of_training, training, TRAINING)}
    return {name: sheet for name, sheet in tables.items() if sheet.rows}


def plots(inputs: Inputs, scores: Sequence[Row], grid: Grid) -> dict[str, pd.DataFrame]:
    """Return the numbers behind the charts of `dvc plots`, by file name.

    Losses of the first trained pruner, the held-out AUC of all, and L2 over the prune ratio with a column per method:
    two files, because dvc.yaml names the columns by `${grid.pruners}` and `${grid.trained}`.
    """
    l2_cm: Mapping[Any, Any] = {(row["method"], row["pruned_percent"]): row["l2_cm_avg"] for row in scores}
    found, percents = {}, (0, *grid.percents)
    for end, names in (("", grid.pruners), ("_trained", grid.trained)):
        values = [{"pruned_percent": p} | {n: l2_cm.get((n, p), l2_cm["none", 0]) for n in names} for p in percents]
        found[f"l2_by_ratio{end}.csv"] = frame_of(values)
    if grid.trained:
        main = inputs.histories[grid.trained[0]]
        columns = ["step", "loss", "loss_fore", "loss_back", "keep_share"]
        found["training.csv"] = main.loc[main["split"] == "train", columns]
        held_out = {n: h[h["split"] == "held_out"].set_index("step")["auc"] for n, h in inputs.histories.items()}
        found["training_auc.csv"] = pd.DataFrame(held_out).sort_index().reset_index(names="step")
    return {name: frame for name, frame in found.items() if len(frame.columns) > 1 and len(frame)}


if __name__ == "__main__":
    run(main)
