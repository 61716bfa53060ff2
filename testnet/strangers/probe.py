"""What a stranger gets from a daemon's two UDP ports and its HTTP port, captured: bytes in and out, how often more comes out than
went in, and how long until he is dropped.

    pip install -r testnet/wire/requirements.txt
    sudo python3 testnet/strangers/probe.py                      # a table
    sudo python3 testnet/strangers/probe.py --json --pcap them.pcap > probes.json
    sudo python3 testnet/strangers/probe.py --only silent        # probes whose name holds this
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time

from ground import AT, HTTP, NODE, RPC, STRANGER, SWARM, Capture, Ground, machine, refuse_without, within

#: How long an answer is waited for after the last packet; a connection is dropped within this, or it counts as held.
QUIET, PATIENCE = 1.0, 12.0
#: RFC 9000, 8.1: bytes that a server may send to an address that is not validated, for each byte it got from there. quinn begins
#: no datagram beyond it but ends one that it began (`poll_transmit` of quinn-proto 0.11), so an Initial of 1,200 bytes gets under four times that.
LIMIT, ROUNDED = 3.0, 4.0


def kinds(payload: bytes) -> list[str]:
    """The QUIC packets in a datagram by their first bytes (RFC 9000, 17.2); the first one names the datagram."""
    if not payload:
        return []
    if not payload[0] & 0x80:
        return ["1-RTT or reset"]
    if payload[1:5] == bytes(4):
        return ["version negotiation"]
    return [("Initial", "0-RTT", "Handshake", "Retry")[payload[0] >> 4 & 3]]


def udp_socket() -> socket.socket:
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.bind(("0.0.0.0", 0))
    out.settimeout(0.05)
    return out


def send(datagrams, port: int, pause: float = 0.0) -> socket.socket:
    out = udp_socket()
    for datagram in datagrams:
        out.sendto(datagram, (AT, port))
        if pause:
            time.sleep(pause)
    time.sleep(QUIET)
    return out


def configuration(alpn: str, identity: str | None):
    """QUIC as a client that checks nothing; `identity` is what its certificate is like."""
    import ssl

    from aioquic.quic.configuration import QuicConfiguration

    from identities import certificate

    made = QuicConfiguration(is_client=True, alpn_protocols=[alpn], verify_mode=ssl.CERT_NONE, idle_timeout=60.0)
    if identity is not None:
        made.certificate, made.private_key = certificate(identity)
    return made


def first_flight(alpn: str) -> list[bytes]:
    from aioquic.quic.connection import QuicConnection

    quic = QuicConnection(configuration=configuration(alpn, "plain"))
    quic.connect((AT, RPC), now=time.time())
    return [data for data, _ in quic.datagrams_to_send(now=time.time())]


def connect(port: int, alpn: str, identity: str | None, speak=None) -> tuple[socket.socket, dict]:
    """A whole QUIC client, until the daemon closes or `PATIENCE` is over. `speak` is called once TLS is done, and then every
    turn; what the other side closed with is told."""
    from aioquic.quic import events
    from aioquic.quic.connection import QuicConnection

    out, told, done = udp_socket(), {}, False
    quic = QuicConnection(configuration=configuration(alpn, identity))
    quic.connect((AT, port), now=time.time())
    start = time.time()
    while time.time() - start < PATIENCE and "closed" not in told:
        for data, _ in quic.datagrams_to_send(now=time.time()):
            out.sendto(data, (AT, port))
        try:
            quic.receive_datagram(out.recv(65535), (AT, port), now=time.time())
        except TimeoutError:
            pass
        timer = quic.get_timer()
        if timer is not None and timer <= time.time():
            quic.handle_timer(now=time.time())
        while (event := quic.next_event()) is not None:
            if isinstance(event, events.HandshakeCompleted):
                told["tls_ms"], done = round((time.time() - start) * 1e3, 1), True
            elif isinstance(event, events.StreamDataReceived):
                told["stream_bytes"] = told.get("stream_bytes", 0) + len(event.data)
            elif isinstance(event, events.ConnectionTerminated):
                what = "application" if event.frame_type is None else "transport"
                told["closed"] = f"{what} {event.error_code:#x} {event.reason_phrase}".strip()
                told["dropped_s"] = round(time.time() - start, 2)
        if done and speak is not None:
            speak(quic)
    return out, told


def every(seconds: float, what):
    """Calls `what` once every so often."""
    last = [0.0]

    def turn(quic):
        if time.time() - last[0] >= seconds:
            last[0] = time.time()
            what(quic)

    return turn


def once(what):
    return every(1e9, what)


def wrong_key(quic):
    """The first two frames of the pool proof, with a key that is none."""
    from identities import frame

    quic.send_stream_data(0, frame({0: os.urandom(32), 1: 0}) + frame({0: os.urandom(32)}))


def udp_probes():
    """Name, port, and a function that does it and gives its socket and what it saw."""
    for port, word, alpn, identity in ((RPC, "rpc", "zero2ai/1", "plain"), (SWARM, "swarm", "libp2p", "libp2p")):
        quiet = lambda datagrams, pause=0.0, port=port: lambda: (send(datagrams, port, pause), {})
        yield f"{word}: 10 random datagrams", port, quiet([os.urandom(1200) for _ in range(10)])
        yield f"{word}: 10 MB of garbage", port, quiet((os.urandom(1200) for _ in range(8738)), 0.0002)
        yield f"{word}: an unknown version", port, quiet(
            [b"\xc0\x1a\x2a\x3a\x4a\x08" + os.urandom(8) + b"\x08" + os.urandom(1185)])
        yield f"{word}: an Initial of 100 bytes", port, quiet([first_flight(alpn)[0][:100]])
        # Three seconds and more: a server sends its flight again while nobody answers.
        yield f"{word}: an Initial, then silence", port, lambda port=port, alpn=alpn: (
            wait(send(first_flight(alpn), port), 8), {})
        yield f"{word}: one Initial 20 times", port, lambda port=port, alpn=alpn: (
            wait(send(first_flight(alpn)[:1] * 20, port, 0.05), 8), {})
        yield f"{word}: another ALPN", port, lambda port=port: connect(port, "h3", "plain")
        yield f"{word}: no identity", port, lambda port=port, alpn=alpn: connect(port, alpn, None)
        if word == "swarm":
            yield f"{word}: an identity that is none of libp2p", port, lambda: connect(SWARM, "libp2p", "plain")
        yield f"{word}: self-made identity, then silent", port, lambda port=port, alpn=alpn, identity=identity: connect(
            port, alpn, identity)
        yield f"{word}: a byte a second", port, lambda port=port, alpn=alpn, identity=identity: connect(
            port, alpn, identity, every(1.0, lambda quic: quic.send_stream_data(0, b"\0")))
        yield f"{word}: garbage on the first stream", port, lambda port=port, alpn=alpn, identity=identity: connect(
            port, alpn, identity, once(lambda quic: quic.send_stream_data(0, os.urandom(4000))))
    yield "rpc: another pool's key", RPC, lambda: connect(RPC, "zero2ai/1", "plain", once(wrong_key))


def wait(out: socket.socket, seconds: float) -> socket.socket:
    time.sleep(seconds)
    return out


def measure(name: str, port: int, do, capture: Capture) -> dict:
    out, told = do()
    time.sleep(QUIET)
    packets = list(capture.udp(out.getsockname()[1], port))
    out.close()
    sent, got = [p for p in packets if not p[1]], [p for p in packets if p[1]]
    bytes_in, bytes_out = sum(len(p[2]) for p in sent), sum(len(p[2]) for p in got)
    row = {
        "probe": name, "packets_in": len(sent), "bytes_in": bytes_in, "packets_out": len(got), "bytes_out": bytes_out,
        "factor": round(bytes_out / bytes_in, 3) if bytes_in else None, "before_validation": unvalidated(packets),
        "kinds_out": sorted({kind for p in got for kind in kinds(p[2])}), **told,
    }
    if got:
        row["last_packet_s"] = round(got[-1][0] - packets[0][0], 2)
    print(f"{name}: {bytes_in} bytes in, {bytes_out} out {told.get('closed', '')}", file=sys.stderr)
    return row


def unvalidated(packets) -> float | None:
    """The largest ratio of bytes out to bytes in before the stranger's first Handshake packet, which validates his address."""
    sent = got = 0
    most = None
    for _, came, payload in packets:
        if came:
            got += len(payload)
            most = max(most or 0.0, got / sent) if sent else None
        else:
            if sent and "Handshake" in all_kinds(payload):
                break
            sent += len(payload)
    return None if most is None else round(most, 3)


def all_kinds(payload: bytes) -> list[str]:
    """Also the packets behind the first one of a datagram (RFC 9000, 12.2)."""
    found = []
    try:
        while len(payload) > 7 and payload[0] & 0x80 and payload[1:5] != bytes(4):
            kind, at = payload[0] >> 4 & 3, 5
            found.append(("Initial", "0-RTT", "Handshake", "Retry")[kind])
            for _ in range(2):
                at += 1 + payload[at]
            if kind == 3:
                break
            if kind == 0:
                token, at = integer(payload, at)
                at += token
            length, at = integer(payload, at)
            payload = payload[at + length :]
    except IndexError:
        pass  # it is no QUIC, or cut short
    return found


def integer(payload: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer (RFC 9000, 16), and where it ends."""
    size = 1 << (payload[at] >> 6)
    return int.from_bytes(payload[at : at + size], "big") & (1 << 8 * size - 2) - 1, at + size


def http_probes() -> list[dict]:
    """What the loopback port says to a program of the same machine that has no token."""
    requests = {
        "http: no token": b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
        "http: /metrics without a token": b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        "http: a wrong token": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\n\r\n",
        "http: garbage": os.urandom(4096),
        "http: a head without end": b"GET / HTTP/1.1\r\nHost: x\r\n",
        "http: nothing": b"",
    }
    rows = []
    for name, request in requests.items():
        start, got = time.time(), b""
        with socket.create_connection(("127.0.0.1", HTTP)) as out:
            out.settimeout(60)
            try:
                out.sendall(request)
                while data := out.recv(65536):
                    got += data
                    if b"\r\n\r\n" in got:
                        break  # it keeps the connection for the next request
            except TimeoutError:
                pass
            except OSError:
                pass
        status = got.split(b"\r\n", 1)[0].decode("latin-1")
        rows.append({
            "probe": name, "bytes_in": len(request), "bytes_out": len(got), "answer": status,
            "dropped_s": round(time.time() - start, 2),
        })
        print(f"{name}: {status or 'no answer'}, over after {rows[-1]['dropped_s']} s", file=sys.stderr)
    return rows


def table(rows) -> str:
    lines = ["| probe | bytes in | bytes out | factor | before validation | what comes | dropped after |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        what = row.get("answer") or row.get("closed") or ", ".join(row.get("kinds_out", [])) or "nothing"
        dropped = row.get("dropped_s", row.get("last_packet_s", ""))
        factor, before = (("" if row.get(key) is None else row[key]) for key in ("factor", "before_validation"))
        cells = row["probe"], row["bytes_in"], row["bytes_out"], factor, before, what, f"{dropped} s" if dropped != "" else ""
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def inside(only: str, pcap: str | None) -> list[dict]:
    """In the strangers' namespace."""
    capture = Capture("eth0")
    rows = [measure(name, port, do, capture) for name, port, do in udp_probes() if only in name]
    capture.stop()
    if pcap:
        capture.save(pcap)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--only", default="", metavar="TEXT", help="only probes whose name holds this")
    parser.add_argument("--pcap", metavar="FILE", help="keep the capture, for Wireshark")
    parser.add_argument("--inside", choices=("udp", "http"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(inside(given.only, given.pcap) if given.inside == "udp" else http_probes()))
        return
    refuse_without("probe.py")
    with Ground() as ground:
        rows = []
        for part, namespace in (("udp", STRANGER), ("http", NODE)):
            if part == "http" and given.only and not given.only.startswith("http"):
                continue
            pcap = ["--pcap", os.path.abspath(given.pcap)] if given.pcap else []
            command = within(namespace, sys.executable, __file__, "--inside", part, "--only", given.only, *pcap)
            rows += json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        alive = not ground.json("status")["halted"]
    worst = max((row.get("before_validation") or 0.0 for row in rows), default=0.0)
    report = {
        "what": "probes", "machine": machine(), "worst_before_validation": worst, "limit": LIMIT, "probes": rows,
        "alive_after": alive,
    }
    print(json.dumps(report) if given.json else table(rows))
    sys.exit(1 if worst >= ROUNDED else 0)


if __name__ == "__main__":
    main()
