"""Parent of one part: when its owner ends, however it ends, so does the part and all it started.

Run by its path (``python -I -S guard.py``), so it imports little and starts in some 20 ms. The
kernel tells it of its owner's death, also of ``kill -9`` (parent death signal), and hands it every
descendant whose own parent died (subreaper), so that none can escape. It ends as the part ended.
"""

import argparse
import ctypes
import os
import pwd
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def main() -> int:
    """Run the part until it ends, or its owner ends, or SIGTERM asks for its end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--owner", type=int, required=True)
    parser.add_argument("--stop-signal", type=int, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--user")
    parser.add_argument("--leftover", action="append", default=[])
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()

    # Signals are waited for, never handled, so none is lost between two steps.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != options.owner:
        return 0  # It died before the kernel was asked to tell.

    part = _start(options.command, options.user)
    status = _attend(part, options.stop_signal, options.grace)
    _end_descendants()
    for pattern in options.leftover:
        for path in Path("/").glob(pattern.lstrip("/")):
            path.unlink(missing_ok=True)
    return status


def prctl(option: int, value: int) -> None:
    """Set a property of this process that only Linux's ``prctl`` can."""
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _start(command: list[str], user: str | None) -> int:
    guard = os.getpid()
    part = os.fork()
    if part:
        return part
    try:
        if user is not None:
            entry = pwd.getpwnam(user)
            os.setgroups([])
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
        # After the change of user, which clears it.
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # The lock on the data folder is the guard's.
        os.execvp(command[0], command)
    except OSError as error:
        print(f"cannot start {command[0]}: {error}", file=sys.stderr, flush=True)
    os._exit(127)


def _attend(part: int, stop_signal: int, grace: float) -> int:
    """Wait for the part's end, asking for it when told to: its status, 128 + n for signal n."""
    deadline = None
    while True:
        if deadline is None:
            received = signal.sigwait(_SIGNALS)
        else:
            left = signal.sigtimedwait(_SIGNALS, max(0.0, deadline - time.monotonic()))
            if left is None:
                return 128 + signal.SIGKILL
            received = left.si_signo
        if received == signal.SIGCHLD:
            while (ended := _reap()) is not None:
                if ended[0] == part:
                    code = os.waitstatus_to_exitcode(ended[1])
                    return code if code >= 0 else 128 - code
        elif deadline is None:
            os.kill(part, stop_signal)
            deadline = time.monotonic() + grace


def _reap() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _end_descendants() -> None:
    """Kill the children, and then the grandchildren that the kernel hands over as theirs die."""
    while True:
        for child in _children():
            os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue  # It ended meanwhile.
        if int(fields[1]) == os.getpid():
            found.append(int(entry.name))
    return found


if __name__ == "__main__":
    sys.exit(main())
