"""Start a stage from the command line: log, checked params, matrix cell, exit codes, a line in `runs/stages.jsonl`."""

import json
import logging
import os
import resource
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm.contrib.logging import logging_redirect_tqdm

from stages.core.errors import InputError, ParamsError, masked
from stages.core.params import Params, read_params
from stages.core.provenance import hardware

log = logging.getLogger(__name__)
RECORDS = Path("runs/stages.jsonl")  # of stages that ended well; `memory_mb` is the most that its own process held


def run(main: Callable[[Params], None]) -> None:
    """Read params.yaml, run the stage, end the process.

    0 done, 2 params, 3 data, 4 machine, 5 refused by the gate, 75 stopped with its work saved, 130 stopped.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
    for noisy in ("alembic", "mlflow", "matplotlib", "PIL", "numexpr", "DeepSpeed", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        with logging_redirect_tqdm(), logged_stage():  # lines stand above the bars
            main(read_params())
    except InputError as error:
        log.error("%s", masked(error.message(again())))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        log.error("stopped; run the same command again to go on")
        sys.exit(130)


def again() -> str:
    """Return the command that runs this process's work again: the stage by DVC where DVC started it."""
    if stage := os.environ.get("DVC_STAGE"):
        return f"dvc repro {shlex.quote(stage)}"
    spec = getattr(sys.modules["__main__"], "__spec__", None)  # of `python -m`
    name = spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).name
    program = f"python -m {name}" if spec else name.replace("fastdrive.py", "python fastdrive.py")
    return shlex.join([*program.split(), *sys.argv[1:]])


def cell(allowed: list[str]) -> str:
    """Return the matrix cell to work on: the first argument, or what follows `@` in DVC_STAGE.

    DVC gives the cell in the environment, so that no value of params.yaml is ever part of a shell command.
    """
    name = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("DVC_STAGE", "").partition("@")[2]
    if name not in allowed:
        raise ParamsError(
            expected=f"one of {', '.join(allowed)}", got=repr(name), fix="name one of them as the first argument"
        )
    return name


@contextmanager
def logged_stage() -> Iterator[None]:
    """Log and record the stage that this process is; other commands, shards and ranks pass unnoticed."""
    stage = _stage()
    if not stage:
        yield
        return
    log.info("%s: started", stage)
    began_s = time.monotonic()
    yield
    took_s = time.monotonic() - began_s
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    torch: Any = sys.modules.get("torch")  # never imported for this
    on_gpu = torch is not None and torch.cuda.is_initialized()
    gpu = f", {torch.cuda.max_memory_allocated() / 1e6:.0f} MB of GPU" if on_gpu else ""
    log.info("%s: done in %.0f s, at most %.0f MB%s", stage, took_s, memory_mb, gpu)
    record = {"stage": stage, "seconds": round(took_s, 2), "memory_mb": round(memory_mb, 1)}
    record |= {"ended": datetime.now(UTC).isoformat(timespec="seconds"), "machine": hardware()}
    try:
        RECORDS.parent.mkdir(parents=True, exist_ok=True)
        with open(RECORDS, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:  # a disk that is full costs the record, not the stage
        log.warning("no record of this stage in %s: %s", RECORDS, error)


def _stage() -> str:
    """Return the stage's name as DVC has it, by hand `module@cell`; empty for what is no stage as a whole."""
    words = sys.argv[1:]
    if os.environ.get("RANK") or any(word.startswith("--shard") for word in words):
        return ""
    package, _, module = getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", "").rpartition(".")
    return "" if package != "stages" else os.environ.get("DVC_STAGE") or "@".join([module, *words])


def last_seconds() -> dict[str, float]:
    """Return the seconds that each recorded stage took last; damaged lines are left out."""
    seconds = {}
    for line in RECORDS.read_text(encoding="utf-8", errors="replace").splitlines() if RECORDS.is_file() else []:
        with suppress(ValueError, TypeError, LookupError):
            record = json.loads(line)
            seconds[record["stage"]] = float(record["seconds"])
    return seconds
