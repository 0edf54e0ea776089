"""The released question file: LLaMA-Factory's sharegpt JSON, a list of {id, images, messages}, a front image each.

A question belongs to the key frame whose front image it names: by the image's file name, since the folders before it
are another machine's. The released test file has 6,019 entries of 5,119 key frames: the others stand in for key frames
whose future is cut short, and say the same twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.vla.question_text import IMAGE

FROM = "nuscenes_test.json of Hugging Face aaaaaap/unstructured or github.com/ahydchh/Impromptu-VLA"


@dataclass(frozen=True)
class QuestionFile:
    """Questions by the file name of the front image."""

    text_of: Mapping[str, str]  # what the user says, with one `<image>`
    entries: tuple[tuple[str, str], ...]  # (id, file name of the image) in the order of the file, repeated ones too


def read_questions(path: Path, sha256: str | None) -> QuestionFile:
    """The questions of a file whose hash is named.

    Raises ParamsError when no hash is, DataError when the file is missing, has another one, or an entry is no question
    with one image; also when two entries ask differently about one image.
    """
    if not path.is_file():
        raise DataError(expected=f"the question file {path}", got="no such file", fix=f"put {FROM} there")
    came = io.sha256(path)
    if sha256 is None:
        raise ParamsError(
            expected="vla.questions_sha256 in params.yaml, which says which questions are asked",
            got=f"null; {path} has {came}",
            fix=f"vla.questions_sha256: {came} if that is the file you mean",
        )
    if came != sha256:
        then = "fetch the file again, or edit vla.questions_sha256 in params.yaml"
        raise DataError(expected=f"{path} with sha256 {sha256}", got=came, fix=then)
    return _read(path, sha256)


@lru_cache(maxsize=1)
def _read(path: Path, sha256: str) -> QuestionFile:
    entries = io.read_json(path, f"fetch {FROM} again")
    if not isinstance(entries, list) or not entries:
        raise _fault(path, "a list of questions", type(entries).__name__)
    text_of: dict[str, str] = {}
    order = []
    for i, entry in enumerate(entries):
        name, text = _question(entry, i, path)
        if text_of.setdefault(name, text) != text:
            raise _fault(path, f"one question about {name}", f"another one in entry {i}")
        order.append((str(entry.get("id", "")), name))
    return QuestionFile(text_of, tuple(order))


def _question(entry: Any, i: int, path: Path) -> tuple[str, str]:
    try:
        (image,) = entry["images"]
        (text,) = (message["content"] for message in entry["messages"] if message["role"] == "user")
        if text.count(IMAGE) == 1:
            return PurePosixPath(image).name, text
        came = f"{text.count(IMAGE)} of them in entry {i}"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        came = f"entry {i}: {error!r}"
    raise _fault(path, f"an id, one image and one user message with one {IMAGE} in each entry", came)


def _fault(path: Path, wanted: str, came: str) -> DataError:
    return DataError(expected=f"{wanted} in {path}", got=came, fix=f"fetch {FROM} again")
