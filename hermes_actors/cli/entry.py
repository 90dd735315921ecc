"""Where ``hermes-supervisor`` begins, and what signals do while it still loads."""

from __future__ import annotations

import signal


def supervisor() -> None:
    """The entry point. Ctrl-C ends a start without a traceback; a SIGHUP waits until the gateway can reload."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # the gateway unblocks what it hears
    from hermes_actors.cli.supervisor import supervisor as command

    command()
