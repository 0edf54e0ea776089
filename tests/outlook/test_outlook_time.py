"""Times by hand: scaled from what ran here, else guesses that say so."""

import pytest

from stages.outlook.row import Work
from stages.outlook.timing import H200, START_S, Known, on_card, time_of

HERE = Known("train_pruner@recon", "stages.train_pruner", Work(100.0, "FLOP, toy", "", flops=True), 24.0, 1, True)
ELSEWHERE = Known("make_world", "stages.make_world", Work(10.0, "drawn pixels", ""), 44.0, 2, False)


def test_the_same_work_takes_what_it_took() -> None:
    found = time_of(HERE.name, HERE.module, HERE.work, 1, [HERE])
    assert found is not None
    assert (found.seconds, found.guess, found.basis) == (24.0, False, "measured here")


def test_three_times_the_work_takes_three_times_what_came_after_the_start() -> None:
    """24 s are 4 s of start and 20 s of work: 4 + 3 x 20."""
    found = time_of(HERE.name, HERE.module, Work(300.0, "FLOP, toy", "", flops=True), 1, [HERE])
    assert found is not None
    assert (found.seconds, found.guess, found.basis) == (64.0, False, "measured here, x 3")


def test_another_cell_says_whose_pace_it_is() -> None:
    found = time_of("train_pruner@other", HERE.module, HERE.work, 1, [HERE])
    assert found is not None
    assert found.basis == "measured here on train_pruner@recon"


def test_the_pace_of_another_machine_is_a_guess() -> None:
    """40 s on two lanes are 80 s on one."""
    found = time_of("make_world", ELSEWHERE.module, ELSEWHERE.work, 1, [ELSEWHERE])
    assert found is not None
    assert (found.seconds, found.guess) == (START_S + 80.0, True)


def test_what_ran_here_goes_before_the_pace_of_another_machine() -> None:
    mine = Known("make_world", "stages.make_world", ELSEWHERE.work, 14.0, 2, True)
    for known in ([mine, ELSEWHERE], [ELSEWHERE, mine]):
        found = time_of("make_world", mine.module, mine.work, 2, known)
        assert found is not None
        assert (found.seconds, found.guess) == (14.0, False)


def test_a_released_driver_is_guessed_from_a_stated_utilisation() -> None:
    """989 TFLOP/s x 0.3 for 1000 s on two GPUs."""
    now = Work(989e12 * 0.3 * 1000, "FLOP, impromptu", "", flops=True)
    found = time_of("plan_routes@none", "stages.plan_routes", now, 2, [HERE])
    assert found is not None
    assert found.seconds == pytest.approx(START_S + 500)
    assert found.guess
    assert "H800" in found.basis


def test_products_and_reading_have_their_own_shares_of_a_cards_peaks() -> None:
    """790 TFLOP/s x 0.3 for 100 s and 4.3 TB/s x 0.5 for 50 s: 150 s on one card, 75 s on two."""
    now = Work(237e12 * 100, "FLOP, impromptu", "", flops=True, read_bytes=2.15e12 * 50)
    assert [on_card(now, cards, H200).seconds - START_S for cards in (1, 2)] == pytest.approx([150, 75])
    assert "790 TFLOP/s (H200)" in on_card(now, 1, H200).basis


def test_closed_form_over_a_rate_measured_here_on_another_stage_is_a_guess_too() -> None:
    """1e15 FLOP in 100 s here: 3e15 take 300 s."""
    trained = Known("train_pruner@recon", HERE.module, Work(1e15, "FLOP, impromptu", "", flops=True), 104.0, 1, True)
    now = Work(3e15, "FLOP, impromptu", "", flops=True)
    found = time_of("plan_routes@none", "stages.plan_routes", now, 1, [trained])
    assert found is not None
    assert found.seconds == pytest.approx(304)
    assert found.guess
    assert "10 TFLOP/s measured here on train_pruner@recon" in found.basis


def test_three_seconds_an_image_of_grounded_sam_are_200_gpu_hours_of_the_papers_images() -> None:
    found = time_of("generate_masks", "stages.generate_masks", Work(240942, "images by grounded_sam", ""), 2, [])
    assert found is not None
    assert found.seconds * 2 / 3600 == pytest.approx(200, rel=0.01)
    assert found.guess


def test_nothing_to_go_by_is_nothing_told() -> None:
    assert time_of("new", "stages.new", Work(1.0, "things", ""), 1, [HERE, ELSEWHERE]) is None
