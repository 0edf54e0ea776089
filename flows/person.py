"""Who decides: the name that is kept with a promotion or a rollback."""

import getpass
import os

from flows.stage import StageError, deployed


def person(by: str) -> str:
    """`by`, or the user of this process. Raises a StageError where that user is not the one who decides: in a run of a
    deployment it is the worker's, whoever filled in the parameters; and where the user has no name.
    """
    if by.strip():
        return by.strip()
    if deployed():
        raise StageError("wanted who decides; got none, and a deployment runs as its worker; next: fill in `by`", 2)
    try:
        return os.environ.get("GIT_AUTHOR_NAME") or getpass.getuser()
    except (KeyError, OSError) as error:  # a container's user id without an entry; OSError from Python 3.13 on
        raise StageError("wanted who decides; this user has no name; next: --by NAME", 2) from error
