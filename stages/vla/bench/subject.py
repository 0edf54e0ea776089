"""What all sections of the benchmark measure: one random model, one image, one prompt, one pruner."""

from typing import Any

import torch
from torch import Tensor

from stages.backbone.patches import patchify
from stages.backbone.qwen import Model, decoder_shape
from stages.efficiency.views import ENCODER, at_shape
from stages.pruning import base
from stages.pruning.base import Kept, Pruner, TokenView
from stages.tokens import keep_count
from stages.vla.bench.sizes import Sizes, config_of, random_model
from stages.vla.fast.choices import SERVED, Choices
from stages.vla.fast.host import FastHost
from stages.vla.fast.pointwise import PLAIN, Pointwise, compiled
from stages.vla.fast.scorer import FastScorer
from stages.vla.fast.serving import Serving
from stages.vla.fast.workspace import FastOptions, Weights
from stages.vla.host import Prompt, token_view


class First(Pruner):
    """Keeps the first tokens: a choice that costs nothing."""

    def select(self, view: TokenView, K: int) -> Kept:
        B = view.tokens.shape[0]
        return Kept(torch.arange(K, device=view.tokens.device).expand(B, K))


class Subject:
    """A model with random weights on `device`, and a request to it."""

    def __init__(self, sizes: Sizes, device: torch.device) -> None:
        torch.manual_seed(0)
        self.sizes, self.device = sizes, device
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.model: Model = random_model(config_of(sizes), device, self.dtype)
        self.shape = decoder_shape(self.model)
        W, H = sizes.size_px
        self.images = torch.randint(0, 256, (1, 3, H, W), dtype=torch.uint8, device=device)
        h, w = sizes.grid
        self.grid_thw = torch.tensor([[1, 2 * h, 2 * w]], device=device)
        vocabulary = self.model.config.get_text_config().vocab_size
        before, after = (torch.randint(0, vocabulary, (1, n), device=device) for n in sizes.text)
        self.prompt = Prompt(before, after)
        tokens = torch.randn(1, h * w, self.shape.width, device=device, dtype=self.dtype)
        self.view: TokenView = token_view(tokens, sizes.grid, sizes.text[0], ("image",), ENCODER)
        trained: Any = at_shape(base.load("recon", {"checkpoint": ""}), self.shape, device)
        self.pruner: Pruner = trained
        self._network = trained._trained[0]
        self.pointwise: Pointwise = PLAIN
        self.kernel: str | None = None  # of attention over a whole prompt
        self.one_row = dict[int, str]()  # attention from one token, by batch size
        self._weights: Weights | None = None

    def try_compiled(self) -> str | None:
        """Let tuned variants use compiled pointwise functions; why not, where they do not compile here."""
        try:
            compiled().norm(self.view.tokens, self.view.tokens[0, 0], 1e-6)
        except Exception as error:
            return f"{type(error).__name__}: {error}".split("\n")[0][:300]
        self.pointwise = compiled()
        return None

    @property
    def visual(self) -> Any:
        """The stock tower."""
        return self.model.model.visual

    @property
    def N(self) -> int:
        return self.view.tokens.shape[1]

    def K(self, percent: int) -> int:
        """Kept visual tokens."""
        return keep_count(self.N, percent)

    def length(self, percent: int) -> int:
        """Of the pruned prompt."""
        return self.prompt.length + self.K(percent)

    def rows(self) -> Tensor:
        """The image as patch rows."""
        return patchify(self.images).to(self.dtype)

    def choices(self, B: int = 1, *, tuned: bool = False) -> Choices:
        """What a driver is served by; `tuned`: what was found to be fastest here."""
        return Choices(self.pointwise, self.one_row.get(B, SERVED.one_row), self.kernel) if tuned else SERVED

    def options(self, B: int = 1, *, keep_prefix: bool = False, tuned: bool = False) -> FastOptions:
        """Of a fast host."""
        chosen = self.choices(B, tuned=tuned)
        return FastOptions(choices=chosen, keep_prefix=keep_prefix, answer_tokens=4 * self.sizes.told)

    def weights(self, *, tuned: bool = False) -> Weights:
        """Of the fast host; made once, since fusing copies them."""
        if self._weights is None:
            self._weights = Weights(self.model, self.options())
        return self._weights.by(self.choices(tuned=tuned).pointwise)

    def host(self, *, keep_prefix: bool = False, tuned: bool = False) -> FastHost:
        """A fast host on those weights."""
        options = self.options(keep_prefix=keep_prefix, tuned=tuned)
        return FastHost(self.model, options, self.weights(tuned=tuned))

    def scorer(self, *, tuned: bool = False) -> FastScorer:
        """The pruner's network by the fast host's functions."""
        return FastScorer(self._network, self.dtype, self.device, self.choices(tuned=tuned).pointwise)

    def serving(self, host: FastHost, pruner: Pruner, percent: int) -> Serving:
        """Requests pruned at `percent`, captured."""
        return Serving(host, pruner, self.K(percent), self.view, self.prompt)
