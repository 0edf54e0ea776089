"""Prefect flows around the command line of DVC and the registry; start with reproduce.py. Never imports torch.

Prefect reads the settings below at its first import.
"""

import os
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

SERVER_FILE = Path(".local/prefect-url")  # written by infra/serve.sh

if "PREFECT_HOME" not in os.environ:
    os.environ["PREFECT_HOME"] = str(Path.cwd() / ".local/prefect")
    Path(".local").mkdir(exist_ok=True)  # Prefect creates its own folder, not the parent
if "PREFECT_API_URL" not in os.environ and SERVER_FILE.is_file():
    # The server of `make serve` runs on this database: a second one would interfere
    with suppress(OSError, ValueError):
        _server = urlsplit(_url := SERVER_FILE.read_text(encoding="utf-8").strip())
        socket.create_connection((_server.hostname or "", _server.port or 0), timeout=1).close()
        os.environ["PREFECT_API_URL"] = _url
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")  # 20 s is short for two busy cores
