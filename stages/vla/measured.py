"""The record of a measured request: its phases, how near each comes to the machine's ceilings, what choosing saves."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from stages.backbone.qwen import Cache
from stages.backbone.tokens import keep_count
from stages.efficiency.flops import decode_bytes
from stages.efficiency.latency import AGAIN, measure
from stages.efficiency.roofline import Ceilings, ceilings, share
from stages.efficiency.shapes import LanguageShape
from stages.pruning.base import Pruner
from stages.vla.cutting import cuts_inside
from stages.vla.phases import Request, phases

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


def measured(
    asked: Request,
    pruners: Mapping[int, Pruner],
    table: Mapping[str, Any],
    language: LanguageShape,
    pairs: int,
    seed: int,
) -> Record:
    """Every phase of `asked` at each ratio of `pruners` (in percent, no pruning first), measured in this process.

    `table` holds the driver's FLOPs by ratio (`accounts.account`), `language` the shape they were counted at; `seed` is
    that of the bootstrap over rounds.
    """
    weight = next(asked.driver.model.parameters())
    ceiling = ceilings(weight.device, weight.dtype)
    record = measure(phases(asked, pruners), pairs, seed)
    found, counted = record["phases"], {row["percent"]: row for row in table["rows"]}
    for timing in found["decode"]["timings"].values():
        timing["per_token_ms"] = timing["median_ms"] / (asked.answer_tokens - 1)
    reached, choices = {}, {}
    for percent, pruner in pruners.items():
        row, name = counted[percent], str(percent)
        inside = cuts_inside(pruner, table["tokens"], keep_count(table["tokens"], percent), asked.layers)
        ratio = ratio_of(found, name, inside, row["flops"])
        context = [kept + asked.text_tokens for kept in row["tokens_by_layer"]]
        reached[name] = of_ceiling(ratio, ceiling, decode_bytes(language, context, weight.element_size()))
        peak = found["choose"]["peak_bytes"][name]
        choices[name] = choosing(ratio, found["prefill"]["timings"][UNPRUNED]["median_ms"]) | {"peak_bytes": peak}
    about = {"setting": setting_of(asked), "ceilings": asdict(ceiling), "of_ceiling": reached, "choosing": choices}
    return record | about


def setting_of(asked: Request) -> Record:
    """What all variants have in common: one model, one kind of cache, one batch."""
    weight = next(asked.driver.model.parameters())
    return {
        "attention": asked.driver.model.config.get_text_config()._attn_implementation,
        "cache": Cache.__name__,
        "dtype": str(weight.dtype).removeprefix("torch."),
        "device": weight.device.type,
        "batch": len(asked.images),
        "text_tokens": asked.text_tokens,
        "answer_tokens": asked.answer_tokens,
    }


def ratio_of(found: Mapping[str, Any], name: str, inside: bool, flops: Mapping[str, int]) -> Ratio:
    """The timings of `measure` by phase, read at the ratio `name`."""
    median = {phase: {key: t["median_ms"] for key, t in part["timings"].items()} for phase, part in found.items()}
    vision = median["vision"]
    watched = next((ms for key, ms in vision.items() if key not in (UNPRUNED, AGAIN)), vision[UNPRUNED])
    return Ratio(
        vision_ms=watched if flops["watch"] else vision[UNPRUNED],
        watch_ms=watched - vision[UNPRUNED] if flops["watch"] else 0.0,
        choose_ms=median["choose"][name],
        prefill_ms=median["prefill"][name],
        token_ms=found["decode"]["timings"][name]["per_token_ms"],
        inside=inside,
        flops=flops,
    )


def of_ceiling(ratio: Ratio, ceiling: Ceilings, token_bytes: int) -> dict[str, float]:
    """Which part of the measured ceilings vision, prefill and decode reach.

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
    """What choosing costs beside what it saves of the prefill; a choice inside is taken out of the measured prefill."""
    choice_ms = ratio.choose_ms + ratio.watch_ms
    saved_ms = unpruned_prefill_ms - ratio.prefill_ms + ratio.inside * ratio.choose_ms
    return {
        "choose_ms": ratio.choose_ms,
        "watch_ms": ratio.watch_ms,
        "choose_flops": ratio.flops["pruner"],
        "prefill_saved_ms": saved_ms,
        "net_saved_ms": saved_ms - choice_ms,
    }
