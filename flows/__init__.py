"""When the pipeline runs: Prefect flows around the command line of DVC. Never imports torch.

Prefect reads these at its first import, so they stand here.
"""

import os
from pathlib import Path

if "PREFECT_HOME" not in os.environ:
    os.environ["PREFECT_HOME"] = str(Path.cwd() / ".local/prefect")
    Path(".local").mkdir(exist_ok=True)  # Prefect makes its own folder, not the one above
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")  # 20 s is short for two busy cores
