"""Which key frames are scored, how often each, and the plans for them.

nuScenes' val split has 6,019 key frames in 150 scenes. The last six of a scene lack a whole future: 5,119 are left.
ST-P3's loader also wants two key frames of the past: 4,819. Impromptu-VLA's question file has 6,019 entries again,
the 900 replaced by repetitions of others (its issues 10 and 62); an entry that stands twice counts twice.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.planning.base import KeyFrame
from stages.planning.stp3 import PAST_STEPS

if TYPE_CHECKING:
    import pyarrow as pa

HASH = "score_plans.samples_sha256"
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
COLUMNS = ("token", "waypoints_m", "parsed", "tokens_kept", "tokens_total", "grid_h", "grid_w")
TOKEN_COLUMNS = ("kept", "scores")  # nearly all of a file; read where the truth of the tokens is known


@dataclass(frozen=True)
class PlannedSample:
    """One row of a plan file."""

    token: str
    waypoints_m: Float[np.ndarray, "6 2"]  # ego frame, x forward, y left
    parsed: bool
    tokens_kept: int  # merged tokens counted
    tokens_total: int
    grid: tuple[int, int]  # h, w
    kept: Int[np.ndarray, " K"] | None = None  # indices of the kept visual tokens; None where nobody asks
    scores: Float[np.ndarray, " N"] | None = None  # of all visual tokens, higher is kept; in one file of a ranking


def sample_list(name: str, sha256: str | None, key_frames: Sequence[KeyFrame]) -> Counter[str]:
    """Return how often each sample token stands in a split's list `all`, `complete` or `stp3`, or in a question file.

    DVC does not see that file: params hold its hash. Raises ParamsError for the name or hash, DataError for the file.
    """
    if name in NAMED:
        past_steps = PAST_STEPS if name == "stp3" else 0
        return Counter(f.token for f in key_frames if name == "all" or (f.complete and f.past_steps >= past_steps))
    if not name.endswith(".json"):
        expected = f"score_plans.samples: {', '.join(NAMED)}, or the path of a question file (.json)"
        raise ParamsError(expected=expected, got=repr(name), fix="edit score_plans.samples in params.yaml")
    path = Path(name)
    found = io.sha256(path) if path.is_file() else "no such file"
    if path.is_file() and sha256 is None:
        fix = f"set {HASH} to {found} in params.yaml"
        raise ParamsError(expected=f"{HASH}, the hash of {path}", got="null", fix=fix)
    if found != sha256:
        fix = f"copy that file there, or edit score_plans.samples or {HASH}"
        raise DataError(expected=f"the question file {path} with sha256 {sha256}", got=found, fix=fix)
    return question_list(name, io.read_json(path, "name another file in score_plans.samples"), key_frames)


def question_list(name: str, records: Any, key_frames: Sequence[KeyFrame]) -> Counter[str]:
    """Return the list of a sharegpt file, `[{id, ...}, ...]`. Raises DataError for another shape, no or foreign ids."""
    fix = f"edit scenes.eval_split, or name another file in score_plans.samples, or one of {', '.join(NAMED)}"
    try:
        times = Counter(str(record["id"]) for record in records)
    except (TypeError, KeyError) as error:
        raise DataError(expected=f"questions with an `id` each in {name}", got=repr(error), fix=fix) from error
    foreign = list(set(times) - {frame.token for frame in key_frames})
    if foreign or not times:
        expected = f"questions about the {len(key_frames)} key frames of the split in {name}"
        raise DataError(expected=expected, got=f"ids that are none of them: {foreign[:1] or 'no question'}", fix=fix)
    return times


def list_counts(times: Counter[str], key_frames: Sequence[KeyFrame]) -> dict[str, int]:
    """Return how many entries a list has, how many of them stand in it already, and how many lack a whole future."""
    incomplete = sum(times[frame.token] for frame in key_frames if not frame.complete)
    return {"listed": times.total(), "repeated": times.total() - len(times), "incomplete": incomplete}


def departure(protocol: str, name: str) -> str | None:
    """Return what the official code of `protocol` scores where that is another list than `name`, else None."""
    official = OFFICIAL.get(protocol, ())
    if not official or name in official or (name not in NAMED and QUESTIONS in official):
        return None
    return f"the official code of {protocol} scores the list {' or '.join(official)}, not {name}"


def planned_samples(
    table: "pa.Table", wanted: Collection[str], split: Collection[str], path: str, made_by: str
) -> dict[str, PlannedSample]:
    """Return the rows of the plan file `path` by sample token; lists become arrays without a copy, which saves 0.6 GB.

    Raises DataError unless each of the `wanted` tokens has one row, each other is of the `split` and there once, and
    each row has six finite waypoints.
    """
    tokens = table["token"].to_pylist()
    faults = {
        "twice in it": [token for token, n in Counter(tokens).items() if n > 1],
        "of another split": sorted({*tokens} - {*split}),
        "lacking": sorted({*wanted} - {*tokens}),
    }
    for what, found in faults.items():
        if found:
            raise DataError(
                expected=f"one plan for each of the {len(wanted)} key frames to score in {path}",
                got=f"{len(tokens)} rows, {len(found)} tokens {what} (first: {found[0]})",
                fix=f"run `{made_by}`",
            )
    plans = {}
    for row in table.to_pandas().to_dict("records"):
        waypoints_m = row.pop("waypoints_m").astype(float)
        if waypoints_m.shape != (12,) or not np.isfinite(waypoints_m).all():
            expected = f"12 finite numbers of metres for sample {row['token']} in {path}"
            raise DataError(expected=expected, got=f"{waypoints_m.tolist()}", fix=f"run `{made_by}`")
        grid = row.pop("grid_h"), row.pop("grid_w")
        plans[row["token"]] = PlannedSample(waypoints_m=waypoints_m.reshape(6, 2), grid=grid, **row)
    return plans
