"""How long a stage will take: by what it or its like took here; else a guess, in closed form or by another machine."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.core.params import Params
from stages.outlook.row import Time, Work

START_S = 4.0  # of each process: Python, torch and the data set, whatever there is to do
FLOPS_SHARE, BYTES_SHARE = 0.3, 0.5  # of a card's peaks, that such runs are guessed to reach
GROUNDED_SAM_IMAGE_S = 3.0  # on one GPU, as the paper's 241k images are said to take


@dataclass(frozen=True)
class Peaks:
    """What a card does at most: bf16 products, and reading its memory."""

    card: str
    flops_per_s: float
    bytes_per_s: float


H800 = Peaks("H800", 989e12, 3.35e12)  # as its maker says
H200 = Peaks("H200", 790e12, 4.3e12)  # a large product and a large copy on one of them: research/efficiency.md 3


@dataclass(frozen=True)
class Known:
    """What a finished stage took; `here`: on this machine."""

    name: str
    module: str
    work: Work
    seconds: float
    lanes: int
    here: bool


def time_of(name: str, module: str, now: Work, lanes: int, known: Sequence[Known]) -> Time | None:
    """Of `now` on so many lanes; None where there is nothing to go by. The latest of `known` comes last."""
    alike = [each for each in known if each.work.unit == now.unit and each.module == module]
    for here in (True, False):
        same = [each for each in alike if each.here == here]
        if found := ([each for each in same if each.name == name] or same)[-1:]:
            return _scaled(name, now, lanes, found[0])
        if here and (closed := _closed_form(now, lanes, known)):
            return closed
    return None


def _scaled(name: str, now: Work, lanes: int, then: Known) -> Time:
    share = now.amount / then.work.amount
    seconds = START_S + max(then.seconds - START_S, 0.1) * share * then.lanes / lanes
    where = "measured here" if then.here else "pace of another machine"
    whose = "" if then.name == name else f" on {then.name}"
    scale = "" if share == 1 else f", x {share:.3g}"
    return Time(seconds, f"{where}{whose}{scale}", guess=not then.here)


def _closed_form(now: Work, lanes: int, known: Sequence[Known]) -> Time | None:
    """FLOPs over a rate that another stage reached here, else over what is stated of a GPU; for released drivers alone,
    as the small one is bound by anything but FLOPs.
    """
    if now.unit == "images by grounded_sam":
        seconds = START_S + now.amount * GROUNDED_SAM_IMAGE_S / lanes
        return Time(seconds, f"{GROUNDED_SAM_IMAGE_S:.0f} s an image and GPU", guess=True)
    if not now.flops or now.unit == "FLOP, toy":
        return None
    if here := [each for each in known if each.here and each.work.unit == now.unit]:
        then = here[-1]
        rate = then.work.amount / max(then.seconds - START_S, 0.1) / then.lanes
        basis = f"closed form over {rate / 1e12:.3g} TFLOP/s measured here on {then.name}"
        return Time(START_S + now.amount / rate / lanes, basis, guess=True)
    return on_card(now, lanes, H800)


def on_card(now: Work, lanes: int, peaks: Peaks) -> Time:
    """A guess for `lanes` cards: FLOPs and bytes of decoding, each at its share of the card's peaks."""
    products_s = now.amount / (peaks.flops_per_s * FLOPS_SHARE)
    reading_s = now.read_bytes / (peaks.bytes_per_s * BYTES_SHARE)
    basis = f"closed form over {FLOPS_SHARE:.0%} of {peaks.flops_per_s / 1e12:.0f} TFLOP/s ({peaks.card})"
    return Time(START_S + (products_s + reading_s) / lanes, basis, guess=True)


def lanes_of(module: str, params: Params, cores: int, gpus: int) -> int:
    """How many processes share the work."""
    match module.removeprefix("stages."):
        case "make_world":
            wanted = params.make_world.workers
        case "score_plans":
            wanted = params.score_plans.workers
        case "plan_routes":
            mine = params.plan_routes
            wanted = mine.ray.actors if mine.engine == "ray" else mine.workers
            return max(1, min(wanted, gpus)) if gpus else max(1, min(wanted, cores))
        case "generate_masks":
            masks = params.generate_masks
            wanted = masks.ray.actors if masks.engine == "ray" else masks.workers
            if masks.annotator == "grounded_sam":
                return max(1, min(wanted, gpus))
        case "train_pruner":
            return max(1, gpus)
        case _:
            wanted = 1
    return max(1, min(wanted, cores))
