"""Sections `registry` and `drift` of params.yaml: what a version must show, and when its data is no longer ours."""

from typing import Annotated

from pydantic import Field

from stages.core.sections import Name, Positive, Section


class Averages(Section):
    """One number for each planning metric: the average over 1, 2 and 3 s."""

    l2_cm: Annotated[float, Field(ge=0)]
    collision_pct: Annotated[float, Field(ge=0)]
    intersection_pct: Annotated[float, Field(ge=0)]


class Ratio(Averages):
    """What the gate asks of a pruner at one prune ratio: at most so much error, at least so much saved."""

    flops_ratio: Annotated[float, Field(ge=0)]  # unpruned / pruned at the paper's shapes, vision counted
    speedup: Annotated[float, Field(ge=0)]  # unpruned / pruned, measured end to end


class Registry(Section):
    """MLflow's registry, and the gate that a version passes before it may be the champion."""

    name: Name  # of the registered model
    auto: bool  # may `flows.promote --auto` promote what the gate passed, without a person?
    samples: Positive  # fewer scored key frames prove nothing
    unparsed_pct: Annotated[float, Field(ge=0, le=100)]  # answers without a plan, at most
    limits: dict[str, Ratio]  # by prune ratio in percent
    margins: Averages  # upper end of the 95 % interval of candidate - champion on the same frames, at most


class Drift(Section):
    """How far means over the canary scenes may move from the champion's day; further is drift."""

    canary: list[str] | None  # scenes with masks and scores; null: all that are scored
    foreground_share: Annotated[float, Field(ge=0, le=1)]
    saliency_entropy: Annotated[float, Field(ge=0, le=1)]  # 1 is equal scores everywhere
    l2_cm: Annotated[float, Field(ge=0)]
