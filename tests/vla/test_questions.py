"""The question about a key frame: from the file, else made of ego poses and CAN bus, to the letter as it was taught."""

import json
from pathlib import Path

import pytest
from synthetic_root import JUDGED, TRAIN, VERSION, copy_root
from tiny_impromptu import write_questions

from stages.core.errors import DataError, ParamsError
from stages.core.io import sha256
from stages.scenes.ego_history import CanState, PastStep
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.vla.questions import Questions, question_text, read_questions

# As the released training file has them (Impromptu-VLA issue 62): with CAN bus, of its first two steps, and without
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
def test_positions_are_rounded_as_numpy_rounds_and_can_bus_as_python_does(metres: float, printed: str) -> None:
    assert f"[{printed}, 0.0]" in question_text([PastStep(0.0, (metres, 0.0), None)])
    text = question_text([PastStep(0.0, (0.0, 0.0), CanState((2.665, 0), 1.005, -0.001))])
    assert "Acceleration: X 2.67, Y 0 m/s^2, Velocity: 1.0 m/s, Steering angle: -0.0 (" in text


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return open_scenes(copy_root(tmp_path_factory.mktemp("nuscenes")), VERSION)


def name_of(scenes: Scenes, token: str) -> str:
    return scenes.frame(token).cameras["CAM_FRONT"].path.name


def test_a_question_is_found_by_the_name_of_its_image_wherever_that_lies(
    scenes: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third, *_ = tokens = scenes.tokens_of_scene(TRAIN)[:3]
    one = (first, name_of(scenes, first), "One <image>?")
    asked = [(second, name_of(scenes, second), "Two <image>?"), one, ("ffff", "unknown.jpg", "Who <image>?"), one]
    questions = Questions(scenes, tmp_path / "test.json", write_questions(tmp_path / "test.json", asked))
    texts = [questions.text(token) for token in tokens]
    assert texts[:2] == ["One <image>?", "Two <image>?"]
    assert texts[2].startswith("You are an autonomous driving agent")  # which the file lacks
    assert questions.counts([first, second, third]) == {"from_file": 2, "built": 1, "built_without_can_bus": 0}
    monkeypatch.setattr(scenes, "frame", lambda token: pytest.fail("looked up again"))
    assert [questions.text(token) for token in tokens] == texts


def test_without_a_file_questions_are_made_and_those_without_can_bus_counted(scenes: Scenes) -> None:
    questions = Questions(scenes, None, None)
    with_can, without = scenes.tokens_of_scene(TRAIN)[3], scenes.tokens_of_scene(JUDGED)[0]
    assert "recorded over the last 1.5 seconds" in questions.text(with_can)
    assert questions.text(with_can).count("Steering angle: 0.03 (positive") == 4
    assert questions.text(without).endswith("[x, y]:.(t-0.0s) [0.0, 0.0]\n")
    assert questions.counts([with_can, without]) == {"from_file": 0, "built": 1, "built_without_can_bus": 1}
    assert questions.counts(["never asked"]) == {}


def test_a_file_that_asks_nothing_about_a_whole_scene_is_of_another_split(scenes: Scenes, tmp_path: Path) -> None:
    first = scenes.tokens_of_scene(TRAIN)[0]
    named = write_questions(tmp_path / "test.json", [(first, name_of(scenes, first), "One <image>?")])
    questions = Questions(scenes, tmp_path / "test.json", named)
    with pytest.raises(DataError, match=rf"questions about {JUDGED}.*none among those about 1 images.*vla.questions"):
        questions.text(scenes.tokens_of_scene(JUDGED)[0])


@pytest.mark.parametrize(
    "changed",
    [
        {"images": ["a.jpg", "b.jpg"]},
        {"messages": [{"role": "user", "content": "no image"}]},
        {"messages": [{"role": "assistant", "content": "<image>"}]},
        {"messages": None},
        {"messages": [{"role": "user", "content": "Another <image>?"}]},
    ],
)
def test_an_entry_that_is_no_single_question_with_one_image_is_refused(
    changed: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "test.json"
    write_questions(path, [("a", "x.jpg", "One <image>?")])
    (entry,) = json.loads(path.read_text())
    path.write_text(json.dumps([entry, entry | changed]))
    with pytest.raises(DataError, match="one image and one user message.*entry 1"):
        read_questions(path, sha256(path))


def test_a_file_that_is_missing_another_or_without_a_named_hash_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.json"
    with pytest.raises(DataError, match=r"no such file.*nuscenes_test.json of Hugging Face"):
        read_questions(path, "0" * 64)
    named = write_questions(path, [("a", "x.jpg", "One <image>?")])
    with pytest.raises(ParamsError, match=f"null; .* has {named}.*vla.questions_sha256: {named}"):
        read_questions(path, None)
    with pytest.raises(DataError, match=f"with sha256 {'0' * 64}, got {named}"):
        read_questions(path, "0" * 64)
