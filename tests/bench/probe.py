"""`serve`, with a probe in its event loop.

A callback asks to be called again after `EVERY`; how late it is, is the lag.
At each SIGUSR1 the lags since the last one go to the log, in milliseconds.
"""

import asyncio
import json
import logging
import signal
import sys

from service import app, config

EVERY = 0.005  # seconds


class Probe:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lags: list[float] = []
        self._ask()

    def _ask(self) -> None:
        self._loop.call_later(EVERY, self._late, self._loop.time() + EVERY)

    def _late(self, due: float) -> None:
        self._lags.append((self._loop.time() - due) * 1e3)
        self._ask()

    def tell(self) -> None:
        lags, self._lags = self._lags, []
        print("lags", json.dumps(lags), file=sys.stderr, flush=True)


async def main() -> None:
    settings = config.load()
    assert settings.database_url
    async with app.running(
        settings, settings.database_url, serve=True, work=True
    ) as url:
        probe = Probe()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, probe.tell)
        print("serving on", url, file=sys.stderr, flush=True)
        await app.until_stopped()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main())
