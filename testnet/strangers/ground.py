"""Two or three machines on one: a daemon in a network namespace, strangers and a caller in others, and a capture between them.

Needs root and the command `ip`. It is Python since captures and forged packets need raw sockets.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = os.environ.get("ZERO2AI", str(ROOT / "target/release/zero2ai"))
#: The daemon's namespace, the strangers', the caller's; what they are called at each end of their cables.
NODE, STRANGER, CALLER = "z2str-node", "z2str-them", "z2str-user"
#: Where the daemon is for strangers and for the caller, and where those are.
AT, FROM, AT_USER, USER = "10.80.0.1", "10.80.0.2", "10.81.0.1", "10.81.0.2"
RPC, SWARM, HTTP = 7000, 7001, 7002


def missing() -> str | None:
    """What this machine lacks for it, in words."""
    if os.geteuid() != 0:
        return "network namespaces and raw sockets need root: run it again as root (sudo)"
    if shutil.which("ip") is None:
        return "it needs the command ip (iproute2)"
    if not Path(PROGRAM).exists():
        return f"there is no {PROGRAM}: run `cargo build --release --workspace`, or name another in ZERO2AI"
    return None


def ip(*words, check=True):
    subprocess.run(["ip", *map(str, words)], check=check, stderr=None if check else subprocess.DEVNULL)


def within(namespace: str, *command) -> list[str]:
    return ["ip", "netns", "exec", namespace, *map(str, command)]


def machine() -> dict:
    cpu = next((line for line in open("/proc/cpuinfo") if line.startswith("model name")), ": ?")
    return {
        "processor": cpu.split(":", 1)[1].strip(), "cores": os.cpu_count(), "kernel": os.uname().release,
        "load_average": [f"{load:.2f}" for load in os.getloadavg()],
    }


class Ground:
    """The namespaces and the daemon; everything is gone at its end."""

    def __init__(self):
        self.sweep()
        self.folder = Path(tempfile.mkdtemp(prefix="zero2ai-strangers-"))
        for name in (NODE, STRANGER, CALLER):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        for name, node_at, other_at in ((STRANGER, AT, FROM), (CALLER, AT_USER, USER)):
            cable = "them0" if name == STRANGER else "user0"
            ip("link", "add", cable, "netns", NODE, "type", "veth", "peer", "name", "eth0", "netns", name)
            for namespace, device, address in ((NODE, cable, node_at), (name, "eth0", other_at)):
                ip("-n", namespace, "addr", "add", f"{address}/24", "dev", device)
                ip("-n", namespace, "link", "set", device, "up")
        # Answers to forged addresses leave the way they would on the internet, and nobody refuses them on the way in.
        ip("-n", NODE, "route", "add", "default", "via", FROM)
        for switch in ("all", "them0"):
            subprocess.run(within(NODE, "sysctl", "-qw", f"net.ipv4.conf.{switch}.rp_filter=0"), check=True)
        self.home = self.folder / "node"
        self.home.mkdir()
        (self.home / "config.toml").write_text(
            f'listen_rpc = "0.0.0.0:{RPC}"\nlisten_swarm = "0.0.0.0:{SWARM}"\nlisten_http = "127.0.0.1:{HTTP}"\n'
        )
        self.log = open(self.folder / "node.log", "wb")
        command = within(NODE, PROGRAM, "--home", self.home, "--json", "up")
        self.node = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log)
        said = self.node.stdout.readline()
        if not said:
            raise RuntimeError(f"the daemon did not start: {(self.folder / 'node.log').read_text()[-2000:]}")

    def json(self, *arguments) -> dict:
        """What a command says about the daemon."""
        command = within(NODE, PROGRAM, "--home", self.home, "--json", *arguments)
        done = subprocess.run(command, capture_output=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"{arguments} gave {done.returncode}: {done.stderr.decode()}")
        return json.loads(done.stdout)

    def rss_mib(self) -> float:
        pages = int(Path(f"/proc/{self.node.pid}/statm").read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGESIZE") / 2**20, 1)

    def processor_s(self) -> float:
        fields = Path(f"/proc/{self.node.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def sweep():
        for name in (NODE, STRANGER, CALLER):
            ip("netns", "del", name, check=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.node.kill()
        self.node.wait()
        self.log.close()
        self.sweep()
        shutil.rmtree(self.folder, ignore_errors=True)


class Capture(threading.Thread):
    """Every IP packet on a device of this namespace, from AF_PACKET (packet(7)), as it is on the wire."""

    def __init__(self, device: str):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self.socket.bind((device, 0x0003))
        self.packets: list[tuple[float, bytes]] = []
        self.over = False
        self.start()

    def run(self):
        self.socket.settimeout(0.1)
        while not self.over:
            try:
                data, (_, kind, *_) = self.socket.recvfrom(65535)
            except TimeoutError:
                continue
            if kind == 0x0800:
                self.packets.append((time.time(), data))

    def stop(self):
        time.sleep(0.2)
        self.over = True
        self.join()

    def udp(self, own: int, theirs: int):
        """Datagrams between two ports, in order: (time, came from there, payload)."""
        for at, packet in list(self.packets):
            head = (packet[0] & 15) * 4
            if packet[9] != 17 or len(packet) < head + 8:
                continue
            source, goal, length = struct.unpack_from("!HHH", packet, head)
            payload = packet[head + 8 : head + length]
            if (source, goal) == (own, theirs):
                yield at, False, payload
            elif (source, goal) == (theirs, own):
                yield at, True, payload

    def save(self, path: str):
        """As a file that Wireshark reads (libpcap's format, link type 101: raw IP)."""
        with open(path, "wb") as out:
            out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))
            for at, packet in self.packets:
                out.write(struct.pack("<IIII", int(at), int(at % 1 * 1e6), len(packet), len(packet)) + packet)


def refuse_without(what: str):
    """Ends the program with code 2 where it cannot run."""
    if (why := missing()) is not None:
        print(f"{what} cannot run here: {why}", file=sys.stderr)
        sys.exit(2)
