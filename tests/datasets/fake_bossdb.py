"""A BossDB server on this machine: what `intern` asks of one, over a volume made up voxel by voxel.

Nothing is kept: every cut-out is computed from its coordinates, so that a volume of any extent
costs nothing.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

Make = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""z, y and x, which broadcast -> values."""
PROJECT = re.compile(r"/v1/collection/(\w+)/experiment/(\w+)(?:/channel/(\w+))?$")
FRAME = re.compile(r"/v1/coord/(\w+)$")
CUTOUT = re.compile(r"/v1/cutout/(\w+)/(\w+)/(\w+)/(\d+)/(\d+):(\d+)/(\d+):(\d+)/(\d+):(\d+)/")


def hashed(z: np.ndarray, y: np.ndarray, x: np.ndarray, seed: int = 0) -> np.ndarray:
    """A number for each voxel that looks random, uint32."""
    mixed = (
        z.astype(np.uint32) * np.uint32(0x9E3779B1)
        ^ y.astype(np.uint32) * np.uint32(0x85EBCA77)
        ^ x.astype(np.uint32) * np.uint32(0xC2B2AE3D)
    ) + np.uint32(seed)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x2C1B3C6D)
    return mixed ^ (mixed >> np.uint32(12))


def gray(z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Pixels of 1 to 255."""
    return hashed(z, y, x) % 255 + 1


@dataclass
class FakeBoss:
    """What the server has, what it was asked, and what is to go wrong.

    `channels`: "collection/experiment/channel" -> type and what makes its voxels. `faults`: for
    each of the next cut-outs None or "500", "404", "half body", "half cutout", "short", "type",
    "hang up", "stall"; an empty list is a sound server.
    """

    channels: dict[str, tuple[str, Make]]
    extent: tuple[int, int, int]
    voxel_size: tuple[float, float, float] = (1.17, 1.17, 1.17)
    voxel_unit: str = "micrometers"
    hierarchy: str = "anisotropic"
    faults: list[str | None] = field(default_factory=list)
    project_faults: list[str | None] = field(default_factory=list)
    asked: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    pause_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)
    host: str = ""

    def cutout(self, channel: str, box: tuple[int, ...]) -> np.ndarray:
        """What a sound server answers: (z, y, x)."""
        dtype, make = self.channels[channel]
        z0, z1, y0, y1, x0, x1 = box
        z, y, x = np.ogrid[z0:z1, y0:y1, x0:x1]
        values = make(z, y, x)
        return np.ascontiguousarray(np.broadcast_to(values, (z1 - z0, y1 - y0, x1 - x0)), dtype)

    def next_fault(self, faults: list[str | None]) -> str | None:
        with self.lock:
            return faults.pop(0) if faults else None


class Handler(BaseHTTPRequestHandler):
    boss: FakeBoss
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        boss, path = self.boss, self.path
        boss.tokens.add(self.headers.get("Authorization", ""))
        if match := CUTOUT.match(path):
            self.send_cutout("/".join(match.groups()[:3]), tuple(map(int, match.groups()[4:])))
            return
        fault = boss.next_fault(boss.project_faults)
        if fault == "500":
            self.send(500, b"{}")
        elif fault == "page":
            self.send(200, b"<html>a page</html>")
        elif fault == "other":
            self.send(200, b'{"answer": 42}')
        elif match := PROJECT.match(path.split("?")[0]):
            self.send_project(*match.groups())
        elif match := FRAME.match(path):
            self.send_frame(match[1])
        else:
            self.send(404, b'{"message": "no such thing"}')

    def send(self, status: int, body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        with suppress(OSError):  # who asked may have gone
            self.wfile.write(body)

    def send_json(self, value: dict) -> None:
        self.send(200, json.dumps(value).encode())

    def send_project(self, collection: str, experiment: str, channel: str | None) -> None:
        names = [n for n in self.boss.channels if n.startswith(f"{collection}/{experiment}/")]
        if not names or (channel and f"{collection}/{experiment}/{channel}" not in names):
            self.send(404, b'{"message": "no such thing"}')
        elif channel:
            dtype = self.boss.channels[f"{collection}/{experiment}/{channel}"][0]
            self.send_json(
                {
                    "name": channel,
                    "description": "",
                    "creator": "somebody",
                    "experiment": experiment,
                    "default_time_sample": 0,
                    "datatype": dtype,
                    "base_resolution": 0,
                    "type": "image" if dtype == "uint8" else "annotation",
                    "sources": [],
                    "related": [],
                    "downsample_status": "DOWNSAMPLED",
                    "storage_type": "spdb",
                }
            )
        else:
            self.send_json(
                {
                    "name": experiment,
                    "description": "",
                    "creator": "somebody",
                    "collection": collection,
                    "coord_frame": f"{experiment}_frame",
                    "num_hierarchy_levels": 4,
                    "hierarchy_method": self.boss.hierarchy,
                    "num_time_samples": 1,
                    "time_step": 0,
                    "time_step_unit": "",
                }
            )

    def send_frame(self, name: str) -> None:
        frame: dict = {"name": name, "description": "", "voxel_unit": self.boss.voxel_unit}
        for axis, size, step in zip("zyx", self.boss.extent, self.boss.voxel_size):
            frame |= {f"{axis}_start": 0, f"{axis}_stop": size, f"{axis}_voxel_size": step}
        self.send_json(frame)

    def send_cutout(self, channel: str, ranges: tuple[int, ...]) -> None:
        boss = self.boss
        x0, x1, y0, y1, z0, z1 = ranges
        box = (z0, z1, y0, y1, x0, x1)
        with boss.lock:
            boss.asked.append((channel, box))
        fault = boss.next_fault(boss.faults)
        time.sleep(boss.pause_s)
        if channel not in boss.channels or fault == "404":
            self.send(404, b'{"message": "no such thing"}')
            return
        if fault == "500":
            self.send(500, b'{"message": "try again"}')
            return
        if fault == "hang up":
            self.close_connection = True
            self.connection.shutdown(2)
            return
        if fault == "stall":
            time.sleep(1.5)
        values = boss.cutout(channel, box)
        if fault == "half cutout":
            values = values[: len(values) // 2]
        if fault == "type":
            values = values.astype(np.uint16)
        import blosc  # comes with intern

        body = blosc.compress(values.tobytes(), typesize=values.dtype.itemsize)
        if fault == "half body":
            self.send(200, body[: len(body) // 2], len(body))
            self.close_connection = True
        elif fault == "short":
            self.send(200, body[: len(body) // 2])
        else:
            self.send(200, body)


@contextmanager
def serving(boss: FakeBoss) -> Iterator[FakeBoss]:
    """The server at work; `boss.host` is its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"boss": boss}))
    server.daemon_threads = True
    boss.host = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield boss
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
