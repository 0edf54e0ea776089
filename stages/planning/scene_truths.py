"""The truths of one scene, looked up in the data set and written: the unit of work of several processes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from stages.core.errors import DataError
from stages.planning.base import KeyFrame
from stages.planning.truth_store import Known, write_scene
from stages.planning.truths import truth_from_frame
from stages.scenes.layout import MADE_BY
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.scenes.oracle import read_class_map, read_events

opened = lru_cache(maxsize=1)(open_scenes)  # once in a process, however many scenes it works on
events_of = lru_cache(maxsize=1)(read_events)


@dataclass(frozen=True)
class SceneTruths:
    """Writes the shard of a scene into `folder`. A plain value, so that it can be sent to another process."""

    root: str
    version: str
    oracle_root: str | None
    folder: Path

    def __call__(self, scene: str) -> list[KeyFrame]:
        """Raises DataError when the map expansion, an event or a class map is missing."""
        scenes = opened(self.root, self.version)
        events = self._events(scenes.tokens_of_scene(scene))
        known = [self._known(scenes, token, event) for token, event in events.items()]
        return write_scene(self.folder, scene, known)

    def _known(self, scenes: Scenes, token: str, event: str | None) -> Known:
        frame, oracle = scenes.frame(token), self.oracle_root
        truth = truth_from_frame(frame, scenes.drivable_mask(frame), scenes.surroundings(frame))
        return Known(truth, event, read_class_map(Path(oracle), frame, "CAM_FRONT") if oracle else None)

    def _events(self, tokens: list[str]) -> Mapping[str, str | None]:
        """What shapes the next 3 s of each key frame, where the truth is known."""
        if self.oracle_root is None:
            return dict.fromkeys(tokens)
        events = events_of(Path(self.oracle_root))
        lacking = [token for token in tokens if token not in events]
        if lacking:
            wanted = f"an event for each of the {len(tokens)} key frames in {self.oracle_root}"
            came = f"none for {len(lacking)} (first: {lacking[0]})"
            raise DataError(expected=wanted, got=came, fix=f"run `{MADE_BY}`")
        return {token: events[token] for token in tokens}
