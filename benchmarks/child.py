"""Become another program that dies with its parent: `python -I -S child.py PARENT_PID PROGRAM ...`.

A script of its own rather than Popen's `preexec_fn`, which is unsafe once the bench has a thread
(the embedded server's supervisor has one). Run as a file, never imported.
"""

import ctypes
import os
import signal
import sys

#: prctl(2): signal for this process when the thread that made it ends. It survives exec.
_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the bench ended while it started this process")
    os.execv(sys.argv[2], sys.argv[2:])
