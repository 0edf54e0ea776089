"""Lists of the key frames that are scored, and how often each: those of the official evaluations.

nuScenes' val split has 6,019 key frames in 150 scenes. The last six of a scene lack a whole future: 5,119 are left.
ST-P3's loader also wants two key frames of the past: 4,819. Impromptu-VLA's question file has 6,019 entries again,
the 900 replaced by repetitions of others (its issues 10 and 62); an entry that stands twice counts twice.
"""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.planning.base import KeyFrame

HASH = "score_plans.samples_sha256"
PAST_STEPS = 2  # of ST-P3
NAMED = ("all", "complete", "stp3")  # any other value of score_plans.samples is the path of a question file
# The lists on which a protocol arrives at the N of its official code: what it does not count it drops itself, of any
# list. UniAD counts what others drop, its L2 masked to 0.
QUESTIONS = "a question file"  # Impromptu-VLA's evaluator reads the answers to its own
OFFICIAL = {
    "omnidrive": ("all", "complete"),
    "bevplanner": ("all", "complete"),
    "vad": ("all", "complete"),
    "impromptu": ("all", "complete", QUESTIONS),
    "uniad": ("all",),
    "stp3": ("all", "complete", "stp3"),
}


@dataclass(frozen=True)
class SampleList:
    """Entries of a list by sample token."""

    name: str  # as score_plans.samples has it
    times: Mapping[str, int]  # sample token -> how often it stands in the list, at least once
    incomplete: int  # entries, repeated ones counted, whose key frame lacks a whole future

    @property
    def listed(self) -> int:
        """Entries, repeated ones counted."""
        return sum(self.times.values())

    @property
    def repeated(self) -> int:
        """Entries whose sample stands in the list already."""
        return self.listed - len(self.times)


def named_list(name: str, key_frames: Sequence[KeyFrame]) -> SampleList:
    """Return the list `all`, `complete` or `stp3` of the key frames of a split.

    Which stand scene by scene in time order.
    """
    kept: list[str] = []
    for _, scene in groupby(key_frames, key=lambda frame: frame.scene):
        kept += [f.token for i, f in enumerate(scene) if _stands_in(name, f, past=i)]
    return _list(name, dict.fromkeys(kept, 1), key_frames)


def _list(name: str, times: Mapping[str, int], key_frames: Sequence[KeyFrame]) -> SampleList:
    return SampleList(name, times, sum(times.get(frame.token, 0) for frame in key_frames if not frame.complete))


def _stands_in(name: str, frame: KeyFrame, past: int) -> bool:
    return name == "all" or (frame.complete and (name == "complete" or past >= PAST_STEPS))


def question_list(name: str, records: Any, key_frames: Sequence[KeyFrame]) -> SampleList:
    """Return the list of a question file in LLaMA-Factory's format, `[{id, images, messages}, ...]`.

    Raises DataError when it has another shape, no entry, or an id that is no sample token of the split.
    """
    fix = "name another file in score_plans.samples, or one of " + ", ".join(NAMED)
    try:
        times = Counter(str(record["id"]) for record in records)
    except (TypeError, KeyError) as error:
        raise DataError(expected=f"questions with an `id` each in {name}", got=repr(error), fix=fix) from error
    foreign = [token for token in times if token not in {frame.token for frame in key_frames}]
    if foreign or not times:
        raise DataError(
            expected=f"questions about the {len(key_frames)} key frames of the split in {name}",
            got=f"{len(foreign)} ids that are none of them (first: {foreign[0]})" if foreign else "no question",
            fix="edit scenes.eval_split, or " + fix,
        )
    return _list(name, times, key_frames)


def check_name(name: str) -> None:
    """Raise ParamsError when `name` is neither a list nor the name of a JSON file."""
    if name in NAMED or name.endswith(".json"):
        return
    near = difflib.get_close_matches(name, NAMED, n=1)
    raise ParamsError(
        expected=f"score_plans.samples: {', '.join(NAMED)}, or the path of a question file (.json)",
        got=repr(name) + (f" (did you mean {near[0]!r}?)" if near else ""),
        fix="edit score_plans.samples in params.yaml",
    )


def departure(protocol: str, name: str) -> str | None:
    """Return what the official code of `protocol` scores where that is another list than `name`, else None."""
    official = OFFICIAL.get(protocol, ())
    if not official or name in official or (name not in NAMED and QUESTIONS in official):
        return None
    return f"the official code of {protocol} scores the list {' or '.join(official)}, not {name}"


def read_questions(path: Path, sha256: str | None) -> Any:
    """Return the JSON value in `path`.

    DVC sees params and not this file, so its hash stands in params: raises ParamsError where it does not, DataError
    when the file is missing, another one, or no JSON.
    """
    hashed = io.sha256(path) if path.is_file() else "no such file"
    if path.is_file() and sha256 is None:
        raise ParamsError(
            expected=f"{HASH}, the hash of {path}", got="null", fix=f"set {HASH} to {hashed} in params.yaml"
        )
    if hashed != sha256:
        fix = f"copy that file there, or edit score_plans.samples or {HASH}"
        raise DataError(expected=f"the question file {path} with sha256 {sha256}", got=hashed, fix=fix)
    return io.read_json(path, "name another file in score_plans.samples")
