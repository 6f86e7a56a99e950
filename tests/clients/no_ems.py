"""A TLS 1.2 client without extended master secret (RFC 7627) is refused.

usage: no_ems.py PORT
"""

import socket
import sys

from OpenSSL import SSL

# SSL_OP_NO_EXTENDED_MASTER_SECRET, which pyOpenSSL has no name for.
NO_EXTENDED_MASTER_SECRET = 1 << 0


def handshake(port, options):
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
    context.set_options(options)
    tls = SSL.Connection(context, socket.create_connection(("127.0.0.1", port)))
    tls.set_connect_state()
    tls.do_handshake()
    return tls


if __name__ == "__main__":
    port = int(sys.argv[1])
    handshake(port, 0)
    try:
        handshake(port, NO_EXTENDED_MASTER_SECRET)
    except SSL.Error:
        sys.exit(0)
    sys.exit("the handshake without extended master secret went through")
