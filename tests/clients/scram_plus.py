"""SCRAM with channel binding by independent implementations: `scramp` for SCRAM and pyOpenSSL
(OpenSSL's own exporter) for TLS, over a raw socket.

usage: scram_plus.py PORT [DIRECTORY PID]

With a directory and a process id the server's certificate is replaced there and the server told
to read it again (SIGHUP) between two log-ins.
"""

import base64
import datetime
import os
import re
import signal
import socket
import sys
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from scramp import ScramClient, core

# scramp refuses the name of a binding that it cannot compute itself, from Python's ssl module.
# The bytes come from OpenSSL here.
core.CbName.SUPPORTED_TYPES |= {"tls-exporter"}
core.CbName.UNSUPPORTED_TYPES = frozenset()

DOMAIN = "cairn.example"
PASSWORD = "correct horse battery staple"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
HEADER = (
    f"<?xml version='1.0'?><stream:stream to='{DOMAIN}' version='1.0' "
    "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
)


class Stream:
    """A stream under direct TLS."""

    def __init__(self, port, context, session=None):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.tls = SSL.Connection(context, self.socket)
        self.tls.set_connect_state()
        self.tls.set_tlsext_host_name(DOMAIN.encode())
        if session is not None:
            self.tls.set_session(session)
        # The timeout of a Python socket makes it non-blocking below pyOpenSSL, so the kernel's.
        self.socket.setblocking(True)
        self.tls.do_handshake()
        self.text = ""
        self.send(HEADER)
        self.features = self.until("</stream:features>")

    def send(self, text):
        self.tls.sendall(text.encode())

    def until(self, *ends):
        """Reads up to the first of these, and returns everything before and with it."""
        while True:
            for end in ends:
                at = self.text.find(end)
                if at >= 0:
                    at += len(end)
                    read, self.text = self.text[:at], self.text[at:]
                    return read
            self.text += self.tls.recv(65536).decode()

    def exporter(self):
        return self.tls.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")

    def end_point(self):
        certificate = self.tls.get_peer_certificate().to_cryptography()
        algorithm = certificate.signature_hash_algorithm
        if algorithm.name in ("md5", "sha1"):
            algorithm = hashes.SHA256()
        return certificate.fingerprint(algorithm)

    def log_in(self, mechanism, binding):
        """Whether the server accepts; that it proves itself is checked by scramp."""
        client = ScramClient([mechanism], "alice", PASSWORD, channel_binding=binding)
        first = base64.b64encode(client.get_client_first().encode()).decode()
        self.send(f"<auth xmlns='{SASL}' mechanism='{mechanism}'>{first}</auth>")
        answer = self.until("</challenge>", "</failure>")
        if "<failure" in answer:
            return False
        client.set_server_first(content(answer))
        final = base64.b64encode(client.get_client_final().encode()).decode()
        self.send(f"<response xmlns='{SASL}'>{final}</response>")
        answer = self.until("</success>", "</failure>")
        if "<failure" in answer:
            return False
        client.set_server_final(content(answer))
        return True

    def is_resumed(self):
        # pyOpenSSL has the function, but no method for it.
        return bool(SSL._lib.SSL_session_reused(self.tls._ssl))

    def close(self):
        self.tls.shutdown()
        self.socket.close()


def content(answer):
    inside = re.search(r">([A-Za-z0-9+/=]+)<", answer)
    return base64.b64decode(inside.group(1)).decode()


def context(version):
    made = SSL.Context(SSL.TLS_CLIENT_METHOD)
    made.set_min_proto_version(version)
    made.set_max_proto_version(version)
    made.set_verify(SSL.VERIFY_NONE, lambda *_: True)
    return made


def check_all(port, version):
    tls = context(version)
    for mechanism in ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"):
        stream = Stream(port, tls)
        assert stream.log_in(mechanism, ("tls-exporter", stream.exporter())), mechanism
        stream.close()
        stream = Stream(port, tls)
        binding = ("tls-server-end-point", stream.end_point())
        assert stream.log_in(mechanism, binding), mechanism
        session = stream.tls.get_session()
        stream.close()
        # A resumed TLS session exports other bytes, and the certificate is still the same.
        resumed = Stream(port, tls, session)
        assert resumed.is_resumed(), "the session was not resumed"
        assert resumed.log_in(mechanism, ("tls-exporter", resumed.exporter())), mechanism
        resumed.close()
        for name in ("tls-exporter", "tls-server-end-point"):
            stream = Stream(port, tls)
            assert not stream.log_in(mechanism, (name, b"x" * 32)), f"a wrong {name} was accepted"
            stream.close()
        # The bytes of another connection are as wrong as any.
        one, other = Stream(port, tls), Stream(port, tls)
        assert not one.log_in(mechanism, ("tls-exporter", other.exporter()))
        one.close()
        other.close()


def check_reload(port, directory, pid):
    tls = context(SSL.TLS1_3_VERSION)
    before = Stream(port, tls)
    old = before.end_point()
    session = before.tls.get_session()
    write_certificate(directory)
    os.kill(pid, signal.SIGHUP)
    # The old stream was made with the old certificate, and stays bound to it.
    deadline = time.monotonic() + 20
    while True:
        after = Stream(port, tls, session)
        new = after.end_point()
        if new != old:
            break
        after.close()
        assert time.monotonic() < deadline, "the new certificate is not shown"
    assert not after.is_resumed(), "a ticket from before the reload was accepted"
    assert after.log_in("SCRAM-SHA-256-PLUS", ("tls-server-end-point", new))
    assert before.log_in("SCRAM-SHA-256-PLUS", ("tls-server-end-point", old))
    stream = Stream(port, tls)
    assert not stream.log_in("SCRAM-SHA-256-PLUS", ("tls-server-end-point", old))
    stream = Stream(port, tls)
    assert stream.log_in("SCRAM-SHA-256-PLUS", ("tls-exporter", stream.exporter()))


def write_certificate(directory):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, DOMAIN)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(DOMAIN)]), critical=False)
        # Another hash than the first certificate's: the binding follows it (RFC 5929 §4.1).
        .sign(key, hashes.SHA384())
    )
    pem = serialization.Encoding.PEM
    with open(os.path.join(directory, "key.pem"), "wb") as file:
        file.write(key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ))
    with open(os.path.join(directory, "cert.pem"), "wb") as file:
        file.write(certificate.public_bytes(pem))


if __name__ == "__main__":
    port = int(sys.argv[1])
    if len(sys.argv) > 2:
        check_reload(port, sys.argv[2], int(sys.argv[3]))
    else:
        check_all(port, SSL.TLS1_3_VERSION)
        check_all(port, SSL.TLS1_2_VERSION)
