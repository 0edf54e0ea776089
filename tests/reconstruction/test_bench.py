"""The benchmark at small shapes on a CPU: it counts, reads and waits as it says; speeds are told, not asserted."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_tiny_model
from tiny_pruner import GRID, make_options, make_samples

from stages.backbone.tower import FastTower
from stages.reconstruction import bench, bench_machine, loading, pace
from stages.reconstruction.bench import main, out_file, parse, training_section
from stages.reconstruction.bench_data import Photos, RandomSamples, photo_samples, write_photos
from stages.reconstruction.bench_machine import ROOT, machine, peak_flops
from stages.reconstruction.bench_step import WARMUPS, Trainee, options_of, run_steps
from stages.reconstruction.data import Batch, Samples, View

CPU, VIEW = torch.device("cpu"), View((84, 56), "stretch", 4)
TINY = ["--shape", "tiny", "--device", "cpu", "--tokens", "16", "--batch", "2", "--seconds", "0", "--workers", "0"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return write_photos(tmp_path_factory.mktemp("photos"), 2)


@pytest.fixture
def tower() -> FastTower:
    return FastTower(make_tiny_model())


@pytest.fixture
def trainee() -> Trainee:
    config = json.loads((ROOT / "models/driver/config.json").read_text())
    return Trainee(config, options_of(training_section(Path("params.yaml")), CPU, recompute=False), CPU)


class Drawn(Samples):
    """Batches of the trainee's width; each makes its reader be waited for half a second."""

    def __init__(self, width: int) -> None:
        (batch,) = make_samples(4).batches([range(4)])
        wide = torch.randn(4, GRID[0] * GRID[1], width)
        images = torch.zeros(4, 3, 7 * GRID[0], 7 * GRID[1], dtype=torch.uint8)
        self.batch, self.grid, self.groups = Batch(wide, images, images, batch.share), GRID, list[Sequence[int]]()

    def __len__(self) -> int:
        return 3

    def batches(self, groups: Iterable[Sequence[int]]) -> Iterator[Batch]:
        for group in groups:
            self.waited_s += 0.5
            self.groups.append(group)
            yield self.batch


def test_it_writes_images_by_seconds_and_mfu_by_needed_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "PHOTOS", 2)
    main([*TINY, "--recompute", "--out", str(tmp_path / "bench.json")])
    written = json.loads((tmp_path / "bench.json").read_text())
    (row,) = written["rows"]
    assert (row["tokens"], row["size_px"], row["batch"]) == (16, [112, 112], 2)
    assert row["tower"]["flops"]["vision"] > row["cache"]["flops"]["vision"] == 0
    peak = written["machine"]["peak_tera_flops_per_s"]
    for source in ("tower", "cache"):
        work = row[source]["flops"]
        assert work["recomputed"] > 0
        for run in (row[source]["control"], row[source]["loader"]):
            assert run["images"] == 2 * 2  # two steps are the least
            assert run["images_per_s"] == pytest.approx(run["images"] / run["seconds"])
            done = sum(work.values())
            assert run["tera_flops_per_s"] == pytest.approx(run["images_per_s"] * done / 1e12)
            assert run["mfu"] == pytest.approx(run["images_per_s"] * (done - work["recomputed"]) / 1e12 / peak)
        assert row[source]["control"]["data_wait_share"] == 0
        assert 0 < row[source]["loader"]["data_wait_share"] < 1
    assert written["settings"]["recompute"]
    printed = capsys.readouterr().out
    assert "no GPU: what follows says nothing of one" in printed
    assert [line.split()[:3] for line in printed.splitlines() if line.startswith("     16")] == [
        ["16", "2", "tower"],
        ["16", "2", "cache"],
    ]


def test_warm_up_is_not_counted_and_every_step_learns(trainee: Trainee) -> None:
    samples = Drawn(trainee.tower.width)
    before = {name: tensor.clone() for name, tensor in trainee.module.state_dict().items()}
    run = run_steps(trainee, samples, batch=4, seconds=0.0)
    assert samples.groups == [[0, 1, 2, 0]] * (WARMUPS + 2)
    assert (run.images, run.waited_s) == (8, 2 * 0.5)
    assert run.wait_share == run.waited_s / run.seconds
    moved = [name for name, tensor in trainee.module.state_dict().items() if not torch.equal(tensor, before[name])]
    assert moved == [name for name, _ in trainee.module.named_parameters()]
    assert all(parameter.grad is None for parameter in trainee.module.parameters())


def test_steps_go_on_for_the_seconds_asked(trainee: Trainee, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that moves by one second a batch: 7 steps in 7 s."""
    samples = Drawn(trainee.tower.width)
    monkeypatch.setattr(pace.time, "perf_counter", lambda: float(len(samples.groups)))
    run = run_steps(trainee, samples, batch=4, seconds=7.0)
    assert (run.images, run.seconds, run.images_per_s) == (28, 7.0, 4.0)


def test_waiting_is_the_time_until_the_reader_gives_a_group_and_not_that_of_a_step(
    photos: Photos, tower: FastTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that moves by 0.5 s while a group is read, and by 8 s in a step."""
    stock, now = loading.read_ahead, [0.0]

    def slow(*given: Any, **how: Any) -> Iterator[Any]:
        for read in stock(*given, **how):
            now[0] += 0.5
            yield read

    monkeypatch.setattr(loading, "read_ahead", slow)
    monkeypatch.setattr(loading.time, "perf_counter", lambda: now[0])
    samples = photo_samples(photos, tower, VIEW, workers=0, folder=None)
    for _ in samples.batches([[0], [1], [0]]):
        now[0] += 8.0
    assert samples.waited_s == 3 * 0.5


def test_photos_are_of_nuscenes_size_and_weigh_what_one_does(photos: Photos) -> None:
    from PIL import Image

    for picture in photos.pictures:
        with Image.open(picture.path) as image:
            assert (image.format, image.size) == ("JPEG", (1600, 900))
        assert 100_000 < picture.path.stat().st_size < 600_000


def test_cached_tokens_need_no_tower_while_steps_are_timed(photos: Photos, tower: FastTower, tmp_path: Path) -> None:
    samples = photo_samples(photos, tower, VIEW, workers=0, folder=tmp_path)
    control = RandomSamples(tower, VIEW, cached=True)
    counts = []
    for source in (samples, control):
        stream = source.batches([[0, 1]] * 3)
        next(stream)
        counts.append(tower.encoded_images)
        assert len(list(stream)) == 2
        counts.append(tower.encoded_images)
    assert counts == [2, 2, 4, 4]  # the cache's two photos; the control's one group
    assert len(list(RandomSamples(tower, VIEW, cached=False).batches([[0, 1]] * 3))) == 3
    assert tower.encoded_images == 4 + 6


def test_the_peak_is_products_by_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves half a second whenever it is read: 20 products in 1.5 s."""
    clock = iter(range(9))
    monkeypatch.setattr(bench_machine, "now_s", lambda device: next(clock) / 2)
    assert peak_flops(CPU, 8) == 20 * 2 * 8**3 / 1.5


def test_the_machine_is_told_with_versions_commit_and_date(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = machine(CPU, commit="abc")
    assert facts["torch"] == torch.__version__
    assert "cores" in facts["hardware"]
    assert facts["device"] == "cpu"
    assert len(facts["date"]) == len("2026-11-24 13:24 UTC")
    monkeypatch.setattr(bench_machine, "lineage", lambda root, stage: {"hardware": "1 core"})
    away = machine(CPU, commit="abc")
    assert (away["commit"], away["uncommitted_changes"]) == ("abc", None)
    assert machine(CPU)["commit"] == "unknown"


def test_without_a_gpu_the_default_is_tiny_and_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = parse([])
    assert (asked.shape, asked.device, asked.tokens, asked.out) == ("tiny", "cpu", (64, 256), None)
    assert parse(["--shape", "3b"]).tokens == (64, 256, 576, 1024, 3249)


def test_the_true_shapes_on_a_gpu_are_recorded_by_the_name_of_the_card() -> None:
    asked = parse(["--shape", "3b", "--device", "cuda"])
    assert out_file(asked, "NVIDIA H200") == ROOT / "infra/benchmarks/training_nvidia_h200.json"
    assert out_file(parse(["--shape", "tiny", "--device", "cuda"]), "NVIDIA H200") is None
    assert out_file(parse(["--shape", "3b", "--device", "cpu"]), "cpu") is None
    assert out_file(parse(["--out", "here.json"]), "cpu") == Path("here.json")


@pytest.mark.parametrize(("tokens", "told"), [("64,100,200,3", "got 200, 3"), ("0", "got 0"), ("x", "got x")])
def test_tokens_that_make_no_square_image_are_refused(
    tokens: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(["--tokens", tokens])
    assert told in capsys.readouterr().err


def test_help_ends_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    last = capsys.readouterr().out.rstrip().splitlines()[-2:]
    assert " ".join(" ".join(last).split()).endswith(bench.EXAMPLE.split(": ", 1)[1])


def test_options_are_the_papers_but_for_what_the_benchmark_sets() -> None:
    section = training_section(Path("infra/params/paper.yaml"))
    options = options_of(section, CPU, recompute=True)
    changed = {name for name, value in section.items() if getattr(options, name) != value}
    assert changed == {"init", "bf16", "recompute"}
    assert (options.init, options.bf16) == ("random", False)
    assert options_of(section, torch.device("cuda"), recompute=False).bf16
    assert set(vars(options)) == set(type(make_options()).model_fields)


def test_on_a_bare_gpu_machine_the_control_is_measured_alone() -> None:
    program = (
        f"import sys\nfor name in {['cv2', 'PIL', 'pyarrow', 'pydantic', 'deepspeed', 'pytorch_msssim']}:\n"
        f"    sys.modules[name] = None\nfrom stages.reconstruction.bench import main\nmain({TINY})"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "no cv2, PIL, pyarrow here: the loader is not measured" in ran.stdout
    assert ran.stdout.splitlines()[-2].split()[2:6:3] == ["tower", "-"]


def test_a_gpu_without_the_losss_filter_is_told_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.errors import MachineError

    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match="pytorch_msssim"):
        main(["--device", "cuda", "--shape", "tiny"])
