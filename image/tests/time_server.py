#!/usr/bin/env python3
"""A time server (RFC 5905) for the tests: it answers what this computer's clock says."""

import socket
import struct
import time

# From 1900 to 1970.
EPOCH = 2_208_988_800


def stamp():
    now = time.time()
    return struct.pack("!II", (int(now) + EPOCH) & 0xFFFFFFFF, int(now % 1 * 2**32))


def main():
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", 123))
    print("serving", flush=True)
    while True:
        request, client = server.recvfrom(512)
        received = stamp()
        if len(request) < 48:
            continue
        # No leap second, version 4, a server, stratum 1.
        head = struct.pack("!BBbbII4s", 0x24, 1, 0, -20, 0, 0, b"TEST")
        server.sendto(head + received + request[40:48] + received + stamp(), client)


main()
