"""The checks of `fastdrive doctor`: a function each, which yields findings about a checkout. None imports torch, MLflow
or Prefect. Start reading at CHECKS, at the end.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import psutil
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from stages.core import tracking
from stages.core.errors import DataError, InputError, ParamsError
from stages.core.io import MANIFEST, check_file, read_json, read_manifest, write_text
from stages.core.params import PARAMS_FILE, read_params
from stages.core.provenance import git_says, locked
from stages.core.secrets import masked
from stages.scenes.layout import check_root

State = Literal["ok", "warn", "bad", "unknown"]
COLOURS: dict[State, str] = {"ok": "green", "warn": "yellow", "bad": "red", "unknown": "cyan"}
PARAMS, DATA, MACHINE = 2, 3, 4  # exit codes, as in stages/core/errors.py
REPAIR = "`fastdrive doctor --fix`"


@dataclass(frozen=True)
class Finding:
    """The result of one check. `bad` stops a run, `warn` may; `unknown` could not be checked.

    `fix` is the command to run; `fixable`: `--fix` repairs it. `code` is the exit code of a bad one.
    """

    name: str
    state: State
    got: str
    expected: str = ""
    fix: str = ""
    fixable: bool = False
    code: int = MACHINE


# Python, its packages, the machine

INSTALL = "`make reproduce` makes .venv from requirements.lock; then `source .venv/bin/activate`"
LOCKED = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)


def packages(root: Path) -> Iterator[Finding]:
    """Python and its packages, against pyproject.toml and requirements.lock."""
    pyproject, lock = root / "pyproject.toml", root / "requirements.lock"
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"] if pyproject.is_file() else {}
    python, supported = ".".join(map(str, sys.version_info[:3])), project.get("requires-python", ">=3.11")
    fits = SpecifierSet(supported).contains(python)
    yield Finding(
        "packages", "ok" if fits else "bad", f"Python {python}", f"Python {supported}", "" if fits else INSTALL
    )
    called = shutil.which("python") or "none"
    if Path(called).parent.resolve() != Path(sys.executable).parent.resolve():
        fix = "`source .venv/bin/activate`, or start by make"
        yield Finding("packages", "warn", f"`python` is {called}", f"{sys.executable}, as dvc.yaml calls it", fix)
    for requirement in map(Requirement, project.get("dependencies", [])):
        got = installed(requirement.name)
        if not got or not requirement.specifier.contains(got, prereleases=True):
            yield Finding("packages", "bad", f"{requirement.name} {got or 'not installed'}", str(requirement), INSTALL)
    pins = dict(LOCKED.findall(lock.read_text(encoding="utf-8"))) if lock.is_file() else {}
    others = [f"{name} {installed(name) or 'absent'}" for name, pin in pins.items() if installed(name) != pin]
    if others:
        got = f"{len(others)} packages differ: {_listed(others, 6)}"
        yield Finding("packages", "warn", got, "the versions of requirements.lock", INSTALL)
    else:
        yield Finding("packages", "ok", f"{len(pins)} packages as locked")


def installed(name: str) -> str:
    """Return the version of a package without importing it; empty when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


CARDS = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.used", "--format=csv,noheader,nounits"]
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}  # by major version of CUDA: NVIDIA's table of minor version compatibility


def gpu(root: Path) -> Iterator[Finding]:
    """Each GPU, its driver, and the CUDA that torch was built for; no GPU is no fault."""
    try:
        done = subprocess.run(CARDS, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        if Path("/dev/nvidiactl").exists():
            fix = "`nvidia-smi` must answer: repair the driver, or hide the card by CUDA_VISIBLE_DEVICES="
            yield Finding("gpu", "warn", str(error), "an answer of nvidia-smi", fix)
        else:
            yield Finding("gpu", "ok", "none; the embedded default needs none")
        return
    cuda = _torch_cuda()
    oldest = OLDEST_DRIVER.get(int(cuda.split(".")[0]), 0) if cuda else 0
    for name, driver, total_mib, used_mib in (line.split(", ") for line in done.stdout.splitlines()):
        got = f"{name}, {total_mib} MiB ({used_mib} used), driver {driver}, torch for CUDA {cuda or '- (no build)'}"
        if not cuda:
            yield Finding("gpu", "warn", got, "a torch with CUDA", "install torch with CUDA from requirements.lock")
        elif int(driver.split(".")[0]) < oldest:
            yield Finding("gpu", "bad", got, f"driver {oldest} or later", "update the driver, then `nvidia-smi`")
        else:
            yield Finding("gpu", "ok", got)


def _torch_cuda() -> str:
    """Return the CUDA that torch was built for, read from its file; empty for a build without."""
    spec = find_spec("torch")
    text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8") if spec and spec.origin else ""
    match = re.search(r"^cuda\b[^=]*=\s*'([\d.]+)'", text, re.MULTILINE)
    return match[1] if match else ""


def room(root: Path) -> Iterator[Finding]:
    """Free disk, memory and /dev/shm, against the embedded default: 0.7 GB of data, a process of 2 GB."""
    shm = Path("/dev/shm")  # a container has 0.06 GB by default: too little for the workers of a data loader
    shm_bytes = shutil.disk_usage(shm).total if shm.is_dir() else 0
    for text, size, enough_gb, least_gb, fix in (
        ("disk free", shutil.disk_usage(root).free, 5.0, 1.0, "`dvc gc -w` drops what no commit uses"),
        ("memory free", psutil.virtual_memory().available, 4.0, 0.0, "stop other work: `ps aux --sort=-rss | head`"),
        ("/dev/shm", shm_bytes, 0.5, 0.0, "start the container with `--shm-size=2g`"),
    ):
        state: State = "ok" if size >= enough_gb * 1e9 else "warn" if size >= least_gb * 1e9 else "bad"
        got = f"{size / 1e9:.2f} GB of {text}"
        yield Finding("room", state, got, f"{enough_gb} GB", "" if state == "ok" else fix)


# Servers

LOCAL = ("127.0.0.1", "localhost", "::1")
PATIENCE_S = 3.0


def ports(root: Path) -> Iterator[Finding]:
    """The ports of `make serve`: free, held by a server of ours, or taken."""
    listening = [held for held in psutil.net_connections("tcp") if held.status == psutil.CONN_LISTEN]
    for name, default, page in (("mlflow", 5000, "health"), ("prefect", 4200, "api/health")):
        setting = f"FASTDRIVE_{name.upper()}_PORT"
        port = os.environ.get(setting) or str(default)
        holders = sorted({f"process {held.pid or '-'}" for held in listening if str(held.laddr.port) == port})
        if not holders:
            yield Finding("ports", "ok", f"{port} ({name}) is free")
        elif ask(f"http://127.0.0.1:{port}/{page}")[0] in (200, 401):
            yield Finding("ports", "ok", f"{port} ({name}) is held by a server that answers: {_listed(holders)}")
        else:
            got, fix = f"{port} ({name}) is held by {_listed(holders)}", f"stop it, or `{setting}=<another> make serve`"
            yield Finding("ports", "warn", got, "a free port for `make serve`", fix)


def servers(root: Path) -> Iterator[Finding]:
    """The servers that the environment names let us in, with the version that is installed here."""
    env = os.environ
    mlflow = (env.get("MLFLOW_TRACKING_USERNAME", ""), env.get("MLFLOW_TRACKING_PASSWORD", ""))
    user, _, password = env.get("PREFECT_API_AUTH_STRING", "").partition(":")
    for name, setting, page, token, login in (
        ("mlflow", "MLFLOW_TRACKING_URI", "version", env.get("MLFLOW_TRACKING_TOKEN", ""), mlflow),
        ("prefect", "PREFECT_API_URL", "admin/version", env.get("PREFECT_API_KEY", ""), (user, password)),
    ):
        url = env.get(setting, "")
        if not url.startswith("http"):
            yield Finding("servers", "ok", f"{name}: {f'{masked(url)}, no server' if url else f'{setting} is not set'}")
            continue
        status, text = ask(f"{url.rstrip('/')}/{page}", token, login)
        there = text.strip().strip('"')[:40]
        if status != 200:
            fix = f"`make serve` in another shell, or `unset {setting}`; stages run without it and keep their records"
            got = f"{name}: {masked(url)} answers {status or f'nothing in {PATIENCE_S:.0f} s: {masked(text)}'}"
            yield Finding("servers", "bad", got, f"{setting} to answer", fix)
        elif there != installed(name):
            fix = "`make serve` from this checkout, or install the server's version"
            yield Finding("servers", "warn", f"{name} {there} at {masked(url)}", f"{installed(name)}, as here", fix)
        else:
            yield Finding("servers", "ok", f"{name} {there} answers at {masked(url)}")


def ask(url: str, token: str = "", login: tuple[str, str] = ("", "")) -> tuple[int, str]:
    """Return status and text of an answer; status 0 and the reason when there is none in time."""
    import requests

    with requests.Session() as session:
        session.trust_env = urlsplit(url).hostname not in LOCAL  # loopback is asked past any proxy
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            answer = session.get(url, headers=headers, auth=login if login[0] else None, timeout=PATIENCE_S)
            return answer.status_code, answer.text
        except requests.RequestException as error:
            return 0, type(error).__name__


# The checkout


def settings(root: Path) -> Iterator[Finding]:
    """params.yaml: every key known, every value within its bounds."""
    try:
        read_params(root / PARAMS_FILE)
    except ParamsError as error:
        yield Finding("settings", "bad", error.got, error.expected, error.fix, code=PARAMS)
    else:
        yield Finding("settings", "ok", "params.yaml is valid")


def git(root: Path) -> Iterator[Finding]:
    """Code, params, results and locks that are not committed."""
    commit = git_says(root, "rev-parse", "--short=12", "HEAD")
    if not commit:
        yield Finding("git", "warn", "no git checkout, or no git", "a commit", "`git clone` the project")
        return
    changed = [line[3:] for line in git_says(root, "status", "--porcelain").splitlines()]
    if changed:
        fix = "`git commit` them: the run is marked dirty, and no version made of it is promoted"
        yield Finding("git", "warn", f"not committed: {_listed(changed, 6)}", "code, params, results as committed", fix)
    else:
        yield Finding("git", "ok", f"commit {commit}")


def dvc(root: Path) -> Iterator[Finding]:
    """dvc.lock and .dvc/tmp/rwlock, which a kill may leave damaged: DVC writes them in place."""
    lock, rwlock = root / "dvc.lock", root / ".dvc/tmp/rwlock"
    if not (root / "dvc.yaml").is_file():
        fix = "`cd` to a clone of the project, then `fastdrive doctor`"
        yield Finding("dvc", "bad", f"no dvc.yaml in {root}", "a checkout", fix, code=DATA)
    elif lock.is_file() and b"<<<<<<< " in lock.read_bytes():
        fix = "`git checkout --ours dvc.lock && dvc repro`"
        yield Finding("dvc", "bad", "dvc.lock is in a merge", "a merged dvc.lock", fix, code=DATA)
    elif not (_is_lock(lock) and _is_rwlock(rwlock)):
        got = f"{rwlock if _is_lock(lock) else lock} is damaged"
        yield Finding("dvc", "bad", got, "a whole file", REPAIR, fixable=True, code=DATA)
    else:
        yield Finding("dvc", "ok", "dvc.lock and .dvc/tmp/rwlock are whole" if lock.is_file() else "no dvc.lock yet")


def fix_dvc(root: Path) -> Iterator[str]:
    """Put the committed dvc.lock in place of a damaged one, of which a copy stays; remove a damaged rwlock."""
    lock, rwlock = root / "dvc.lock", root / ".dvc/tmp/rwlock"
    if not _is_lock(lock):
        (root / ".dvc/tmp").mkdir(parents=True, exist_ok=True)
        lock.replace(root / ".dvc/tmp/dvc.lock.damaged")
        committed = git_says(root, "show", "HEAD:./dvc.lock")
        if committed:
            write_text(lock, committed + "\n")
        done = "restored the committed dvc.lock" if committed else "removed dvc.lock"
        yield f"dvc: {done}; the damaged one is in .dvc/tmp"
    if not _is_rwlock(rwlock):
        rwlock.unlink()
        yield f"dvc: removed {rwlock}"


def _is_lock(path: Path) -> bool:
    """Return whether DVC can read a dvc.lock, if there is one; a file that was cut short may still be YAML."""
    if not path.is_file():
        return True
    reader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        lock = reader(path.read_text(encoding="utf-8")).get_single_data()
        entries = list(lock.get("stages", {}).values())
        files = [file for entry in entries for part in ("deps", "outs") for file in entry.get(part, [])]
        whole = all("cmd" in entry for entry in entries) and all("path" in file for file in files)
        return bool(whole and lock["schema"] == "2.0")
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _is_rwlock(path: Path) -> bool:
    """Return whether DVC's list of readers and writers is JSON; a new one may just be being written."""
    try:
        return not path.is_file() or isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        return time.time() - path.stat().st_mtime < 10


# What stages made

# Folders that are whole when their manifest says so, and what makes each. The committed driver has one too.
SEALED = {
    "data/world": "dvc repro make_world",
    "data/world_oracle": "dvc repro make_world",
    "data/masks": "dvc repro generate_masks",
    "models/*": "dvc repro train_pruner@{name}",
    "results/training/*": "dvc repro train_pruner@{name}",
}
CHECKPOINTS = "runs/train_pruner/[!.]*/step_*"
TEMPORARY = re.compile(r"\..+\.(\d+)\.[0-9a-f]{8}\.tmp|mlflow\.db\.(\d+)\.tmp.*")
WRITTEN = ("data", "models", "results", "reports", "metrics", "runs", ".dvc/tmp")
IDLE_S = 600.0  # a file that nobody wrote for so long is left over; on a shared disk another machine may be writing


def outputs(root: Path) -> Iterator[Finding]:
    """Every manifest, also of checkpoints, against the bytes beside it; what is stale, `fastdrive plan` says."""
    if running := running_stages(root):
        fix = "`fastdrive doctor` when it has ended"
        yield Finding("outputs", "unknown", f"{_listed(running)} is running", fix=fix)
        return
    paths = {out["path"] for entry in locked(root).values() for out in entry.get("outs", [])}
    whole = True
    for pattern, command in SEALED.items():
        for folder in sorted(path for path in root.glob(pattern) if path.is_dir()):
            name = str(folder.relative_to(root))
            if pattern == "models/*" and name not in paths:  # released weights, which DVC does not make
                continue
            made_by = f"git checkout {name}" if name == "models/driver" else command.format(name=folder.name)
            if fault := _fault(folder, made_by):
                whole = False
                yield Finding("outputs", "bad", fault, f"{name} as in its manifest", f"`{made_by}`", code=DATA)
    for folder in _cut_short(root):
        whole = False
        got, fix = f"{folder} is not whole", f"{REPAIR}; training goes on from the checkpoint before"
        yield Finding("outputs", "warn", got, "whole checkpoints", fix, fixable=True, code=DATA)
    if whole:
        present = sum((root / path).exists() for path in paths)
        yield Finding("outputs", "ok", f"{present} of {len(paths)} outputs of dvc.lock are here; all manifests hold")


def fix_outputs(root: Path) -> Iterator[str]:
    """Remove checkpoints that are not whole: training ignores them."""
    for folder in [] if running_stages(root) else _cut_short(root):
        if time.time() - folder.stat().st_mtime > IDLE_S:
            shutil.rmtree(folder)
            yield f"outputs: removed {folder.relative_to(root)}"


def _cut_short(root: Path) -> list[Path]:
    return [folder for folder in sorted(root.glob(CHECKPOINTS)) if _fault(folder, "")]


def _fault(folder: Path, made_by: str) -> str:
    """Return the first thing that differs from the manifest of a folder; empty when nothing does."""
    try:
        read_manifest(folder, made_by)
        for name in read_json(folder / MANIFEST, made_by)["files"]:
            check_file(folder, name, made_by)
    except DataError as error:
        return f"{error.expected}: {error.got}"
    except (KeyError, TypeError, AttributeError) as error:
        return f"{folder / MANIFEST} is no manifest: {error!r}"
    return ""


def running_stages(root: Path) -> list[str]:
    """Return the stage programs that run in this checkout: what looks half-written may be being written."""
    names = set[str]()
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        if "-m" in words[:-1] and process.info["cwd"] == str(root.resolve()):
            module = words[words.index("-m") + 1]
            names |= {module.removeprefix("stages.")} if module.startswith("stages.") else set()
    return sorted(names)


def temporaries(root: Path) -> Iterator[Finding]:
    """Unfinished files that a kill left; readers never see them."""
    if left := _left_over(root):
        size_mb = sum(path.stat().st_size for path in left) / 1e6
        got = f"{len(left)} files of killed processes, {size_mb:.1f} MB: {_listed([path.name for path in left])}"
        yield Finding("temporaries", "warn", got, "none", REPAIR, fixable=True, code=DATA)
    else:
        yield Finding("temporaries", "ok", "no files of killed processes")


def fix_temporaries(root: Path) -> Iterator[str]:
    """Remove them."""
    for path in _left_over(root):
        path.unlink(missing_ok=True)
        yield f"temporaries: removed {path.relative_to(root)}"


def _left_over(root: Path) -> list[Path]:
    """Temporary files of our writers whose process is gone and that nobody wrote for IDLE_S. Links are not followed,
    nor the images of a data set searched.
    """
    files = [path for path in root.iterdir() if path.is_file()]
    for top in WRITTEN:
        for folder, below, names in os.walk(root / top):
            below[:] = [name for name in below if name not in ("samples", "sweeps")]
            files += [Path(folder, name) for name in names]
    matches = ((path, TEMPORARY.fullmatch(path.name)) for path in files)
    named = ((path, int(match[1] or match[2])) for path, match in matches if match)
    return [path for path, pid in named if not psutil.pid_exists(pid) and time.time() - path.stat().st_mtime > IDLE_S]


def unsent(root: Path) -> Iterator[Finding]:
    """Records of runs that have not reached MLflow."""
    if count := len(tracking.unsent(root)):
        got, fix = f"{count} runs wait in {tracking.UNSENT}", f"{REPAIR}, when the store answers"
        yield Finding("unsent", "warn", got, "every run in MLflow", fix, fixable=True)
    else:
        yield Finding("unsent", "ok", "every run that ended has reached MLflow")


def fix_unsent(root: Path) -> Iterator[str]:
    """Send them; what the store refuses stays."""
    before = len(tracking.unsent(root))
    left = tracking.send_unsent(root)
    yield f"unsent: {before - left} runs sent, {left} left"


# A nuScenes root that may have been copied badly: a sample of it, the same each time, in seconds

NAMED, DECODED = 200, 20  # images that are looked for, and decoded
WINDOW = 1 << 16  # bytes read around a random place of sample_data.json, which holds 1.2 GB of the full set
IMAGE = re.compile(rb'"filename":\s*"((?!sweeps/)[^"]+\.(?:jpg|png))"')


def scenes(root: Path) -> Iterator[Finding]:
    """The nuScenes root: tables, images, maps, CAN bus."""
    params = read_params(root / PARAMS_FILE).scenes
    drawn = params.oracle_root is not None
    if drawn and (running_stages(root) or not (root / params.root).exists()):
        yield Finding("scenes", "ok", f"{params.root} is not made yet", fix="`dvc repro make_world`")
        return
    fix = "`dvc repro make_world`" if drawn else f"copy what is missing into {params.root}, then `fastdrive doctor`"
    faults = list(_faults_of_scenes(root / params.root, params.version))
    for fault in faults:
        yield Finding("scenes", "bad", fault, f"a whole nuScenes root in {params.root}", fix, code=DATA)
    if not faults:
        yield Finding("scenes", "ok", f"{params.root}: tables, a sample of the images, maps and CAN bus are whole")


def _faults_of_scenes(root: Path, version: str) -> Iterator[str]:
    try:
        check_root(root, version)
    except DataError as error:
        yield f"{error.expected}: {error.got}"
        return
    yield from _faults_of_images(root, root / version / "sample_data.json")
    expansions = sorted((root / "maps/expansion").glob("*.json"))
    if not expansions:
        yield f"{root / 'maps/expansion'} has no map (nuScenes map expansion 1.3)"
    for path in expansions:
        try:
            json.loads(path.read_bytes())
        except ValueError:
            yield f"{path} is no JSON ({path.stat().st_size} bytes)"
    if not any((root / "can_bus").glob("*_pose.json")):
        yield f"{root / 'can_bus'} has no pose messages (nuScenes CAN bus expansion)"


def _faults_of_images(root: Path, table: Path) -> Iterator[str]:
    """Images of key frames named at random places of sample_data.json that are absent, or cannot be decoded."""
    from PIL import Image

    draw, size, names = random.Random(0), table.stat().st_size, set[str]()
    with open(table, "rb") as file:
        for _ in range(32):
            file.seek(draw.randrange(max(1, size - WINDOW)))
            names |= {name.decode(errors="replace") for name in IMAGE.findall(file.read(WINDOW))}
    chosen = draw.sample(sorted(names), min(NAMED, len(names)))
    absent = [name for name in chosen if not (root / name).is_file()]
    if not names:
        yield f"{table} names no image"
    if absent:
        yield f"{len(absent)} of {len(chosen)} images of sample_data.json are absent, such as {root / absent[0]}"
    for name in [name for name in chosen if name not in absent][:DECODED]:
        try:
            with Image.open(root / name, formats=["JPEG", "PNG"]) as image:
                image.load()
        except (OSError, ValueError) as error:
            yield f"{root / name} cannot be decoded: {error or type(error).__name__}"


# All of them

Check = Callable[[Path], Iterator[Finding]]
CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        packages, settings, git, dvc, outputs, scenes, temporaries, unsent, servers, ports, gpu,
        room,
    )
}  # fmt: skip
FIXES: dict[str, Callable[[Path], Iterator[str]]] = {
    "dvc": fix_dvc,
    "outputs": fix_outputs,
    "temporaries": fix_temporaries,
    "unsent": fix_unsent,
}


def check(root: Path) -> Iterator[Finding]:
    """Yield the findings of all checks; a check that itself fails is a finding too."""
    for name, function in CHECKS.items():
        try:
            yield from function(root)
        except InputError as error:
            yield Finding(name, "unknown", error.got, error.expected, error.fix)
        except Exception as error:  # one check on an odd machine must not hide what the others found
            got = f"the check itself failed: {type(error).__name__}: {error}"
            yield Finding(name, "unknown", got, fix="report it with the output of `fastdrive info`")


def repair(root: Path, findings: Sequence[Finding]) -> Iterator[str]:
    """Run the repair of each check with a fixable finding; yield a line for each thing done."""
    for name in dict.fromkeys(finding.name for finding in findings if finding.fixable):
        try:
            yield from FIXES[name](root)
        except (InputError, OSError) as error:
            yield f"{name}: not repaired: {error}"


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 0 when nothing is bad, else the class of what to fix first: params before machine before data."""
    codes = {finding.code for finding in findings if finding.state == "bad"}
    return next((code for code in (PARAMS, MACHINE, DATA) if code in codes), 0)


def as_text(findings: Sequence[Finding], fixed: Sequence[str]) -> str:
    """Return repairs, findings (coloured on a terminal) and how many there are of each kind; secrets masked."""
    import click

    lines = [f"fixed    {line}" for line in fixed]
    for finding in findings:
        parts = [f"{click.style(f'{finding.state:8}', COLOURS[finding.state])} {finding.name:12} {finding.got}"]
        parts += [f"expected {finding.expected}"] if finding.expected and finding.state != "ok" else []
        parts += [f"to fix: {finding.fix}"] if finding.fix else []
        lines.append("; ".join(parts))
    counts = Counter(finding.state for finding in findings)
    lines.append(", ".join(f"{counts[state]} {state}" for state in COLOURS if counts[state]))
    if any(finding.fixable for finding in findings) and not fixed:
        lines[-1] += f"; {REPAIR} repairs what cannot lose anything"
    return str(masked("\n".join(lines)))


def as_json(findings: Sequence[Finding], fixed: Sequence[str], code: int) -> str:
    """Return all of it for a program; secrets masked."""
    tree = {"findings": [asdict(finding) for finding in findings], "fixed": list(fixed), "exit_code": code}
    return json.dumps(masked(tree), indent=1)


def _listed(words: Sequence[str], shown: int = 3) -> str:
    return ", ".join(words[:shown]) + ", ..." * (len(words) > shown)
