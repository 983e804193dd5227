"""What the command line gives up before it touches a secret: files for others, dumps of its memory, tracers.

A command that it runs inherits the first two; by exec it becomes traceable again, as it may need to be.
"""

import os
import sys

_PR_SET_DUMPABLE = 4


def files() -> None:
    """No file of ours is for others, and none holds our memory."""
    import resource

    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def memory() -> None:
    """Other processes of this user can't read our memory or attach to us; the kernel keeps no dump of it, by no way."""
    if sys.platform != "linux":
        return
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_DUMPABLE")
