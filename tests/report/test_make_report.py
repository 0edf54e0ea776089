"""The stage on a small finished pipeline: a whole, inert page, its tables, and what is missing or absent."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from browser import chromium, keep_picture, needs_chromium
from report.workspace import HOSTILE, write_workspace

from stages import make_report
from stages.core.errors import DataError, ParamsError
from stages.core.io import read_json, read_parquet, write_json, write_parquet
from stages.core.params import Params, read_params
from stages.planning.scoring import SAMPLE_COLUMNS, totals
from stages.report.inputs import read_answers, read_inputs
from stages.report.sections import strips

CHECKOUT = Path(__file__).parents[2]
SCORES = Path("results/scores")
pytestmark = pytest.mark.process  # the report takes seconds


class Elements(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def small(**lists: object) -> Params:
    """Params of a small grid and a short page."""
    whole = read_params(CHECKOUT / "params.yaml")
    shown = {"overlay_methods": lists["pruners"][-1:], "worst_samples": 2, "overlay_frames": 1, "mask_samples": 2}
    grid, report = whole.grid.model_copy(update=lists), whole.make_report.model_copy(update=shown)
    quick = whole.score_plans.model_copy(update={"resamples": 50})
    return whole.model_copy(update={"grid": grid, "make_report": report, "score_plans": quick})


@pytest.fixture(scope="module")
def params() -> Params:
    return small(pruners=["none", "random_keep", "text_attention"], trained=["recon", "foreground_only"])


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Iterator[Path]:
    """A workspace with its report; tests that change a file put it back."""
    folder = tmp_path_factory.mktemp("reported")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        scenes = write_workspace(folder, params)
        patch.setattr(make_report, "open_scenes", lambda root, version: scenes)
        make_report.main(params)
        yield folder


@pytest.fixture(scope="module")
def page(reported: Path) -> Elements:
    elements = Elements()
    elements.feed((reported / "reports/index.html").read_text())
    return elements


def table(reported: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(reported / f"reports/tables/{name}.csv")


def test_the_page_is_whole_small_and_asks_nobody(reported: Path, page: Elements) -> None:
    assert (reported / "reports/index.html").stat().st_size < 15e6
    names = [tag for tag, _ in page.tags]
    assert not set(names) & {"link", "iframe", "object", "base", "form"}
    assert names.count("script") == 1
    addresses = [attrs.get(key) for _, attrs in page.tags for key in ("src", "href") if attrs.get(key)]
    files = {address for address in addresses if address.startswith("tables/")}
    assert len(files) > 40
    assert all((reported / "reports" / file).is_file() for file in files)
    assert all(address.startswith(("data:image/", "#")) for address in addresses if address not in files)
    anchors = {attrs["id"] for tag, attrs in page.tags if tag == "section"}
    assert {f"#{anchor}" for anchor in anchors} == {a["href"] for tag, a in page.tags if tag == "a"} - files


def test_every_part_is_on_the_page(page: Elements) -> None:
    titles = [
        "Result in brief", "The driver", "The oracle bound", "Table 1", "Table 2", "Table 3", "By scenario", "Table 4",
        "Accuracy against cost", "Throughput", "Training", "Kept tokens", "Plans from above", "The worst 2",
        "Foreground", "Gate",
    ]  # fmt: skip
    sections = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    assert len(sections) == len(titles)
    phrases = ["38.2", "Gate: recon", "28,800 samples", "L2 by prune ratio", "63 / 84", "1 scenes shared", "0.5 to 1.0"]
    for words in [*titles, *phrases]:
        assert words in page.text, words
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert all(attrs["alt"] for attrs in pictures)
    cases = 5 * 2 * 2  # of each pruner the worst two, from the front and from above
    assert len(list(Path("reports/figures").iterdir())) == len(pictures) - cases
    kept = [attrs["alt"] for attrs in pictures if "the tokens" in str(attrs["alt"])]
    assert len(kept) == 4 * 3  # methods at three ratios


def test_an_answer_with_a_script_in_it_is_shown_and_does_nothing(reported: Path, page: Elements) -> None:
    assert HOSTILE in page.text
    assert not any(key.startswith("on") for _, attrs in page.tags for key in attrs)
    assert HOSTILE not in (reported / "reports/index.html").read_text()


def test_tables_have_a_row_for_each_cell_control_and_bound(reported: Path) -> None:
    rows = table(reported, "table1")
    assert rows["method"].tolist()[:4] == ["black_image", "other_image", "blind_floor", "none"]
    assert len(rows) == 4 + 4 * 3 + 2
    assert "oracle" not in set(rows["method"])
    assert {"n", "l2_cm_3s_low", "collision_pct_avg_high"} <= set(rows)
    text = (reported / "reports/tables/table1.md").read_text()
    assert "84 / 84" in text
    assert "Protocol omnidrive; split world_val of data/world;" in text
    assert {path.suffix for path in (reported / "reports/tables").iterdir()} == {".csv", ".md", ".tex"}
    methods = ["masked_text_attention", "random_keep", "text_attention", "recon", "foreground_only"]
    bound = table(reported, "oracle_bound")["method"].tolist()
    assert bound == ["black_image", "other_image", "blind_floor", *["oracle", *methods, "inverse"] * 3]
    events = table(reported, "driver_events")[["event", "n"]].values.tolist()
    assert events == [["all", 12], ["curve", 4], ["lead", 4], ["red", 4]]
    pace = table(reported, "throughput")
    assert "blind_floor" not in set(pace["row"])
    assert (pace["samples"] == 12).all()
    training = table(reported, "training").set_index("method")
    assert pd.isna(training.loc["foreground_only", "loss_back"])  # nothing is painted there
    assert training.loc["recon", "recall_75"] == pytest.approx(0.9475)


def test_numbers_for_dvc_are_there(reported: Path) -> None:
    summary = json.loads((reported / "metrics/summary.json").read_text())
    assert len(summary) == 9  # fits a screen of `dvc exp show`; two pruners were trained
    assert {"none_0_l2_cm", "recon_75_l2_cm", "recon_auc"} < set(summary)
    plots = {path.stem: pd.read_csv(path) for path in (reported / "reports/plots").iterdir()}
    l2 = plots["l2_by_ratio"]
    assert list(l2) == ["pruned_percent", "none", "random_keep", "text_attention"]
    assert l2["none"].nunique() == 1  # the unpruned driver, whatever the ratio
    assert plots["l2_by_ratio_trained"]["pruned_percent"].tolist() == [0, 25, 50, 75]
    assert list(plots["training"]) == ["step", "loss", "loss_fore", "loss_back", "keep_share"]
    assert plots["training_auc"]["step"].tolist() == [10, 20, 30, 40]
    assert list(plots["training_auc"]) == ["step", "recon", "foreground_only"]


def read_all(params: Params) -> None:
    read_inputs(params)
    read_answers([("recon", 25)], ["sample-00"], params.grid)
    strips("recon", ["reconstruction", "kept_tokens"])


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        ("results/scores/random_keep.json", "score_plans"),
        ("results/efficiency/recon.json", "profile_efficiency"),
        ("results/throughput/none.json", "plan_routes@none"),
        ("results/training/recon/history.csv", "train_pruner@recon"),
        ("metrics/masks.json", "generate_masks"),
        ("results/plans/recon/25.parquet", "plan_.*@recon"),
        ("results/training/recon/epochs", "train_pruner@recon"),
    ],
)
def test_a_missing_input_names_the_stage_to_run(reported: Path, params: Params, path: str, stage: str) -> None:
    aside = (reported / path).rename(reported / "aside")
    try:
        with pytest.raises(DataError, match=stage):
            read_all(params)
    finally:
        aside.rename(reported / path)


def test_without_the_unpruned_baseline_there_is_no_report(params: Params) -> None:
    grid = params.grid.model_copy(update={"pruners": ["divprune"]})
    with pytest.raises(ParamsError, match="unpruned baseline"):
        read_inputs(params.model_copy(update={"grid": grid}))


@needs_chromium
def test_on_a_phone_the_page_opens_without_an_error_or_a_request_and_does_not_scroll_sideways(reported: Path) -> None:
    address = (reported / "reports/index.html").as_uri()
    with chromium(390) as (shown, seen):
        shown.goto(address)
        assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
        slider = shown.locator(".slider").first
        assert slider.locator(".step:visible").get_attribute("data-label") == "50 % pruned"
        keep_picture(shown, "report-390")
    assert seen.errors == []
    assert [request for request in seen.requests if not request.startswith("data:")] == [address]


def test_gaps_are_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing scored in a row, a key frame without a 3 s future, no references, no training, no truth."""
    params = small(pruners=["none", "divprune"], trained=[], references=[], percents=[50])
    monkeypatch.chdir(tmp_path)
    scenes = write_workspace(tmp_path, params)
    monkeypatch.setattr(make_report, "open_scenes", lambda root, version: scenes)
    schema = pa.schema(list(SAMPLE_COLUMNS.items()))
    for name in params.grid.names:
        rows = read_parquet(SCORES / f"{name}.parquet", "make").to_pylist()
        rows = [row | {"l2_at_cm_3s": None} if row["token"] == "sample-03" else row for row in rows]
        left = [] if name == "divprune" else rows
        write_parquet(SCORES / f"{name}.parquet", pa.Table.from_pylist(left, schema=schema))
    scores = read_json(SCORES / "divprune.json", "make")
    write_json(SCORES / "divprune.json", scores | {"rows": [row | totals([], 50, 0) for row in scores["rows"]]})
    Path("metrics/masks.json").write_text("{}")
    for path in SCORES.glob("*.json"):
        path.write_text(re.sub(r'("(foreground|object)_(recall|auc)\w*"): [\d.]+', r"\1: null", path.read_text()))
    make_report.main(params)
    page = Path("reports/index.html").read_text()
    assert "divprune: none scored" in page
    absent = ("reconstructions", "Table 2", "Table 3", "outscores", "oracle bound", "Gate")
    assert not [words for words in absent if words in page]
    names = {path.stem for path in Path("reports/tables").iterdir()}
    assert not names & {"table2", "table3", "ranking", "masks", "training", "oracle_bound"}
    assert {"table1", "driver", "scenarios", "tradeoff", "table4", "table4_phases", "throughput"} <= names
