"""Scenarios with slixmpp, a client library that many people use.

usage: slixmpp_client.py SCENARIO PORT [ARGUMENT...]

A scenario ends with exit code 0 when everything went as it should; anything else is a failure,
told on standard error. Accounts are alice and bob of cairn.example, with the tests' password.
"""

import asyncio
import ssl
import sys

import slixmpp

DOMAIN = "cairn.example"
PASSWORD = "correct horse battery staple"
PATIENCE_S = 20


class Client(slixmpp.ClientXMPP):
    """A client that remembers what it has heard, and lets a scenario wait for it."""

    def __init__(self, name, port, mechanism=None, resource="slix", domain=DOMAIN, trusted=None):
        super().__init__(f"{name}@{domain}/{resource}", PASSWORD, sasl_mech=mechanism)
        self.port = port
        if trusted:
            # It has to be for the domain, too.
            self.ssl_context.check_hostname = True
            self.ssl_context.verify_mode = ssl.CERT_REQUIRED
            self.ssl_context.load_verify_locations(trusted)
        else:
            # The certificate is self-signed.
            self.ssl_context.check_hostname = False
            self.ssl_context.verify_mode = ssl.CERT_NONE
        self.enable_direct_tls = False
        self.register_plugin("xep_0030")
        self.register_plugin("xep_0198")
        self.register_plugin("xep_0199")
        self.register_plugin("xep_0203")
        self.auto_authorize = None
        self.auto_subscribe = False
        self.heard = {}
        for event in (
            "session_start", "session_resumed", "sm_enabled", "message", "disconnected",
            "failed_auth", "failed_all_auth", "roster_update", "presence_subscribe",
            "presence_subscribed", "presence_unsubscribed", "presence_available",
            "presence_unavailable",
        ):
            self.heard[event] = asyncio.Queue()
            self.add_event_handler(event, self.heard[event].put_nowait)

    async def wait(self, event, wanted=lambda _: True):
        """The next such event that is wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                seen = await self.heard[event].get()
                if wanted(seen):
                    return seen

    def open(self):
        self.connect(host="127.0.0.1", port=self.port)

    async def log_in(self, presence=True):
        self.open()
        await self.wait("session_start")
        if presence:
            self.send_presence()
        await self.get_roster()
        return self

    async def log_out(self):
        await self.disconnect()


async def login(port, mechanism):
    """Logs in by one mechanism, and is answered."""
    client = await Client("alice", port, mechanism).log_in()
    used = client.plugin["feature_mechanisms"].mech.name
    assert used == mechanism, f"it used {used}"
    await client.plugin["xep_0199"].ping(DOMAIN, timeout=PATIENCE_S)
    await client.log_out()


async def wrong_password(port, mechanism):
    """A wrong password is refused, and slixmpp understands that."""
    client = Client("alice", port, mechanism)
    client.password = "wrong"
    client.credentials["password"] = "wrong"
    client.open()
    await client.wait("failed_auth")
    client.abort()


async def roster(port):
    """Adds, renames and removes a contact, and sees each push."""
    client = await Client("alice", port).log_in()

    async def pushed(wanted):
        def has(iq):
            items = iq["roster"]["items"]
            return any(wanted(str(jid), item) for jid, item in items.items())
        await client.wait("roster_update", has)

    await client.update_roster("carol@other.example", name="Carol", groups=["Friends"])
    await pushed(lambda jid, item: jid == "carol@other.example" and item["name"] == "Carol")
    await client.update_roster("carol@other.example", name="Caroline", groups=[])
    await pushed(lambda _, item: item["name"] == "Caroline")
    await client.del_roster_item("carol@other.example")
    await pushed(lambda _, item: item["subscription"] == "remove")
    answer = await client.get_roster()
    assert not answer["roster"]["items"], answer
    await client.log_out()


async def subscription(port):
    """Both sides ask and allow each other, and see each other's presence."""
    alice = await Client("alice", port).log_in()
    bob = await Client("bob", port).log_in()
    for one, other in ((alice, bob), (bob, alice)):
        one.send_presence_subscription(other.boundjid.bare, ptype="subscribe")
        await other.wait("presence_subscribe")
        other.send_presence_subscription(one.boundjid.bare, ptype="subscribed")
        await one.wait("presence_subscribed")
        await one.wait("presence_available", lambda p: p["from"].bare == other.boundjid.bare)
    for one, other in ((alice, bob), (bob, alice)):
        # Answered with the version alone when nothing has changed since the last push.
        await one.get_roster()
        state = one.client_roster[other.boundjid.bare]["subscription"]
        assert state == "both", state
    await bob.log_out()
    await alice.wait("presence_unavailable", lambda p: p["from"].bare == f"bob@{DOMAIN}")
    await alice.log_out()


async def chat(port):
    """Messages to somebody online and to somebody offline, in order."""
    alice = await Client("alice", port).log_in()
    bob = await Client("bob", port).log_in()
    alice.send_message(bob.boundjid.bare, "hello <&> \u20ac \U0001f600", mtype="chat")
    message = await bob.wait("message")
    assert message["body"] == "hello <&> \u20ac \U0001f600", message
    bob.send_message(message["from"], "hello yourself", mtype="chat")
    assert (await alice.wait("message"))["body"] == "hello yourself"
    await bob.log_out()
    for number in range(10):
        alice.send_message(f"bob@{DOMAIN}", f"offline {number}", mtype="chat")
    # The answer to a ping comes behind everything that was sent before it.
    await alice.plugin["xep_0199"].ping(DOMAIN, timeout=PATIENCE_S)
    bob = await Client("bob", port).log_in()
    for number in range(10):
        message = await bob.wait("message")
        assert message["body"] == f"offline {number}", message
        assert message["delay"]["stamp"], message
    await bob.log_out()
    await alice.log_out()


async def domains(port, other, *trusted):
    """Two domains of one server, each with a certificate that is verified: contacts who chat."""
    one, two = trusted
    alice = await Client("alice", port, trusted=one).log_in()
    bob = await Client("alice", port, domain=other, trusted=two).log_in()
    for here, there in ((alice, bob), (bob, alice)):
        here.send_presence_subscription(there.boundjid.bare, ptype="subscribe")
        await there.wait("presence_subscribe")
        there.send_presence_subscription(here.boundjid.bare, ptype="subscribed")
        await here.wait("presence_available", lambda p: p["from"].bare == there.boundjid.bare)
        here.send_message(there.boundjid.bare, f"from {here.boundjid.domain}", mtype="chat")
        message = await there.wait("message")
        assert message["body"] == f"from {here.boundjid.domain}", message
        info = await here.plugin["xep_0030"].get_info(here.boundjid.domain, timeout=PATIENCE_S)
        assert info["from"] == here.boundjid.domain, info
    await bob.log_out()
    await alice.log_out()


async def resume(port):
    """A connection is cut and the stream resumed; what came meanwhile is not lost."""
    alice = await Client("alice", port).log_in()
    bob = await Client("bob", port).log_in()
    if not bob.plugin["xep_0198"].sm_id:
        await bob.wait("sm_enabled")
    bound = bob.boundjid.full
    # Cut without a word, so that the server must notice by itself.
    bob.abort()
    await bob.wait("disconnected")
    for number in range(5):
        alice.send_message(f"bob@{DOMAIN}", f"meanwhile {number}", mtype="chat")
    await alice.plugin["xep_0199"].ping(DOMAIN, timeout=PATIENCE_S)
    bob.open()
    await bob.wait("session_resumed")
    assert bob.boundjid.full == bound, bob.boundjid
    for number in range(5):
        message = await bob.wait("message")
        assert message["body"] == f"meanwhile {number}", message
    bob.send_message(alice.boundjid.full, "back again", mtype="chat")
    assert (await alice.wait("message"))["body"] == "back again"
    await bob.log_out()
    await alice.log_out()


async def listen(port, name, count):
    """Prints what this user hears, a line a message, until it has heard enough."""
    client = await Client(name, port).log_in()
    print("ready", flush=True)
    for _ in range(int(count)):
        message = await client.wait("message", lambda message: message["body"])
        print(f"{message['from'].bare}: {message['body']}", flush=True)
        client.send_message(message["from"], f"heard: {message['body']}", mtype="chat")
    await client.plugin["xep_0199"].ping(DOMAIN, timeout=PATIENCE_S)
    await client.log_out()


SCENARIOS = {f.__name__: f for f in (
    login, wrong_password, roster, subscription, chat, domains, resume, listen,
)}

if __name__ == "__main__":
    scenario, port, *arguments = sys.argv[1:]
    asyncio.run(SCENARIOS[scenario](int(port), *arguments))
