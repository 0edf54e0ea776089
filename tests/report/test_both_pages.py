"""The report's tables and charts of two states side by side: of two commits through DVC's cache, and of small rows."""

import json
import shutil
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
import yaml
from browser import chromium, needs_chromium
from test_compare import git, write_state

from stages.core import tracking
from stages.report.both_pages import page_sections
from stages.report.compare import compare, state_of
from stages.report.made import Made
from stages.report.page import Gallery, Section, Table, Words
from stages.report.side_by_side import beside, keys_of, read_table

HOSTILE = "<script>document.title = 'broken'</script>"
SVG = "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><rect width='{}' height='9'/></svg>"
PAGE = """<section id="the-ruler"><h2>The ruler</h2><p class="caption">Metres &lt; 9. Grey: above 0.5. <span>(also as
<a href="tables/ruler.csv">CSV</a>)</span></p></section><section id="more"><h2>More</h2></section>"""


def cached(root: Path, data: bytes, end: str = "") -> str:
    name = md5(data).hexdigest() + end
    file = root / ".dvc/cache/files/md5" / name[:2] / name[2:]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return name


def report_files(l2_m: float, wide: int = 5) -> dict[str, str]:
    """Two tables, a page that names one of them, a chart and a photograph."""
    return {
        "index.html": PAGE,
        "figures/the-ruler-00.svg": SVG.format(wide),
        "figures/the-ruler-01.jpeg": "x",
        "tables/ruler.csv": f"method,pruned_percent,n,l2_m\n{HOSTILE},50,8,{l2_m}\noracle,50,8,0.5\n",
        "tables/unknown.csv": "of,name,low,share\nclass,car,0.1,0.25\nclass,bus,0.1,0.5\n",
    }


def commit_report(root: Path, tag: str, files: dict[str, str]) -> None:
    """A commit whose dvc.lock says that make_report wrote `files`; they lie in DVC's cache alone."""
    write_state(root, 0.0, 1e-3)
    parts = [{"md5": cached(root, text.encode()), "relpath": name} for name, text in sorted(files.items())]
    listing = cached(root, json.dumps(parts, sort_keys=True).encode(), ".dir")
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    lock["stages"]["make_report"] = {"outs": [{"path": "reports", "md5": listing}]}
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))
    git(root, "add", "-A")
    git(root, "commit", "-qm", tag)
    git(root, "tag", tag)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Commits a and b; they differ in one cell of one table and in a chart."""
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / ".gitignore").write_text("results\n.dvc\nreports\nout\n")
    commit_report(tmp_path, "a", report_files(1.25))
    commit_report(tmp_path, "b", report_files(1.5, wide=7))
    return tmp_path


def by_title(a: Made, b: Made) -> dict[str, Section]:
    return {section.title: section for section in page_sections(a, b)}


def of_commits(root: Path) -> dict[str, Section]:
    return by_title(state_of("a", root).made, state_of("b", root).made)


def words(section: Section) -> str:
    return " ".join(block.text for block in section.blocks if isinstance(block, Words))


def table(section: Section) -> Table:
    return next(block for block in section.blocks if isinstance(block, Table))


def lines(shown: Table) -> dict[str, list[str]]:
    return {row[0]: list(row[1:]) for group in shown.groups for row in group.rows}


def test_one_cell_differs_and_all_others_are_grey(repository: Path) -> None:
    found = of_commits(repository)
    assert list(found) == ["The report's tables", "The ruler", "Further tables"]
    ruler = table(found["The ruler"])
    assert "values that differ: 1, in 2 rows of both. Metres < 9" in ruler.caption
    assert not {"also", "Grey:"} & set(ruler.caption.split())
    rows = lines(ruler)
    assert [cell for cell in rows[HOSTILE] if getattr(cell, "tone", "") == "clear"] == ["1.25 → 1.50", "+0.25"]
    assert {getattr(cell, "tone", "") for cell in rows["oracle"]} <= {"noise", ""}
    assert not any("→" in cell for cell in rows["oracle"])
    assert lines(table(found["Further tables"]))["class"][0] == "bus"  # the last of the two by that name
    assert words(found["The report's tables"]).startswith("Values that differ: 1, in 2 tables of both.")


def test_charts_stand_side_by_side_and_equal_ones_once(repository: Path) -> None:
    (chart,) = (block for block in of_commits(repository)["The ruler"].blocks if isinstance(block, Gallery))
    assert [picture.caption[0] for picture in chart.pictures] == ["A", "B"]
    same = state_of("a", repository).made
    (chart,) = (block for block in by_title(same, same)["The ruler"].blocks if isinstance(block, Gallery))
    assert [picture.caption for picture in chart.pictures] == ["A and B: the-ruler-00.svg"]


def test_a_table_of_one_state_alone_is_said_so(repository: Path) -> None:
    files = report_files(1.5)
    del files["tables/unknown.csv"]
    commit_report(repository, "c", files)
    found = by_title(state_of("a", repository).made, state_of("c", repository).made)
    assert words(found["Further tables"]) == "unknown: only in A."


def test_without_the_cache_the_command_that_brings_it_is_named(repository: Path) -> None:
    shutil.rmtree(repository / ".dvc")
    (section,) = of_commits(repository).values()
    assert words(section).count("`dvc fetch -a`") == 2


def test_a_file_lost_from_the_cache_is_said_and_a_damaged_one_not_read(repository: Path) -> None:
    name = md5(report_files(1.5)["tables/ruler.csv"].encode()).hexdigest()
    (repository / ".dvc/cache/files/md5" / name[:2] / name[2:]).write_text("method,l2_m\nlie,1\n")
    found = of_commits(repository)
    assert "B: 1 files of its reports/ are not here; `dvc fetch -a` brings them." in words(found["The report's tables"])
    assert words(found["The ruler"]) == "ruler: only in A."


def test_the_checkouts_own_folder_serves_the_state_it_is_of(repository: Path) -> None:
    shutil.rmtree(repository / ".dvc")
    for name, text in report_files(1.5, wide=7).items():
        (repository / "reports" / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / "reports" / name).write_text(text)
    assert state_of("b", repository).made.tables == ["ruler", "unknown"]
    assert "dvc fetch" in state_of("a", repository).made.absent


def test_a_lock_without_the_report_is_said(repository: Path) -> None:
    write_state(repository, 0.0, 1e-3)
    git(repository, "commit", "-qam", "no report")
    assert "dvc repro make_report" in state_of("HEAD", repository).made.absent


def test_rows_are_named_by_text_until_no_two_share_a_name() -> None:
    rows = read_table("event,n,method,pruned_percent,why,l2\ncurve,7,fastv,25,x,1\ncurve,7,recon,25,y,2\n")
    assert keys_of(rows, rows) == ["event", "pruned_percent", "method"]
    assert read_table("a,b,c\n1_0,nan,\n")[0] == {"a": "1_0", "b": "nan", "c": None}


def test_rows_of_one_state_alone_and_text_where_numbers_were() -> None:
    columns = {"Method": "{method}", "L2": "{l2:.2f} [{l2_low:.2f}, {l2_high:.2f}]"}
    a: list[dict[str, Any]] = [{"method": "m", "l2": 1.0, "l2_low": 0.5, "l2_high": 2.0}, {"method": "gone", "l2": 1.0}]
    b = [{"method": "m", "l2": HOSTILE, "l2_low": 0.5, "l2_high": 2.0}]
    shown, count = beside("t", a, b, columns)
    assert count == 1
    assert lines(shown)["gone (only in A)"] == ["1.00 [–, –] → –", "–"]
    assert lines(shown)["m"][1] == "–"
    assert HOSTILE in lines(shown)["m"][0]


def test_what_differs_unseen_by_the_report_is_named() -> None:
    shown, _ = beside("t", [{"m": "x", "a": 1, "b": 1}], [{"m": "x", "a": 1, "b": 2}], {"A": "{a}"})
    assert "Not shown here, but different: b." in shown.caption


@needs_chromium
def test_hostile_cells_stay_text_and_columns_sort(repository: Path) -> None:
    page_file = compare(("a", "b"), repository / "out", repository)
    with chromium() as (page, seen):
        page.goto(page_file.as_uri())
        assert page.title() != "broken"
        names = page.locator("#the-ruler tbody tr:not(.group) th").all_inner_texts
        assert names() == [HOSTILE, "oracle"]
        page.locator("#the-ruler thead tr:last-child th button").last.click()
        assert page.locator("#the-ruler th[aria-sort=ascending]").count() == 1
        assert page.locator("#the-ruler img").count() == 2
        assert page.locator("#the-ruler img").first.evaluate("img => img.decode().then(() => img.naturalWidth)") == 9
    assert seen.errors == []
    assert [each for each in seen.requests if not each.startswith("data:")] == [page_file.as_uri()]


@pytest.mark.filterwarnings("default")  # MLflow's own
def test_a_run_of_mlflow_gives_the_tables_it_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tracking.database(tmp_path)}")
    client = tracking.client(tracking.store_uri())
    experiment = client.create_experiment("fastdrive", (tmp_path / "artifacts").as_uri())
    parent = client.create_run(experiment).info.run_id
    for is_report in (False, True):
        child = client.create_run(experiment, tags={"mlflow.parentRunId": parent}).info.run_id
        if not is_report:
            client.log_table(child, {"method": ["none"], "pruned_percent": [0], "l2_cm_avg": [4.0]}, "scores.json")
        for name, text in report_files(1.25).items() if is_report else ():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
            client.log_artifact(child, str(tmp_path / name), str(Path(name).parent) if "/" in name else None)
        client.set_terminated(child)
    made = state_of(parent, tmp_path).made
    assert (made.tables, made.charts) == (["ruler", "unknown"], ["the-ruler-00.svg"])
    assert list(by_title(made, made)) == ["The report's tables", "The ruler", "Further tables"]
