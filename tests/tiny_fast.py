"""Random models with different heads and sections, and prompts for them, for the fast host."""

import torch
from tiny import LANGUAGE, VISION

from stages.backbone.qwen import Model, build_model
from stages.pruning.base import Kept, TokenView
from stages.toy_driver.shape import config
from stages.vla.host import Prompt, token_view

GRID, N, D = (4, 6), 24, 48
SHAPES = {
    "one head of keys": {"heads": 4, "kv_heads": 1, "mrope_section": [1, 2, 3]},
    "groups of two": {"heads": 4, "kv_heads": 2, "mrope_section": [2, 2, 2]},
    "no groups": {"heads": 2, "kv_heads": 2, "mrope_section": [4, 5, 3]},
}


def make_model(shape: str) -> Model:
    torch.manual_seed(3)
    language = LANGUAGE | {"layers": 3, "width": D} | SHAPES[shape]
    fields = config(VISION, language, positions=256)
    # A head of its own: with tied embeddings a random model says one token over and over
    fields["tie_word_embeddings"] = fields["text_config"]["tie_word_embeddings"] = False
    model = build_model(fields)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.3 if parameter.ndim > 1 else 0.5))
        model.get_input_embeddings().weight.mul_(5)  # so that what was told last decides what comes next
    return model.eval()


def make_prompt(B: int, seed: int = 0, *, one_beginning: bool = True) -> Prompt:
    random = torch.Generator().manual_seed(seed)
    before = torch.tensor([[4, 7, 9]] * B)
    if not one_beginning:
        before[:, 1] = torch.arange(B) + 11
    return Prompt(before, torch.randint(5, 40, (B, 4), generator=random))


def make_view(B: int, seed: int = 1) -> TokenView:
    tokens = torch.randn(B, N, D, generator=torch.Generator().manual_seed(seed))
    return token_view(tokens, GRID, 3, tuple(map(str, range(B))), "encoder")


def make_kept(B: int, K: int, seed: int = 2) -> Kept:
    random = torch.Generator().manual_seed(seed)
    return Kept(torch.stack([torch.randperm(N, generator=random)[:K].sort().values for _ in range(B)]))
