"""`python -m tests.crash.dies_when MOMENT`: a worker that ends at this moment.

It sends itself the signal in the variable HOW (default: SIGKILL), once.
"""

import os
import signal
import sys
from typing import Any

from service.__main__ import main
from service.model import Export
from service.queue.calls import Queue
from service.storage import Partial

claim, complete, keep = Queue.claim, Queue.complete, Partial.keep
signals = [signal.Signals[os.environ.get("HOW", "SIGKILL")]]


def die() -> None:
    if signals:
        os.kill(os.getpid(), signals.pop())


async def claim_and_die(*args: Any) -> list[Export]:
    exports = await claim(*args)
    if exports:
        die()
    return exports


async def complete_and_die(*args: Any) -> None:
    await complete(*args)
    die()


def keep_and_die(partial: Partial) -> None:
    keep(partial)
    die()


match sys.argv.pop():
    case "claimed":
        Queue.claim = claim_and_die  # type: ignore[method-assign, assignment]
    case "renamed":
        Partial.keep = keep_and_die  # type: ignore[method-assign, assignment]
    case "completed":
        Queue.complete = complete_and_die  # type: ignore[method-assign, assignment]
sys.argv.append("worker")
main()
