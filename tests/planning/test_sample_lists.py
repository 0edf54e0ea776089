import re
from typing import Any

import pytest

from stages.core.errors import DataError, ParamsError
from stages.planning.base import KeyFrame
from stages.planning.sample_lists import OFFICIAL, check_name, departure, named_list, question_list

FUTURE = 6


def scene(name: str, length: int) -> list[KeyFrame]:
    return [KeyFrame(f"{name}{i}", name, complete=i < length - FUTURE) for i in range(length)]


TWO = [*scene("a", 10), *scene("b", 8)]  # a0 to a3 and b0, b1 have a whole future; a2 and a3 two of the past besides
VAL = [frame for i in range(150) for frame in scene(f"s{i:03d}-", 41 if i < 19 else 40)]


def questions(*tokens: str) -> list[dict[str, Any]]:
    return [{"id": token, "images": ["front.jpg"], "messages": []} for token in tokens]


def test_the_named_lists_of_two_short_scenes() -> None:
    assert list(named_list("all", TWO).times) == [frame.token for frame in TWO]
    assert list(named_list("complete", TWO).times) == ["a0", "a1", "a2", "a3", "b0", "b1"]
    assert list(named_list("stp3", TWO).times) == ["a2", "a3"]


def test_nuscenes_val_has_the_counts_of_the_papers() -> None:
    listed = {name: named_list(name, VAL).listed for name in ("all", "complete", "stp3")}
    assert listed == {"all": 6019, "complete": 5119, "stp3": 4819}


def test_a_question_file_counts_each_entry() -> None:
    samples = question_list("test.json", questions("b0", "a1", "b0", "b0"), TWO)
    assert (samples.times, samples.listed, samples.repeated) == ({"b0": 3, "a1": 1}, 4, 2)


def test_impromptus_file_lists_6019_with_900_repeated() -> None:
    whole = [frame.token for frame in VAL if frame.complete]
    samples = question_list("nuscenes_test.json", questions(*whole, *whole[::5][:900]), VAL)
    assert (samples.listed, samples.repeated, len(samples.times)) == (6019, 900, 5119)


@pytest.mark.parametrize("records", [{"id": "a0"}, [], "a0", None, [{"id": "a0"}, {}], [{"id": "a0"}, None]])
def test_a_file_that_is_no_list_of_questions_is_refused(records: Any) -> None:
    with pytest.raises(DataError, match=r"test.json.*score_plans.samples"):
        question_list("test.json", records, TWO)


def test_a_question_about_another_split_is_refused() -> None:
    with pytest.raises(DataError, match=r"18 key frames .* 1 ids that are none of them \(first: z9\).*eval_split"):
        question_list("test.json", questions("a0", "z9"), TWO)


def test_a_list_is_a_known_name_or_a_json_file() -> None:
    for name in ("all", "complete", "stp3", "/data/nuscenes_test.json"):
        check_name(name)
    with pytest.raises(ParamsError, match=re.escape("'complet' (did you mean 'complete'?)")):
        check_name("complet")


def test_a_list_that_the_official_code_does_not_score_is_named() -> None:
    assert departure("omnidrive", "all") is departure("omnidrive", "complete") is departure("stp3", "stp3") is None
    assert "omnidrive" in (departure("omnidrive", "questions.json") or "")
    assert departure("a_new_protocol", "all") is None
    assert departure("impromptu", "questions.json") is None  # its evaluator reads answers to its own file
    assert departure("uniad", "complete")
    assert departure("impromptu", "stp3")
    assert set(OFFICIAL) >= {"omnidrive", "uniad", "stp3", "vad", "impromptu", "bevplanner"}
