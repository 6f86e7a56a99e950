#!/usr/bin/env python3
"""Sessions that are only there: idle.py HOST:PORT COUNT MORE logs in COUNT sessions over direct TLS
as a0 ... a99 and says "held COUNT"; on a line it tries MORE of them, says how many were refused, and
asks every one of the first for an answer (XEP-0199): "alive COUNT"."""

import asyncio
import base64
import re
import ssl
import sys

from scramp import ScramClient

DOMAIN = "chat.example"
PASSWORD = "correct horse"
HEADER = (
    f"<?xml version='1.0'?><stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client' "
    "xmlns:stream='http://etherx.jabber.org/streams'>"
)


class Session:
    async def until(self, pattern):
        while not (found := re.search(pattern, self.text, re.S)):
            more = await asyncio.wait_for(self.reader.read(65536), 300)
            if not more:
                raise ConnectionError(self.text[-200:])
            self.text += more.decode()
        self.text = self.text[found.end():]
        return found

    def say(self, text):
        self.writer.write(text.encode())

    async def log_in(self, where, number, tls):
        host, port = where.rsplit(":", 1)
        self.text = ""
        self.reader, self.writer = await asyncio.wait_for(
            asyncio.open_connection(host, int(port), ssl=tls, ssl_handshake_timeout=300), 300
        )
        self.say(HEADER)
        await self.until("</stream:features>")
        client = ScramClient(["SCRAM-SHA-256"], f"a{number % 100}", PASSWORD)
        first = base64.b64encode(client.get_client_first().encode()).decode()
        self.say(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>"
            f"{first}</auth>"
        )
        challenge = await self.until("<challenge[^>]*>([^<]*)</challenge>")
        client.set_server_first(base64.b64decode(challenge[1]).decode())
        final = base64.b64encode(client.get_client_final().encode()).decode()
        self.say(f"<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{final}</response>")
        await self.until("<success")
        self.say(HEADER)
        await self.until("</stream:features>")
        self.say(
            "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
            f"<resource>r{number}</resource></bind></iq>"
        )
        await self.until("<jid>")
        self.say("<presence/>")

    async def ping(self):
        self.say(f"<iq type='get' id='p' to='{DOMAIN}'><ping xmlns='urn:xmpp:ping'/></iq>")
        await self.until("<iq[^>]*id=['\"]p['\"]")


async def several(where, numbers, tls):
    """The sessions, or None where one was refused."""
    turn = asyncio.Semaphore(16)

    async def one(number):
        async with turn:
            session = Session()
            try:
                await session.log_in(where, number, tls)
                return session
            except (OSError, asyncio.TimeoutError) as error:
                print(f"{number}: {error!r}", file=sys.stderr)
                return None

    return await asyncio.gather(*map(one, numbers))


async def main(where, count, more):
    tls = ssl.create_default_context()
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    held = await several(where, range(count), tls)
    print("held", sum(session is not None for session in held), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    late = await several(where, range(count, count + more), tls)
    print("refused", sum(session is None for session in late), flush=True)
    alive = 0
    for session in held:
        if session is not None:
            await session.ping()
            alive += 1
    print("alive", alive, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
