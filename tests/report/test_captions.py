"""A caption says every choice that a number depends on."""

from pathlib import Path

import pytest

from stages.core.params import read_params
from stages.report.captions import setting

PARAMS = read_params(Path(__file__).parents[2] / "params.yaml")
OLD = {"protocol": "omnidrive", "split": "world_val", "unparsed": "zeros"}
ROWS = [
    {"method": "none", "pruned_percent": 0, "n": 112, "incomplete": 48, "unparsed": 0},
    {"method": "recon", "pruned_percent": 75, "n": 112, "incomplete": 48, "unparsed": 2},
]


def test_everything_is_in_it() -> None:
    notes = OLD | {"samples": "impromptu", "listed": 6019, "repeated": 7, "incomplete": 900, "skipped": 0}
    notes |= {"times": "at 1, 2, 3 s", "not_counted": 1200, "answers_follow": "imu"}
    assert setting(notes, ROWS, PARAMS, "abc123").words == (
        "Protocol omnidrive (at 1, 2, 3 s); split world_val of data/world; driver toy from models/driver, images "
        "stretched to 336 x 196 px, its answers are of the IMU's path; sample list impromptu; 6,019 entries; 7 of them "
        "repeated; 900 without a complete future; 1,200 left out by the protocol; N = 112 in every row; unparsed "
        "answers (zeros: scored as standing still): recon 75 % 2; intervals over scenes, 2,000 resamples, seed 1; "
        "Wilson's of a rate at one time, and of an average without any event, take distinct key frames as independent; "
        "training seed 5; commit abc123."
    )


@pytest.mark.parametrize(("protocol", "raw"), [("omnidrive", True), ("bevplanner", True), ("impromptu", False)])
def test_answers_of_the_lidars_path_are_said_to_be_and_what_ego_protocols_make_of_them(
    protocol: str, raw: bool
) -> None:
    vla = PARAMS.vla.model_copy(update={"name": "impromptu", "fit": "budget", "answer_format": "polar"})
    notes = OLD | {"protocol": protocol, "answers_follow": "lidar"}
    words = setting(notes, ROWS, PARAMS.model_copy(update={"vla": vla}), "").words
    assert "images at most 262,144 px in their own shape, asked for polar, its answers are of LIDAR_TOP's path" in words
    assert ("into its official code unchanged" in words) is raw


def test_notes_of_before_the_lists_were_counted_are_enough() -> None:
    words = setting(OLD, ROWS[:1], PARAMS, "").words
    assert "px; 48 left out by the protocol; N = 112 in every row" in words
    assert "standing still): none;" in words
    assert words.endswith("no commit (outside git).")


def test_skipped_answers_are_counted_and_n_may_differ() -> None:
    rows = [ROWS[0] | {"skipped": 0}, ROWS[1] | {"n": 110, "skipped": 2}]
    words = setting(OLD | {"unparsed": "skip"}, rows, PARAMS, "abc").words
    assert "N = 110 to 112 by row; unparsed answers (skip: left out of N, 2 skipped): recon 75 % 2" in words
    words = setting(OLD | {"unparsed": "skip"}, [rows[0], rows[1] | {"rel_mark": "†"}], PARAMS, "abc").words
    assert "by row (†: not the unpruned driver's N, so its Rel. is not over the same samples); unparsed" in words


def test_the_setting_is_the_papers_only_with_its_driver_protocol_and_list() -> None:
    impromptu = PARAMS.model_copy(update={"vla": PARAMS.vla.model_copy(update={"name": "impromptu"})})
    notes, rows = OLD | {"split": "val", "listed": 6019}, [row | {"n": 6019, "tokens_total": 3249} for row in ROWS]
    theirs = setting(notes, rows, impromptu, "")
    assert theirs.papers
    assert theirs.beside.startswith(theirs.words)
    assert "are not known" in theirs.beside
    for other in (setting(notes, rows, PARAMS, ""), setting(notes, ROWS, impromptu, "")):
        assert not other.papers
        assert other.beside == other.words


def test_a_list_that_the_protocols_own_code_does_not_score_is_said_to_be_one() -> None:
    words = setting(OLD | {"departs": "stp3 scores 4,819 samples"}, ROWS, PARAMS, "").words
    assert "left out by the protocol; stp3 scores 4,819 samples; N" in words
