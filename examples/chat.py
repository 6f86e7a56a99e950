#!/usr/bin/env python3
"""Chat from a terminal, by slixmpp: chat.py JID PASSWORD OTHER-JID [HOST:PORT]

Prints what arrives; every line typed goes to OTHER-JID. For trying a server on
this machine: it takes any certificate.
"""

import asyncio
import ssl
import sys

import slixmpp


class Chat(slixmpp.ClientXMPP):
    def __init__(self, jid, password):
        super().__init__(jid, password)
        self.ssl_context.check_hostname = False
        self.ssl_context.verify_mode = ssl.CERT_NONE
        self.started = asyncio.Event()
        self.add_event_handler("session_start", self.start)
        self.add_event_handler("message", self.hear)
        self.add_event_handler("failed_all_auth", lambda _: sys.exit("wrong password?"))

    def start(self, _):
        self.send_presence()
        self.started.set()

    def hear(self, message):
        if message["body"]:
            print(f"{message['from'].bare}: {message['body']}", flush=True)


async def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    jid, password, other, *where = sys.argv[1:]
    host, port = (where or ["127.0.0.1:5222"])[0].rsplit(":", 1)
    chat = Chat(jid, password)
    chat.connect(host=host, port=int(port))
    await asyncio.wait_for(chat.started.wait(), 20)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        chat.send_message(mto=other, mbody=line.rstrip("\n"), mtype="chat")
    # The end of the input is not the end of the conversation.
    await chat.disconnected


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
