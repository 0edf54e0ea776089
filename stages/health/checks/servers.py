"""The servers that the environment names: MLflow's, Prefect's."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from stages.core.secrets import masked
from stages.health.asking import PATIENCE_S, ask, mlflow_authorization, prefect_authorization
from stages.health.finding import Finding
from stages.health.versions import installed


def check(root: Path) -> Iterator[Finding]:
    """Does each answer within three seconds, and with the version that is installed here?"""
    mlflow, prefect = (os.environ.get(name, "") for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"))
    yield from _one("mlflow", "MLFLOW_TRACKING_URI", mlflow, ("health", "version"), mlflow_authorization())
    yield from _one("prefect", "PREFECT_API_URL", prefect, ("health", "admin/version"), prefect_authorization())


def _one(name: str, setting: str, url: str, pages: tuple[str, str], authorization: str) -> Iterator[Finding]:
    if not url:
        yield Finding("servers", "ok", f"{name}: {setting} is not set, none is needed")
        return
    if urlsplit(url).scheme not in ("http", "https"):
        yield Finding("servers", "ok", f"{name}: {masked(url)}, no server")
        return
    status, said = ask(f"{url.rstrip('/')}/{pages[0]}", authorization)
    then = f"`make serve` in another shell, or `unset {setting}`; stages run without it and keep their records"
    if status != 200:
        came = f"{name}: {masked(url)} answers {status or f'nothing within {PATIENCE_S:.0f} s: {masked(said)}'}"
        yield Finding("servers", "bad", came, f"{setting} to answer", then)
        return
    status, there = ask(f"{url.rstrip('/')}/{pages[1]}", authorization)
    there, here = there.strip().strip('"'), installed(name)
    if status == 200 and there != here:
        then = "`make serve` from this checkout, or install the server's version"
        yield Finding("servers", "warn", f"{name} {there[:40]} at {masked(url)}", f"{here}, as installed here", then)
    else:
        yield Finding("servers", "ok", f"{name} {there[:40] if status == 200 else ''} answers at {masked(url)}")
