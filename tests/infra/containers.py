"""infra/compose.yaml in a Docker engine: its images built from this checkout, its containers up, for tests."""

import json
import os
import re
import secrets
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = "fastdrive-test"
PATIENCE_S = 600
BUILD = {"DOCKER_BUILDKIT": "1", "COMPOSE_DOCKER_CLI_BUILD": "1"}


def missing() -> str:
    """Why the containers cannot be started here; empty where they can."""
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "info"], capture_output=True).returncode:
        return "no Docker engine answers"
    if not _compose():
        return "neither `docker compose` nor docker-compose is here"
    recipe = (ROOT / "infra/docker/Dockerfile").read_text() + (ROOT / "infra/compose.yaml").read_text()
    for image in re.findall(r"(?:FROM|image:) ((?:python|minio/minio|postgres):\S+)", recipe):
        there = subprocess.run([docker, "image", "inspect", image], capture_output=True).returncode == 0
        if not there and subprocess.run([docker, "pull", "-q", image], capture_output=True).returncode:
            return f"no image {image}: tests/infra/standins/make.sh makes something like it"
    return ""


def _compose() -> list[str]:
    if not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else []


@dataclass
class Containers:
    """`source` is the checkout that compose mounts; `passwords` what its .env says."""

    source: Path
    passwords: dict[str, str]

    def compose(self, *words: str) -> str:
        command = [*_compose(), "-p", PROJECT, "-f", "compose.yaml", *words]
        return said(command, cwd=self.source / "infra")

    def inside(self, service: str, *words: str) -> str:
        return said(["docker", "exec", self.container(service), *words])

    def container(self, service: str) -> str:
        label = f"label=com.docker.compose.service={service}"
        mine = f"label=com.docker.compose.project={PROJECT}"
        return said(["docker", "ps", "-aq", "--filter", mine, "--filter", label]).strip()

    def state(self, service: str) -> str:
        """Its health, or how it ended."""
        found = json.loads(said(["docker", "inspect", self.container(service)]))[0]["State"]
        return str(found["Health"]["Status"] if "Health" in found else f"{found['Status']} {found['ExitCode']}")

    def up(self) -> None:
        self.compose("up", "--build", "--detach")
        until(lambda: self.state("worker") == "healthy")

    def code(self, address: str, user: str = "", **headers: str) -> int:
        """What the address answers from outside, with the login `user:password` where one is given."""
        login = {"Authorization": f"Basic {b64encode(user.encode()).decode()}"} if user else {}
        try:
            asked = urllib.request.Request(address, headers=login | headers)
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


def said(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | BUILD,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}"
    return done.stdout


def until(done: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < give_up
        time.sleep(2)


@contextmanager
def containers(home: Path) -> Iterator[Containers]:
    """The stack, up, of this checkout's files with the smoke profile; it and its volumes are gone afterwards."""
    source = home / "source"
    names = said(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT).split("\0")
    for name in (name for name in names if name and (ROOT / name).is_file()):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    shutil.copy(source / "infra/params/smoke.yaml", source / "params.yaml")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        said(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=source)
    if _compose() == ["docker-compose"]:  # the old one knows no name in the file
        text = (source / "infra/compose.yaml").read_text()
        (source / "infra/compose.yaml").write_text(re.sub(r"(?m)^name: .*\n", "", text))
    asked = re.findall(r"^(\w+)=$", (source / "infra/.env.example").read_text(), re.MULTILINE)
    passwords = {name: secrets.token_hex(24) for name in asked}
    (source / "infra/.env").write_text("".join(f"{name}={value}\n" for name, value in passwords.items()))
    stack = Containers(source, passwords)
    try:
        stack.up()
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "20")
