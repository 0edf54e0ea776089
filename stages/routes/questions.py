"""What a driver is asked about each key frame: by the released question file, else made from the data set."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    _histories: dict[str, list[PastStep]] = field(default_factory=dict)  # of the scene asked about last

    def text(self, token: str) -> str:
        """The question about a key frame. Raises DataError for a damaged file or damaged CAN bus messages."""
        frame = self.scenes.frame(token)
        if self.file is not None and CAMERA in frame.cameras:
            text = read_questions(self.file, self.sha256).text_of.get(frame.cameras[CAMERA].path.name)
            if text is not None:
                self.source_of[token] = FROM_FILE
                return text
        if token not in self._histories:
            self._histories = self._of_scene(frame)
        history = self._histories[token]
        self.source_of[token] = BUILT_BARE if history[-1].can is None else BUILT
        return question_text(history)

    def counts(self, tokens: Sequence[str]) -> dict[str, int]:
        """How many of the questions asked about `tokens` came from where."""
        found = Counter(self.source_of[token] for token in tokens if token in self.source_of)
        return {source: found[source] for source in (FROM_FILE, BUILT, BUILT_BARE) if found}

    def _of_scene(self, frame: Frame) -> dict[str, list[PastStep]]:
        frames = [self.scenes.frame(token) for token in self.scenes.tokens_of_scene(frame.scene)]
        states = read_can_states(self.scenes.root, frame.scene, [one.timestamp_us for one in frames])
        return histories(frames, states)


def open_questions(vla: Mapping[str, Any], scenes: Scenes) -> Questions:
    """The questions that the section `vla` of params names, or those made from the data set."""
    return Questions(scenes, Path(vla["questions"]) if vla["questions"] else None, vla["questions_sha256"])
