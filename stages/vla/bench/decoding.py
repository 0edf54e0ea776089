"""Answer tokens one by one, after the whole prompt and pruned ones: eager on a cache that grows, and captured."""

from functools import partial
from typing import Any

import torch

from stages.backbone.qwen import Cache
from stages.vla.bench.subject import Subject
from stages.vla.bench.timing import Call, Variants, timed
from stages.vla.fast.static_cache import rounded_up
from stages.vla.fast.workspace import Workspace
from stages.vla.host import Prefilled, decode_step


def decoding(subject: Subject, seconds: float, B: int = 1) -> dict[str, Any]:
    """`told` tokens a call, for B rows. What the cache holds is drawn: its numbers cost what real ones do."""
    variants = Variants()
    percents = (0, max(subject.sizes.percents)) if B > 1 else (0, *subject.sizes.percents)
    for name, tuned in (("graph", False), ("tuned graph", True)):
        workspace = filled(subject, B, tuned=tuned)
        for percent in percents:
            variants.add(f"{name} {percent}", partial(captured, subject, workspace, subject.length(percent)))
    for percent in (0, max(subject.sizes.percents)):
        variants.add(f"eager {percent}", partial(grown, subject, B, subject.length(percent)))
    return timed(variants, seconds) | {
        "told": subject.sizes.told,
        "batch": B,
        "tuned": subject.choices(B, tuned=True).one_row,
    }


def filled(subject: Subject, B: int, *, tuned: bool) -> Workspace:
    """Memory for the whole prompt, full of drawn numbers."""
    options = subject.options(B, tuned=tuned)
    places = rounded_up(subject.length(0) + options.room)
    workspace = Workspace(subject.weights(tuned=tuned), options, B, places)
    for part in (workspace.cache.keys, workspace.cache.values):
        part.normal_()
    return workspace


def captured(subject: Subject, workspace: Workspace, length: int) -> Call:
    """The replayed step, from a prompt of `length` tokens on."""
    run, answer = workspace.teller(length), workspace.answer
    answer.begin(answer.token, length, length, (-1,))

    def call() -> None:
        answer.place.fill_(length)
        answer.told.zero_()
        for _ in range(subject.sizes.told):
            run()

    return call


def grown(subject: Subject, B: int, length: int) -> Call:
    """The reference host's step, from a prompt of `length` tokens on."""
    shape = subject.shape
    config = subject.model.config.get_text_config()
    cache, sizes = Cache(config=config), (B, shape.kv_heads, length, shape.width // shape.heads)
    for layer in range(config.num_hidden_layers):
        drawn = (torch.randn(sizes, device=subject.device, dtype=subject.dtype) for _ in range(2))
        cache.update(*drawn, layer)
    logits = torch.zeros(B, config.vocab_size, device=subject.device)
    nothing = torch.zeros(B, 0, dtype=torch.int64, device=subject.device)
    prefilled = Prefilled(logits, cache, length, length, 0, nothing)

    def call() -> None:
        if surplus := cache.get_seq_length() - length:
            cache.crop(-surplus)
        token = logits.argmax(dim=-1)
        for step in range(subject.sizes.told):
            token = decode_step(subject.model, prefilled, token, step)

    return call
