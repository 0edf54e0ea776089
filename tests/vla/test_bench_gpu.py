"""The GPU benchmark at small shapes on a CPU: it measures what it says and survives what fails; speeds are told."""

import contextlib
import datetime
import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stages.efficiency.roofline import Ceilings
from stages.errors import MachineError
from stages.vla.bench import gpu
from stages.vla.bench.choices import one_row
from stages.vla.bench.goals import GOALS, judged, table
from stages.vla.bench.gpu import SECTIONS, Section, line_of, main, out_file, parse, run_section
from stages.vla.bench.medians import fastest, median_ms
from stages.vla.bench.sizes import SMALL, TRUE, config_of, random_model
from stages.vla.bench.subject import Subject
from stages.vla.bench.timing import Variants, timed
from stages.vla.fast.attention import ONE_ROW
from stages.vla.fast.choices import preferring

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject(SMALL, CPU)


def absent() -> list[str]:
    """Top-level modules of installed packages that a bare GPU machine lacks, jaxtyping among them."""
    needed, todo = set[str](), ["torch", "transformers", "safetensors", "numpy"]
    while todo:
        needed.add(name := canonicalize_name(todo.pop()))
        with contextlib.suppress(PackageNotFoundError):  # of another system
            required = [Requirement(line) for line in distribution(name).requires or []]
            asked = [one.name for one in required if not one.marker or one.marker.evaluate({"extra": ""})]
            todo += [one for one in asked if canonicalize_name(one) not in needed]
    owners = packages_distributions()
    ours = {"stages", *(module for module, names in owners.items() if needed & set(map(canonicalize_name, names)))}
    return sorted(module for module in set(owners) - ours if module.isidentifier())


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a whole run, on a machine that has nothing but what a bare GPU machine has."""
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    program = (
        f"import sys\nfor name in {absent()}:\n    sys.modules[name] = None\n"
        "from importlib.util import find_spec\nfrom stages.vla.bench.gpu import main\nfind_spec('jaxtyping')\n"
        f"main(['--device', 'cpu', '--small', '--out', {str(out)!r}])"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert f"written to {out}" in ran.stdout
    written: dict[str, Any] = json.loads(out.read_text())
    return written


def test_a_whole_run_measures_every_phase_and_says_on_what(record: dict[str, Any]) -> None:
    assert set(record["sections"]) == {section.name for section in SECTIONS}
    assert record["machine"]["torch"] == torch.__version__
    assert record["machine"]["commit"]
    assert set(record["clocks"]) == {"before", "after"}
    assert record["sections"]["rooflines"]["matmul_flops_per_s"] > 1e9
    prefill = record["sections"]["prefill"]["timings"]
    wanted = {"graph 25 + pruner", "graph 50 + pruner", "graph 75 + pruner, prefix kept", "eager 0", "again"}
    assert wanted <= set(prefill)
    assert {"tuned graph 0", "tuned graph 75 + pruner"} <= set(prefill)
    for name in ("prefill", "pruner", "vision", "decode", "first_token", "decode_batch"):
        part = record["sections"][name]
        assert part["failed"] == {}
        assert set(part["ratios"]) == set(part["timings"]) - {part["baseline"]}
        assert all(row["p10_ms"] <= row["median_ms"] <= row["p90_ms"] for row in part["timings"].values())
    assert record["sections"]["decode_batch"]["batch"] == SMALL.batch


def test_what_is_left_out_is_more_than_a_handful() -> None:
    assert {"jaxtyping", "beartype", "pyarrow", "mlflow", "cv2", "PIL"} <= set(absent())
    assert not {"stages", "torch", "numpy", "tokenizers", "sympy", "yaml"} & set(absent())


def test_what_a_cpu_cannot_run_is_named_and_the_rest_is_measured(record: dict[str, Any]) -> None:
    found = record["sections"]["one_row_attention"]["batch_1"]
    assert list(found["failed"]) == ["flash"]
    assert found["taken"] in ("products", "folded")
    assert found["differences"]["folded"] < 1e-4


def test_small_shapes_are_measured_against_no_goal(record: dict[str, Any]) -> None:
    assert [row["met"] for row in record["goals"]] == [None] * len(GOALS)
    assert all(row["value"] > 0 for row in record["goals"])


def made_up(**medians: dict[str, float]) -> dict[str, Any]:
    sections = {
        name: {"timings": {variant: {"median_ms": ms} for variant, ms in part.items()}, "told": 16}
        for name, part in medians.items()
    }
    return {"shape": "3b", "device": "cuda", "sections": sections}


def test_goals_are_judged_by_the_numbers_they_name() -> None:
    full = made_up(
        prefill={"graph 0": 33.0, "graph 75 + pruner": 10.0, "graph 50 + pruner": 20.0},
        pruner={"eager": 9.0, "graph": 1.5, "tuned graph": 1.2},
        vision={"stock": 100.0, "graph": 46.0, "tuned graph, flash": 40.0},
        decode={"graph 0": 16 * 2.5},
        first_token={"graph 0": 70.0, "graph 75": 50.0},
        decode_batch={"graph 0": 139.0, "graph 75": 100.0},
    )
    values = {row["goal"]: (row["value"], row["met"]) for row in judged(full)}
    assert list(values.values()) == [
        (33.0, True),
        (pytest.approx(3.3), True),
        (pytest.approx(1.65), False),
        (1.5, True),
        (46.0, False),
        (pytest.approx(100 / 46), True),
        (2.5, True),
        (1.4, True),
        (pytest.approx(1.39), False),
    ]
    printed = table(judged(full)).splitlines()
    assert printed[1].split()[-1] == "met"
    assert printed[3].endswith("NOT MET")


def test_a_goal_whose_section_is_missing_has_no_value() -> None:
    rows = judged({"shape": "3b", "device": "cuda", "sections": {"vision": {"failed": {"section": "out of memory"}}}})
    assert {(row["value"], row["met"]) for row in rows} == {(None, None)}
    assert table(rows).count(" - ") >= len(GOALS)


def test_a_variant_that_fails_is_named_and_the_others_are_timed() -> None:
    def broken() -> object:
        raise RuntimeError("no such kernel\nand much more")

    variants = Variants()
    assert not variants.add("broken", lambda: broken)
    assert variants.add("sum", lambda: lambda: torch.ones(3).sum())
    found = timed(variants, 0.0)
    assert found["failed"] == {"broken": "RuntimeError: no such kernel"}
    assert set(found["timings"]) == {"sum", "again"}
    assert fastest(found, ["broken", "sum"]) == "sum"
    assert median_ms(found, "broken") is None
    assert timed(Variants(), 1.0) == {"failed": {}}


def test_a_way_that_gives_no_number_is_refused_and_leaves_none_in_the_record(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ONE_ROW, "folded", lambda query, *others: torch.full_like(query, torch.nan))
    found = one_row(subject, 0.0)["batch_1"]
    assert found["failed"]["folded"] == "differs from products by nan"
    assert json.dumps(found["differences"], allow_nan=False)


def test_the_ceilings_are_read_when_the_card_has_worked_for_a_while(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, rising = iter([0.0, 0.4, 0.8, 1.2]), iter([1e12, 2e12, 8e12])
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(gpu, "ceilings", lambda device, dtype: Ceilings("float32", next(rising), 1e9))
    assert gpu.ceiling(subject, 5.0)["matmul_flops_per_s"] == 8e12


def test_a_section_that_fails_is_told_and_no_other_is_lost(subject: Subject) -> None:
    def measure(subject: Subject, seconds: float) -> dict[str, Any]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    found = run_section(Section("vision", 1.0, measure), subject, 0.0)
    assert found["failed"] == {"section": "OutOfMemoryError: CUDA out of memory"}
    assert "no section: OutOfMemoryError" in line_of("vision", found)


def test_a_run_that_is_cut_off_has_written_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(subject: Subject, seconds: float) -> dict[str, Any]:
        raise KeyboardInterrupt

    def quick(subject: Subject, seconds: float) -> dict[str, Any]:
        return {"timings": {"graph 0": {"median_ms": 2.0}}, "failed": {}}

    monkeypatch.setattr(gpu, "SECTIONS", (Section("prefill", 1.0, quick), Section("vision", 1.0, cut)))
    with pytest.raises(KeyboardInterrupt):
        main(["--device", "cpu", "--small", "--out", str(tmp_path / "bench.json")])
    written = json.loads((tmp_path / "bench.json").read_text())
    assert list(written["sections"]) == ["prefill"]
    assert written["goals"][0]["value"] == 2.0


def test_when_time_is_up_no_section_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SECTIONS", (Section("prefill", 1.0, lambda subject, seconds: {}),))
    found = main(["--device", "cpu", "--small", "--seconds", "0"])
    assert found["sections"]["prefill"]["failed"] == {"section": "no time was left"}


def test_without_a_gpu_it_ends_with_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MachineError, match="a CUDA device"):
        main([])
    assert MachineError.exit_code == 4


def test_the_record_is_named_after_the_card_and_the_day() -> None:
    day, about = datetime.date(2026, 11, 25), {"gpu": "NVIDIA H100 80GB HBM3"}
    assert out_file(parse([]), about, day) == ROOT / "infra/benchmarks/nvidia_h100_80gb_hbm3-2026-11-25.json"
    assert out_file(parse(["--small"]), about, day) is None
    assert out_file(parse(["--device", "cpu"]), {}, day) is None
    assert out_file(parse(["--out", "here.json"]), about, day) == Path("here.json")


def test_the_true_sizes_are_those_of_the_paper() -> None:
    assert TRUE.size_px == (1596, 1596)
    assert TRUE.grid[0] * TRUE.grid[1] == 3249
    assert sum(TRUE.text) == 100
    with torch.device("meta"):
        model = random_model(config_of(TRUE), torch.device("meta"), torch.bfloat16)
    assert sum(parameter.numel() for parameter in model.parameters()) == 3_754_622_976


def test_weights_are_drawn_in_the_dtype_asked_and_frequencies_are_not_rounded() -> None:
    model = random_model(config_of(SMALL), CPU, torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.model.language_model.rotary_emb.inv_freq.dtype == torch.float32
    assert model.model.visual.rotary_pos_emb.inv_freq.dtype == torch.float32
    assert torch.get_default_dtype() == torch.float32


def test_a_kernel_that_is_preferred_is_asked_first() -> None:
    q = torch.randn(1, 2, 4, 8)
    wanted = torch.nn.functional.scaled_dot_product_attention(q, q, q)
    for kernel in ("flash", None, "as torch chooses"):
        with preferring(kernel):
            torch.testing.assert_close(torch.nn.functional.scaled_dot_product_attention(q, q, q), wanted)


def test_help_ends_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    assert " ".join(capsys.readouterr().out.split()).endswith(gpu.EXAMPLE.split(": ", 1)[1])
