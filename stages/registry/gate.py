"""The rules that a version must keep to become champion, over tables of numbers; pure, without files or server."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from stages.core.errors import ParamsError
from stages.core.params import Params
from stages.planning.intervals import paired_difference

SAME_CM = 1e-6  # rounding of a sum in another order
METRICS = ("l2_cm", "collision_pct", "intersection_pct")
CLEAN = {"git.dirty": "false", "dvc.status": "clean"}
HASHES = ("dvc.lock.sha256", "params.sha256", "env.lock.sha256", "weights.sha256", "dvc.md5")
LINEAGE = ("git.commit", *HASHES, "train.run_id")
ROLLED_BACK = "rollback.reason"  # tag of a version that was taken back


@dataclass(frozen=True)
class Samples:
    """One prune ratio's numbers of single key frames, all N long; the metrics are averages over 1, 2 and 3 s."""

    tokens: tuple[str, ...]
    scenes: tuple[str, ...]
    metrics: Mapping[str, Float[np.ndarray, " N"]]
    unpruned_cm: Float[np.ndarray, " N"]  # L2 of the unpruned driver: the same number says the same sample and truth
    unparsed: int  # answers without a plan among them


@dataclass(frozen=True)
class Evidence:
    """The numbers and tags of one version."""

    version: str
    encoder: str
    protocol: str
    tags: Mapping[str, str]
    samples: Mapping[int, Samples]  # by prune ratio in percent, as everything below
    flops_ratio: Mapping[int, float] = field(default_factory=dict)  # unpruned / pruned
    speedup: Mapping[int, float] = field(default_factory=dict)  # unpruned / pruned


@dataclass(frozen=True)
class Check:
    """One row of the verdict."""

    rule: str
    expected: str
    got: str
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """All rows; `champion` is the version that the candidate was compared with, empty when there was none."""

    candidate: str
    champion: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return not self.refused

    @property
    def refused(self) -> list[Check]:
        """The rows that failed."""
        return [check for check in self.checks if not check.passed]

    def rows(self) -> list[dict[str, str]]:
        """The verdict as a table for people."""
        return [vars(check) | {"passed": "yes" if check.passed else "NO"} for check in self.checks]


def judge(candidate: Evidence, champion: Evidence | None, params: Params) -> Verdict:
    """Check all rules; a number that is missing or NaN never passes. Raises ParamsError for a ratio without limits."""
    if missing := [str(percent) for percent in params.grid.percents if str(percent) not in params.registry.limits]:
        expected = "an entry under registry.limits in params.yaml for each of grid.percents"
        raise ParamsError(expected=expected, got=f"none for {', '.join(missing)}", fix="add it")
    checks = [*_lineage(candidate), *_absolute(candidate, params)]
    if champion is None:
        checks.append(Check("not worse than the champion", "a champion", "none yet", True))
    else:
        checks += _paired(candidate, champion, params)
    return Verdict(candidate.version, champion.version if champion else "", tuple(checks))


def _lineage(version: Evidence) -> Iterator[Check]:
    tags = version.tags
    missing = [key for key in LINEAGE if not tags.get(key)]
    got = f"no {', '.join(missing)}" if missing else "all"
    yield Check("lineage complete", f"all {len(LINEAGE)} tags", got, not missing)
    for key, expected in CLEAN.items():
        got = tags.get(key, "nothing")
        yield Check(f"lineage {key}", expected, got, got == expected)
    yield Check("not rolled back before", "never", tags.get(ROLLED_BACK, "never"), ROLLED_BACK not in tags)


def _absolute(version: Evidence, params: Params) -> Iterator[Check]:
    registry = params.registry
    all_limits = {percent: registry.limits[str(percent)] for percent in params.grid.percents}
    for percent, limits in all_limits.items():
        samples = version.samples.get(percent)
        n = len(samples.tokens) if samples else 0
        yield _at_least(f"{percent} % pruned: scored key frames", float(n), float(registry.samples))
        unparsed = 100 * samples.unparsed / n if samples and n else float("nan")
        yield _at_most(f"{percent} % pruned: unparsed, %", unparsed, registry.unparsed_pct)
        for name in METRICS:
            mean = float(samples.metrics[name].mean()) if samples and n else float("nan")
            yield _at_most(f"{percent} % pruned: {name}", mean, getattr(limits, name))
    for percent, limits in all_limits.items():
        for name, ratios in (("flops_ratio", version.flops_ratio), ("speedup", version.speedup)):
            yield _at_least(f"{percent} % pruned: {name}", ratios.get(percent, float("nan")), getattr(limits, name))


def _paired(candidate: Evidence, champion: Evidence, params: Params) -> Iterator[Check]:
    bootstrap, margins = params.score_plans, params.registry.margins
    for name in ("encoder", "protocol"):
        expected, got = getattr(champion, name), getattr(candidate, name)
        yield Check(f"same {name} as the champion", expected, got, expected == got)
    for percent in params.grid.percents:
        ours, theirs = candidate.samples.get(percent), champion.samples.get(percent)
        if not ours or not theirs or not ours.tokens:
            yield Check(f"{percent} % pruned: same key frames as the champion", "some", "none", False)
            continue
        shared = shared_samples(ours, theirs)
        got, expected = f"{len(shared)}, {len(theirs.tokens)} of the champion", f"all {len(ours.tokens)}"
        same = len(shared) == len(ours.tokens) == len(theirs.tokens)
        yield Check(f"{percent} % pruned: same key frames as the champion", expected, got, same)
        if not shared:
            continue
        at, there = (np.array(index) for index in zip(*shared, strict=True))
        scenes = [ours.scenes[i] for i in at]
        for name in METRICS:
            pair = ours.metrics[name][at], theirs.metrics[name][there]
            mean, low, high = paired_difference(*pair, scenes, bootstrap.resamples, bootstrap.seed)
            row = f"{percent} % pruned: {name} - champion's, upper end of 95 %"
            got, margin = f"{high:+.3f} (mean {mean:+.3f}, from {low:+.3f})", getattr(margins, name)
            yield Check(row, f"at most {margin:+.3f}", got, high <= margin)


def shared_samples(ours: Samples, theirs: Samples) -> list[tuple[int, int]]:
    """Return index pairs of equal key frames with equal error of the unpruned driver: same truth, images and driver."""
    there = {token: i for i, token in enumerate(theirs.tokens)}
    pairs = [(i, there[token]) for i, token in enumerate(ours.tokens) if token in there]
    return [(i, j) for i, j in pairs if abs(ours.unpruned_cm[i] - theirs.unpruned_cm[j]) < SAME_CM]


def _at_most(rule: str, value: float, limit: float) -> Check:
    return Check(rule, f"at most {limit:g}", _number(value), value <= limit)


def _at_least(rule: str, value: float, limit: float) -> Check:
    return Check(rule, f"at least {limit:g}", _number(value), value >= limit)


def _number(value: float) -> str:
    return "nothing" if value != value else f"{value:.4g}"
