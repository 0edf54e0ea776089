"""The checks of `fastdrive doctor`: a function each, which yields findings about a checkout. None imports torch, MLflow
or Prefect. Start reading at CHECKS, at the end.
"""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit

import psutil
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from stages.core import tracking
from stages.core.errors import DataError, InputError, ParamsError
from stages.core.io import MANIFEST, read_json, read_manifest, sha256, write_text
from stages.core.params import PARAMS_FILE, read_params
from stages.core.provenance import git_says, locked
from stages.core.secrets import masked

State = Literal["ok", "warn", "bad", "unknown"]
COLOURS: dict[State, str] = {"ok": "green", "warn": "yellow", "bad": "red", "unknown": "cyan"}
PARAMS, DATA, MACHINE = 2, 3, 4  # exit codes, as in stages/core/errors.py


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
    pyproject = root / "pyproject.toml"
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"] if pyproject.is_file() else {}
    python, wanted = ".".join(map(str, sys.version_info[:3])), project.get("requires-python", ">=3.11")
    fits = SpecifierSet(wanted).contains(python)
    yield Finding("packages", "ok" if fits else "bad", f"Python {python}", f"Python {wanted}", "" if fits else INSTALL)
    called = shutil.which("python") or "none"
    if Path(called).parent.resolve() != Path(sys.executable).parent.resolve():
        fix = "`source .venv/bin/activate`, or start by make"
        yield Finding("packages", "warn", f"`python` is {called}", f"{sys.executable}, as dvc.yaml calls it", fix)
    for requirement in map(Requirement, project.get("dependencies", [])):
        got = installed(requirement.name)
        if not got or not requirement.specifier.contains(got, prereleases=True):
            yield Finding("packages", "bad", f"{requirement.name} {got or 'not installed'}", str(requirement), INSTALL)
    lock = root / "requirements.lock"
    if not lock.is_file():
        yield Finding("packages", "unknown", "no requirements.lock", fix="`git checkout requirements.lock`")
        return
    pins = dict(LOCKED.findall(lock.read_text(encoding="utf-8")))
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


def torch_cuda() -> str:
    """Return the CUDA that torch was built for, read from its file; empty for a build without."""
    spec = find_spec("torch")
    if not spec or not spec.origin:
        return ""
    text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    match = re.search(r"^cuda\b[^=]*=\s*'([\d.]+)'", text, re.MULTILINE)
    return match[1] if match else ""


def compiler(root: Path) -> Iterator[Finding]:
    """g++ (or CXX) and ninja: DeepSpeed compiles its CPU optimizer at first use."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    tools = (os.environ.get("CXX") or "g++", "install a compiler: `apt-get install g++`"), ("ninja", INSTALL)
    for tool, fix in tools:
        program = shutil.which(tool, path=path)
        code, text = _run([program, "--version"]) if program else (1, "")
        if code == 0 and text:
            yield Finding("compiler", "ok", f"{tool}: {text.splitlines()[0]}")
        else:
            got = f"{program} that does not start" if program else f"no {tool}"
            yield Finding("compiler", "bad", got, f"{tool}: train_pruner compiles DeepSpeed's optimizer", fix)


CARDS = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.used", "--format=csv,noheader,nounits"]
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}  # by major version of CUDA: NVIDIA's table of minor version compatibility


def gpu(root: Path) -> Iterator[Finding]:
    """Each GPU, its driver, and the CUDA that torch was built for; no GPU is no fault."""
    code, text = _run(CARDS)
    cuda = torch_cuda()
    if code:
        if Path("/dev/nvidiactl").exists():
            fix = "`nvidia-smi` must answer: repair the driver, or hide the card by CUDA_VISIBLE_DEVICES="
            yield Finding("gpu", "warn", (text.strip().splitlines() or ["no nvidia-smi"])[0], "an answer", fix)
        else:
            yield Finding("gpu", "ok", "none; the embedded default needs none")
        return
    for name, driver, total_mib, used_mib in (line.split(", ") for line in text.splitlines() if line.count(", ") == 3):
        got = f"{name}, {total_mib} MiB ({used_mib} used), driver {driver}, torch for CUDA {cuda or '- (no build)'}"
        oldest = OLDEST_DRIVER.get(int(cuda.split(".")[0]), 0) if cuda else 0
        if not cuda:
            yield Finding("gpu", "warn", got, "a torch with CUDA", "install torch with CUDA from requirements.lock")
        elif int(driver.split(".")[0]) < oldest:
            yield Finding("gpu", "bad", got, f"driver {oldest} or later", "update the driver, then `nvidia-smi`")
        else:
            yield Finding("gpu", "ok", got)


def room(root: Path) -> Iterator[Finding]:
    """Free disk, memory and /dev/shm, against the embedded default: 0.7 GB of data, a process of 2 GB."""
    free_gb = shutil.disk_usage(root).free / 1e9
    state: State = "bad" if free_gb < 1 else "warn" if free_gb < 5 else "ok"
    fix = "" if state == "ok" else f"free some space in {root}: `dvc gc -w` drops what no commit uses"
    yield Finding("room", state, f"{free_gb:.1f} GB of disk free", "5 GB", fix)
    memory_gb = psutil.virtual_memory().available / 1e9
    fix = "" if memory_gb >= 4 else "stop other work: `ps aux --sort=-rss | head`"
    yield Finding("room", "warn" if fix else "ok", f"{memory_gb:.1f} GB of memory free", "4 GB", fix)
    shm = Path("/dev/shm")  # a container has 0.06 GB by default: too little for the workers of a data loader
    shm_gb = shutil.disk_usage(shm).total / 1e9 if shm.is_dir() else 0.0
    fix = "" if shm_gb >= 0.5 else "start the container with `--shm-size=2g`"
    yield Finding("room", "warn" if fix else "ok", f"/dev/shm of {shm_gb:.2f} GB", "0.5 GB", fix)


# Servers

PORTS = {"mlflow": 5000, "prefect": 4200}  # as `make serve` uses
LOCAL = ("127.0.0.1", "localhost", "::1")
PATIENCE_S = 3.0


def ports(root: Path) -> Iterator[Finding]:
    """The ports of `make serve`: free, held by a server of ours, or taken."""
    listening = [held for held in psutil.net_connections("tcp") if held.status == psutil.CONN_LISTEN]
    for name, default in PORTS.items():
        setting = f"FASTDRIVE_{name.upper()}_PORT"
        port = os.environ.get(setting) or str(default)
        holders = [held for held in listening if str(held.laddr.port) == port]
        who = _listed(sorted({_process(held.pid) for held in holders}))
        if not holders:
            yield Finding("ports", "ok", f"{port} ({name}) is free")
        elif public := [held.laddr.ip for held in holders if held.laddr.ip not in LOCAL]:
            fix = f"bind it to 127.0.0.1: whoever reaches it may run code here (`ss -ltnp 'sport = :{port}'`)"
            yield Finding("ports", "warn", f"{port} ({name}) on {public[0]}: {who}", "loopback only", fix)
        elif ask(f"http://127.0.0.1:{port}{'/api' if name == 'prefect' else ''}/health")[0] in (200, 401):
            yield Finding("ports", "ok", f"{port} ({name}) is held by a server that answers: {who}")
        else:
            fix = f"stop it, or `{setting}=<another> make serve`"
            yield Finding("ports", "warn", f"{port} ({name}) is held by {who}", "a free port for `make serve`", fix)


def _process(pid: int | None) -> str:
    with suppress(psutil.Error):
        return f"{psutil.Process(pid).name()} ({pid})" if pid else "another user's process"
    return f"process {pid}"


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


def registry(root: Path) -> Iterator[Finding]:
    """The SQLite file of MLflow and the aliases in it; without MLflow, whose import takes seconds."""
    name = read_params(root / PARAMS_FILE).registry.name
    url = os.environ.get("MLFLOW_TRACKING_URI", "") or f"sqlite:///{root / 'mlflow.db'}"
    path = Path(url.removeprefix("sqlite:///"))
    if not url.startswith("sqlite:///") or not path.is_file():
        got = f"{path.name} does not exist yet" if url.startswith("sqlite:///") else f"on {masked(url)}"
        yield Finding("registry", "ok", got)
        return
    query = "select alias || ' is ' || version from registered_model_aliases where name = ? order by alias"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=3)) as database:
            fault = database.execute("pragma quick_check(1)").fetchone()[0]
            aliases = [row[0] for row in database.execute(query, [name])]
    except sqlite3.DatabaseError as error:
        fault, aliases = str(error), []
    if fault == "ok":
        yield Finding("registry", "ok", f"{name}: {', '.join(aliases) or 'no alias yet'}")
    elif "locked" in fault:
        yield Finding("registry", "unknown", f"{path.name}: {fault}", fix="`fastdrive doctor` again in a while")
    else:
        fix = f"`mv {path} {path}.damaged`: the next run makes a new one"
        yield Finding("registry", "bad", f"{path.name}: {fault}", "a whole SQLite file", fix, code=DATA)


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
    """Edits of code or params, and results and locks that are not committed."""
    commit = git_says(root, "rev-parse", "--short=12", "HEAD")
    if not commit:
        yield Finding("git", "warn", "no git checkout, or no git", "a commit", "`git clone` the project")
        return
    changed = [line[3:] for line in git_says(root, "status", "--porcelain").splitlines()]
    made = [path for path in changed if path.split("/")[0] in ("dvc.lock", "metrics")]  # written by DVC and stages
    edited = [path for path in changed if path not in made]
    if not changed:
        yield Finding("git", "ok", f"commit {commit}")
    if edited:
        fix = "`git commit` them: the run is marked dirty, and no version made of it is promoted"
        yield Finding("git", "warn", f"not committed: {_listed(edited, 4)}", "code and params as committed", fix)
    if made:
        fix = "`git add dvc.lock metrics && git commit`, or `git checkout dvc.lock metrics && dvc checkout`"
        yield Finding("git", "warn", f"not committed: {_listed(made, 4)}", "the results as committed", fix)


def dvc(root: Path) -> Iterator[Finding]:
    """dvc.lock and .dvc/tmp/rwlock, which a kill may leave damaged: DVC writes them in place."""
    lock, rwlock, repair = root / "dvc.lock", root / ".dvc/tmp/rwlock", "`fastdrive doctor --fix`"
    if not (root / "dvc.yaml").is_file():
        fix = "`cd` to a clone of the project, then `fastdrive doctor`"
        yield Finding("dvc", "bad", f"no dvc.yaml in {root}", "a checkout", fix, code=DATA)
    elif lock.is_file() and b"<<<<<<< " in lock.read_bytes():
        fix = "`git checkout --ours dvc.lock && dvc repro`"
        yield Finding("dvc", "bad", "dvc.lock is in a merge", "a merged dvc.lock", fix, code=DATA)
    elif lock.is_file() and not _is_lock(lock):
        yield Finding("dvc", "bad", "dvc.lock is damaged", "a whole dvc.lock", repair, fixable=True, code=DATA)
    elif not _is_rwlock(rwlock):
        yield Finding("dvc", "bad", f"{rwlock} is damaged", "JSON", repair, fixable=True, code=DATA)
    else:
        yield Finding("dvc", "ok", "dvc.lock and .dvc/tmp/rwlock are whole" if lock.is_file() else "no dvc.lock yet")


def fix_dvc(root: Path) -> Iterator[str]:
    """Put the committed dvc.lock in place of a damaged one, of which a copy stays; remove a damaged rwlock."""
    lock, rwlock = root / "dvc.lock", root / ".dvc/tmp/rwlock"
    if lock.is_file() and not _is_lock(lock):
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
    """Return whether DVC can read a dvc.lock; one that was cut short may still be YAML."""
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
TEMPORARY = re.compile(
    r"\..+\.(\d+)\.[0-9a-f]{8}\.tmp|mlflow\.db\.(\d+)\.tmp.*|\.dvc\.lock(?:\.good|\.damaged)?\.(\d+)"
)
WRITTEN = ("data", "models", "results", "reports", "metrics", "runs", ".dvc/tmp")
IDLE_S = 600.0  # a file that nobody wrote for so long is left over; on a shared disk another machine may be writing


def outputs(root: Path) -> Iterator[Finding]:
    """Every manifest, also of checkpoints, against the bytes beside it; what is stale, `fastdrive plan` says."""
    if running := running_stages(root):
        yield Finding(
            "outputs", "unknown", f"{_listed(running)} is running", fix="`fastdrive doctor` when it has ended"
        )
        return
    paths = {out["path"] for entry in locked(root).values() for out in entry.get("outs", [])}
    findings = []
    for pattern, command in SEALED.items():
        for folder in sorted(path for path in root.glob(pattern) if path.is_dir()):
            name = str(folder.relative_to(root))
            if pattern == "models/*" and name not in paths:  # released weights, which DVC does not make
                continue
            made_by = f"git checkout {name}" if name == "models/driver" else command.format(name=folder.name)
            if fault := _fault(folder, made_by):
                findings.append(
                    Finding("outputs", "bad", fault, f"{name} as in its manifest", f"`{made_by}`", code=DATA)
                )
    for folder in sorted(root.glob(CHECKPOINTS)):
        if fault := _fault(folder, ""):
            fix = "`fastdrive doctor --fix`; training goes on from the checkpoint before"
            findings.append(Finding("outputs", "warn", fault, "whole checkpoints", fix, fixable=True, code=DATA))
    yield from findings
    if not findings:
        present = sum((root / path).exists() for path in paths)
        yield Finding("outputs", "ok", f"{present} of {len(paths)} outputs of dvc.lock are here; all manifests hold")


def fix_outputs(root: Path) -> Iterator[str]:
    """Remove checkpoints that are not whole: training ignores them."""
    for folder in [] if running_stages(root) else sorted(root.glob(CHECKPOINTS)):
        if _fault(folder, "") and time.time() - folder.stat().st_mtime > IDLE_S:
            shutil.rmtree(folder)
            yield f"outputs: removed {folder.relative_to(root)}"


def temporaries(root: Path) -> Iterator[Finding]:
    """Unfinished files that a kill left; readers never see them."""
    left = _left_over(root)
    if left:
        size_mb = sum(path.stat().st_size for path in left) / 1e6
        got = f"{len(left)} files of killed processes, {size_mb:.1f} MB: {_listed([path.name for path in left])}"
        yield Finding("temporaries", "warn", got, "none", "`fastdrive doctor --fix`", fixable=True, code=DATA)
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
    found = [path for path in root.iterdir() if path.is_file()]
    for top in WRITTEN:
        for folder, below, names in os.walk(root / top):
            below[:] = [name for name in below if name not in ("samples", "sweeps")]
            found += [Path(folder, name) for name in names]
    matches = ((path, TEMPORARY.fullmatch(path.name)) for path in found)
    named = ((path, int(next(filter(None, match.groups())))) for path, match in matches if match)
    return [path for path, pid in named if not psutil.pid_exists(pid) and time.time() - path.stat().st_mtime > IDLE_S]


def running_stages(root: Path) -> list[str]:
    """Return the stage programs that run in this checkout: what looks half-written may be being written."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        if "-m" in words[:-1] and process.info["cwd"] == str(root.resolve()):
            module = words[words.index("-m") + 1]
            found += [module.removeprefix("stages.")] if module.startswith("stages.") else []
    return sorted(set(found))


def _fault(folder: Path, made_by: str) -> str:
    """Return the first thing that differs from the manifest of a folder; empty when nothing does."""
    try:
        read_manifest(folder, made_by)
        for name, entry in read_json(folder / MANIFEST, made_by)["files"].items():
            if sha256(folder / name) != entry["sha256"]:
                return f"{folder / name} has other bytes than were written"
    except DataError as error:
        return f"{error.expected}: {error.got}"
    except (KeyError, TypeError, AttributeError) as error:
        return f"{folder / MANIFEST} is no manifest: {error!r}"
    return ""


def unsent(root: Path) -> Iterator[Finding]:
    """Records of runs that have not reached MLflow."""
    if count := len(tracking.unsent(root)):
        got, fix = f"{count} runs wait in {tracking.UNSENT}", "`fastdrive doctor --fix`, when the store answers"
        yield Finding("unsent", "warn", got, "every run in MLflow", fix, fixable=True)
    else:
        yield Finding("unsent", "ok", "every run that ended has reached MLflow")


def fix_unsent(root: Path) -> Iterator[str]:
    """Send them; what the store refuses stays."""
    before = len(tracking.unsent(root))
    left = tracking.send_unsent(root)
    yield f"unsent: {before - left} runs sent, {left} left"


# All of them

Check = Callable[[Path], Iterator[Finding]]


def scenes(root: Path) -> Iterator[Finding]:
    """The nuScenes root: tables, images, maps, CAN bus."""
    from stages.cli.doctor_scenes import faults

    params = read_params(root / PARAMS_FILE).scenes
    drawn = params.oracle_root is not None
    if drawn and (running_stages(root) or not (root / params.root).exists()):
        yield Finding("scenes", "ok", f"{params.root} is not made yet", fix="`dvc repro make_world`")
        return
    fix = "`dvc repro make_world`" if drawn else f"copy what is missing into {params.root}, then `fastdrive doctor`"
    found = list(faults(root / params.root, params.version))
    for fault in found:
        yield Finding("scenes", "bad", fault, f"a whole nuScenes root in {params.root}", fix, code=DATA)
    if not found:
        yield Finding("scenes", "ok", f"{params.root}: tables, a sample of the images, maps and CAN bus are whole")


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        packages, settings, git, dvc, outputs, scenes, temporaries, unsent, registry, servers, ports, compiler, gpu,
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
        lines[-1] += "; `fastdrive doctor --fix` repairs what cannot lose anything"
    return str(masked("\n".join(lines)))


def as_json(findings: Sequence[Finding], fixed: Sequence[str], code: int) -> str:
    """Return all of it for a program; secrets masked."""
    tree = {"findings": [asdict(finding) for finding in findings], "fixed": list(fixed), "exit_code": code}
    return json.dumps(masked(tree), indent=1)


def _listed(words: Sequence[str], shown: int = 3) -> str:
    return ", ".join(words[:shown]) + ", ..." * (len(words) > shown)


def _run(command: Sequence[str | None], root: Path | None = None, patience_s: float = 10) -> tuple[int, str]:
    """Return exit code and output of a short command; 1 and the reason when it cannot be run."""
    try:
        done = subprocess.run(
            [str(word) for word in command], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=patience_s,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout
