"""Where the question about a key frame comes from: the file, else ego poses and CAN bus."""

import json
from pathlib import Path

import pytest
from synthetic_root import JUDGED, TRAIN, VERSION, copy_root
from tiny_impromptu import write_questions

from stages.core.errors import DataError, ParamsError
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.vla import questions as asking
from stages.vla.questions import Questions, read_questions


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return open_scenes(copy_root(tmp_path_factory.mktemp("nuscenes")), VERSION)


def name_of(scenes: Scenes, token: str) -> str:
    return scenes.frame(token).cameras["CAM_FRONT"].path.name


def test_a_question_is_found_by_the_name_of_its_image_wherever_that_lies(scenes: Scenes, tmp_path: Path) -> None:
    first, second, third, *_ = scenes.tokens_of_scene(TRAIN)
    asked = [(second, name_of(scenes, second), "Two <image>?"), (first, name_of(scenes, first), "One <image>?")]
    sha256 = write_questions(tmp_path / "test.json", asked)
    questions = Questions(scenes, tmp_path / "test.json", sha256)
    assert questions.text(first) == "One <image>?"
    assert questions.text(second) == "Two <image>?"
    assert questions.text(third).startswith("You are an autonomous driving agent")  # which the file lacks
    assert questions.counts([first, second, third]) == {"from_file": 2, "built": 1, "built_without_can_bus": 0}


def test_entries_that_stand_twice_and_those_of_unknown_images_are_kept_in_order_and_harm_nothing(
    scenes: Scenes, tmp_path: Path
) -> None:
    first, second, *_ = scenes.tokens_of_scene(TRAIN)
    one, other = (first, name_of(scenes, first), "One <image>?"), ("ffff", "n000__CAM_FRONT__1.jpg", "Who <image>?")
    sha256 = write_questions(tmp_path / "test.json", [one, other, one])
    found = read_questions(tmp_path / "test.json", sha256)
    assert [token for token, _ in found.entries] == [first, "ffff", first]
    questions = Questions(scenes, tmp_path / "test.json", sha256)
    assert questions.text(first) == "One <image>?"
    assert questions.counts([first, second]) == {"from_file": 1, "built": 0, "built_without_can_bus": 0}


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
    sha256 = write_questions(tmp_path / "test.json", [(first, name_of(scenes, first), "One <image>?")])
    questions = Questions(scenes, tmp_path / "test.json", sha256)
    with pytest.raises(DataError, match=rf"questions about {JUDGED}.*none among those about 1 images.*vla.questions"):
        questions.text(scenes.tokens_of_scene(JUDGED)[0])


def test_a_question_is_looked_up_once(scenes: Scenes, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = Questions(scenes, None, None)
    tokens = [*scenes.tokens_of_scene(TRAIN)[:2], *scenes.tokens_of_scene(JUDGED)[:2]]
    first = [questions.text(token) for token in tokens]
    monkeypatch.setattr(scenes, "frame", lambda token: pytest.fail("looked up again"))
    assert [questions.text(token) for token in tokens] == first


def test_the_file_is_read_once_however_many_key_frames_are_asked_about(
    scenes: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = scenes.tokens_of_scene(TRAIN)[:3]
    sha256 = write_questions(tmp_path / "test.json", [(t, name_of(scenes, t), "One <image>?") for t in tokens[:2]])
    read = list[Path]()
    monkeypatch.setattr(
        asking, "read_questions", lambda path, sha256: read.append(path) or read_questions(path, sha256)
    )
    questions = Questions(scenes, tmp_path / "test.json", sha256)
    assert read == []
    assert len([questions.text(token) for token in tokens]) == 3
    assert read == [tmp_path / "test.json"]


def test_two_questions_about_one_image_are_refused(scenes: Scenes, tmp_path: Path) -> None:
    asked = [("a", "x.jpg", "One <image>?"), ("a", "x.jpg", "Another <image>?")]
    sha256 = write_questions(tmp_path / "test.json", asked)
    with pytest.raises(DataError, match=r"one question about x.jpg.*another one in entry 1"):
        read_questions(tmp_path / "test.json", sha256)


@pytest.mark.parametrize(
    ("changed", "came"),
    [
        ({"images": []}, "entry 0"),
        ({"images": ["a.jpg", "b.jpg"]}, "entry 0"),
        ({"messages": [{"role": "user", "content": "no image"}]}, "0 of them in entry 0"),
        ({"messages": [{"role": "user", "content": "<image> <image>"}]}, "2 of them in entry 0"),
        ({"messages": [{"role": "assistant", "content": "<image>"}]}, "entry 0"),
        ({"messages": None}, "entry 0"),
    ],
)
def test_an_entry_that_is_no_question_with_one_image_is_refused(
    changed: dict[str, object], came: str, tmp_path: Path
) -> None:
    write_questions(tmp_path / "test.json", [("a", "x.jpg", "One <image>?")])
    (entry,) = json.loads((tmp_path / "test.json").read_text())
    sha256 = rewritten(tmp_path / "test.json", [entry | changed])
    with pytest.raises(DataError, match=rf"one image and one user message.*{came}"):
        read_questions(tmp_path / "test.json", sha256)


def test_a_file_that_is_no_list_is_refused(tmp_path: Path) -> None:
    sha256 = rewritten(tmp_path / "test.json", {"questions": []})
    with pytest.raises(DataError, match="a list of questions"):
        read_questions(tmp_path / "test.json", sha256)


def rewritten(path: Path, value: object) -> str:
    import hashlib

    path.write_text(json.dumps(value))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_is_missing_another_or_without_a_named_hash_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.json"
    with pytest.raises(DataError, match=r"no such file.*nuscenes_test.json of Hugging Face"):
        read_questions(path, "0" * 64)
    sha256 = write_questions(path, [("a", "x.jpg", "One <image>?")])
    with pytest.raises(ParamsError, match=f"null; .* has {sha256}.*vla.questions_sha256: {sha256}"):
        read_questions(path, None)
    with pytest.raises(DataError, match=f"with sha256 {'0' * 64}, got {sha256}"):
        read_questions(path, "0" * 64)
