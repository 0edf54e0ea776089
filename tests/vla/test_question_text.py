"""The questions are those that the checkpoints were taught, to the letter (Impromptu-VLA issue 62)."""

import pytest

from stages.scenes.ego_history import CanState, PastStep
from stages.vla.questions import question_text

# As the released training file has them: one with CAN bus, of its first two steps, and one without
WITH_CAN = (
    "The data is presented in the format [x, y]:.(t-0.5s) [-12.13, 4.54], Acceleration: X 0.05, Y 0.93 m/s^2, "
    "Velocity: 4.17 m/s, Steering angle: 2.73 (positive: left turn, negative: right turn), (t-0.0s) [-10.76, 2.97], "
    "Acceleration: X -0.03, Y 1.32 m/s^2, Velocity: 4.1 m/s, Steering angle: 3.42 (positive: left turn, negative: "
    "right turn)\n"
)
WITHOUT_CAN = "The data is presented in the format [x, y]:.(t-0.5s) [0.0, 0.0], (t-0.0s) [0.0, 0.0]\n"


def test_a_question_with_can_bus_is_as_released() -> None:
    history = [
        PastStep(0.5, (-12.13, 4.54), CanState((0.0512, 0.9311), 4.1703, 2.7311)),
        PastStep(0.0, (-10.761, 2.969), CanState((-0.0349, 1.32), 4.1, 3.4249)),
    ]
    text = question_text(history)
    assert text.endswith(WITH_CAN)
    assert "recorded over the last 0.5 seconds (at 0.5-second intervals)." in text
    assert text.startswith("You are an autonomous driving agent. You have access to a front view camera image")
    assert text.count("<image>") == 1


def test_a_question_without_can_bus_has_positions_alone() -> None:
    assert question_text([PastStep(0.5, (-0.0, 0.004), None), PastStep(0.0, (0.0, -0.0), None)]).endswith(WITHOUT_CAN)


@pytest.mark.parametrize(("metres", "printed"), [(2.665, "2.66"), (1.005, "1.0"), (-0.004, "0.0"), (12.0, "12.0")])
def test_positions_are_rounded_as_numpy_rounds(metres: float, printed: str) -> None:
    assert f"[{printed}, 0.0]" in question_text([PastStep(0.0, (metres, 0.0), None)])


def test_what_the_can_bus_says_is_rounded_as_python_rounds() -> None:
    text = question_text([PastStep(0.0, (0.0, 0.0), CanState((2.665, 0), 1.005, -0.001))])
    assert "Acceleration: X 2.67, Y 0 m/s^2, Velocity: 1.0 m/s, Steering angle: -0.0 (" in text
