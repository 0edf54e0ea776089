"""How the driver's numbers were made, in one paragraph: every choice that a number depends on. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.core.params import Params, Vla
from stages.report.paper import OTHER_N

Row = Mapping[str, Any]

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


def setting(about: Mapping[str, Any], rows: Sequence[Row], params: Params, commit: str) -> str:
    """Return protocol, split, driver, sample list, N, incomplete entries, unparsed answers, seeds and commit.

    What the scores do not have is left out.
    """
    scored = params.score_plans
    parts = [
        f"Protocol {about['protocol']}" + (f" ({about['times']})" if about.get("times") else ""),
        f"split {about['split']} of {params.scenes.root}",
        _driver(about, params.vla),
        *_sample_list(about),
        _n(rows),
        _unparsed(about, rows),
        f"intervals over scenes, {scored.resamples:,} resamples, seed {scored.seed}; Wilson's of a rate at one time "
        "and of an average without any event take distinct key frames as independent",
        *(f"training seed {params.training(name).seed}" for name in params.grid.trained[:1]),
        f"commit {commit}" if commit else "no commit (outside git)",
    ]
    return "; ".join(parts) + "."


def _driver(about: Mapping[str, Any], vla: Vla) -> str:
    images = {
        "budget": f"at most {vla.max_pixels:,} px in their own shape",
        "stretch": f"stretched to {vla.size_px[0]} x {vla.size_px[1]} px",
        "pad": f"padded to {vla.size_px[0]} x {vla.size_px[1]} px",
    }[vla.fit]
    asked = "" if vla.name == "toy" else f", asked for {vla.answer_format}"
    follow = about.get("answers_follow")
    raw = RAW if follow == "lidar" and about["protocol"] in IN_EGO_AXES else ""
    path = f", {FOLLOW[follow]}{raw}" if follow else ""
    return f"driver {vla.name} from {vla.checkpoint}, images {images}{asked}{path}"


def _sample_list(about: Mapping[str, Any]) -> list[str]:
    forms = {
        "samples": "sample list {}",
        "listed": "{:,} entries",
        "repeated": "{:,} of them repeated",
        "incomplete": "{:,} without a complete future",
        "not_counted": "{:,} left out by the protocol",
        "departs": "{}",
    }
    return [form.format(about[key]) for key, form in forms.items() if about.get(key) is not None]


def _n(rows: Sequence[Row]) -> str:
    counts = [row["n"] for row in rows] or [0]
    if min(counts) == max(counts):
        return f"N = {counts[0]:,} in every row"
    other = any(row.get("rel_mark") for row in rows)
    mark = f" ({OTHER_N}: not the unpruned driver's N, so its Rel. is not over the same samples)" if other else ""
    return f"N = {min(counts):,} to {max(counts):,} by row{mark}"


def _unparsed(about: Mapping[str, Any], rows: Sequence[Row]) -> str:
    policy = str(about["unparsed"])
    counts = [f"{row['method']} {row['pruned_percent']} %: {row['unparsed']}" for row in rows if row.get("unparsed")]
    skipped = sum(row.get("skipped") or 0 for row in rows)
    handled = POLICIES.get(policy, policy) + (f", {skipped:,} skipped" if skipped else "")
    return f"unparsed answers ({policy}: {handled}): {', '.join(counts) or 'none'}"
