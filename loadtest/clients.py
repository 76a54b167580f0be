#!/usr/bin/env python3
"""Clients that are no load, for the scenarios `idle` and `slow-clients`.

Usage: clients.py idle|slow PORT COUNT

Connects COUNT times to PORT on 127.0.0.1 and prints "ready". On SIGTERM prints how many of the connections
the other side has closed, and ends.

idle: one request on each, whose response is read; then nothing.
slow: a third sends a request head a byte a second, a third a body in the same way, and a third asks for
      many responses and reads none.
"""

import signal
import socket
import sys
import time

REQUEST = b"GET / HTTP/1.1\r\nhost: hello.com\r\n\r\n"
SLOW_HEAD = b"GET / HTTP/1.1\r\nhost: hello.com\r\nx-slow: " + b"s" * 4096
SLOW_BODY_HEAD = b"POST / HTTP/1.1\r\nhost: hello.com\r\ncontent-length: 100000\r\n\r\n"
# Requests of a client that reads nothing: with bodies of 10 KiB more than all buffers hold.
UNREAD = 1000
# Parts of a second, in each of which a part of the slow clients has its turn.
SLICES = 50
KINDS = ("a slow head", "a slow body", "no reading")


class Ended(Exception):
    """The signal to end."""


class Client:
    """A connection, and what it has still to send."""

    def __init__(self, port, kind):
        self.kind = kind
        self.closed = False
        self.socket = socket.socket()
        if kind == "no reading":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        if kind == "a slow head":
            self.rest = SLOW_HEAD
        elif kind == "a slow body":
            self.socket.sendall(SLOW_BODY_HEAD)
            self.rest = b"s" * 100000
        elif kind == "no reading":
            self.rest = REQUEST * UNREAD
        else:
            self.rest = b""
            self.socket.sendall(REQUEST)
            if not self.socket.recv(65536).startswith(b"HTTP/1.1 200"):
                raise OSError("the response is not 200")
        self.socket.setblocking(False)

    def tick(self):
        """Sends what is due: one byte, or of a client that reads nothing as much as is taken."""
        if self.closed or not self.rest:
            return
        part = self.rest if self.kind == "no reading" else self.rest[:1]
        try:
            self.rest = self.rest[self.socket.send(part):]
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True

    def look(self):
        """Whether the other side has closed, as far as can be seen without reading for one that does not."""
        if self.kind == "no reading" or self.closed:
            return self.closed
        try:
            while True:
                if not self.socket.recv(65536):
                    self.closed = True
                    break
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        return self.closed


def end(_signal, _frame):
    # `timeout` sends it to us and to our group.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Ended


def main():
    mode, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    signal.signal(signal.SIGTERM, end)
    kinds = KINDS if mode == "slow" else ("idle",)
    clients = []
    try:
        for index in range(count):
            clients.append(Client(port, kinds[index % len(kinds)]))
        print("ready", flush=True)
        if mode == "idle":
            # Looking at them would take the core from the load generator.
            while True:
                signal.pause()
        while True:
            # A little at a time, for the same reason.
            for first in range(SLICES):
                began = time.monotonic()
                for client in clients[first::SLICES]:
                    client.tick()
                    client.look()
                time.sleep(max(0.0, began + 1 / SLICES - time.monotonic()))
    except Ended:
        parts = []
        for kind in kinds:
            ours = [client for client in clients if client.kind == kind]
            closed = sum(client.look() for client in ours)
            parts.append(f"of {len(ours)} with {kind} {closed} were closed" if mode == "slow"
                         else f"of {len(ours)} {closed} were closed")
        print("; ".join(parts), flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("idle", "slow"):
        print(__doc__)
        sys.exit(2)
    main()
