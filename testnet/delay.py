"""A wide network on one machine: a TUN device in each namespace, and this program between them, which holds every packet back
for as long as its way is long, loses some, and cuts cables.

It is a program in Python since a TUN device is had by an ioctl, which in Rust is `unsafe`; nothing but the standard library is
used. `testnet/src/lab/lines.rs` starts it, with the plan on its first line of standard input:

    {"places": [{"namespace": "z2way-0", "address": "10.79.0.1", "region": 0}, ...], "rtt_ms": [[10, 60], [60, 10]],
     "jitter": 0.05, "loss": 0.001, "seed": 1}

It answers `{"ready": true}`. Each further line is an order, answered by one line: `{"extra": 3, "ms": 390}` makes all of place 3's
round trips so much longer, `{"cut": 3}` and `{"plug": 3}` take its cable out and in, `{"address": 3, "is": "10.79.1.3"}` gives it
another address in place of the one it has, `{"count": true}` tells bytes and packets. It ends with its standard input.
"""

import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
#: Bytes of the longest packet, and packets held at once: beyond it new ones are lost, as in a full queue of a router.
MTU, HELD = 1500, 100_000


def tun(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


def ip(*words):
    subprocess.run(["ip", *map(str, words)], check=True)


class Lines:
    def __init__(self, plan: dict):
        self.rtt, self.jitter, self.loss = plan["rtt_ms"], plan["jitter"], plan["loss"]
        self.random = random.Random(plan["seed"])
        self.regions = [place["region"] for place in plan["places"]]
        self.fds, self.place_of, self.fd_place = [], {}, {}
        for n, place in enumerate(plan["places"]):
            self.fds.append(fd := tun(f"z2tun{n}"))
            self.fd_place[fd] = n
            self.place_of[socket.inet_aton(place["address"])] = n
            ip("link", "set", f"z2tun{n}", "netns", place["namespace"])
            within = ("-n", place["namespace"])
            ip(*within, "addr", "add", f"{place['address']}/16", "dev", f"z2tun{n}")
            ip(*within, "link", "set", f"z2tun{n}", "mtu", MTU, "up")
        self.places = plan["places"]
        count = len(self.fds)
        self.extra, self.cut = [0.0] * count, [False] * count
        self.packets, self.bytes = [0] * count, [0] * count
        self.held, self.nth, self.last = [], 0, {}

    def take(self, fd: int, now: float):
        """Everything that waits in one device."""
        for _ in range(64):
            try:
                packet = os.read(fd, MTU + 100)
            except BlockingIOError:
                return
            source, goal = self.fd_place[fd], self.place_of.get(packet[16:20])
            self.packets[source] += 1
            self.bytes[source] += len(packet)
            if packet[0] >> 4 != 4 or goal is None or self.cut[source] or self.cut[goal]:
                continue
            if self.random.random() < self.loss or len(self.held) >= HELD:
                continue
            # Half of the round trip each way; jitter makes it longer, and nothing overtakes on one line.
            way = self.rtt[self.regions[source]][self.regions[goal]] + self.extra[source] + self.extra[goal]
            at = now + way / 2000 * (1 + self.random.random() * self.jitter)
            at = self.last[source, goal] = max(at, self.last.get((source, goal), 0))
            self.nth += 1
            heapq.heappush(self.held, (at, self.nth, source, goal, packet))

    def give(self, now: float):
        while self.held and self.held[0][0] <= now:
            _, _, source, goal, packet = heapq.heappop(self.held)
            if self.cut[source] or self.cut[goal]:
                continue
            try:
                os.write(self.fds[goal], packet)
            except OSError:
                pass  # its queue is full or its namespace gone: the packet is lost

    def move(self, n: int, address: str):
        place = self.places[n]
        within = ("-n", place["namespace"])
        ip(*within, "addr", "del", f"{place['address']}/16", "dev", f"z2tun{n}")
        del self.place_of[socket.inet_aton(place["address"])]
        place["address"] = address
        self.place_of[socket.inet_aton(address)] = n
        ip(*within, "addr", "add", f"{address}/16", "dev", f"z2tun{n}")

    def order(self, order: dict) -> dict:
        if "extra" in order:
            self.extra[order["extra"]] = float(order["ms"])
        elif "cut" in order:
            self.cut[order["cut"]] = True
        elif "plug" in order:
            self.cut[order["plug"]] = False
        elif "address" in order:
            self.move(order["address"], order["is"])
        elif "count" not in order:
            return {"error": f"unknown: {order}"}
        return {"packets": self.packets, "bytes": self.bytes, "held": len(self.held)}

    def run(self):
        poll, orders = select.epoll(), sys.stdin.fileno()
        os.set_blocking(orders, False)
        for fd in [*self.fds, orders]:
            poll.register(fd, select.EPOLLIN)
        rest = b""
        while True:
            wait = max(0.0, self.held[0][0] - time.monotonic()) if self.held else 1.0
            ready = poll.poll(min(wait, 1.0))
            now = time.monotonic()
            for fd, _ in ready:
                if fd != orders:
                    self.take(fd, now)
                    continue
                said = os.read(orders, 65536)
                if not said:
                    return
                *lines, rest = (rest + said).split(b"\n")
                for line in lines:
                    print(json.dumps(self.order(json.loads(line))), flush=True)
            self.give(time.monotonic())


if __name__ == "__main__":
    # Unbuffered: what comes after the first line is for the loop.
    first = b""
    while not first.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit(__doc__)
        first += byte
    lines = Lines(json.loads(first))
    print(json.dumps({"ready": True}), flush=True)
    lines.run()
