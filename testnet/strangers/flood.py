"""Forged QUIC Initials at a daemon's ports, 10,000 a second from 16 million addresses, while a member predicts: what that does to
the member's calls, and to the daemon.

    pip install -r testnet/wire/requirements.txt
    sudo python3 testnet/strangers/flood.py                       # each port, three rounds with and without
    sudo python3 testnet/strangers/flood.py --rate 20000 --seconds 10 --rounds 5 --json

Every Initial is whole: right version, ALPN of the port, its own connection id, encrypted as RFC 9001 says; only its source address
is another's. So the daemon must decrypt each to see that. The member is the program `lab` (crates: testnet), in its own namespace.
"""

from __future__ import annotations

import argparse
import hmac
import json
import math
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

from ground import AT, CALLER, FROM, PROGRAM, ROOT, RPC, STRANGER, SWARM, Ground, machine, refuse_without, within

LAB = str(Path(PROGRAM).parent / "lab")
DIGITS = ROOT / "testnet/fixtures/digits/digits.onnx"
NAME = "lab/digits"
#: Initials made before it begins; after that many they come again, from other addresses. A daemon that holds none has forgotten them.
MADE = 30_000
#: QUIC version 1's salt (RFC 9001, 5.2); bytes of a datagram, and of an Initial's head.
SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
DATAGRAM, HEAD = 1200, 28
#: How often a burst is sent: at 10,000 a second, 50 packets at a time.
TICK = 0.005


def expand(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label of TLS 1.3 (RFC 8446, 7.1), of one block; aioquic's own takes milliseconds a packet."""
    label = b"tls13 " + label
    info = struct.pack("!H", length) + bytes([len(label)]) + label + b"\0\1"
    return hmac.digest(secret, info, "sha256")[:length]


def hello(alpn: str, port: int) -> bytes:
    """The frames of a client's Initial, padded as RFC 9000, 14.1, wants them."""
    from aioquic.buffer import Buffer
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.connection import QuicConnection
    from aioquic.quic.crypto import CryptoPair
    from aioquic.quic.packet import QuicProtocolVersion, pull_quic_header

    quic = QuicConnection(configuration=QuicConfiguration(is_client=True, alpn_protocols=[alpn]))
    quic.connect((AT, port), now=time.time())
    data = quic.datagrams_to_send(now=time.time())[0][0]
    buffer = Buffer(data=data)
    header = pull_quic_header(buffer, host_cid_length=8)
    server = CryptoPair()
    server.setup_initial(header.destination_cid, is_client=False, version=QuicProtocolVersion.VERSION_1)
    _, plain, _ = server.decrypt_packet(data[: header.packet_length], buffer.tell(), 0)
    return plain + bytes(DATAGRAM - HEAD - 16 - len(plain))


def initials(alpn: str, port: int, count: int) -> list[bytes]:
    """Datagrams with UDP headers; each with a destination connection id of its own, which its keys come from (RFC 9001, 5.2)."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    plain, made = hello(alpn, port), []
    for _ in range(count):
        cid = os.urandom(8)
        secret = expand(hmac.digest(SALT, cid, "sha256"), b"client in", 32)
        key, iv, mask_key = expand(secret, b"quic key", 16), expand(secret, b"quic iv", 12), expand(secret, b"quic hp", 16)
        length = struct.pack("!H", 0x4000 | 2 + len(plain) + 16)
        head = b"\xc1\0\0\0\1\x08" + cid + b"\x08" + os.urandom(8) + b"\0" + length + b"\0\0"
        # Its packet number is 0, in two bytes: the nonce is the IV.
        sealed = AESGCM(key).encrypt(iv, plain, head)
        mask = Cipher(algorithms.AES(mask_key), modes.ECB()).encryptor().update(sealed[2:18])
        packet = bytes([head[0] ^ mask[0] & 15]) + head[1:-2] + mask[1:3] + sealed
        made.append(struct.pack("!HHHH", random.randrange(1024, 65535), port, 8 + len(packet), 0) + packet)
    return made


def flood(port: int, rate: int, seconds: float) -> dict:
    """Sends them; a UDP checksum of 0 means that there is none (RFC 768)."""
    datagrams = initials("zero2ai/1" if port == RPC else "libp2p", port, min(MADE, int(rate * seconds) + 1))
    print("ready", flush=True)
    sys.stdin.readline()
    out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 20)
    goal, sent, start = socket.inet_aton(AT), 0, time.monotonic()
    # Until it is told to stop, by the end of its standard input, but no longer than this.
    while (now := time.monotonic() - start) < seconds and not select.select([0], [], [], 0)[0]:
        due = int(now * rate)
        while sent < due:
            udp = datagrams[sent % len(datagrams)]
            # 10.90.0.0 to 10.217.255.255: nobody is there; the kernel fills in length and checksum.
            source = bytes([10, 90 + random.randrange(128)]) + random.randbytes(2)
            head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, source, goal)
            try:
                out.sendto(head + udp, (AT, 0))
            except OSError:
                pass  # the device's queue is full: it was not sent
            sent += 1
        time.sleep(TICK)
    return {"sent": sent, "seconds": round(time.monotonic() - start, 2)}


class Flood:
    """The sender as a process in the strangers' namespace."""

    def __init__(self, port: int, rate: int, seconds: float):
        command = within(
            STRANGER, sys.executable, __file__, "--inside", "--port", port, "--rate", rate, "--seconds", seconds)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.process.stdout.readline()

    def go(self):
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def end(self) -> dict:
        """Stops it; it tells what it sent."""
        return json.loads(self.process.communicate()[0])


def calls(ground: Ground, account: str, count: int, every: int) -> list[dict]:
    """A member's calls, one after the other."""
    command = within(
        CALLER, LAB, "call", "--account", ground.folder / account, "--invite", ground.folder / "invite", "--name", NAME,
        "--every", every, "--calls", count)
    done = subprocess.run(command, capture_output=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"the caller failed: {done.stderr.decode()}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def spread(values) -> dict:
    ordered = sorted(values)
    at = lambda percent: round(ordered[max(1, math.ceil(len(ordered) * percent / 100)) - 1], 3) if ordered else None
    return {"count": len(ordered), "p50": at(50), "p99": at(99), "most": at(100)}


def rounds(ground: Ground, port: int, given) -> dict:
    """Without and with, in turn: the machine's own ups and downs hit both."""
    quiet, loud, fresh_quiet, fresh_loud, failed, node = [], [], [], [], 0, []
    count = int(given.seconds / 0.012)
    for n in range(given.rounds):
        for flooded in (False, True):
            sender = Flood(port, given.rate, given.seconds * 4) if flooded else None
            before, start = ground.processor_s(), time.monotonic()
            if sender:
                sender.go()
                time.sleep(1)
            made = calls(ground, "member", count, 10)[1:]
            first = [calls(ground, f"fresh-{port}-{n}-{flooded}-{k}", 1, 0)[0] for k in range(3)]
            busy = (ground.processor_s() - before) / (time.monotonic() - start) * 100
            failed += sum("error" in call for call in made + first)
            (loud if flooded else quiet).extend(call["ms"] for call in made)
            (fresh_loud if flooded else fresh_quiet).extend(call["ms"] for call in first)
            told = sender.end() if sender else {}
            node.append({"flooded": flooded, "processor_percent": round(busy), "rss_mib": ground.rss_mib(), **told})
            print(f"port {port}, round {n}, flooded {flooded}: {spread(c['ms'] for c in made)} {node[-1]}", file=sys.stderr)
    without, with_ = spread(quiet), spread(loud)
    return {
        "without_ms": without, "with_ms": with_, "p50_ratio": round(with_["p50"] / without["p50"], 2),
        "p99_ratio": round(with_["p99"] / without["p99"], 2), "failed": failed,
        "first_call_without_ms": spread(fresh_quiet), "first_call_with_ms": spread(fresh_loud), "node": node,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=10_000, help="Initials a second")
    parser.add_argument("--seconds", type=float, default=8.0, help="of calls in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(flood(given.port, given.rate, given.seconds)))
        return
    refuse_without("flood.py")
    with Ground() as ground:
        ground.json("publish", DIGITS, "--name", NAME, "--replicas", "0")
        invite = ground.json("pool", "invite", "--rights", "member", "--uses", "1000")["invite"]
        (ground.folder / "invite").write_text(invite)
        calls(ground, "member", 100, 10)
        report = {"what": "flood", "machine": machine(), "rate": given.rate, "forged_from": FROM}
        for word, port in (("rpc", RPC), ("swarm", SWARM)):
            report[word] = rounds(ground, port, given)
    if given.json:
        print(json.dumps(report))
        return
    for word in ("rpc", "swarm"):
        told = report[word]
        print(f"{word} port: p50 {told['without_ms']['p50']} -> {told['with_ms']['p50']} ms (x {told['p50_ratio']}), "
              f"p99 {told['without_ms']['p99']} -> {told['with_ms']['p99']} ms (x {told['p99_ratio']}), {told['failed']} failed")


if __name__ == "__main__":
    main()
