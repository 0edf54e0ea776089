"""The benchmark at the true shapes: what it counts holds without a GPU; what it times is told, not asserted."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from token_views import mapped

from stages.efficiency import bench_pruning
from stages.efficiency.bench_pruning import RULERS, TRAINED, bench, choice, load, main, random_view
from stages.efficiency.traced import trace
from stages.pruning import base
from stages.pruning.base import Kept, Pruner, TokenView
from stages.pruning.view import VisionFacts

METHODS = [name for name in base.available() if name not in RULERS]


@pytest.fixture(scope="module")
def view() -> TokenView:
    return random_view(torch.device("cpu"), torch.float32)


def small(view: TokenView, N: int = 60) -> TokenView:
    """The first tokens of the view: the full width, quick to choose from."""
    attention, vision = view.attention, view.vision
    assert attention is not None
    assert vision is not None
    return replace(
        view,
        tokens=view.tokens[:, :N],
        grids=((6, 10),),
        positions=view.positions[:, :, :N],
        foreground=view.foreground[:, :N],
        vision=VisionFacts(vision.importance[:, :N], vision.features[:, :N]),
        inputs=view.inputs[:, :N],
        attention=lambda n: attention(n)[..., :N],
    )


@pytest.mark.parametrize("name", METHODS)
def test_no_method_makes_the_host_wait_between_scoring_and_gather(name: str, view: TokenView) -> None:
    part = small(view)
    with torch.no_grad():  # not in inference mode, where `item` and `where` are dispatched whole
        seen = trace(choice(load(name), part, 60 if name == "none" else 15))
    assert seen.waits == {}
    assert seen.peak_bytes > 15 * 2048 * 4


# random_keep draws on the host, by name; the trained network runs on the meta device in test_pruner_costs.py
@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("random_keep", *TRAINED)])
def test_no_method_looks_at_a_number_on_its_way(name: str, view: TokenView) -> None:
    """Tensors on the meta device hold none: `.tolist()`, `.cpu()` and `.numpy()` fail on them."""
    part = mapped(small(view), lambda tensor: tensor.to("meta"))
    with torch.inference_mode():
        kept = load(name).select(part, 60 if name == "none" else 15)
    assert kept.indices.device.type == "meta"


def test_a_call_that_waits_is_told_with_the_operator_that_did() -> None:
    numbers = torch.arange(6.0)
    assert trace(lambda: float(numbers[2])).waits == {"_local_scalar_dense": 1}
    assert trace(lambda: numbers[numbers > 2]).host_waits == 1
    assert trace(lambda: numbers.nonzero()).waits == {"nonzero": 1}
    assert trace(lambda: numbers.sort().values[:3] * 2).host_waits == 0


class Asks(Pruner):
    """Looks at a number, as no method may."""

    def select(self, view: TokenView, K: int) -> Kept:
        first = int(torch.where(view.tokens[0, :, 0] > -9)[0][0])
        return Kept(torch.arange(first, first + K)[None])


def test_the_table_tells_the_waits_of_a_method_that_looks(monkeypatch: pytest.MonkeyPatch, view: TokenView) -> None:
    monkeypatch.setattr(bench_pruning, "load", lambda name: Asks())
    monkeypatch.setattr(bench_pruning, "ROUNDS", 1)
    rows = bench("asks", small(view))["rows"]
    assert {row["host_waits"] for row in rows.values()} == {2}  # the size of what `where` finds, and the number


def test_peak_memory_is_that_of_what_is_held_at_once() -> None:
    def call() -> None:
        for _ in range(5):
            torch.zeros(1000)  # let go at once
        held = [torch.zeros(1000) for _ in range(2)]
        del held

    assert trace(call).peak_bytes == 2 * 4000


def test_without_names_it_measures_every_method_and_writes_on_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view: TokenView, capsys
) -> None:
    part = small(view)
    monkeypatch.setattr(bench_pruning, "random_view", lambda device, dtype: part)
    monkeypatch.setattr(bench_pruning, "ROUNDS", 1)
    monkeypatch.setattr(sys, "argv", ["bench", "--out", str(tmp_path / "bench.json")])
    main()
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["shapes"]["grid"] == [57, 57]
    assert list(written["methods"]) == METHODS
    for method in written["methods"].values():
        assert method["machine"]["threads"] >= 1
        assert all(row["host_waits"] == 0 and row["n"] == 1 for row in method["rows"].values())
    printed = capsys.readouterr().out
    assert all(f"\n{name} " in printed for name in METHODS)


def test_an_unknown_method_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "divprun"])
    with pytest.raises(SystemExit):
        main()
    assert "divprune" in capsys.readouterr().err
