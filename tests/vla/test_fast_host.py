"""The fast host on the real class at dummy width: the eager host's tokens, whatever is pruned, kept or fused."""

from typing import Any

import pytest
import torch
from tiny_fast import SHAPES, D, N, make_kept, make_model, make_prompt, make_view

from stages.backbone.qwen import Model
from stages.errors import DataError
from stages.pruning.base import Kept
from stages.tokens import keep_count
from stages.vla import host
from stages.vla.fast.attention import ONE_ROW
from stages.vla.fast.choices import Choices
from stages.vla.fast.host import FastHost
from stages.vla.fast.runner import Eager
from stages.vla.fast.steps import Read
from stages.vla.fast.workspace import FastOptions, until_all_ended
from stages.vla.host import Prompt


@pytest.fixture(scope="module", params=list(SHAPES))
def model(request: Any) -> Model:
    return make_model(request.param)


def compare(model: Model, fast: FastHost, B: int, percent: int, prompt: Prompt, steps: int = 9, seed: int = 1) -> None:
    K = keep_count(N, percent)
    view, kept = make_view(B, seed), make_kept(B, K, seed)
    with torch.inference_mode():
        eager = host.prefill(model, view, kept, K, prompt, "test")
        wanted = host.decode(model, eager, steps, end=-1)
    ours = fast.prefill(view, kept, K, prompt, "test")
    torch.testing.assert_close(ours.logits, eager.logits, atol=1e-4, rtol=1e-4)
    told = (ours.next_position, ours.length, ours.pruned)
    assert told == (eager.next_position, eager.length, eager.pruned)
    assert torch.equal(ours.kept, eager.kept)
    assert fast.decode(ours, steps, (-1,)).tolist() == wanted.tolist()
    assert len(set(wanted.flatten().tolist())) > 2  # an answer of one token all over would tell nothing


@pytest.mark.parametrize("percent", [0, 25, 50, 75])
@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("keep_prefix", [True, False])
def test_tokens_are_those_of_the_eager_host(model: Model, B: int, percent: int, keep_prefix: bool) -> None:
    compare(model, FastHost(model, FastOptions(keep_prefix=keep_prefix)), B, percent, make_prompt(B))


@pytest.mark.parametrize("one_row", [name for name in ONE_ROW if name != "flash"])
@pytest.mark.parametrize("fused", [True, False])
def test_neither_does_a_choice_of_kernels_change_them(model: Model, one_row: str, fused: bool) -> None:
    compare(model, FastHost(model, FastOptions(choices=Choices(one_row=one_row), fused=fused)), 2, 50, make_prompt(2))


def test_one_host_answers_batch_after_batch_of_any_size(model: Model) -> None:
    fast = FastHost(model)
    for seed, (B, percent) in enumerate([(2, 75), (1, 0), (2, 0), (2, 75), (1, 25), (2, 50), (2, 0)]):
        compare(model, fast, B, percent, make_prompt(B, seed), seed=seed)


def test_beginnings_that_differ_between_rows_are_read_with_the_rest(model: Model) -> None:
    fast, prompt = FastHost(model), make_prompt(3, one_beginning=False)
    assert fast.prefix(prompt) is None
    compare(model, fast, 3, 50, make_prompt(3))
    compare(model, fast, 3, 50, prompt)
    compare(model, fast, 3, 50, make_prompt(3))  # the cache's beginning was written over meanwhile


def test_a_beginning_is_read_once_for_all_prompts(model: Model) -> None:
    fast = FastHost(model)
    first = fast.prefix(make_prompt(1))
    assert first is not None
    assert first.places == 3
    assert fast.prefix(make_prompt(4, seed=5)) is first


def test_merged_tokens_follow_the_kept_ones(model: Model) -> None:
    view, prompt = make_view(2), make_prompt(2)
    extra = torch.randn(2, 2, D, generator=torch.Generator().manual_seed(9))
    kept = Kept(make_kept(2, 5).indices, extra, view.positions[:, :, :2] + 1)
    with torch.inference_mode():
        eager = host.prefill(model, view, kept, 7, prompt, "test")
    ours = FastHost(model).prefill(view, kept, 7, prompt, "test")
    torch.testing.assert_close(ours.logits, eager.logits, atol=1e-4, rtol=1e-4)
    assert ours.kept.tolist() == eager.kept.tolist()
    assert ours.kept[:, 5:].tolist() == [[-1, -1]] * 2


@pytest.mark.parametrize("steps", [1, 2, 12])
def test_an_answer_stops_where_the_eager_one_does(model: Model, steps: int) -> None:
    view, prompt, fast = make_view(2), make_prompt(2), FastHost(model)
    kept = make_kept(2, N)
    with torch.inference_mode():
        free = host.decode(model, host.prefill(model, view, kept, N, prompt, "test"), 12, end=-1)
        ends = {int(token) for token in free[0]} & {int(token) for token in free[1]} | {int(free[0, 3])}
        for end in ends:
            wanted = host.decode(model, host.prefill(model, view, kept, N, prompt, "test"), steps, end)
            ours = fast.decode(fast.prefill(view, kept, N, prompt, "test"), steps, (end,))
            assert ours.tolist() == wanted.tolist()


def test_rows_are_done_when_the_last_of_them_is() -> None:
    assert until_all_ended(torch.tensor([[1, 9, 9, 9], [1, 2, 9, 9]]), (9,)) == 3
    assert until_all_ended(torch.tensor([[1, 9, 9, 9], [1, 2, 3, 4]]), (9,)) == 4
    assert until_all_ended(torch.tensor([[9], [8]]), (9, 8)) == 1


def test_a_prompt_can_be_answered_again_but_not_after_another_was_read(model: Model) -> None:
    view, prompt, fast = make_view(1), make_prompt(1), FastHost(model)
    first = fast.prefill(view, make_kept(1, 6), 6, prompt, "test")
    once, again = (fast.decode(first, 6, (-1,)) for _ in range(2))
    assert torch.equal(once, again)
    fast.prefill(view, make_kept(1, 7), 7, prompt, "test")
    with pytest.raises(DataError, match="an earlier one"):
        fast.decode(first, 6, (-1,))


def test_the_post_conditions_of_a_choice_are_those_of_the_eager_host(model: Model) -> None:
    view, prompt, fast = make_view(1), make_prompt(1), FastHost(model)
    with pytest.raises(AssertionError, match="shady"):
        fast.prefill(view, Kept(torch.tensor([[0, 1]])), 3, prompt, "shady")
    with pytest.raises(AssertionError, match="shady: indices not unique"):
        fast.prefill(view, Kept(torch.tensor([[1, 0]])), 2, prompt, "shady")


def test_an_answer_longer_than_its_room_is_refused(model: Model) -> None:
    fast = FastHost(model, FastOptions(answer_tokens=6))
    read = fast.prefill(make_view(1), make_kept(1, 6), 6, make_prompt(1), "test")
    assert fast.decode(read, 6, (-1,)).shape == (1, 6)
    with pytest.raises(DataError, match="at most 6 tokens"):
        fast.decode(read, 7, (-1,))


def test_a_language_model_that_is_more_than_plain_is_refused(tiny_model: Model) -> None:
    tiny_model.config.get_text_config().hidden_act = "gelu"
    with pytest.raises(DataError, match="hidden_act gelu"):
        FastHost(tiny_model)


def test_of_several_ends_the_first_fills_up(model: Model) -> None:
    view, prompt, fast = make_view(2), make_prompt(2), FastHost(model)
    read = fast.prefill(view, make_kept(2, N), N, prompt, "test")
    free = fast.decode(read, 12, (-1,))
    ends = (127, int(free[0, 2]), int(free[1, 4]))
    told = fast.decode(fast.prefill(view, make_kept(2, N), N, prompt, "test"), 12, ends)
    for row, tokens in zip(free.tolist(), told.tolist(), strict=True):
        at = min(i for i, token in enumerate(row) if token in ends)
        assert tokens == row[: at + 1] + [127] * (told.shape[1] - at - 1)


def test_a_length_is_captured_when_it_comes_back_and_forgotten_when_many_others_do(model: Model) -> None:
    captured = list[object]()

    def runner_of(step: Any) -> Eager:
        if isinstance(step, Read):
            captured.append(step)
        return Eager(step)

    fast = FastHost(model, FastOptions(runner=runner_of, captures_after=1, kept_readers=2, bucket=1))
    counts = list[int]()
    for percent in (0, 0, 0, 50, 75, 50, 0):  # of two lengths the one that came last stays
        compare(model, fast, 1, percent, make_prompt(1))
        counts.append(len(captured))
    assert counts == [0, 1, 1, 1, 1, 2, 2]


def test_prompts_that_begin_otherwise_take_turns(model: Model) -> None:
    fast, one = FastHost(model), make_prompt(1)
    other = Prompt(one.before + 3, one.after)
    for prompt in (one, other, one):
        compare(model, fast, 1, 50, prompt)
