"""Questions that Impromptu-VLA is asked: from its released file, or made from the car's last seconds.

The released file is LLaMA-Factory's sharegpt JSON, a list of {id, images, messages}, a front image each. A question
belongs to the key frame whose front image it names: by the image's file name, since the folders before it are another
machine's. The released test file has 6,019 entries of 5,119 key frames: the others stand in for key frames whose future
is cut short, and repeat their text. The words of a made question are data: `impromptu_prompt.json`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.scenes.base import Frame
from stages.scenes.ego_history import PastStep, histories, read_can_states
from stages.scenes.nuscenes import Scenes

WORDS = Path(__file__).with_name("impromptu_prompt.json")
IMAGE = "<image>"  # stands for the image in a question
FROM = "nuscenes_test.json of Hugging Face aaaaaap/unstructured or github.com/ahydchh/Impromptu-VLA"
FROM_FILE, BUILT, BUILT_BARE = "from_file", "built", "built_without_can_bus"


@dataclass
class Questions:
    """Questions by sample token; nothing is read before the first one is asked for.

    A key frame that the file lacks (the released one has none about the last 3 s of a scene) gets a question made in
    the same form from ego poses and CAN bus, of positions alone in a scene without CAN bus.
    """

    scenes: Scenes
    file: str | Path | None  # None: all are made from the data set
    sha256: str | None
    _asked: dict[str, tuple[str, str]] = field(default_factory=dict)  # by sample token: text, where it comes from
    _histories: dict[str, list[PastStep]] = field(default_factory=dict)  # of the scene asked about last

    def text(self, token: str) -> str:
        """Return the question about a key frame. Raises DataError for a damaged file, scene or CAN bus."""
        if token not in self._asked:
            self._asked[token] = self._found(self.scenes.frame(token))
        return self._asked[token][0]

    def counts(self, tokens: Sequence[str]) -> dict[str, int]:
        """Return how many of the questions asked about `tokens` came from where."""
        found = Counter(self._asked[token][1] for token in tokens if token in self._asked)
        return {source: found[source] for source in (FROM_FILE, BUILT, BUILT_BARE) if found}

    @cached_property
    def _text_of(self) -> Mapping[str, str]:
        return {} if self.file is None else read_questions(Path(self.file), self.sha256)

    def _found(self, frame: Frame) -> tuple[str, str]:
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
        return histories(frames, read_can_states(self.scenes.root, scene, [frame.timestamp_us for frame in frames]))


def _image(frame: Frame) -> str:
    return frame.cameras["CAM_FRONT"].path.name if "CAM_FRONT" in frame.cameras else ""


def read_questions(path: Path, sha256: str | None) -> dict[str, str]:
    """Return the questions of a file whose hash is named, by the file name of the front image.

    Raises ParamsError when no hash is, DataError when the file is missing, has another one, or an entry is no question
    with one image; also when two entries ask differently about one image.
    """
    entries, digest, text_of = io.read_json(path, f"fetch {FROM}"), io.sha256(path), dict[str, str]()
    if sha256 is None:
        raise ParamsError(
            expected="vla.questions_sha256 in params.yaml, which says which questions are asked",
            got=f"null; {path} has {digest}",
            fix=f"vla.questions_sha256: {digest} if that is the file you mean",
        )
    if digest != sha256:
        fix = "fetch the file again, or edit vla.questions_sha256 in params.yaml"
        raise DataError(expected=f"{path} with sha256 {sha256}", got=digest, fix=fix)
    for i, entry in enumerate(entries):
        try:
            (image,) = entry["images"]
            (text,) = (message["content"] for message in entry["messages"] if message["role"] == "user")
            single = text.count(IMAGE) == 1 and text_of.setdefault(PurePosixPath(image).name, text) == text
        except (KeyError, TypeError, ValueError, AttributeError):
            single = False
        if not single:
            raise DataError(
                expected=f"one image and one user message with one {IMAGE} in each entry of {path}, the same one again "
                "where an image comes again",
                got=f"entry {i}: {entry!r:.200}",
                fix=f"fetch {FROM} again",
            )
    return text_of


def question_text(history: Sequence[PastStep]) -> str:
    """Return the question at the end of `history`, oldest step first, as Impromptu-VLA was taught to read it.

    Numbers have at most two decimals, trailing zeros dropped as Python prints them, and there is no negative zero among
    the positions. Source: research/planning.md 2.2.
    """
    parts = io.read_json(WORDS, f"git checkout {WORDS.name}")
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
    state["steering"] = step.can.steering_rad
    return parts["step_with_can"].format(**place, **{name: round(value, 2) for name, value in state.items()})
