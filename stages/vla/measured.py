"""The phases of one answered request, measured: how near each comes to the machine's ceilings."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from stages.backbone.qwen import Cache
from stages.backbone.tokens import gather_positions, gather_tokens, keep_count
from stages.efficiency.flops import decode_bytes
from stages.efficiency.latency import AGAIN, ceilings, measure, share
from stages.pruning.base import Kept, Pruner, TokenView
from stages.pruning.none import Pruner as Unpruned
from stages.scenes.base import Frame
from stages.vla.base import QwenDriver
from stages.vla.cutting import cuts_inside
from stages.vla.prefill import Chosen, Prefilled, decode, language_logits, prefill, pruned_prompt

Record = dict[str, Any]
Call = Callable[[], object]
UNPRUNED = "0"
WATCHED = "watched"  # the vision pass of pruners that need what the tower knows of each token
NEVER = -1  # no token id: an answer never ends early, so that every variant decodes equally long


class Request:
    """One image with its prompt, answered by `answer_tokens` tokens, taken apart."""

    def __init__(self, driver: QwenDriver, frame: Frame, answer_tokens: int) -> None:
        self.driver, self.frame, self.answer_tokens = driver, frame, answer_tokens
        self.images, self.prompt = driver.images([frame]), driver.ask([frame])
        self.layers = len(driver.model.model.language_model.layers)
        self.text_tokens = sum(self.prompt.lengths)

    def see(self, pruner: Pruner) -> TokenView:
        """Return the visual tokens, with what the tower knows of them where `pruner` needs it."""
        return self.driver.view(self.images, (self.frame.token,), self.prompt, watched=pruner.needs_vision)

    def read(self, view: TokenView, pruner: Pruner, K: int, kept: Kept | None) -> Prefilled:
        """Gather the kept tokens and read the prompt; without a choice made before it, choose on the way."""
        return prefill(self.driver.model, view, pruner if kept is None else Chosen(kept), K, self.prompt)

    def answer(self, prefilled: Prefilled) -> Tensor:
        """Decode; first the cache is cut back to the prompt, so that the call can be repeated."""
        surplus = prefilled.cache.get_seq_length() - prefilled.length
        if surplus:
            prefilled.cache.crop(-surplus)
        return decode(self.driver.model, prefilled, self.answer_tokens, (NEVER,))

    def chosen(self, pruner: Pruner, percent: int) -> tuple[tuple[TokenView, int], ...]:
        """Return what the pruner is shown and how many tokens it is to keep, at each of its cuts."""
        view = self.see(pruner)
        N = view.tokens.shape[1]
        K = keep_count(N, percent)
        if cuts_inside(pruner, N, K, self.layers):
            return self.read(view, pruner, K, None).shown
        return ((view, K),)

    def calls(self, pruner: Pruner, K: int) -> dict[str, Call]:
        """Return calls by phase: preprocess, vision, choose (score, select, gather), prefill, decode, end_to_end.

        `prefill` reads a prompt that lies ready. A pruner inside the language model chooses during the prefill, which
        then holds it too; `choose` is the same choice once more, by itself. `end_to_end` is the eager host as it
        serves, with its checks.
        """
        driver, view = self.driver, self.see(pruner)
        inside = cuts_inside(pruner, view.tokens.shape[1], K, self.layers)
        kept = None if inside else pruner.select(view, K)
        prefilled = self.read(view, pruner, K, kept)
        chosen = prefilled.shown if inside else ((view, K),)
        ready = None if kept is None else pruned_prompt(driver.model, view, kept, self.prompt)

        def choose(view: TokenView, K: int) -> tuple[Tensor, Tensor]:
            kept = pruner.select(view, K)
            return gather_tokens(view.tokens, kept.indices), gather_positions(view.positions, kept.indices)

        def prefill_once() -> object:
            if ready is None:
                return self.read(view, pruner, K, None)
            return language_logits(driver.model, *ready, Cache(config=driver.model.config.get_text_config()))

        def serve() -> Tensor:
            fresh = self.see(pruner)
            return self.answer(self.read(fresh, pruner, K, None if inside else pruner.select(fresh, K)))

        return {
            "preprocess": lambda: (driver.images([self.frame]), driver.ask([self.frame])),
            "vision": lambda: self.see(pruner),
            "choose": lambda: [choose(*cut) for cut in chosen],
            "prefill": prefill_once,
            "decode": lambda: self.answer(prefilled),
            "end_to_end": serve,
        }


def phases(request: Request, variants: Mapping[str, tuple[Pruner, int]]) -> dict[str, dict[str, Call]]:
    """Return calls by phase, then by variant, a pruner at a prune ratio in percent; no pruning first.

    Preparing the image is one call. So is the vision pass, and one more for pruners that have the tower watched:
    nothing else changes it.
    """
    first = next(iter(variants))
    N = request.see(variants[first][0]).tokens.shape[1]
    calls = {name: request.calls(pruner, keep_count(N, percent)) for name, (pruner, percent) in variants.items()}
    by_phase = {phase: {name: each[phase] for name, each in calls.items()} for phase in calls[first]}
    vision = {first: by_phase["vision"][first]}
    watched = [by_phase["vision"][name] for name, (pruner, _) in variants.items() if pruner.needs_vision]
    if watched:
        vision[WATCHED] = watched[0]
    return by_phase | {"preprocess": {first: by_phase["preprocess"][first]}, "vision": vision}


def measured(
    request: Request, methods: Mapping[str, tuple[Pruner, Record]], pairs: int, seed: int
) -> dict[str, Record]:
    """Measure every phase of `request` with each method at each ratio, interleaved; return a record per method.

    A method is its pruner and the driver's FLOPs by ratio (`flops.account`); `seed` is that of the bootstrap over
    rounds.
    """
    driver, unpruned = request.driver, Unpruned()
    weight, text = next(driver.model.parameters()), driver.model.config.get_text_config()
    ceiling = ceilings(weight.device, weight.dtype)
    variants: dict[str, tuple[Pruner, int]] = {UNPRUNED: (unpruned, 0)}
    for name, (pruner, table) in methods.items():
        variants |= {f"{name}/{row['percent']}": (pruner, row["percent"]) for row in table["rows"] if row["percent"]}
    record = measure(phases(request, variants), pairs, seed)
    for timing in record["phases"]["decode"]["timings"].values():
        timing["per_token_ms"] = timing["median_ms"] / (request.answer_tokens - 1)
    # What all variants have in common: one model, one kind of cache, one batch
    setting = {
        "attention": text._attn_implementation,
        "cache": Cache.__name__,
        "dtype": str(weight.dtype).removeprefix("torch."),
        "device": weight.device.type,
        "batch": len(request.images),
        "text_tokens": request.text_tokens,
        "answer_tokens": request.answer_tokens,
    }
    record |= {"setting": setting, "ceilings": ceiling}
    number_bytes, records = weight.element_size(), {}
    for name, (pruner, table) in methods.items():
        keys = [str(row["percent"]) for row in table["rows"]]
        timed = _of_method(name, keys[1:], pruner.needs_vision, record["phases"])
        reached = {}
        for key, row in zip(keys, table["rows"], strict=True):
            chooses = pruner if row["percent"] else unpruned
            inside = cuts_inside(chooses, table["tokens"], row["tokens_kept"], request.layers)
            context = [kept + request.text_tokens for kept in row["tokens_by_layer"]]
            token_bytes = decode_bytes(text, context, number_bytes)
            reached[key] = of_ceiling(timed, key, row["flops"], ceiling, token_bytes, inside=inside)
        records[name] = record | {"phases": timed, "of_ceiling": reached}
    return records


def _of_method(name: str, ratios: Sequence[str], watched: bool, all_phases: Mapping[str, Any]) -> Record:
    """The phases with the variants of one method, under their ratios."""
    names = {UNPRUNED: UNPRUNED, AGAIN: AGAIN} | {f"{name}/{ratio}": ratio for ratio in ratios}
    if ratios and watched:
        names |= {WATCHED: ratios[0]}
    timed: Record = {}
    for phase, part in all_phases.items():
        timed[phase] = dict(part)
        for key in ("timings", "speedups", "peak_bytes"):
            timed[phase][key] = {names[variant]: value for variant, value in part[key].items() if variant in names}
    return timed


def _vision_ms(timed: Mapping[str, Any], flops: Mapping[str, int]) -> float:
    """Return the vision pass, watched where the method needs it."""
    plain, *watched = (t["median_ms"] for key, t in timed["vision"]["timings"].items() if key != AGAIN)
    return float(watched[0] if flops["watch"] and watched else plain)


def of_ceiling(
    timed: Mapping[str, Any], key: str, flops: Mapping[str, int], ceiling: Record, token_bytes: int, *, inside: bool
) -> dict[str, float]:
    """Return the part of the measured ceilings that vision, prefill and decode reach at the ratio `key`.

    Products in all three, and in decode the bytes that a token reads at least (`token_bytes`). `inside`: the method
    chooses between decoder layers, so that the prefill holds the choice.
    """
    products, token_ms = ceiling["matmul_flops_per_s"], timed["decode"]["timings"][key]["per_token_ms"]
    read = flops["llm"] + flops["lm_head_last"] + inside * flops["pruner"]
    return {
        "vision_flops": share(flops["vision"] + flops["watch"], _vision_ms(timed, flops), products),
        "prefill_flops": share(read, timed["prefill"]["timings"][key]["median_ms"], products),
        "decode_flops": share(flops["decode_token"], token_ms, products),
        "decode_bytes": share(token_bytes, token_ms, ceiling["copy_bytes_per_s"]),
    }
