"""The record of a measured request: its phases, how near each comes to the machine's ceilings, what choosing saves."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stages.backbone.qwen import Cache
from stages.backbone.tokens import keep_count
from stages.efficiency.flops import LanguageShape, decode_bytes
from stages.efficiency.latency import AGAIN, Ceilings, ceilings, measure, share
from stages.pruning.base import Pruner
from stages.pruning.none import Pruner as Unpruned
from stages.vla.cutting import cuts_inside
from stages.vla.phases import WATCHED, Request, Variant, phases

Record = dict[str, Any]
UNPRUNED = "0"


@dataclass(frozen=True)
class Ratio:
    """Medians in ms at one prune ratio, beside its FLOPs."""

    vision_ms: float
    watch_ms: float  # what the tower takes longer to be watched for the method
    choose_ms: float
    prefill_ms: float
    token_ms: float
    inside: bool  # does the method choose between decoder layers, so that the prefill holds the choice?
    flops: Mapping[str, int]  # of accounts.account, by component


@dataclass(frozen=True)
class Method:
    """A pruner that is measured at several prune ratios."""

    pruner: Pruner
    percents: Sequence[int]
    table: Mapping[str, Any]  # the driver's FLOPs by ratio (`accounts.account`)


def measured(
    request: Request, methods: Mapping[str, Method], language: LanguageShape, pairs: int, seed: int
) -> dict[str, Record]:
    """Measure every phase of `request` with each method at each ratio, interleaved in this process.

    A record per method.

    `language` is the shape that FLOPs were counted at; `seed` is that of the bootstrap over rounds.
    """
    weight = next(request.driver.model.parameters())
    ceiling = ceilings(weight.device, weight.dtype)
    variants = {UNPRUNED: Variant(Unpruned(), 0)} | {
        f"{name}/{percent}": Variant(method.pruner, percent)
        for name, method in methods.items()
        for percent in method.percents
    }
    record = measure(phases(request, variants), pairs, seed)
    for timing in record["phases"]["decode"]["timings"].values():
        timing["per_token_ms"] = timing["median_ms"] / (request.answer_tokens - 1)
    about = {"setting": setting_of(request), "ceilings": asdict(ceiling)}
    return {
        name: record | about | _of_method(name, method, record["phases"], ceiling, request, language)
        for name, method in methods.items()
    }


def _of_method(
    name: str,
    method: Method,
    all_phases: Mapping[str, Any],
    ceiling: Ceilings,
    request: Request,
    language: LanguageShape,
) -> Record:
    own = {UNPRUNED: UNPRUNED, AGAIN: AGAIN} | {f"{name}/{percent}": str(percent) for percent in method.percents}
    if method.percents and method.pruner.needs_vision:
        own |= {WATCHED: str(method.percents[0])}
    timed = {phase: _selected(part, own) for phase, part in all_phases.items()}
    counted = {row["percent"]: row for row in method.table["rows"]}
    number_bytes = next(request.driver.model.parameters()).element_size()
    reached, choices = {}, {}
    for percent in (0, *method.percents):
        row, key, N = counted[percent], str(percent), method.table["tokens"]
        pruner = method.pruner if percent else Unpruned()
        inside = cuts_inside(pruner, N, keep_count(N, percent), request.layers)
        ratio = ratio_of(timed, key, inside, row["flops"])
        context = [kept + request.text_tokens for kept in row["tokens_by_layer"]]
        reached[key] = of_ceiling(ratio, ceiling, decode_bytes(language, context, number_bytes))
        peak = timed["choose"]["peak_bytes"][key]
        choices[key] = choosing(ratio, timed["prefill"]["timings"][UNPRUNED]["median_ms"]) | {"peak_bytes": peak}
    return {"phases": timed, "of_ceiling": reached, "choosing": choices}


def _selected(phase: Mapping[str, Any], names: Mapping[str, str]) -> Record:
    """Return the part of a phase about some variants, under other names."""
    parts = {
        key: {names[name]: value for name, value in phase[key].items() if name in names}
        for key in ("timings", "speedups", "peak_bytes")
    }
    return {**phase, **parts}


def setting_of(request: Request) -> Record:
    """Return what all variants have in common: one model, one kind of cache, one batch."""
    weight = next(request.driver.model.parameters())
    return {
        "attention": request.driver.model.config.get_text_config()._attn_implementation,
        "cache": Cache.__name__,
        "dtype": str(weight.dtype).removeprefix("torch."),
        "device": weight.device.type,
        "batch": len(request.images),
        "text_tokens": request.text_tokens,
        "answer_tokens": request.answer_tokens,
    }


def ratio_of(timed: Mapping[str, Any], name: str, inside: bool, flops: Mapping[str, int]) -> Ratio:
    """The timings of `measure` by phase, read at the ratio `name`."""
    median = {phase: {key: t["median_ms"] for key, t in part["timings"].items()} for phase, part in timed.items()}
    vision = median["vision"]
    watched = next((ms for key, ms in vision.items() if key not in (UNPRUNED, AGAIN)), vision[UNPRUNED])
    return Ratio(
        vision_ms=watched if flops["watch"] else vision[UNPRUNED],
        watch_ms=watched - vision[UNPRUNED] if flops["watch"] else 0.0,
        choose_ms=median["choose"][name],
        prefill_ms=median["prefill"][name],
        token_ms=timed["decode"]["timings"][name]["per_token_ms"],
        inside=inside,
        flops=flops,
    )


def of_ceiling(ratio: Ratio, ceiling: Ceilings, token_bytes: int) -> dict[str, float]:
    """Return the part of the measured ceilings that vision, prefill and decode reach.

    Products in all three, and in decode the bytes that a token reads at least (`token_bytes`).
    """
    flops, products = ratio.flops, ceiling.matmul_flops_per_s
    read = flops["llm"] + flops["lm_head_last"] + ratio.inside * flops["pruner"]
    return {
        "vision_flops": share(flops["vision"] + flops["watch"], ratio.vision_ms, products),
        "prefill_flops": share(read, ratio.prefill_ms, products),
        "decode_flops": share(flops["decode_token"], ratio.token_ms, products),
        "decode_bytes": share(token_bytes, ratio.token_ms, ceiling.copy_bytes_per_s),
    }


def choosing(ratio: Ratio, unpruned_prefill_ms: float) -> Record:
    """Return costs and savings of choosing; a choice inside is taken out of the measured prefill."""
    choice_ms = ratio.choose_ms + ratio.watch_ms
    saved_ms = unpruned_prefill_ms - ratio.prefill_ms + ratio.inside * ratio.choose_ms
    return {
        "choose_ms": ratio.choose_ms,
        "watch_ms": ratio.watch_ms,
        "choose_flops": ratio.flops["pruner"],
        "prefill_saved_ms": saved_ms,
        "net_saved_ms": saved_ms - choice_ms,
    }
