"""An S3 store of moto for one test: on a free port of loopback, with one bucket, and asking for credentials."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from stack import free_port, until

BUCKET = "fastdrive"
MAY = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'


@dataclass
class Store:
    """`login` is the environment of a process that may use it."""

    address: str
    login: dict[str, str] = field(default_factory=dict)

    def ask(self, service: str) -> Any:
        first = {"AWS_ACCESS_KEY_ID": "root", "AWS_SECRET_ACCESS_KEY": "root"} | self.login
        return boto3.client(
            service,
            "us-east-1",
            endpoint_url=self.address,
            aws_access_key_id=first["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=first["AWS_SECRET_ACCESS_KEY"],
        )

    def names(self) -> list[str]:
        """The objects of the bucket."""
        pages = self.ask("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


@contextmanager
def s3(log: Path) -> Iterator[Store]:
    """A store with an empty bucket, one user, and no way in for others; what it says goes to `log`."""
    port, nobody = free_port(), no_login(log.parent)
    store = Store(f"http://127.0.0.1:{port}")
    with open(log, "w") as file:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, env=os.environ | nobody, stdout=file, stderr=file)
    try:
        until(lambda: process.poll() is not None or _answers(store.address), 60)
        iam = store.ask("iam")
        store.ask("s3").create_bucket(Bucket=BUCKET)
        iam.create_user(UserName="worker")
        iam.put_user_policy(UserName="worker", PolicyName="s3", PolicyDocument=MAY)
        key = iam.create_access_key(UserName="worker")["AccessKey"]
        _post(f"{store.address}/moto-api/reset-auth", b"0")  # from here on it checks who asks
        store.login = nobody | {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
        yield store
    finally:
        process.kill()
        process.wait()


def no_login(folder: Path) -> dict[str, str]:
    """The environment of a process that finds no credentials, whoever runs the test."""
    nothing = folder / "no-aws-config"
    nothing.touch()
    settings = {"AWS_CONFIG_FILE": str(nothing), "AWS_SHARED_CREDENTIALS_FILE": str(nothing)}
    return settings | {"AWS_EC2_METADATA_DISABLED": "true", "AWS_DEFAULT_REGION": "us-east-1"}


def _answers(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{address}/moto-api/", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def _post(address: str, body: bytes) -> None:
    urllib.request.urlopen(urllib.request.Request(address, body, {"content-type": "text/plain"}), timeout=30).close()
