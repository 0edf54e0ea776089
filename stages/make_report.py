"""Report: scores, profiles, masks and training -> one static page, and its tables as CSV, Markdown and LaTeX.

Inputs: results/, metrics/, data/masks, scenes.root. Outs: reports/index.html, reports/tables/*, reports/plots/*,
reports/figures/*, metrics/summary.json.

    python -m stages.make_report
"""

import logging
from pathlib import Path
from typing import Any

from stages import tracking
from stages.command import run
from stages.files import write_bytes, write_json, write_text
from stages.masks.shards import MaskSet
from stages.params import Params
from stages.report import gallery, judge, sections
from stages.report.inputs import TRAINING, Inputs, read_inputs
from stages.report.page import Section, figures, render
from stages.report.references import References, reference_rows
from stages.report.rows import score_rows, summary
from stages.report.written import plots, written_tables
from stages.scenes.nuscenes import open_scenes

log = logging.getLogger(__name__)
TITLE = "FastDrive: pruning the visual tokens of a driving model"
PAGE, TABLES, PLOTS, FIGURES = (Path("reports") / name for name in ("index.html", "tables", "plots", "figures"))


def main(params: Params) -> None:
    """Write the tables, the page last."""
    with tracking.stage_run("make_report", params) as record:
        inputs = read_inputs(params)
        every = score_rows(inputs.scores, params.grid.bounds)
        scores = [row for row in every if row["method"] not in params.grid.references]
        references = reference_rows(inputs.samples, every, params)
        for name, (rows, texts) in written_tables(inputs, scores, references).items():
            for suffix, text in texts.items():
                write_text(TABLES / f"{name}.{suffix}", text)
            record.table(name, rows)
        for name, text in plots(inputs, scores, params.grid).items():
            write_text(PLOTS / name, text)
        write_json(Path("metrics/summary.json"), summary(every))
        shown = _sections(params, inputs, scores, references)
        for name, picture in figures(shown).items():
            write_bytes(FIGURES / name, picture)
            record.figure(FIGURES / name)
        page = render(TITLE, shown)
        write_text(PAGE, page)
        record.artifact(PAGE)
    log.info("make_report: %s, %.1f MB; open it in a browser", PAGE, len(page) / 1e6)


def _sections(params: Params, inputs: Inputs, scores: list[dict[str, Any]], references: References) -> list[Section]:
    grid, scenes, masks = params.grid, open_scenes(params.scenes.root, params.scenes.version), MaskSet()
    shown = gallery.show_frames(scenes, params.scenes.eval_split, params.make_report.overlay_frames, grid)
    trained_on = set(scenes.split(params.scenes.train_split))
    middle = grid.percents[len(grid.percents) // 2]
    samples = gallery.mask_samples(shown[0].frame, masks, params.make_report.mask_samples)
    trained = [sections.training_section(inputs, gallery.reconstructions(TRAINING / name)) for name in grid.trained[:1]]
    return [
        sections.headline(params, inputs, scores, len(trained_on & set(scenes.split(params.scenes.eval_split)))),
        judge.driver_section(inputs, references),
        *judge.ruler_sections(inputs, references),
        sections.scores_section(params, scores),
        sections.efficiency_section(params, inputs),
        *trained,
        Section("Kept tokens", [part for one in shown for part in gallery.overlays(one, masks, params.vla)]),
        Section("Plans from above", [gallery.roads(shown, middle), gallery.answers(shown, middle)]),
        sections.truth_section(inputs, scores, samples),
    ]


if __name__ == "__main__":
    run(main)
