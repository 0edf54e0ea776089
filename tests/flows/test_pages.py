"""What a person sees in Chromium: MLflow's pages of a run and of a version, Prefect's of a flow run, and the form.

Each picture is kept in .local/screenshots.
"""

import re
from collections.abc import Iterator

import pytest
from browser import chromium, keep_picture, needs_chromium
from playwright.sync_api import Locator, Page
from shown import Shown, shown

from stages.registry.versions import Registry

pytestmark = [pytest.mark.slow, needs_chromium, pytest.mark.filterwarnings("default")]  # MLflow's own
WAIT_MS = 120_000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    with shown(tmp_path_factory.mktemp("shown")) as world:
        yield world


@pytest.fixture
def page() -> Iterator[Page]:
    with chromium(1400, 1000) as (page, seen):
        page.set_default_timeout(WAIT_MS)
        yield page
        assert [asked for asked in seen.requests if not re.match(r"http://127\.0\.0\.1:|data:|blob:", asked)] == []


def has(page: Page, *texts: str) -> None:
    """Each text is seen on the page, or comes to be."""
    for text in texts:
        page.get_by_text(text, exact=True).locator("visible=true").first.wait_for()


def run_page(world: Shown, stage: str) -> str:
    (run,) = world.runs(stage)
    return f"{world.stack.mlflow}/#/experiments/{run['info']['experiment_id']}/runs/{run['info']['run_id']}"


def test_the_run_page_has_params_metrics_and_how_to_make_it_again(world: Shown, page: Page) -> None:
    page.goto(run_page(world, "make_report"))
    has(page, "make_report.worst_samples", "recommended.l2_cm_avg", "make_report", "Finished")
    again = page.get_by_text("dvc repro make_report")
    assert re.search("git checkout [0-9a-f]{40}", again.inner_text())
    flow = page.get_by_role("link", name="this Prefect run")
    flow.scroll_into_view_if_needed()
    keep_picture(page, "mlflow_run")
    with page.expect_popup() as opened:
        flow.click()
    opened.value.get_by_text("Prune half").first.wait_for()
    assert opened.value.url == f"{world.stack.prefect}/runs/flow-run/{world.pipeline}"


def test_the_report_is_an_artifact_that_opens_in_the_page(world: Shown, page: Page) -> None:
    page.goto(run_page(world, "make_report"))
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("index.html", exact=True).first.click()
    report = page.frame_locator("iframe")
    report.get_by_role("heading", name="FastDrive: pruning the visual tokens of a driving model").wait_for()
    keep_picture(page, "mlflow_report")
    page.get_by_text("table1.json", exact=True).first.click()
    has(page, "random_keep")
    keep_picture(page, "mlflow_table1")


def test_the_version_page_has_its_alias_tags_and_card(world: Shown, page: Page) -> None:
    page.goto(f"{world.stack.mlflow}/#/models/reconpruner/versions/3")
    has(page, "reconpruner: recon", "Where it came from", "train_pruner@recon", "weights.sha256")
    page.get_by_title("candidate", exact=True).wait_for()
    page.get_by_text("Not for: driving a vehicle.").wait_for()
    keep_picture(page, "mlflow_version")


def test_the_page_of_a_pipeline_run_has_its_tables_and_links_to_mlflow_and_the_report(world: Shown, page: Page) -> None:
    page.goto(f"{world.stack.prefect}/runs/flow-run/{world.pipeline}")
    assert world.stack.ask(f"flow_runs/{world.pipeline}")["name"].endswith(" Prune half")
    has(page, "Completed")
    keep_picture(page, "prefect_reproduce")
    page.get_by_text("Artifacts", exact=True).first.click()
    has(page, "mlflow-run", "report", "reports-tables-table1-csv", "metrics-summary-json")
    keep_picture(page, "prefect_reproduce_artifacts")
    page.get_by_text("reports-tables-table1-csv", exact=True).locator("visible=true").first.click()
    has(page, "random_keep", "constant_velocity", "pruned_percent")
    keep_picture(page, "prefect_table1")
    page.goto(f"{world.stack.prefect}/runs/flow-run/{world.pipeline}")
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("report", exact=True).locator("visible=true").first.click()
    page.get_by_text("Show raw data").wait_for()  # the list shows the same link, and goes away under the click
    with page.expect_popup() as opened:
        page.get_by_role("link", name="the report of this run").first.click()
    opened.value.frame_locator("iframe").get_by_role("heading", name="Result in brief").wait_for()


def test_a_version_is_approved_in_the_form_and_becomes_champion(world: Shown, page: Page) -> None:
    with world.promoting("2") as run:
        page.goto(f"{world.stack.prefect}/runs/flow-run/{run}")
        has(page, "promote 2", "Paused")
        page.get_by_text("Artifacts", exact=True).first.click()
        has(page, "gate-reconpruner", "version-reconpruner")
        keep_picture(page, "prefect_promote")
        page.get_by_text("gate-reconpruner", exact=True).locator("visible=true").last.click()
        has(page, "50 % pruned: l2_cm", "at most 65", "41.1", "lineage complete")
        keep_picture(page, "prefect_gate")
        names = [name.strip() for name in page.locator("thead th").all_inner_texts()]
        assert [name for name in names if name] == ["rule", "wanted", "came", "passed"]

        form = open_form(page, world, run)
        text = form.inner_text()
        assert "Make version 2 of reconpruner champion, where there is none yet?" in text
        assert "50 % pruned: l2_cm: 41.1 (at most 65)" in text
        assert fits(page)
        keep_picture(page, "prefect_form")
        form.get_by_role("button", name="Submit").click()
        has(page, "'reason' is a required property")
        fill(page, approve=True, reason="better on curves", name="ann")
        keep_picture(page, "prefect_form_filled")
        form.get_by_role("button", name="Submit").click()
    registry = Registry("reconpruner")
    assert registry.aliases()["champion"] == "2"
    tags = registry.version("2").tags
    assert (tags["promotion.reason"], tags["promotion.by"]) == ("better on curves", "ann")
    assert tags["promotion.flow_run"] == run
    page.goto(f"{world.stack.mlflow}/#/models/reconpruner/versions/2")
    has(page, "promotion.reason", "better on curves", "Gate")
    page.get_by_title("champion", exact=True).wait_for()
    page.get_by_text("promotion.reason", exact=True).first.scroll_into_view_if_needed()
    keep_picture(page, "mlflow_champion")


def test_a_version_is_declined_in_the_form_and_the_champion_stays(world: Shown, page: Page) -> None:
    before = Registry("reconpruner").aliases()
    with world.promoting("3") as run:
        form = open_form(page, world, run)
        fill(page, approve=False, reason="not before the demo", name="bob")
        keep_picture(page, "prefect_form_declined")
        form.get_by_role("button", name="Submit").click()
    assert Registry("reconpruner").aliases() == before
    tags = Registry("reconpruner").version("3").tags
    assert (tags["declined.reason"], tags["declined.by"]) == ("not before the demo", "bob")
    page.goto(f"{world.stack.prefect}/runs/flow-run/{run}")
    has(page, "Completed", "promote 3")
    keep_picture(page, "prefect_declined")


def open_form(page: Page, world: Shown, run: str) -> Locator:
    page.goto(f"{world.stack.prefect}/runs/flow-run/{run}")
    page.get_by_role("button", name="Resume").click()
    form = page.locator(".p-modal__card")
    form.get_by_text("Your name").wait_for()
    return form


def fill(page: Page, approve: bool, reason: str, name: str) -> None:
    form = page.locator(".p-modal__card")
    if approve:
        form.get_by_role("switch").click()
    assert form.get_by_role("switch").get_attribute("aria-checked") == str(approve).lower()
    for box, text in zip(form.locator("textarea").all(), (reason, name), strict=True):
        box.fill(text)


def fits(page: Page) -> bool:
    """Whether the words above the form are as wide as it: nothing of them is cut off at the side."""
    seen = "e => e.scrollWidth <= e.clientWidth + 1"
    return bool(page.locator(".p-modal__card .markdown-renderer").first.evaluate(seen))
