"""Masking of secrets: passwords and keys of the environment, credentials in addresses."""

import os
import re
from typing import Any

NAMES = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|AUTH_STRING|API_?KEY|(^|_)KEY(_|$)", re.IGNORECASE)
SHORTEST = 6  # a value of three letters stands in half of all texts
MASK = "***"


def masked(value: Any) -> Any:
    """Return a text, or a list or mapping of them, without secrets: values of environment variables named like one, and
    the `user:password@` of an address.
    """
    if isinstance(value, dict):
        return {key: masked(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [masked(part) for part in value]
    if not isinstance(value, str):
        return value
    for secret in sorted(_secrets(), key=len, reverse=True):
        value = value.replace(secret, MASK)
    return re.sub(r"(?<=://)[^\s/@\"']+@", f"{MASK}@", value)


def _secrets() -> set[str]:
    named = {value for name, value in os.environ.items() if NAMES.search(name)}
    return {value for value in named if len(value) >= SHORTEST}
