"""The stage on a small finished pipeline: one page that is whole, inert and the same every time."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_workspace import HOSTILE, write_workspace

from stages import make_report
from stages.core.errors import DataError, ParamsError
from stages.core.params import Params, read_params

CHECKOUT = Path(__file__).parents[1]


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


@pytest.fixture(scope="module")
def params() -> Params:
    whole = read_params(CHECKOUT / "params.yaml")
    few = {"pruners": ["none", "random_keep", "row_prior", "divprune"]}  # a page of all methods takes longer to draw
    shown = {"overlay_methods": ["recon", "row_prior", "divprune"], "worst_samples": 5}
    grid, report = whole.grid.model_copy(update=few), whole.make_report.model_copy(update=shown)
    return whole.model_copy(update={"grid": grid, "make_report": report})


@pytest.fixture
def workspace(tmp_path, monkeypatch, params) -> Path:
    monkeypatch.chdir(tmp_path)
    scenes = write_workspace(tmp_path, params)
    monkeypatch.setattr(make_report, "open_scenes", lambda root, version: scenes)
    monkeypatch.setattr(make_report, "champion_line", lambda params, results: None)
    return tmp_path


@pytest.fixture(scope="module")
def reported(tmp_path_factory, params) -> Path:
    """A workspace with its report, for tests that only read."""
    folder = tmp_path_factory.mktemp("reported")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        scenes = write_workspace(folder, params)
        patch.setattr(make_report, "open_scenes", lambda root, version: scenes)
        patch.setattr(make_report, "champion_line", lambda params, results: None)
        make_report.main(params)
    return folder


def read_page(folder: Path) -> Elements:
    elements = Elements()
    elements.feed((folder / "reports/index.html").read_text())
    return elements


def test_page_is_whole_small_and_asks_nobody(reported):
    page = read_page(reported)
    assert (reported / "reports/index.html").stat().st_size < 15e6
    names = [tag for tag, _ in page.tags]
    assert not set(names) & {"link", "iframe", "object", "base", "form"}
    assert names.count("script") == 1
    addresses = [attrs.get(key) for _, attrs in page.tags for key in ("src", "href") if attrs.get(key)]
    assert addresses
    files = {address for address in addresses if address.startswith("tables/")}
    assert len(files) > 40
    assert all((reported / "reports" / file).is_file() for file in files)
    assert all(address.startswith(("data:image/", "#")) for address in addresses if address not in files)
    anchors = {attrs["id"] for tag, attrs in page.tags if tag == "section"}
    assert {f"#{anchor}" for anchor in anchors} == {a["href"] for tag, a in page.tags if tag == "a"} - files


def test_every_picture_has_words_and_content_policy_forbids_everything_else(reported):
    page = read_page(reported)
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    overlays = 3 * (2 + 6 * 3)  # image and foreground; six methods at three ratios
    others = 3 + 3 + 2 + 2 * 2 + 2 * 3 * 3  # charts; cameras; extremes of coverage; roads ahead and from above
    trained = (
        3 + 2 * 5 + 2 * 4 + 2 + 1
    )  # curves; recon's reconstructions and kept tokens; the last strips of the others
    cases = 7 * 5 * 2  # of each pruner the worst five, from the front and from above
    assert len(pictures) == overlays + others + trained + cases
    assert all(attrs["alt"] for attrs in pictures)
    assert len(list((reported / "reports/figures").iterdir())) == len(pictures) - cases
    (policy,) = [attrs["content"] for tag, attrs in page.tags if tag == "meta" and "http-equiv" in attrs]
    assert re.fullmatch(
        "default-src 'none'; img-src data:; style-src 'sha256-[^']+'; script-src 'sha256-[^']+'; base-uri 'none'; "
        "form-action 'none'",
        policy,
    )
    assert "unsafe" not in policy


def test_an_answer_with_a_script_in_it_is_shown_and_does_nothing(reported):
    page = read_page(reported)
    assert HOSTILE in page.text
    assert not any(key.startswith("on") for _, attrs in page.tags for key in attrs)
    assert HOSTILE not in (reported / "reports/index.html").read_text()


def test_same_inputs_give_the_same_bytes(reported, workspace, params):
    make_report.main(params)
    paths = [path.relative_to(reported) for path in reported.glob("reports/**/*") if path.is_file()]
    assert len(paths) == 1 + 4 + 4 * 27 + len(list((reported / "reports/figures").iterdir()))
    for path in [*paths, Path("metrics/summary.json")]:
        assert (workspace / path).read_bytes() == (reported / path).read_bytes(), path


def test_table_1_has_a_row_for_each_cell_and_bound_with_counts_and_intervals(reported):
    table = (reported / "reports/tables/table1.md").read_text().splitlines()
    rows, caption = table[2:-2], table[-1]
    assert len(rows) == 3 + 1 + 6 * 3 + 2
    assert [row.split(" | ")[0] for row in rows[:3]] == ["| black_image", "| other_image", "| blind_floor"]
    assert re.match(r"\| none \| 0 \| 84 / 84 \| 12 \|", rows[3])
    assert rows[-1].startswith("| recorded_future |")
    assert all(re.search(r"\d+ / \d+ / \d+ \|", row) for row in rows)
    assert caption.startswith("Table 1: driving. Grey: the 95 % interval of the paired difference")
    assert "Protocol omnidrive; split world_val of data/world;" in caption
    page = read_page(reported).text
    for name in [
        "none",
        "divprune",
        "recon",
        "constant_velocity",
        "38.2",
        "63 of 84 tokens kept",
        "AUC 0.948",
        "Table 2: what training learns from",
        "foreground_only − recon",
        "1 scenes shared",
    ]:
        assert name in page
    suffixes = {path.suffix for path in (reported / "reports/tables").iterdir()}
    assert suffixes == {".csv", ".md", ".tex", ".html"}


def test_the_drivers_own_table_has_its_controls_and_says_how_it_was_trained(reported):
    table = (reported / "reports/tables/driver.md").read_text().splitlines()
    plans = ["black_image", "other_image", "blind_floor", "none", "constant_velocity", "recorded_future"]
    assert [line.split(" | ")[0] for line in table[2:-2]] == [f"| {name}" for name in plans]
    events = (reported / "reports/tables/driver_events.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in events[1:]] == [["all", "12"], ["curve", "4"], ["lead", "4"], ["red", "4"]]
    page = read_page(reported).text
    trained = "28,800 samples of 11,520 drawn images for the tower"
    for words in [trained, "random token subsets of every kind", "best on a real VLA"]:
        assert words in page


def test_the_ruler_stands_beside_the_methods_and_its_order_is_told_in_words(reported):
    table = (reported / "reports/tables/ruler.csv").read_text().splitlines()
    methods = ["random_keep", "row_prior", "divprune", "recon", "foreground_only", "mask_prediction"]
    assert [line.split(",")[0] for line in table[1:4]] == ["black_image", "other_image", "blind_floor"]
    assert [line.split(",")[0] for line in table[4:]] == ["oracle", "masked_text_attention", *methods, "inverse"] * 3
    page = read_page(reported).text
    assert all(
        re.search(rf"At {percent} % pruned the order .*(holds|does not hold): L2", page) for percent in (25, 50, 75)
    )
    assert "oracle" not in (reported / "reports/tables/table1.csv").read_text()


def test_without_references_there_is_no_ruler(workspace, params):
    grid = params.grid.model_copy(update={"references": []})
    make_report.main(params.model_copy(update={"grid": grid}))
    assert "The ruler" not in read_page(workspace).text
    table = (workspace / "reports/tables/driver.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in table[2:-2]] == ["| none", "| constant_velocity", "| recorded_future"]


def test_times_stand_beside_the_load_under_which_they_were_taken(reported):
    page = (reported / "reports/index.html").read_text()
    assert "Load of the machine meanwhile (Unix load average): 0.5 to 1.0." in page


def test_numbers_for_dvc_are_there(reported):
    summary = json.loads((reported / "metrics/summary.json").read_text())
    assert summary["none"]["pruned_0"]["l2_rel"] == 100
    assert set(summary["recon"]) == set(summary["oracle"]) == {"pruned_25", "pruned_50", "pruned_75"}
    assert summary["blind_floor"]["pruned_0"]["l2_at_cm_avg"] > 0
    l2 = (reported / "reports/plots/l2_by_ratio.csv").read_text().splitlines()
    assert l2[0] == "pruned_percent,none,random_keep,row_prior,divprune"
    assert len({line.split(",")[1] for line in l2[1:]}) == 1  # the unpruned driver, whatever the ratio
    trained = (reported / "reports/plots/l2_by_ratio_trained.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in trained] == ["pruned_percent", "0", "25", "50", "75"]
    plots = reported / "reports/plots"
    assert (plots / "training.csv").read_text().startswith("step,loss,loss_fore,loss_back,keep_share\n1.0,")
    aucs = (plots / "training_auc.csv").read_text().splitlines()
    assert aucs[0] == "step,recon,foreground_only,mask_prediction"
    assert [line.split(",")[0] for line in aucs[1:]] == ["10.0", "20.0", "30.0", "40.0"]


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        ("results/scores/divprune.json", "score_plans"),
        ("results/efficiency/recon.json", "profile_efficiency"),
        ("results/scores/constant_velocity.json", "score_plans"),
        ("results/scores/black_image.json", "score_plans"),
        ("results/scores/inverse.parquet", "score_plans"),
        ("results/plans/recon/25.parquet", "plan_trained@recon"),
        ("results/latency/none.json", "profile_efficiency"),
        ("results/plans/row_prior/50.parquet", "plan_routes@row_prior"),
        ("results/training/recon/history.csv", "train_pruner@recon"),
        ("results/training/recon/example_0_fore.png", "train_pruner@recon"),
        ("results/training/recon/example_1_kept_50.png", "train_pruner@recon"),
        ("results/training/foreground_only/history.csv", "train_pruner@foreground_only"),
        ("metrics/train_pruner/mask_prediction.json", "train_pruner@mask_prediction"),
        ("metrics/masks.json", "generate_masks"),
        ("data/masks/manifest.json", "generate_masks"),
    ],
)
def test_a_missing_input_names_the_stage_to_run_and_leaves_no_page(workspace, params, path, stage):
    (workspace / path).unlink()
    with pytest.raises(DataError, match=stage):
        make_report.main(params)
    assert not (workspace / "reports/index.html").exists()


def test_without_the_unpruned_baseline_there_is_no_table(workspace, params):
    grid = params.grid.model_copy(update={"pruners": ["divprune"]})
    with pytest.raises(ParamsError, match="unpruned baseline"):
        make_report.main(params.model_copy(update={"grid": grid}))
