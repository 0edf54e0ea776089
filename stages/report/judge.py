"""What the page says of its own driver and ruler: does the driver see, and can it tell a good choice from a bad one."""

from collections.abc import Sequence

from stages.planning.tables import cells
from stages.report import held_out
from stages.report.inputs import Inputs
from stages.report.page import Section, Table, Words
from stages.report.references import DRIVER_COLUMNS, EVENT_COLUMNS, RULER_COLUMNS, References, Row
from stages.report.sections import by_ratio, plain

TRAINED = (
    "The driver is the true Qwen2.5-VL class at small width, with the current speed as its only prompt. Its vision "
    "tower was pretrained and then frozen for good; the language model was trained on top"
)
IMAGES = (
    ": {tower[samples]:,} samples of {tower[images]:,} drawn images for the tower, then {language[samples]:,} samples "
    "of the {language[images]:,} front images among them, all of {tower[scenes]:,} scenes that the data set has not"
)
MET = (
    ". In training it has met random token subsets of every kind (smooth fields, rows, blocks, thinning and mixtures), "
    "drawn independently of every pruner here: pruning as such is not new to it."
)
SHOWS = (
    "What this can show: which pruner keeps the information that this driver needs. What it cannot show: which pruner "
    "is best on a real VLA. The driver is small and its world is drawn; a real one reads far more from an image and "
    "was not trained to be pruned."
)
POOL_CAPTION = (
    "The same on scenes of the driver's own pool that it was not trained on, one draw of the same world with more "
    "scenes than the data set. (The oracle's order was chosen among five on these scenes, the data set's not seen.)"
)
DRIVER_CAPTION = (
    "L2 is the mean of the errors at 1, 2 and 3 s (Table 1 has the protocol's own), with 95 % intervals by resampling "
    "scenes; none is the unpruned driver. other_image and black_image: the same driver, speed and prompt with the "
    "image of another scene or a black one. blind_floor: the best guess from the current speed alone."
)
EVENTS_CAPTION = (
    "By what shapes the next 3 s: L2 in m of the unpruned driver, of the same with another scene's image, and of the "
    "blind floor; the difference is paired by sample. Below zero the driver is better than blind. "
    "An interval from few scenes is a rough one; from a single scene it is over frames, and too narrow."
)
RULER_CAPTION = (
    "oracle and inverse are no methods, they read the true class map: the oracle keeps objects first, then road, then "
    "the rest, and inverse the reverse. masked_text_attention is none either: it keeps what the masks call foreground "
    "first. The difference to the unpruned driver is paired by sample; 95 % intervals by resampling scenes."
)
ORDER = (
    "At {pruned_percent} % pruned the order oracle, random_keep, inverse, best first, {verdict}: L2 {oracle:.2f}, "
    "{random_keep:.2f}, {inverse:.2f} m. The inverse costs {difference_m:+.2f} m [{difference_low:+.2f}, "
    "{difference_high:+.2f}] against random_keep."
)


def driver_section(inputs: Inputs, references: References, setting: str) -> Section:
    """How the driver was trained, what that can show, and its rows beside plans that do not see; `setting` is of
    captions.py."""
    blocks: list[Words | Table] = _about(inputs.driver) if inputs.driver else []
    blocks.append(plain(f"{DRIVER_CAPTION} {setting}", references.driver, DRIVER_COLUMNS, "driver"))
    if references.events:
        blocks.append(plain(f"{EVENTS_CAPTION} {setting}", references.events, EVENT_COLUMNS, "driver_events"))
    pools = {"sees": (held_out.SEES_COLUMNS, "driver_pool"), "events": (held_out.EVENTS_COLUMNS, "driver_pool_events")}
    for table, (columns, file) in pools.items():
        if rows := held_out.rows_of(inputs.driver, table):
            blocks.append(plain(POOL_CAPTION, rows, columns, file))
    return Section("The driver", blocks)


def _about(driver: Row) -> list[Words | Table]:
    """Words about the driver of the embedded default, by metrics/train_driver.json."""
    return [Words(TRAINED + IMAGES.format(**driver["trained"]) + MET), Words(SHOWS)]


def ruler_sections(inputs: Inputs, references: References, setting: str) -> Sequence[Section]:
    """The ruler beside the methods, and in words whether it measures; none without the truth. `setting` as above."""
    if not references.ruler:
        return []
    words = [Words(order_in_words(row)) for row in references.order]
    table = by_ratio(f"{RULER_CAPTION} {setting}", references.ruler, RULER_COLUMNS, "ruler")
    blocks: list[Words | Table] = [table, *words]
    if pool := held_out.rows_of(inputs.driver, "pruned"):
        blocks.append(by_ratio(POOL_CAPTION, pool, held_out.PRUNED_COLUMNS, "ruler_pool"))
    return [Section("The ruler", blocks)]


def order_in_words(row: Row) -> str:
    """One sentence on the order of the ruler's rows at a prune ratio."""
    ((sentence,),) = cells([row | {"verdict": "holds" if row["holds"] else "does not hold"}], {"": ORDER})
    return sentence
