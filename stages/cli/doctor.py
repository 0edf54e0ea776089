"""`fastdrive doctor` and `fastdrive info`: what is wrong with this checkout and machine, and what they are."""

import os
import platform
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from stages.cli.plan import listed
from stages.core.errors import DataError, InputError, MachineError, ParamsError, masked
from stages.core.provenance import git_says, hardware, locked

COLOURS = {"ok": "green", "warn": "yellow", "bad": "red", "unknown": "cyan"}
PARAMS, DATA, MACHINE = ParamsError.exit_code, DataError.exit_code, MachineError.exit_code
SHOWN = ("torch", "transformers", "deepspeed", "dvc", "mlflow", "prefect", "fastapi", "numpy", "pydantic", "ray")
SETTINGS = r"FASTDRIVE_\w+|MLFLOW_TRACKING_URI|PREFECT_API_URL|CUDA_VISIBLE_DEVICES|OMP_NUM_THREADS|DS_\w+"
INSTALL = "`make doctor` makes .venv from requirements.lock; then `source .venv/bin/activate`"


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="First send MLflow the runs that it has not taken yet.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Check packages, machine, servers, git, DVC's files, data and records; name the command that fixes each.

    Ends with 0 when a run may start, 2 when params.yaml, 4 when the machine, 3 when data is in the way.
    """
    root = Path.cwd()
    if not (root / "dvc.yaml").is_file():
        fix_ = "`cd` to a clone of the project, then `fastdrive doctor`"
        raise DataError(expected="a checkout", got=f"no dvc.yaml in {root}", fix=fix_)
    if fix:
        from stages.core import tracking

        tracking.send_unsent(root)
    findings = list(check(root))
    codes = {finding.code for finding in findings if finding.state == "bad"}
    code = next((code for code in (PARAMS, MACHINE, DATA) if code in codes), 0)
    if json:
        typer.echo(dumps(masked({"findings": list(map(asdict, findings)), "exit_code": code}), indent=1))
    else:
        typer.echo(masked(as_text(findings)))
    if code:
        raise typer.Exit(code)


def info() -> None:
    """Print what a report of a fault needs: versions, machine, commit, state of DVC; passwords masked."""
    root, driver = Path.cwd(), Path("/proc/driver/nvidia/version")
    commit = git_says(root, "rev-parse", "--short=12", "HEAD")
    settings = [f"{name}={value}" for name, value in sorted(os.environ.items()) if re.fullmatch(SETTINGS, name)]
    lock = root / "dvc.lock"  # not parsed: its stages are the keys of the second level
    stages = len(re.findall(r"^  [^\s-]", lock.read_text("utf-8", "replace"), re.MULTILINE)) if lock.is_file() else 0
    rows = {
        "fastdrivevla": f"{installed('fastdrivevla') or '-'}, {f'commit {commit}' if commit else 'no git'}",
        "changed files": changed_files(root) or "none",
        "python": f"{platform.python_version()} in {sys.prefix}",
        "packages": ", ".join(f"{name} {installed(name) or '-'}" for name in SHOWN),
        "machine": f"{platform.platform()}, {hardware()}",
        "gpu driver": driver.read_text(encoding="utf-8").splitlines()[0] if driver.is_file() else "none",
        "dvc": f"dvc.lock with {stages} stages" if stages else "no dvc.lock",
        "runs not sent to MLflow": str(len(list((root / "runs/unsent").glob("*.jsonl")))),
        "settings": ", ".join(settings) or "none",
    }
    typer.echo(masked("\n".join(f"{name}: {value}" for name, value in rows.items())))


@dataclass(frozen=True)
class Finding:
    """The result of one check: `bad` stops a run with exit code `code`, `warn` may, `unknown` could not be checked."""

    name: str
    state: str
    got: str
    expected: str = ""
    fix: str = ""
    code: int = MACHINE


# Python, its packages, the machine


def packages(root: Path) -> Iterator[Finding]:
    """Python and its packages, against pyproject.toml and requirements.lock."""
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    python = sys.version.split()[0]
    if not Requirement(f"python{project['requires-python']}").specifier.contains(python, prereleases=True):
        yield Finding("packages", "bad", f"Python {python}", f"Python {project['requires-python']}", INSTALL)
    called = shutil.which("python") or "none"
    if Path(called).parent.resolve() != Path(sys.executable).parent.resolve():
        fix = "`source .venv/bin/activate`, or start by make"
        yield Finding("packages", "warn", f"`python` is {called}", f"{sys.executable}, as dvc.yaml calls it", fix)
    for requirement in map(Requirement, project["dependencies"]):
        got = installed(requirement.name)
        if not got or not requirement.specifier.contains(got, prereleases=True):
            yield Finding("packages", "bad", f"{requirement.name} {got or 'not installed'}", str(requirement), INSTALL)
    lock = (root / "requirements.lock").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", lock, re.MULTILINE))
    others = [f"{name} {installed(name) or 'absent'}" for name, pin in pins.items() if installed(name) != pin]
    if others:
        got = f"{len(others)} packages differ: {listed(others, 6)}"
        yield Finding("packages", "warn", got, "the versions of requirements.lock", INSTALL)
    else:
        yield Finding("packages", "ok", f"Python {python}, {len(pins)} packages as locked")


def installed(name: str) -> str:
    """Return the version of a package without importing it; empty when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def gpu(root: Path) -> Iterator[Finding]:
    """Each GPU, and whether torch can use it; no GPU is no fault."""
    cards = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.used", "--format=csv,noheader"]
    torch = [sys.executable, "-c", "import torch; print(torch.version.cuda, torch.cuda.is_available())"]
    try:
        names = subprocess.run(cards, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
        cuda, usable = subprocess.run(torch, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError) as error:
        if Path("/dev/nvidiactl").exists():
            yield Finding("gpu", "warn", str(error), "an answer of nvidia-smi and torch", "repair it: `nvidia-smi`")
        else:
            yield Finding("gpu", "ok", "none; the embedded default needs none")
        return
    got = f"{'; '.join(names)}; torch for CUDA {cuda}"
    fix = "install the torch of requirements.lock, or a newer driver; then `nvidia-smi`"
    if usable == "True":
        yield Finding("gpu", "ok", got)
    else:
        yield Finding("gpu", "warn", got, "a torch and a driver that work together", fix)


def room(root: Path) -> Iterator[Finding]:
    """Free disk, memory and /dev/shm, against the embedded default: 0.7 GB of data, a process of 2 GB."""
    import psutil

    shm = Path("/dev/shm")  # a container has 0.06 GB by default: too little for the workers of a data loader
    shm_bytes = shutil.disk_usage(shm).total if shm.is_dir() else 0
    for text, size, enough_gb, least_gb, fix in (
        ("disk free", shutil.disk_usage(root).free, 5.0, 1.0, "`dvc gc -w` drops what no commit uses"),
        ("memory free", psutil.virtual_memory().available, 4.0, 0.0, "stop other work: `ps aux --sort=-rss | head`"),
        ("/dev/shm", shm_bytes, 0.5, 0.0, "start the container with `--shm-size=2g`"),
    ):
        state = "ok" if size >= enough_gb * 1e9 else "warn" if size >= least_gb * 1e9 else "bad"
        got = f"{size / 1e9:.2f} GB of {text}"
        yield Finding("room", state, got, f"{enough_gb} GB", "" if state == "ok" else fix)


def servers(root: Path) -> Iterator[Finding]:
    """The servers that the environment names let us in, with the version that is installed here."""
    import requests

    env = os.environ
    mlflow = (env.get("MLFLOW_TRACKING_USERNAME", ""), env.get("MLFLOW_TRACKING_PASSWORD", ""))
    user, _, password = env.get("PREFECT_API_AUTH_STRING", "").partition(":")
    for name, setting, page, token, login in (
        ("mlflow", "MLFLOW_TRACKING_URI", "version", env.get("MLFLOW_TRACKING_TOKEN", ""), mlflow),
        ("prefect", "PREFECT_API_URL", "admin/version", env.get("PREFECT_API_KEY", ""), (user, password)),
    ):
        url = env.get(setting, "")
        if not url.startswith("http"):
            yield Finding("servers", "ok", f"{name}: {setting} names no server")
            continue
        headers, auth = {"authorization": f"Bearer {token}"} if token else {}, login if login[0] else None
        try:
            answer = requests.get(f"{url.rstrip('/')}/{page}", headers=headers, auth=auth, timeout=3.0)
            status, text = str(answer.status_code), answer.text
        except requests.RequestException as error:
            status, text = f"nothing: {type(error).__name__}", ""
        there = text.strip().strip('"')[:40]
        if status != "200":
            fix = f"`make serve` in another shell, or `unset {setting}`; stages run without it and keep their records"
            yield Finding("servers", "bad", f"{name}: {url} answers {status}", f"{setting} to answer", fix)
        elif there != installed(name):
            fix = "`make serve` from this checkout, or install the server's version"
            yield Finding("servers", "warn", f"{name} {there} at {url}", f"{installed(name)}, as here", fix)
        else:
            yield Finding("servers", "ok", f"{name} {there} answers at {url}")


def settings(root: Path) -> Iterator[Finding]:
    """params.yaml: every key known, every value within its bounds."""
    from stages.core.params import PARAMS_FILE, read_params

    read_params(root / PARAMS_FILE)
    yield Finding("settings", "ok", "params.yaml is valid")


def git(root: Path) -> Iterator[Finding]:
    """Code, params, results and locks that are not committed."""
    commit, changed = git_says(root, "rev-parse", "--short=12", "HEAD"), changed_files(root)
    if not commit:
        yield Finding("git", "warn", "no git checkout, or no git", "a commit", "`git clone` the project")
    elif changed:
        fix = "`git commit` them: the run is marked dirty, and no version made of it is promoted"
        yield Finding("git", "warn", f"not committed: {changed}", "code, params, results as committed", fix)
    else:
        yield Finding("git", "ok", f"commit {commit}")


def changed_files(root: Path) -> str:
    """Return the files that differ from the commit, those of many."""
    return listed([line[3:] for line in git_says(root, "status", "--porcelain").splitlines()], 6)


def dvc(root: Path) -> Iterator[Finding]:
    """dvc.lock and .dvc/tmp/rwlock, which a kill may leave damaged: DVC writes them in place."""
    lock, rwlock = root / "dvc.lock", root / ".dvc/tmp/rwlock"
    fixes = {lock: "`git checkout dvc.lock`", rwlock: "`rm .dvc/tmp/rwlock`"}
    if lock.is_file() and b"<<<<<<< " in lock.read_bytes():
        fix = "`git checkout --ours dvc.lock && dvc repro`"
        yield Finding("dvc", "bad", "dvc.lock is in a merge", "a merged dvc.lock", fix, DATA)
        return
    damaged = [path for path in fixes if path.is_file() and not _is_whole(path)]
    for path in damaged:
        yield Finding("dvc", "bad", f"{path} is damaged", "a whole file", fixes[path], DATA)
    if not damaged:
        yield Finding("dvc", "ok", "dvc.lock and .dvc/tmp/rwlock are whole" if lock.is_file() else "no dvc.lock yet")


def _is_whole(path: Path) -> bool:
    """Return whether a file of DVC is whole, dvc.lock or the JSON of rwlock; a lock that was cut short may be YAML."""
    import yaml

    try:
        value = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(path.read_text(encoding="utf-8")).get_single_data()
        if path.name != "dvc.lock":
            return isinstance(value, dict)
        return value["schema"] == "2.0" and len(locked(path.parent)) == len(value.get("stages", {}))
    except (yaml.YAMLError, ValueError, KeyError, TypeError):
        return False


def unsent(root: Path) -> Iterator[Finding]:
    """Records of runs that have not reached MLflow."""
    from stages.core import tracking

    if count := len(tracking.unsent(root)):
        got, fix = f"{count} runs wait in {tracking.UNSENT}", "`fastdrive doctor --fix`, when the store answers"
        yield Finding("unsent", "warn", got, "every run in MLflow", fix)
    else:
        yield Finding("unsent", "ok", "every run that ended has reached MLflow")


# A nuScenes root that may have been copied badly: a sample of it, the same each time, in seconds

WINDOW = 1 << 16  # bytes read around a random place of sample_data.json, which holds 1.2 GB of the full set
IMAGE = re.compile(rb'"filename":\s*"((?!sweeps/)[^"]+\.(?:jpg|png))"')


def scenes(root: Path) -> Iterator[Finding]:
    """The nuScenes root: tables, images, maps, CAN bus."""
    from stages.core.params import PARAMS_FILE, read_params
    from stages.scenes.layout import check_root

    params = read_params(root / PARAMS_FILE).scenes
    data, drawn = root / params.root, params.oracle_root is not None
    if drawn and not data.exists():
        yield Finding("scenes", "ok", f"{params.root} is not made yet", fix="`dvc repro make_world`")
        return
    check_root(data, params.version)
    draw, table, names = random.Random(0), data / params.version / "sample_data.json", set[str]()
    with open(table, "rb") as file:
        for _ in range(32):
            file.seek(draw.randrange(max(1, table.stat().st_size - WINDOW)))
            names |= {name.decode(errors="replace") for name in IMAGE.findall(file.read(WINDOW))}
    absent = [name for name in sorted(names) if not (data / name).is_file()]
    faults = list[str]()
    if absent or not names:
        example = f", such as {data / absent[0]}" if absent else ""
        faults.append(f"{len(absent)} of {len(names)} images of sample_data.json are absent{example}")
    if not any((data / "maps/expansion").glob("*.json")):
        faults.append(f"{data / 'maps/expansion'} has no map (nuScenes map expansion 1.3)")
    if not any((data / "can_bus").glob("*_pose.json")):
        faults.append(f"{data / 'can_bus'} has no pose messages (nuScenes CAN bus expansion)")
    fix = "`dvc repro make_world`" if drawn else f"copy what is missing into {params.root}, then `fastdrive doctor`"
    for fault in faults:
        yield Finding("scenes", "bad", fault, f"a whole nuScenes root in {params.root}", fix, DATA)
    if not faults:
        yield Finding("scenes", "ok", f"{params.root}: tables, a sample of the images, maps and CAN bus are there")


CHECKS: Sequence[Callable[[Path], Iterator[Finding]]] = (
    packages, settings, git, dvc, scenes, unsent, servers, gpu, room,
)  # fmt: skip


def check(root: Path) -> Iterator[Finding]:
    """Yield the findings of all checks; what a check raises is a finding too."""
    for function in CHECKS:
        try:
            yield from function(root)
        except InputError as error:
            yield Finding(function.__name__, "bad", error.got, error.expected, error.fix, error.exit_code)
        except Exception as error:  # one check on an odd machine must not hide what the others found
            got = f"the check itself failed: {type(error).__name__}: {error}"
            yield Finding(function.__name__, "unknown", got, fix="report it with the output of `fastdrive info`")


def as_text(findings: Sequence[Finding]) -> str:
    """Return findings (coloured on a terminal) and how many there are of each kind."""
    lines = []
    for finding in findings:
        parts = [f"{typer.style(f'{finding.state:8}', COLOURS[finding.state])} {finding.name:12} {finding.got}"]
        parts += [f"expected {finding.expected}"] if finding.expected and finding.state != "ok" else []
        parts += [f"to fix: {finding.fix}"] if finding.fix else []
        lines.append("; ".join(parts))
    counts = Counter(finding.state for finding in findings)
    lines.append(", ".join(f"{counts[state]} {state}" for state in COLOURS if counts[state]))
    return "\n".join(lines)
