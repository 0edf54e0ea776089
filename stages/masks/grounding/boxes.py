"""From what Grounding DINO says of its queries to the boxes that are worth a mask. Pure torch.

Letters: Q queries, T tokens of the caption, P phrases, M boxes. A phrase is named by the tokens that are its own: no
text is taken apart twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Rules:
    """Which boxes are kept."""

    box_threshold: float  # a box is kept when a token of a phrase scores more
    text_threshold: float  # a phrase can name a box when one of its tokens scores more
    nms_iou: float  # of two boxes of one class that overlap more, the lower score goes
    smallest_box_px: float  # the shorter side of a box is at least this
    largest_box_shares: tuple[float, ...]  # by class, of the image's area
    most_boxes: int  # of an image, the highest scores


@dataclass(frozen=True)
class Found:
    """The boxes of one image, highest score first."""

    boxes_xyxy: Float[Tensor, "M 4"]  # pixels of the image
    phrases: Int[Tensor, " M"]  # number of the phrase that names the box
    classes: Int[Tensor, " M"]  # index into CLASSES of that phrase
    scores: Float[Tensor, " M"]


def phrase_spans(ids: Int[Tensor, " T"], separators: Sequence[int]) -> Bool[Tensor, "P T"]:
    """Which tokens are whose: phrases are what lies between separators ([CLS], full stops, [SEP])."""
    special = torch.isin(ids, torch.tensor(list(separators), device=ids.device))
    group = special.cumsum(0).masked_fill(special, 0)
    own = group.unique()
    return group == own[own > 0][:, None]


def name_boxes(
    tokens: Float[Tensor, "Q T"], spans: Bool[Tensor, "P T"], text_threshold: float
) -> tuple[Int[Tensor, " Q"], Float[Tensor, " Q"]]:
    """The phrase of each query, and its score; 0 where no phrase has a token above `text_threshold`.

    Score is the best token's, as the package's own demo takes it; the phrase is the one with the highest mean, because
    in "traffic light" and "traffic sign" the best token may be the common one.
    """
    best = tokens[:, None].masked_fill(~spans, 0).amax(-1)  # Q P
    mean = tokens @ spans.T.to(tokens.dtype) / spans.sum(-1)
    named = best > text_threshold
    phrase = mean.masked_fill(~named, -1).argmax(-1)
    return phrase, best.amax(-1).masked_fill(~named.any(-1), 0)


def to_pixels(boxes: Float[Tensor, "M 4"], size_px: tuple[int, int]) -> Float[Tensor, "M 4"]:
    """Centre, width and height as shares of the image -> x0, y0, x1, y1 in pixels, cut at the edges of W, H."""
    scale = boxes.new_tensor([*size_px, *size_px])
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    corners = torch.cat([centre - half, centre + half], 1) * scale
    return torch.minimum(corners.clamp(min=0), scale)


def within_limits(
    boxes: Float[Tensor, "M 4"], classes: Int[Tensor, " M"], rules: Rules, size_px: tuple[int, int]
) -> Bool[Tensor, " M"]:
    """Neither too thin nor too large for their class."""
    sides = boxes[:, 2:] - boxes[:, :2]
    largest = boxes.new_tensor(rules.largest_box_shares)[classes] * (size_px[0] * size_px[1])
    return (sides.amin(1) >= rules.smallest_box_px) & (sides.prod(1) <= largest)


def suppress(
    boxes: Float[Tensor, "M 4"], scores: Float[Tensor, " M"], classes: Int[Tensor, " M"], iou: float
) -> Int[Tensor, " K"]:
    """Indices that are kept, highest score first; only boxes of one class suppress each other."""
    from torchvision.ops import batched_nms

    kept: Tensor = batched_nms(boxes, scores, classes, iou)
    return kept


def select(
    tokens: Float[Tensor, "Q T"],
    boxes: Float[Tensor, "Q 4"],
    spans: Bool[Tensor, "P T"],
    class_of_phrase: Int[Tensor, " P"],
    rules: Rules,
    size_px: tuple[int, int],
) -> Found:
    """The boxes of one image of W, H pixels, from scores of tokens in [0, 1] and boxes as centre, width and height."""
    phrases, scores = name_boxes(tokens, spans, rules.text_threshold)
    corners, classes = to_pixels(boxes, size_px), class_of_phrase[phrases]
    near = (scores > rules.box_threshold) & within_limits(corners, classes, rules, size_px)
    corners, phrases, classes, scores = corners[near], phrases[near], classes[near], scores[near]
    kept = suppress(corners, scores, classes, rules.nms_iou)[: rules.most_boxes]
    return Found(corners[kept], phrases[kept], classes[kept], scores[kept])
