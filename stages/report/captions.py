"""How a table of a driver was made, in one caption: every choice that a number depends on. Pure.

Notes that the scores do not have are left out: older ones do not count their sample lists.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.core.params import Params, Vla
from stages.planning.tables import UNLIKE
from stages.report.paper import UNKNOWN, same_setting

Row = Mapping[str, Any]

FITS = {"stretch": "stretched to", "pad": "padded to"}
FOLLOW = {
    "imu": "its answers are of the IMU's path",
    "lidar": "its answers are of LIDAR_TOP's path and scored against that, bounds and blind_floor of the IMU's",
}
IN_EGO_AXES = ("omnidrive", "bevplanner")  # they place the ego's box for a point that is the IMU
RAW = (
    " (the ego's box stands where this protocol has it for the IMU's path, as when such answers go into its official "
    "code unchanged: on a turn of 30 degrees that is 0.5 m aside)"
)
POLICIES = {"zeros": "scored as standing still", "skip": "left out of N"}


@dataclass(frozen=True)
class Setting:
    """How the driver's numbers were made."""

    words: str  # the end of each caption
    papers: bool  # as the paper's: its rows stand among ours

    @property
    def beside(self) -> str:
        """The words for a table where the paper's rows may stand."""
        return f"{self.words} {UNKNOWN}" if self.papers else self.words


def setting(about: Mapping[str, Any], rows: Sequence[Row], params: Params, commit: str) -> Setting:
    """Protocol, split, driver, sample list, N, repeated and incomplete entries, unparsed answers, seeds and commit."""
    mine = params.score_plans
    trained = [f"training seed {params.training(name).seed}" for name in params.grid.trained[:1]]
    parts = [
        f"Protocol {about['protocol']}" + (f" ({about['times']})" if about.get("times") else ""),
        f"split {about['split']} of {params.scenes.root}",
        _driver(about, params.vla),
        *_sample_list(about, rows),
        _n(rows),
        _unparsed(about, rows),
        f"intervals over scenes, {mine.resamples:,} resamples, seed {mine.seed}; Wilson's of a rate at one time, and "
        "of an average without any event, take distinct key frames as independent",
        *trained,
        f"commit {commit}" if commit else "no commit (outside git)",
    ]
    return Setting("; ".join(parts) + ".", same_setting(about, rows, params.vla.name))


def images(vla: Vla) -> str:
    """How the driver's images are fitted."""
    if vla.fit == "budget":
        return f"at most {vla.max_pixels:,} px in their own shape"
    return f"{FITS[vla.fit]} {vla.size_px[0]} x {vla.size_px[1]} px"


def _driver(about: Mapping[str, Any], vla: Vla) -> str:
    asked = "" if vla.name == "toy" else f", asked for {vla.answer_format}"
    follow = about.get("answers_follow")
    raw = RAW if follow == "lidar" and about["protocol"] in IN_EGO_AXES else ""
    path = f", {FOLLOW[follow]}{raw}" if follow else ""
    return f"driver {vla.name} from {vla.checkpoint}, images {images(vla)}{asked}{path}"


def _sample_list(about: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    parts = []
    if about.get("samples") is not None:
        parts.append(f"sample list {about['samples']}")
    if about.get("listed") is not None:
        parts.append(f"{about['listed']:,} entries")
    if about.get("repeated") is not None:
        parts.append(f"{about['repeated']:,} of them repeated")
    incomplete = about.get("incomplete", max((row.get("incomplete") or 0 for row in rows), default=0))
    if about.get("not_counted") is None:  # older scores call `incomplete` what the protocol did not count
        parts.append(f"{incomplete:,} left out by the protocol")
    else:
        parts += [f"{incomplete:,} without a complete future", f"{about['not_counted']:,} left out by the protocol"]
    return [*parts, *([str(about["departs"])] if about.get("departs") else [])]


def _n(rows: Sequence[Row]) -> str:
    counts = [row["n"] for row in rows]
    if not counts:
        return "N = 0"
    low, high = min(counts), max(counts)
    if low == high:
        return f"N = {low:,} in every row"
    unlike = [row for row in rows if row.get("rel_mark")]
    said = f" ({UNLIKE}: not the unpruned driver's N, so its Rel. is not over the same samples)" if unlike else ""
    return f"N = {low:,} to {high:,} by row{said}"


def _unparsed(about: Mapping[str, Any], rows: Sequence[Row]) -> str:
    policy = str(about["unparsed"])
    counts = [f"{_name(row)} {row['unparsed']}" for row in rows if row.get("unparsed")]
    skipped = sum(row.get("skipped") or 0 for row in rows)
    said = f"{POLICIES.get(policy, policy)}{f', {skipped:,} skipped' if skipped else ''}"
    return f"unparsed answers ({policy}: {said}): {', '.join(counts) or 'none'}"


def _name(row: Row) -> str:
    return f"{row['method']} {row['pruned_percent']} %" if row.get("pruned_percent") else str(row["method"])
