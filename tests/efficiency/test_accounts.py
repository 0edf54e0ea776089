"""Rows of the efficiency table at the paper's shapes."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from transformers import Qwen2_5_VLConfig

from stages.efficiency.flops import PAPER_MODEL, account, accountings, as_metrics
from stages.pruning.base import Pruner

GRID = (57, 57)


@dataclass(frozen=True)
class Priced(Pruner):
    """Selects nothing, costs `fixed` FLOPs and `layers` decoder layers over the image and a query."""

    fixed: int = 0
    layers: int = 0

    def select(self, view, K):
        raise NotImplementedError

    def flops(self, N, K, D, layer_flops, L=0):
        return self.fixed + self.layers * layer_flops(N + 1)


@pytest.fixture(scope="module")
def paper() -> Qwen2_5_VLConfig:
    return Qwen2_5_VLConfig(**json.loads(PAPER_MODEL.read_text()))


def rows_of(paper: Qwen2_5_VLConfig, percents: list[int], pruner: Pruner) -> list[dict[str, Any]]:
    return account(paper, GRID, 100, percents, pruner)["rows"]


def test_tokens_kept_are_the_papers(paper):
    rows = rows_of(paper, [25, 50, 75], Priced())
    assert [(row["percent"], row["tokens_kept"]) for row in rows] == [(0, 3249), (25, 2436), (50, 1624), (75, 812)]


def test_three_quarters_pruned_with_reconpruner_is_3_7_times_less_without_the_vision_tower(paper):
    last = rows_of(paper, [75], Priced(layers=1))[-1]
    assert last["ratio"]["without_vision"] == pytest.approx(3.71, abs=0.01)  # the paper prints 7.5
    assert last["ratio"]["with_vision"] == pytest.approx(1.61, abs=0.01)


def test_unpruned_row_has_ratio_one_and_pays_for_no_pruner(paper):
    first = rows_of(paper, [50], Priced(fixed=10**12))[0]
    assert first["flops"]["pruner"] == 0
    assert set(first["ratio"].values()) == {1.0}


def test_a_pruner_that_costs_more_than_it_saves_shows_a_ratio_below_one(paper):
    assert rows_of(paper, [25], Priced(fixed=10**13))[1]["ratio"]["without_vision"] < 1


def test_metrics_are_rounded_numbers_by_prune_ratio(paper):
    metrics = as_metrics(account(paper, GRID, 100, [75], Priced()))
    assert metrics["pruned_0"]["with_vision_tflops"] == 42.1189  # 20.2268 vision + 21.8915 decoder + 0.0006 head
    assert metrics["pruned_75"]["without_vision_ratio"] == pytest.approx(4.13, abs=0.01)


def test_components_are_summed_in_every_usual_way():
    parts = {"vision": 1000, "pruner": 100, "llm_linears": 40, "llm_attention": 8, "llm_attention_causal": 5}
    found = accountings({**parts, "lm_head_last": 2, "lm_head_all": 20}, 7)
    assert len(found) == 2 * 2 * 3 * 2
    assert {row["prompt_tokens"] for row in found} == {7}
    totals = {(row["unit"], row["vision"], row["attention"], row["lm_head"]): row["total"] for row in found}
    assert totals["flop", True, "full", "last"] == 1150
    assert totals["mac", True, "full", "last"] == 575
    assert totals["flop", False, "causal", "last"] == 147
    assert totals["flop", False, "none", "all"] == 160


def test_a_method_that_has_the_tower_watched_pays_for_it(paper):
    class Watching(Priced):
        needs_vision = True

    free, watching = (rows_of(paper, [75], pruner)[-1]["flops"] for pruner in (Priced(), Watching()))
    assert watching["pruner"] - free["pruner"] == watching["watch"] == 560_129_679_360
    assert watching["without_vision"] - free["without_vision"] == watching["watch"]
