"""Where the milliseconds of a request go, phase by phase, and which part of the machine's ceilings they reach. Pure."""

from collections.abc import Mapping
from typing import Any

Row = dict[str, Any]

COLUMNS = {
    "Phase": "{phase}",
    "Pruned (%)": "{pruned_percent}",
    "Median (ms)": "{median_ms:.2f}",
    "p10": "{p10_ms:.2f}",
    "p90": "{p90_ms:.2f}",
    "A/A spread": "{aa_spread:.2f}",
    "Of the products' ceiling (%)": "{of_products_pct:.1f}",
    "Of copying's (%)": "{of_copying_pct:.1f}",
}
ORDER = ("preprocess", "vision", "choose", "prefill", "decode", "end_to_end")  # as a request goes through them
_REACHED = {"vision": "vision_flops", "prefill": "prefill_flops", "decode": "decode_flops"}


def phase_rows(record: Mapping[str, Any]) -> list[Row]:
    """A row per phase and prune ratio of one method's latency record; None where a ceiling says nothing of a phase."""
    rows: list[Row] = []
    for phase in (name for name in ORDER if name in record["phases"]):
        found = record["phases"][phase]
        for key, timing in found["timings"].items():
            if not key.isdigit():
                continue
            reached = record["of_ceiling"].get(key, {})
            parts = {"of_products_pct": reached.get(_REACHED.get(phase, ""))}
            parts["of_copying_pct"] = reached.get("decode_bytes") if phase == "decode" else None
            times = {name: timing[name] for name in ("median_ms", "p10_ms", "p90_ms")}
            percents = {name: None if value is None else 100 * value for name, value in parts.items()}
            rows.append(
                {"phase": phase, "pruned_percent": int(key), **times, "aa_spread": found["aa_spread"], **percents}
            )
    return sorted(rows, key=lambda row: row["pruned_percent"])


def caption(method: str, ceilings: Mapping[str, Any]) -> str:
    """What the table says, with the ceilings that were measured in the same run."""
    return (
        f"Where the time of {method} goes; preprocessing and the vision tower do not depend on the prune ratio. A/A "
        "spread: by which factor the unpruned driver differs from itself. Ceilings measured in the same run "
        f"({ceilings['dtype']}): {ceilings['matmul_flops_per_s'] / 1e9:.1f} GFLOP/s in products of matrices, "
        f"{ceilings['copy_bytes_per_s'] / 1e9:.1f} GB/s in copying."
    )
