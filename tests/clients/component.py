"""An external component with slixmpp (XEP-0114): it repeats what it is told, lets everybody
subscribe to it and subscribes back.

usage: component.py HOST PORT DOMAIN SECRET

It writes a line for everything that happens, the first of which is "connected" or "refused", and
runs until its standard input ends.
"""

import asyncio
import sys

from slixmpp.componentxmpp import ComponentXMPP


def tell(*words):
    print(*words, flush=True)


class Gateway(ComponentXMPP):
    def __init__(self, domain, secret, host, port):
        super().__init__(domain, secret, host, port)
        # Its own roster lets everybody subscribe, and subscribes back.
        self.auto_authorize = True
        self.auto_subscribe = True
        self.register_plugin("xep_0030")
        self.register_plugin("xep_0199")
        self.add_event_handler("session_start", lambda _: tell("connected"))
        self.add_event_handler("stream_error", self.on_stream_error)
        self.add_event_handler("message", self.on_message)
        self.add_event_handler("presence_subscribe", self.on_subscribe)
        self.add_event_handler("presence_probe", self.on_probe)
        for event in ("subscribed", "unsubscribed", "available", "unavailable"):
            self.add_event_handler(f"presence_{event}", self.teller(event))

    def on_stream_error(self, error):
        tell("refused", error["condition"])

    def teller(self, event):
        return lambda presence: tell(event, presence["from"], presence["to"])

    def on_message(self, message):
        if message["type"] == "error":
            tell("error", message["error"]["condition"])
        else:
            tell("message", message["from"], message["body"])
            message.reply(message["body"]).send()

    def on_subscribe(self, presence):
        user, contact = presence["from"].bare, presence["to"].bare
        tell("subscribe", user, contact)
        self.send_presence(pto=user, pfrom=f"{contact}/gateway", pstatus="here")

    def on_probe(self, presence):
        user, contact = presence["from"], presence["to"].bare
        self.send_presence(pto=user, pfrom=f"{contact}/gateway", pstatus="here")


async def main(host, port, domain, secret):
    gateway = Gateway(domain, secret, host, int(port))
    gateway.connect()
    loop = asyncio.get_running_loop()
    # Whoever started it closes this when it is to end.
    await loop.run_in_executor(None, sys.stdin.read)
    await gateway.disconnect()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
