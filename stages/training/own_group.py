"""Imported by the server that forks loader processes, and by nothing else: puts it in a process group of its own.

A scheduler or the flow sends SIGTERM to the whole group of a run. The training then saves, for which it still needs its
loaders; those end with it anyway (reading.settle).
"""

import os

os.setpgrp()
