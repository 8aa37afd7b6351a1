"""What a reader may not do, whatever its file makes of it.

It runs as nobody where the gateway is root, can open nothing and make no process (`RLIMIT_NOFILE`
and `RLIMIT_NPROC` are 0), and may use so much memory. Where there is libseccomp, the kernel refuses
it every system call but those that computing needs; without, the limits still keep it from files
and from the network, but not from signals to processes of the same user.
"""

import contextlib
import ctypes
import errno
import os
import resource
import signal
from pathlib import Path
from typing import Any

try:
    import pyseccomp  # type: ignore[import-untyped]
except (ImportError, OSError, RuntimeError):  # there is no libseccomp that it could load
    pyseccomp = None

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CLONE_NEWNET = 0x40000000
_NOBODY = 65534
_SACRIFICED = 900  # of 1000: whom the kernel ends first when memory is short

# Computing, memory, and the connection that a reader has. Everything else answers EPERM.
_CALLS = (
    *("read", "readv", "pread64", "write", "writev", "pwrite64", "lseek", "ftruncate", "close"),
    *("sendto", "sendmsg", "recvfrom", "recvmsg", "poll", "ppoll", "fstat", "newfstatat", "fcntl"),
    *("mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "futex", "membarrier"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall"),
    *("getpid", "gettid", "getrandom", "getrusage", "times", "sched_yield", "sched_getaffinity"),
    *("clock_gettime", "clock_getres", "gettimeofday", "exit", "exit_group"),
)


def leave_privileges() -> None:
    """Give up root, if the process has it, and what it could get back; no child gets more."""
    # Before the change of user, after which its own files in /proc are not its own any more.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_SACRIFICED))
    if os.geteuid() == 0:
        # A network of its own, in which there is nothing; a container may forbid it.
        ctypes.CDLL(None).unshare(_CLONE_NEWNET)
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # No core dumps, and nobody of the same user traces it.
    _prctl(_PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def confine(memory: int, *, filtered: bool = True) -> str:
    """Leave this process nothing but its memory and what it has open. There is no way back.

    Parameters
    ----------
    memory
        Bytes that it may take beyond what it has, and that a file of it may have.
    filtered
        Whether to filter its system calls where that is possible.

    Returns
    -------
    By what: ``seccomp``, or ``limits`` alone.
    """
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + memory
    loaded = _filter() if filtered else None
    for kind, bound in (
        (resource.RLIMIT_AS, most),
        (resource.RLIMIT_FSIZE, memory),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(kind, (bound, bound))
    if loaded is None:
        return "limits"
    try:
        loaded.load()
    except OSError:  # the kernel has none, or a container forbids it
        return "limits"
    return "seccomp"


def allow_seconds(seconds: float) -> None:
    """Let this process compute for so long from now on; then it is ended by SIGXCPU."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _filter() -> Any | None:
    """The filter, not yet in force; None where there is no libseccomp, or it cannot do this."""
    if pyseccomp is None:
        return None
    allow, equal = pyseccomp.ALLOW, pyseccomp.EQ
    try:
        wanted = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
        for call in _CALLS:
            with contextlib.suppress(ValueError):  # other machines lack some of them
                wanted.add_rule(allow, call)
        # Itself alone: its own limits, and its own end by abort().
        wanted.add_rule(allow, "prlimit64", pyseccomp.Arg(0, equal, 0))
        wanted.add_rule(allow, "tgkill", pyseccomp.Arg(0, equal, os.getpid()))
    except OSError:
        return None
    return wanted


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")
