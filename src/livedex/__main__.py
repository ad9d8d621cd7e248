"""`livedex`, and `python -m livedex`."""

import os
import signal
from types import FrameType

INTERRUPTED = 130


def main() -> None:
    """The entry point of the program. Loading it takes long enough for somebody to interrupt it meanwhile."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background has it ignored
        signal.signal(signal.SIGINT, _end)  # until there is something to tidy: `cli.running`
    from livedex.cli import main as run  # noqa: PLC0415  # nothing that takes time may come before the handler

    run()


def _end(number: int, frame: FrameType | None) -> None:
    """At once: an exception among imports may be lost in one of their callbacks, or end in a traceback."""
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
