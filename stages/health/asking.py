"""One short question to a server."""

import base64
import os
import urllib.error
import urllib.request
from urllib.parse import urlsplit

PATIENCE_S = 3.0
LOCAL = ("127.0.0.1", "localhost", "::1")


def ask(url: str, authorization: str = "") -> tuple[int, str]:
    """Status and the first kilobytes of the answer; status 0 and the reason when there is none in time.

    A user and password in the address go as basic authentication. Loopback is asked straight, past any proxy.
    """
    parts = urlsplit(url)
    if parts.username:
        authorization = basic(parts.username, parts.password or "")
        url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    headers = {"authorization": authorization} if authorization else {}
    straight = [urllib.request.ProxyHandler({})] if parts.hostname in LOCAL else []
    try:
        asked = urllib.request.Request(url, headers=headers)
        with urllib.request.build_opener(*straight).open(asked, timeout=PATIENCE_S) as answer:
            return int(answer.status), answer.read(4096).decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read(4096).decode(errors="replace")
    except (OSError, ValueError) as error:
        return 0, str(getattr(error, "reason", error)) or type(error).__name__


def basic(user: str, password: str) -> str:
    """The header value of basic authentication."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def mlflow_authorization() -> str:
    """What MLflow's own client would send, from its environment variables."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return f"Bearer {token}"
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    return basic(user, password) if user else ""


def prefect_authorization() -> str:
    """What Prefect's own client would send."""
    if key := os.environ.get("PREFECT_API_KEY"):
        return f"Bearer {key}"
    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    return basic(user, password) if user else ""
