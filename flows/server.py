"""Whether Prefect's server is there, before a flow and in it: its own word for it is forty lines of traceback."""

import base64
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx

PATIENCE_S = 10.0
MACHINE, TRY_AGAIN = 4, 75  # exit classes of stages/core/errors.py


def require_server() -> None:
    """Ends the process with 4 and a line when PREFECT_API_URL names a server that does not answer.

    Without that setting the flow starts a server of its own.
    """
    url = os.environ.get("PREFECT_API_URL", "")
    fault = _fault(url.rstrip("/")) if url else ""
    if fault:
        shown = re.sub(r"(?<=://)[^/@]+@", "***@", url)
        then = "`make serve` in another shell, or `unset PREFECT_API_URL`, then the same command again"
        print(f"wanted Prefect's server at {shown}; got {fault}; next: {then}", file=sys.stderr)
        sys.exit(MACHINE)


@contextmanager
def told_when_gone() -> Iterator[None]:
    """Inside, a server that goes away ends the process with 75 and a line: what DVC finished by then is kept."""
    try:
        yield
    except httpx.TransportError as error:
        print(
            f"wanted Prefect's server until the flow ended; got {error}; finished stages are kept, "
            "next: the same command again, or `fastdrive reproduce`, which needs no server",
            file=sys.stderr,
        )
        sys.exit(TRY_AGAIN)


def _fault(url: str) -> str:
    parts = urlsplit(url)
    url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    key, pair = (os.environ.get(name, "") for name in ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"))
    pair = pair or parts.netloc.rpartition("@")[0]
    sent = f"Bearer {key}" if key else f"Basic {base64.b64encode(pair.encode()).decode()}" if pair else ""
    asked = urllib.request.Request(f"{url}/health", headers={"authorization": sent} if sent else {})
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))
    try:
        with opener.open(asked, timeout=PATIENCE_S):
            return ""
    except urllib.error.HTTPError as error:
        return f"status {error.code}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
