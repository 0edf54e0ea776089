"""What the issue asks of one H200 at the shapes of 3B, and what a record of the benchmark says to it.

Judged is the host as it drives (`SERVED`); what a tuned one does stands beside it in the record.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stages.vla.bench.medians import median_ms

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Goal:
    """A number of a record, and the bound that it is to keep."""

    name: str
    unit: str  # ms, or x for a ratio
    bound: float
    at_most: bool
    value: Callable[[Record], float | None]

    def met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound

    @property
    def asked(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.bound:g} {self.unit}"


def section(record: Record, name: str) -> Record:
    """What a section measured; nothing where it did not run."""
    found: Record = record.get("sections", {}).get(name, {})
    return found


def ratio(over: float | None, under: float | None) -> float | None:
    """None where either was not measured."""
    return None if over is None or under is None else over / under


def of(name: str, variant: str) -> Callable[[Record], float | None]:
    """The median of a variant of a section."""
    return lambda record: median_ms(section(record, name), variant)


def ratio_of(name: str, over: str, under: str) -> Callable[[Record], float | None]:
    """The ratio of two medians of a section."""
    return lambda record: ratio(of(name, over)(record), of(name, under)(record))


def decode_ms(record: Record) -> float | None:
    """For one token, at batch 1 after the whole prompt."""
    part = section(record, "decode")
    ms = median_ms(part, "graph 0")
    return None if ms is None else ms / part["told"]


AT_50 = ratio_of("prefill", "graph 0", "graph 50 + pruner")
AT_75 = ratio_of("prefill", "graph 0", "graph 75 + pruner")
TO_FIRST_TOKEN = ratio_of("first_token", "graph 0", "graph 75")
IN_A_BATCH = ratio_of("decode_batch", "graph 0", "graph 75")

GOALS = (
    Goal("prefill of 3,249 + 100 tokens", "ms", 45.0, True, of("prefill", "graph 0")),
    Goal("prefill over (pruner + prefill) at 75 %", "x", 3.3, False, AT_75),
    Goal("prefill over (pruner + prefill) at 50 %", "x", 1.8, False, AT_50),
    Goal("pruner: score, select, gather", "ms", 1.5, True, of("pruner", "graph")),
    Goal("vision tower", "ms", 45.0, True, of("vision", "graph")),
    Goal("stock vision tower over ours", "x", 2.0, False, ratio_of("vision", "stock", "graph")),
    Goal("decode, one token at batch 1", "ms", 3.0, True, decode_ms),
    Goal("time to first token with vision, 0 over 75 %", "x", 1.4, False, TO_FIRST_TOKEN),
    Goal("decode at batch 64, 0 over 75 %", "x", 1.4, False, IN_A_BATCH),
)


def judged(record: Record) -> list[dict[str, Any]]:
    """Each goal with its value and whether it is met; no verdict where the shapes or the machine are others."""
    applies = record.get("shape") == "3b" and record.get("device") == "cuda"
    rows = []
    for goal in GOALS:
        value = goal.value(record)
        met = goal.met(value) if applies and value is not None else None
        rows.append({"goal": goal.name, "value": value, "unit": goal.unit, "asked": goal.asked, "met": met})
    return rows


VERDICTS = {True: "met", False: "NOT MET", None: "-"}


def table(rows: list[dict[str, Any]]) -> str:
    """One line for each goal."""
    lines = [f"{'goal':48}{'value':>12}{'asked':>12}  "]
    for row in rows:
        value = "-" if row["value"] is None else f"{row['value']:.2f} {row['unit']}"
        lines.append(f"{row['goal']:48}{value:>12}{row['asked']:>12}  {VERDICTS[row['met']]}")
    return "\n".join(lines)
