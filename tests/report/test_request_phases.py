"""Where the milliseconds of a request go."""

from stages.planning.tables import cells
from stages.report.phases import COLUMNS, caption, phase_rows

TIMING = {"median_ms": 4.0, "p10_ms": 3.9, "p90_ms": 4.4, "n": 9}
RECORD = {
    "phases": {
        "prefill": {"timings": {"0": TIMING, "75": {**TIMING, "median_ms": 1.0}, "again": TIMING}, "aa_spread": 1.02},
        "decode": {"timings": {"0": TIMING, "again": TIMING}, "aa_spread": 1.1},
        "preprocess": {"timings": {"0": TIMING, "again": TIMING}, "aa_spread": 1.5},
    },
    "of_ceiling": {
        "0": {"vision_flops": 0.3, "prefill_flops": 0.5, "decode_flops": 0.25, "decode_bytes": 0.2},
        "75": {"vision_flops": 0.3, "prefill_flops": 0.125, "decode_flops": 0.25, "decode_bytes": 0.2},
    },
}


def test_each_phase_has_its_time_and_its_share_of_the_ceiling_that_bounds_it() -> None:
    assert cells(phase_rows(RECORD), COLUMNS) == [
        ["preprocess", "0", "4.00", "3.90", "4.40", "1.50", "–", "–"],
        ["prefill", "0", "4.00", "3.90", "4.40", "1.02", "50.0", "–"],
        ["decode", "0", "4.00", "3.90", "4.40", "1.10", "25.0", "20.0"],
        ["prefill", "75", "1.00", "3.90", "4.40", "1.02", "12.5", "–"],
    ]


def test_the_caption_has_the_ceilings_of_the_run() -> None:
    said = caption("recon", {"dtype": "bfloat16", "matmul_flops_per_s": 3.66e10, "copy_bytes_per_s": 1.25e10})
    assert "(bfloat16): 36.6 GFLOP/s in products of matrices, 12.5 GB/s in copying" in said
