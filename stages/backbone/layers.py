"""The first decoder layers of a checkpoint's language model, as weights that other layers may start from."""

from collections.abc import Mapping, Sequence
from hashlib import sha256

from jaxtyping import Float
from torch import Tensor

from stages.backbone.qwen import Model


def first_layers(model: Model, count: int) -> list[dict[str, Float[Tensor, "..."]]]:
    """State dicts in float32 of at most `count` layers, by the names that a Qwen2.5-VL decoder layer gives them."""
    layers = list(model.model.language_model.layers)[:count]
    return [{name: tensor.detach().float() for name, tensor in layer.state_dict().items()} for layer in layers]


def digest(layers: Sequence[Mapping[str, Float[Tensor, "..."]]]) -> str:
    """A name for these weights: equal weights, equal name."""
    whole = sha256()
    for layer in layers:
        for name, tensor in sorted(layer.items()):
            whole.update(name.encode())
            whole.update(tensor.cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()[:16]
