#!/usr/bin/env python3
"""The first log-in that a machine accepts, by direct TLS: login.py first HOST:PORT says "ready", waits
for a line, then tries until it is in, and says "in". login.py hold HOST:PORT logs in, says "held" and
asks for an answer (XEP-0199) again and again; when the machine is gone it tries until it is in, and
says how many seconds after the last answer that was."""

import asyncio
import ssl
import sys
import time

from idle import Session

# How often it is tried, and when a try is given up: what is sent before the machine has an address is
# lost, and asked for again much later.
EVERY = 0.1
PATIENCE = 3.0


async def first(where, tls):
    """The session of the first try that goes through."""
    number = 0
    trying = set()

    async def one(number):
        session = Session()
        await session.log_in(where, number, tls)
        return session

    while True:
        trying.add(asyncio.create_task(asyncio.wait_for(one(number), PATIENCE)))
        number += 100
        done, trying = await asyncio.wait(
            trying, timeout=EVERY, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            if task.exception() is None:
                for other in trying:
                    other.cancel()
                return task.result()
        if done:
            await asyncio.sleep(EVERY / 2)


async def main(what, where):
    tls = ssl.create_default_context()
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    if what == "first":
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await first(where, tls)
        print("in", flush=True)
        return
    session = await first(where, tls)
    print("held", flush=True)
    answered = time.monotonic()
    try:
        while True:
            await asyncio.wait_for(session.ping(), PATIENCE)
            answered = time.monotonic()
            await asyncio.sleep(EVERY / 5)
    except (OSError, asyncio.TimeoutError):
        pass
    await first(where, tls)
    print(f"{time.monotonic() - answered:.3f}", flush=True)


asyncio.run(main(*sys.argv[1:]))
