"""Questions that Impromptu-VLA is asked: from its released file, or made from the car's last seconds.

The released file is LLaMA-Factory's sharegpt JSON, a list of {id, images, messages}, a front image each. A question
belongs to the key frame whose front image it names: by the image's file name, since the folders before it are another
machine's. The released test file has 6,019 entries of 5,119 key frames: the others stand in for key frames whose future
is cut short, and repeat their text. The words of a made question are data: `impromptu_prompt.json`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.scenes.base import Frame
from stages.scenes.ego_history import PastStep, histories, read_can_states
from stages.scenes.nuscenes import Scenes

WORDS = Path(__file__).with_name("impromptu_prompt.json")
IMAGE = "<image>"  # stands for the image in a question
FROM = "nuscenes_test.json of Hugging Face aaaaaap/unstructured or github.com/ahydchh/Impromptu-VLA"
CAMERA = "CAM_FRONT"
FROM_FILE, BUILT, BUILT_BARE = "from_file", "built", "built_without_can_bus"


@dataclass
class Questions:
    """Questions by sample token; nothing is read before the first one is asked for.

    A key frame that the file lacks (the released one has none about the last 3 s of a scene) gets a question made in
    the same form from ego poses and CAN bus, of positions alone in a scene without CAN bus. `source_of` tells.
    """

    scenes: Scenes
    file: Path | None
    sha256: str | None
    source_of: dict[str, str] = field(default_factory=dict)
    _texts: dict[str, str] = field(default_factory=dict)
    _histories: dict[str, list[PastStep]] = field(default_factory=dict)  # of the scene asked about last

    def text(self, token: str) -> str:
        """The question about a key frame.

        Raises DataError for a damaged file, one without a question about the whole scene, damaged CAN bus messages.
        """
        if token not in self._texts:
            self._texts[token], self.source_of[token] = self._found(self.scenes.frame(token))
        return self._texts[token]

    def counts(self, tokens: Sequence[str]) -> dict[str, int]:
        """How many of the questions asked about `tokens` came from where."""
        found = Counter(self.source_of[token] for token in tokens if token in self.source_of)
        return {source: found[source] for source in (FROM_FILE, BUILT, BUILT_BARE) if found}

    @cached_property
    def _text_of(self) -> Mapping[str, str]:
        """What the file asks, by the name of the image: checked and read once, not at each key frame."""
        return {} if self.file is None else read_questions(self.file, self.sha256).text_of

    def _found(self, frame: Frame) -> tuple[str, str]:
        """The question about a key frame, and where it comes from."""
        if _image(frame) in self._text_of:
            return self._text_of[_image(frame)], FROM_FILE
        if frame.token not in self._histories:
            self._histories = self._of_scene(frame.scene)
        history = self._histories[frame.token]
        return question_text(history), BUILT_BARE if history[-1].can is None else BUILT

    def _of_scene(self, scene: str) -> dict[str, list[PastStep]]:
        frames = [self.scenes.frame(token) for token in self.scenes.tokens_of_scene(scene)]
        if self.file is not None and not any(_image(frame) in self._text_of for frame in frames):
            raise DataError(
                expected=f"questions about {scene} in {self.file}",
                got=f"none among those about {len(self._text_of)} images",
                fix="name the file of this split as vla.questions in params.yaml, or null: they are made then",
            )
        states = read_can_states(self.scenes.root, scene, [frame.timestamp_us for frame in frames])
        return histories(frames, states)


def _image(frame: Frame) -> str:
    return frame.cameras[CAMERA].path.name if CAMERA in frame.cameras else ""


def open_questions(vla: Mapping[str, Any], scenes: Scenes) -> Questions:
    """The questions that the section `vla` of params names, or those made from the data set."""
    return Questions(scenes, Path(vla["questions"]) if vla["questions"] else None, vla["questions_sha256"])


@dataclass(frozen=True)
class QuestionFile:
    """Questions by the file name of the front image."""

    text_of: Mapping[str, str]  # the user's text, with one `<image>`
    entries: tuple[tuple[str, str], ...]  # (id, file name of the image) in the order of the file, repeated ones too


def read_questions(path: Path, sha256: str | None) -> QuestionFile:
    """Return the questions of a file whose hash is named.

    Raises ParamsError when no hash is, DataError when the file is missing, has another one, or an entry is no question
    with one image; also when two entries ask differently about one image.
    """
    if not path.is_file():
        raise DataError(expected=f"the question file {path}", got="no such file", fix=f"put {FROM} there")
    digest = io.sha256(path)
    if sha256 is None:
        raise ParamsError(
            expected="vla.questions_sha256 in params.yaml, which says which questions are asked",
            got=f"null; {path} has {digest}",
            fix=f"vla.questions_sha256: {digest} if that is the file you mean",
        )
    if digest != sha256:
        fix = "fetch the file again, or edit vla.questions_sha256 in params.yaml"
        raise DataError(expected=f"{path} with sha256 {sha256}", got=digest, fix=fix)
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
        got = f"{text.count(IMAGE)} of them in entry {i}"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        got = f"entry {i}: {error!r}"
    raise _fault(path, f"an id, one image and one user message with one {IMAGE} in each entry", got)


def _fault(path: Path, expected: str, got: str) -> DataError:
    return DataError(expected=f"{expected} in {path}", got=got, fix=f"fetch {FROM} again")


def question_text(history: Sequence[PastStep]) -> str:
    """Return the question at the end of `history`, oldest step first, as Impromptu-VLA was taught to read it.

    Numbers have at most two decimals, trailing zeros dropped as Python prints them, and there is no negative zero among
    the positions. Source: research/planning.md 2.2.
    """
    parts = _words()
    steps = parts["between"].join(_step(step, parts) for step in history)
    return parts["question"].format(seconds=history[0].seconds_ago, steps=steps)


def _step(step: PastStep, parts: dict[str, str]) -> str:
    # Positions as numpy rounds, CAN bus values as Python does: they differ on halves, and so do the taught texts
    x_m, y_m = (float(np.round(value, 2)) + 0.0 for value in step.xy_m)
    place = {"seconds_ago": step.seconds_ago, "x_m": x_m, "y_m": y_m}
    if step.can is None:
        return parts["step"].format(**place)
    forward, left = step.can.acceleration_mps2
    state = {"acceleration_x": forward, "acceleration_y": left, "speed": step.can.speed_mps}
    return parts["step_with_can"].format(
        **place, **{name: round(value, 2) for name, value in (state | {"steering": step.can.steering_rad}).items()}
    )


@cache
def _words() -> dict[str, str]:
    return io.read_json(WORDS, f"git checkout {WORDS.name}")
