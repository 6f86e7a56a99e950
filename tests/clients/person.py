"""Somebody with slixmpp who does what the lines on standard input say.

Each line is a JSON object with the key "do"; each is answered by one on standard output, in order:
an object, with the key "failed" if it could not be done. Between the answers there are events,
objects with the key "event": every message, presence and iq request that came, and
"disconnected".
"""

import asyncio
import json
import ssl
import sys
from xml.etree import ElementTree

import slixmpp
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import StanzaPath

PATIENCE_S = 40
CONDITIONS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
ROSTER = "{jabber:iq:roster}"


def tell(line):
    print(json.dumps(line), flush=True)


def condition(xml):
    """The condition of the error in a stanza, or nothing."""
    for error in xml.iter("{jabber:client}error"):
        for child in error:
            if child.tag.startswith(CONDITIONS) and not child.tag.endswith("}text"):
                return child.tag[len(CONDITIONS):]
    return ""


def described(xml):
    return {
        "from": xml.get("from", ""),
        "type": xml.get("type", ""),
        "id": xml.get("id", ""),
        "body": xml.findtext("{jabber:client}body", ""),
        "condition": condition(xml),
        "xml": ElementTree.tostring(xml, encoding="unicode"),
    }


class Person(slixmpp.ClientXMPP):
    def __init__(self, jid, password):
        super().__init__(jid, password)
        # What the servers show to clients is not the point here.
        self.ssl_context.check_hostname = False
        self.ssl_context.verify_mode = ssl.CERT_NONE
        self.enable_direct_tls = False
        self.auto_authorize = None
        self.auto_subscribe = False
        self.register_plugin("xep_0030")
        self.register_plugin("xep_0092")
        self.register_plugin("xep_0199")
        self.started = asyncio.Event()
        self.gone = asyncio.Event()
        self.add_event_handler("session_start", lambda _: self.started.set())
        self.add_event_handler("disconnected", self.on_disconnected)
        for kind in ("message", "presence"):
            matcher = StanzaPath(kind)
            self.register_handler(Callback(f"told {kind}", matcher, self.on_stanza))

    def on_stanza(self, stanza):
        kind = stanza.xml.tag.rsplit("}", 1)[1]
        tell({"event": kind, **described(stanza.xml)})

    def on_disconnected(self, _):
        self.gone.set()
        tell({"event": "disconnected"})


class Script:
    def __init__(self):
        self.person = None

    async def connect(self, jid, password, host):
        self.person = Person(jid, password)
        self.person.connect(host=host, port=5222)
        await self.person.started.wait()
        # Who has not asked for it is not told about subscriptions (RFC 6121 §2.1.6).
        await self.person.get_roster()
        return {"jid": self.person.boundjid.full}

    async def presence(self, type, to):
        presence = self.person.make_presence(ptype=type or None, pto=to or None)
        presence.send()
        return {}

    async def message(self, to, id, body):
        message = self.person.make_message(mto=to, mbody=body, mtype="chat")
        message["id"] = id
        message.send()
        return {}

    async def messages(self, to, id, body, times):
        for number in range(times):
            await self.message(to, f"{id}{number}", f"{body}{number}")
        return {}

    async def request(self, iq):
        try:
            return await iq.send(timeout=PATIENCE_S)
        except slixmpp.exceptions.IqError as error:
            return error.iq

    async def get(self, to, payload):
        iq = self.person.make_iq_get(ito=to)
        iq.append(ElementTree.fromstring(payload))
        return described((await self.request(iq)).xml)

    async def set(self, payload):
        """Of one's own account."""
        iq = self.person.make_iq_set()
        iq.append(ElementTree.fromstring(payload))
        return described((await self.request(iq)).xml)

    async def subscription(self, to):
        iq = self.person.make_iq_get()
        iq.append(ElementTree.Element(f"{ROSTER}query"))
        answer = (await self.request(iq)).xml
        found = [item for item in answer.iter(f"{ROSTER}item") if item.get("jid") == to]
        return {"subscription": found[0].get("subscription") if found else "absent"}

    async def disconnect(self):
        await self.person.disconnect()
        await self.person.gone.wait()
        return {}


async def main():
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    script = Script()
    while line := await lines.readline():
        command = json.loads(line)
        step = getattr(script, command.pop("do"))
        try:
            async with asyncio.timeout(PATIENCE_S):
                tell(await step(**command))
        except Exception as error:
            tell({"failed": repr(error)})


if __name__ == "__main__":
    asyncio.run(main())
