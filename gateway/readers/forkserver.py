"""Forks readers: ``python -I -m astrotriton.gateway.readers.forkserver``, which the gateway starts.

It has imported what a reader needs, so that one is there within some milliseconds. It never reads
a file of a stranger itself, and has neither threads nor secrets. When the gateway ends, by whatever
signal, their connection is closed: then it ends too, and the kernel ends its readers with it.
"""

import contextlib
import gc
import mmap
import os
import signal
import socket
import sys

from astrotriton.detection.image.exposure import mute_astropy
from astrotriton.gateway.compute import keep_memory
from astrotriton.gateway.readers.messages import (
    COMMANDS,
    Begun,
    Ended,
    Fork,
    receive,
    send,
)
from astrotriton.gateway.readers.reader import Reader, practise, practise_tables, samples
from astrotriton.gateway.readers.sandbox import confine, end_with_parent, leave_privileges

_MFD = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING


def main() -> None:
    """Serve the connection whose number is the argument."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    mute_astropy()
    keep_memory()
    files = samples()
    practise(files)
    practise_tables()
    # Only now: a Python below root's home cannot import anything any more.
    leave_privileges()
    os.chdir("/")
    # A reader then copies fewer pages of what all have.
    gc.collect()
    gc.freeze()
    # Readers are waited for when they are buried, and the gateway decides when that is.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    send(connection, Begun(os.getpid()))
    while True:
        try:
            command, opened = receive(connection, COMMANDS)
        except (EOFError, OSError):
            return
        if isinstance(command, Fork):
            assert opened is not None
            theirs, ours = socket.socket(fileno=opened), os.getpid()
            child = os.fork()
            if child == 0:
                end_with_parent(ours)
                connection.close()
                _become_reader(theirs, command, files[0])
            theirs.close()
            send(connection, Begun(child))
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(command.pid, signal.SIGKILL)
            _, status = os.waitpid(command.pid, 0)
            send(connection, Ended(os.waitstatus_to_exitcode(status)))


def _become_reader(connection: socket.socket, how: Fork, sample: bytes) -> None:
    try:
        # What C libraries print of a broken heap is not for the gateway's log.
        nowhere = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nowhere, standard)
        os.close(nowhere)
        _, given = socket.recv_fds(connection, 1, 1)[:2]
        files = mmap.mmap(given[0], how.room, prot=mmap.PROT_READ)
        os.close(given[0])
        outputs = [os.memfd_create("pixels", _MFD) for _ in range(how.files)]
        practise([sample])
        Reader(connection, files, outputs).serve(confine(how.memory, filtered=how.filtered))
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
