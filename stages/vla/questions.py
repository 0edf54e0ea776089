"""What a driver is asked about each key frame: by the released question file, else made from the data set."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from stages.core.errors import DataError
from stages.scenes.base import Frame
from stages.scenes.ego_history import PastStep, histories, read_can_states
from stages.scenes.nuscenes import Scenes
from stages.vla.question_file import read_questions
from stages.vla.question_text import question_text

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
