"""The phases of a request, eager, captured as a driver is served, and tuned: tower, choice, prompt, first token."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from stages.backbone.vision import grouped
from stages.pruning.base import Pruner
from stages.tokens import gather_positions, gather_tokens
from stages.vla.bench.subject import First, Subject
from stages.vla.bench.timing import Call, Variants, timed
from stages.vla.fast.choices import SERVED, Choices, preferring
from stages.vla.fast.host import FastHost
from stages.vla.fast.runner import Runner, runner_on
from stages.vla.fast.vision import Encode, vision_of
from stages.vla.host import prefill


def vision(subject: Subject, seconds: float) -> dict[str, Any]:
    """Patch rows to visual tokens: the stock tower, grouped windows on it, ours captured."""
    variants, rows = Variants(), subject.rows()

    def stock() -> object:
        return subject.visual(rows, grid_thw=subject.grid_thw).pooler_output

    def in_groups() -> object:
        with grouped(subject.visual):
            return stock()

    variants.add("stock", lambda: stock)
    variants.add("grouped", lambda: in_groups)
    variants.add("graph", partial(see, subject, SERVED))
    for kernel in (None, "flash", "cudnn"):
        tuned = replace(subject.choices(tuned=True), kernel=kernel)
        variants.add(f"tuned graph, {kernel or 'as torch chooses'}", partial(see, subject, tuned))
    return timed(variants, seconds)


def see(subject: Subject, choices: Choices) -> Call:
    """The captured tower as a call."""
    return encoder(subject, choices)[1]


def encoder(subject: Subject, choices: Choices) -> tuple[Encode, Runner]:
    """The captured tower for the subject's image, whose rows it holds."""
    step = Encode(vision_of(subject.visual, pointwise=choices.pointwise), 1, subject.sizes.grid)
    step.rows.copy_(subject.rows())
    with preferring(choices.kernel):
        return step, runner_on(subject.device)(step)


def choosing(subject: Subject, seconds: float) -> dict[str, Any]:
    """Score, select and gather at the highest ratio: the trained network as it is, captured, and by our functions."""
    variants, K = Variants(), subject.K(max(subject.sizes.percents))
    run = runner_on(subject.device)
    variants.add("eager", lambda: Choice(subject, subject.pruner, K))
    variants.add("graph", lambda: run(Choice(subject, subject.scorer(), K)))
    variants.add("tuned graph", lambda: run(Choice(subject, subject.scorer(tuned=True), K)))
    variants.add("graph of the stock layer", lambda: run(Choice(subject, subject.pruner, K)))
    return timed(variants, seconds)


class Choice:
    """Score, select and gather as a step."""

    def __init__(self, subject: Subject, pruner: Pruner, K: int) -> None:
        self._view, self._pruner, self._K = subject.view, pruner, K
        self._found = subject.view.tokens.new_empty(0), subject.view.positions.new_empty(0)

    def __call__(self) -> None:
        view, kept = self._view, self._pruner.select(self._view, self._K)
        self._found = gather_tokens(view.tokens, kept.indices), gather_positions(view.positions, kept.indices)

    def left(self) -> Tensor:
        """The kept tokens."""
        return self._found[0]

    def spoil(self) -> None:
        """Choosing again begins where it began."""
        self._found[0].fill_(torch.nan)


def reading(subject: Subject, seconds: float) -> dict[str, Any]:
    """The prompt at each ratio: without and with the pruner, eager and captured, its beginning kept or read."""
    variants = Variants()
    plain, keeping = subject.host(), subject.host(keep_prefix=True)
    for percent in (0, *subject.sizes.percents):
        variants.add(f"graph {percent}", partial(launched, subject, plain, First(), percent))
        if percent:
            variants.add(f"graph {percent} + pruner", partial(launched, subject, plain, subject.scorer(), percent))
        pruner = subject.scorer() if percent else First()
        name = f"graph {percent}{' + pruner' if percent else ''}, prefix kept"
        variants.add(name, partial(launched, subject, keeping, pruner, percent))
    tuned = subject.host(tuned=True)
    for percent in (0, max(subject.sizes.percents)):
        pruner, name = (subject.scorer(tuned=True), " + pruner") if percent else (First(), "")
        variants.add(f"tuned graph {percent}{name}", partial(launched, subject, tuned, pruner, percent))
        variants.add(f"eager {percent}", partial(eager, subject, subject.pruner if percent else First(), percent))
    return timed(variants, seconds)


def launched(subject: Subject, host: FastHost, pruner: Pruner, percent: int) -> Call:
    """The captured step as a call that waits for nothing."""
    serving = subject.serving(host, pruner, percent)
    return lambda: serving.launch(subject.view.tokens, subject.prompt.after)


def eager(subject: Subject, pruner: Pruner, percent: int) -> Call:
    """The reference host: choose, then read."""
    view, prompt, K = subject.view, subject.prompt, subject.K(percent)
    return lambda: prefill(subject.model, view, pruner.select(view, K), K, prompt, "bench")


def first_token(subject: Subject, seconds: float) -> dict[str, Any]:
    """From pixels on the device to the first token, at each ratio."""
    variants, most = Variants(), max(subject.sizes.percents)
    for tuned, percents in ((False, (0, *subject.sizes.percents)), (True, (0, most))):
        host = subject.host(tuned=tuned)
        step, encode = encoder(subject, subject.choices(tuned=tuned))
        for percent in percents:
            pruner = subject.scorer(tuned=tuned) if percent else First()
            name = f"{'tuned ' if tuned else ''}graph {percent}"
            variants.add(name, partial(answered, subject, host, pruner, percent, step, encode))
    return timed(variants, seconds)


def answered(
    subject: Subject, host: FastHost, pruner: Pruner, percent: int, step: Encode, encode: Runner
) -> Callable[[], Tensor]:
    """Patch rows, tower, choice and prompt, the first token."""
    serving = subject.serving(host, pruner, percent)

    def call() -> Tensor:
        step.rows.copy_(subject.rows())
        encode()
        return serving.launch(step.tokens, subject.prompt.after).argmax(dim=-1)

    return call
