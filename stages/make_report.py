"""Report: scores, profiles, masks and training -> one static page, and its tables as CSV, Markdown and LaTeX.

Inputs: results/, metrics/, data/masks, scenes.root. Outs: reports/index.html, reports/tables/*, reports/plots/*,
reports/figures/*, metrics/summary.json.

    python -m stages.make_report
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages import tracking
from stages.command import run
from stages.files import write_bytes, write_json, write_text
from stages.masks.shards import MaskSet
from stages.params import Params
from stages.report import comparisons, gallery, judge, ranking, sections, training
from stages.report.ablations import Comparison, Tables, attentions, objectives
from stages.report.inputs import Inputs, read_inputs
from stages.report.pace import pace_rows, pace_section
from stages.report.page import Section, figures, render
from stages.report.ranking import Ranking
from stages.report.references import References, reference_rows
from stages.report.rows import score_rows, summary
from stages.report.written import plots, written_tables
from stages.scenes.nuscenes import open_scenes

log = logging.getLogger(__name__)
TITLE = "FastDrive: pruning the visual tokens of a driving model"
PAGE, TABLES, PLOTS, FIGURES = (Path("reports") / name for name in ("index.html", "tables", "plots", "figures"))


@dataclass(frozen=True)
class Found:
    """What the page tells beside scores; None where the grid or the truth does not allow it."""

    references: References
    table_2: Comparison | None
    table_3: Comparison | None
    ranked: Ranking | None

    def written(self, inputs: Inputs) -> Tables:
        """The further tables, by file name."""
        pairs = comparisons.written({"table2": self.table_2, "table3": self.table_3})
        return pairs | ranking.written(self.ranked) | training.written(inputs)


def main(params: Params) -> None:
    """Write the tables, the page last."""
    with tracking.stage_run("make_report", params) as record:
        inputs = read_inputs(params)
        every = score_rows(inputs.scores, params.grid.bounds)
        scores = [row for row in every if row["method"] not in params.grid.references]
        references = reference_rows(inputs.samples, every, params)
        found = Found(
            references,
            objectives(inputs.samples, every, params),
            attentions(inputs.samples, every, params),
            ranking.ranking(inputs.samples, every, params),
        )
        for name, (rows, texts) in written_tables(inputs, scores, references, found.written(inputs)).items():
            for suffix, text in texts.items():
                write_text(TABLES / f"{name}.{suffix}", text)
            record.table(name, rows)
        for name, text in plots(inputs, scores, params.grid).items():
            write_text(PLOTS / name, text)
        write_json(Path("metrics/summary.json"), summary(every))
        shown = _sections(params, inputs, scores, found)
        for name, picture in figures(shown).items():
            write_bytes(FIGURES / name, picture)
            record.figure(FIGURES / name)
        page = render(TITLE, shown)
        write_text(PAGE, page)
        record.artifact(PAGE)
    log.info("make_report: %s, %.1f MB; open it in a browser", PAGE, len(page) / 1e6)


def _sections(params: Params, inputs: Inputs, scores: list[dict[str, Any]], found: Found) -> list[Section]:
    grid, scenes, masks = params.grid, open_scenes(params.scenes.root, params.scenes.version), MaskSet()
    shown = gallery.show_frames(scenes, params.scenes.eval_split, params.make_report.overlay_frames, grid)
    trained_on = set(scenes.split(params.scenes.train_split))
    middle = grid.percents[len(grid.percents) // 2]
    samples = gallery.mask_samples(shown[0].frame, masks, params.make_report.mask_samples)
    table_2 = [comparisons.objectives_section(found.table_2, params)] if found.table_2 else []
    table_3 = [comparisons.attentions_section(found.table_3, params)] if found.table_3 else []
    trained = [training.training_section(inputs, params)] if grid.trained else []
    return [
        sections.headline(params, inputs, scores, len(trained_on & set(scenes.split(params.scenes.eval_split)))),
        judge.driver_section(inputs, found.references),
        *judge.ruler_sections(inputs, found.references),
        sections.scores_section(params, scores),
        *table_2,
        *table_3,
        sections.efficiency_section(params, inputs),
        pace_section(pace_rows(grid)),
        *trained,
        Section("Kept tokens", [part for one in shown for part in gallery.overlays(one, masks, params.vla)]),
        Section("Plans from above", [gallery.roads(shown, middle), gallery.answers(shown, middle)]),
        sections.truth_section(inputs, samples, ranking.blocks(found.ranked)),
    ]


if __name__ == "__main__":
    run(main)
