#!/usr/bin/env python3
"""Messages to an account that is offline: load.py send HOST:PORT ROUND prints the name of every
message whose stanza was acknowledged (XEP-0198); load.py fill does the same with 40 kB each until one
is refused, whose error it prints; load.py receive HOST:PORT NAME,... logs in as the recipient and says
whether every message of each NAME's round up to NAME is there; load.py register makes the accounts;
load.py befriend HOST:PORT NAME puts bob into the recipient's roster under that name, and load.py
roster tells under which he is there."""

import asyncio
import ssl
import sys

import slixmpp


class Client(slixmpp.ClientXMPP):
    def __init__(self, name):
        super().__init__(f"{name}@chat.example", "correct horse")
        self.ssl_context.check_hostname = False
        self.ssl_context.verify_mode = ssl.CERT_NONE
        self.started = asyncio.Event()
        self.heard = []
        self.more = asyncio.Event()
        self.add_event_handler("session_start", self.start)
        self.add_event_handler("message", self.hear)
        self.add_event_handler("failed_all_auth", lambda _: sys.exit("no log-in"))

    def start(self, _):
        self.started.set()

    def hear(self, message):
        self.heard.append(message["body"].split(" ")[0])
        self.more.set()

    async def log_in(self, where):
        host, port = where.rsplit(":", 1)
        self.connect(host=host, port=int(port))
        await asyncio.wait_for(self.started.wait(), 60)


async def send(where, round_, rest=""):
    bob = Client("bob")
    bob.register_plugin("xep_0198")
    management = bob.plugin["xep_0198"]
    management.window = 1
    enabled = asyncio.Event()
    bob.add_event_handler("sm_enabled", lambda _: enabled.set())
    await bob.log_in(where)
    await asyncio.wait_for(enabled.wait(), 60)
    refused = []
    bob.add_event_handler("message_error", lambda stanza: refused.append(stanza["error"]["condition"]))
    acknowledged = asyncio.Event()
    bob.add_event_handler("stanza_acked", lambda _: acknowledged.set())
    for number in range(100_000):
        name = f"{round_}-{number}"
        acknowledged.clear()
        bob.send_message(mto="alice@chat.example", mbody=name + rest, mtype="chat")
        # The request overtakes the message, which goes through a queue.
        while not acknowledged.is_set():
            management.request_ack()
            try:
                await asyncio.wait_for(acknowledged.wait(), 0.05)
            except asyncio.TimeoutError:
                pass
        if refused:
            print("refused", refused[0], flush=True)
            return
        print(name, flush=True)


async def receive(where, names):
    wanted = set()
    for name in names.split(","):
        round_, number = (int(part) for part in name.split("-"))
        wanted.update(f"{round_}-{each}" for each in range(number + 1))
    alice = Client("alice")
    await alice.log_in(where)
    alice.send_presence()
    while not wanted.issubset(alice.heard):
        alice.more.clear()
        try:
            await asyncio.wait_for(alice.more.wait(), 30)
        except asyncio.TimeoutError:
            sys.exit(f"missing: {sorted(wanted.difference(alice.heard))}")
    await alice.disconnect()
    print("all there")


async def register(where, _):
    """alice and bob, in-band (XEP-0077)."""
    for name in "alice", "bob":
        client = Client(name)
        client.register_plugin("xep_0077")
        client.plugin["xep_0077"].force_registration = True

        async def give(_, client=client, name=name):
            iq = client.Iq(stype="set")
            iq["register"]["username"] = name
            iq["register"]["password"] = client.password
            await iq.send()

        client.add_event_handler("register", give)
        await client.log_in(where)
        await client.disconnect()
    print("registered")


async def befriend(where, name):
    alice = Client("alice")
    await alice.log_in(where)
    await alice.update_roster("bob@chat.example", name=name, groups=["Friends"])
    await alice.disconnect()
    print("befriended")


async def roster(where, _):
    alice = Client("alice")
    await alice.log_in(where)
    await alice.get_roster()
    print(alice.client_roster["bob@chat.example"]["name"])
    await alice.disconnect()


async def fill(where, round_):
    # The last word is refused a little after the last acknowledgement.
    await send(where, round_, " " + "x" * 40_000)


what, where, word = sys.argv[1:]
done_by = [befriend, fill, receive, register, roster, send]
asyncio.run({each.__name__: each for each in done_by}[what](where, word))
