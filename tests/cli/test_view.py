"""The browser of samples: next moves, sort sorts, filter filters, a hostile answer is text."""

from dataclasses import replace
from pathlib import Path

import pytest
from browser import chromium, needs_chromium
from report.workspace import HOSTILE, write_workspace

from stages.cli import view_samples
from stages.cli.view_samples import Sample, check_cell, write_page, write_samples
from stages.core.errors import DataError, ParamsError
from stages.core.params import Params, read_params

SMOKE = Path(__file__).parents[2] / "infra/params/smoke.yaml"


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A finished pipeline in the working directory."""
    params = read_params(SMOKE)
    monkeypatch.chdir(tmp_path)
    scenes = write_workspace(tmp_path, params)
    monkeypatch.setattr(view_samples, "open_scenes", lambda *_: scenes)
    return params


def of_recon(params: Params) -> tuple[Path, list[Sample]]:
    folder, percent = Path("runs/view"), params.grid.percents[0]
    return folder, write_samples("recon", percent, params, folder)


@needs_chromium
def test_the_page_moves_sorts_filters_and_runs_nothing_hostile(params: Params) -> None:
    folder, shown = of_recon(params)
    page_file = write_page(folder, "recon", 50, "omnidrive", shown).absolute()
    hostile = any(HOSTILE in sample.answer for sample in shown)
    with chromium() as (page, seen):
        page.on("dialog", lambda dialog: seen.errors.append(dialog.message))
        page.goto(page_file.as_uri())
        assert page.inner_text("#count") == f"1 of {len(shown)}"
        page.click("#next")
        page.keyboard.press("ArrowRight")
        assert page.inner_text("#count") == f"3 of {len(shown)}"
        page.click("#previous")
        assert page.inner_text("#count") == f"2 of {len(shown)}"
        page.select_option("#sort", "l2_cm")
        worst = max(shown, key=lambda sample: sample.l2_cm)
        assert f"{worst.l2_cm:.1f} cm" in page.inner_text("#facts")
        assert page.locator("#front").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        assert page.locator("#road").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        page.select_option("#scene", "scene-1")
        assert page.inner_text("#count") == f"1 of {len([one for one in shown if one.scene == 'scene-1'])}"
        page.select_option("#scene", "")
        page.select_option("#sort", "time")
        assert page.inner_text("#answer") == shown[0].answer
    assert hostile
    assert seen.errors == []
    assert all(address.startswith(page_file.parent.as_uri()) for address in seen.requests)


@needs_chromium
def test_a_script_that_was_added_does_not_run(params: Params) -> None:
    folder, shown = of_recon(params)
    page_file = write_page(folder, "recon", 50, "omnidrive", shown)
    added = page_file.read_text().replace("</body>", "<script>document.title = 'ran'</script></body>")
    page_file.write_text(added)
    with chromium() as (page, seen):
        page.goto(page_file.absolute().as_uri())
        assert page.title() != "ran"
    assert len(seen.errors) == 1  # the refusal


@needs_chromium
def test_a_key_frame_whose_recorded_future_ends_before_3_s_is_shown_and_stands_last(params: Params) -> None:
    folder, shown = of_recon(params)
    shown[0] = replace(shown[0], l2_3s_cm=None)
    page_file = write_page(folder, "recon", 50, "uniad", shown).absolute()
    with chromium() as (page, seen):
        page.goto(page_file.as_uri())
        assert page.inner_text("#answer") == shown[0].answer
        page.select_option("#sort", "l2_3s_cm")
        page.click("#previous")
        assert shown[0].token in page.inner_text("#facts")
    assert seen.errors == []


def test_no_text_of_a_model_ends_the_data_in_the_page(params: Params) -> None:
    folder, shown = of_recon(params)
    text = write_page(folder, "recon", 50, "omnidrive", shown).read_text()
    assert HOSTILE not in text
    assert text.count("<script") == 2


@pytest.mark.parametrize(("name", "percent"), [("recom", 50), ("recon", 51), ("none", 50)])
def test_a_cell_that_the_tables_do_not_have_is_refused(name: str, percent: int) -> None:
    with pytest.raises(ParamsError, match="a row of the grid"):
        check_cell(name, percent, read_params(SMOKE))


def test_without_scores_the_stage_to_run_is_named(params: Params) -> None:
    Path("results/scores/recon.parquet").unlink()
    with pytest.raises(DataError, match="dvc repro score_plans"):
        of_recon(params)
