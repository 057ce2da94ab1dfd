"""Cut-outs of BossDB, asked for through the `intern` package, tried again and checked."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

from brodmann.core import DataError, RecipeError
from brodmann.datasets import download

HOST = "https://api.bossdb.io"
PUBLIC = "public"
"""The token of those who have no account."""
UNITS_UM = {"nanometers": 1e-3, "micrometers": 1.0, "millimeters": 1e3, "centimeters": 1e4}
BLOSC_HEADER = 16
TIMEOUT_S = 120.0
"""Of silence; a server needs a while to put a cut-out of 64-bit ids together."""
Ranges = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""z, y and x, half-open."""
T = TypeVar("T")


class _Broken(Exception):
    """An answer that another try may better; its text says what was met."""


@dataclass(frozen=True)
class Served:
    """What the server says of a channel: pixel type, extent (z, y, x) and voxel size in um."""

    dtype: np.dtype
    extent: Ranges
    spacing: tuple[float, float, float]


class Boss:
    """One BossDB server.

    Parameters
    ----------
    host : str
        Such as "https://api.bossdb.io".
    token : str, optional
        Of an account, for volumes that are not public; the environment's INTERN_TOKEN, or the
        public one, by default. It is never written anywhere.

    Raises
    ------
    RecipeError
        If `intern` is not installed, or the host is no address.

    Source: the Boss API, version 1, as `intern` 1.4 speaks it.

    Example
    -------
    >>> boss = Boss()  # doctest: +SKIP
    >>> boss.channel("bossdb://prasad/prasad2020/image").dtype  # doctest: +SKIP
    dtype('uint8')
    """

    def __init__(self, host: str = HOST, token: str | None = None) -> None:
        parts = urlsplit(host)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
            raise RecipeError("this is no address of a BossDB server", "host", repr(host), HOST)
        self.host = f"{parts.scheme}://{parts.netloc}"
        self._remote = _remote(
            parts.scheme, parts.netloc, token or os.environ.get("INTERN_TOKEN") or PUBLIC
        )
        self._expected: int | None = None
        self._channels: dict[str, Any] = {}
        self._served: dict[tuple[str, int], Served] = {}
        for service in (self._remote.project_service, self._remote.volume_service):
            # Without one a silent server is waited for without end.
            service.session_send_opts = {
                **service.session_send_opts,
                "timeout": TIMEOUT_S,
            }
        self._remote.volume_service.session.hooks["response"].append(self._inspect)

    def channel(self, uri: str, resolution: int = 0) -> Served:
        """Pixel type, extent and voxel size of a channel at a resolution; asked for once.

        Raises
        ------
        DataError
            If there is no such public channel, or the server cannot be reached.
        """

        def ask() -> Served:
            remote, (collection, experiment, name) = self._remote, split_uri(uri)
            channel = remote.get_channel(name, collection, experiment)
            home = remote.get_experiment(collection, experiment)
            frame = remote.get_coordinate_frame(home.coord_frame)
            self._channels[uri] = channel
            # Levels halve y and x; z only where the hierarchy is isotropic.
            deep = resolution if home.hierarchy_method == "isotropic" else 0
            halved = (deep, resolution, resolution)
            unit = UNITS_UM[frame.voxel_unit]
            return Served(
                np.dtype(channel.datatype),
                tuple(
                    (getattr(frame, f"{axis}_start") >> n, getattr(frame, f"{axis}_stop") >> n)
                    for axis, n in zip("zyx", halved)
                ),  # type: ignore[arg-type]
                tuple(
                    float(getattr(frame, f"{axis}_voxel_size")) * unit * 2**n
                    for axis, n in zip("zyx", halved)
                ),
            )

        if (uri, resolution) not in self._served:
            self._served[uri, resolution] = self._persist(ask, uri)
        return self._served[uri, resolution]

    def cutout(self, uri: str, box: Ranges, resolution: int = 0) -> np.ndarray:
        """The voxels of a box, (z, y, x) in the channel's type; all of them, or an error.

        Raises
        ------
        DataError
            If the server refuses, or every try brought nothing, half a cut-out or another type.
        """
        self.channel(uri, resolution)
        channel = self._channels[uri]
        z, y, x = box
        shape = tuple(stop - start for start, stop in box)
        size = int(np.prod(shape))

        def ask() -> np.ndarray:
            self._expected = size * np.dtype(channel.datatype).itemsize
            try:
                found = self._remote.get_cutout(
                    channel,
                    resolution,
                    list(x),
                    list(y),
                    list(z),
                    parallel=False,
                    # One request: what is asked for is small, and cut by us.
                    chunk_size=shape[::-1],
                )
            except (ValueError, RuntimeError) as error:
                raise _Broken(str(error)) from error
            finally:
                self._expected = None
            if found.shape != shape or found.dtype != np.dtype(channel.datatype):
                raise _Broken(f"{found.shape} {found.dtype} instead of {shape} {channel.datatype}")
            return found

        return self._persist(ask, f"{uri} z {z[0]}:{z[1]} y {y[0]}:{y[1]} x {x[0]}:{x[1]}")

    def _inspect(self, response: Any, *_: Any, **__: Any) -> None:
        """Refuse an answer that is not one whole Blosc buffer of the size asked for.

        `intern` unpacks what it gets without a look at its length.
        """
        if self._expected is None or response.status_code != 200:
            return
        size, content = self._expected, response.content
        if len(content) < BLOSC_HEADER:
            raise _Broken(f"an answer of {len(content)} bytes")
        unpacked, _, packed = struct.unpack("<III", content[4:BLOSC_HEADER])
        if packed != len(content):
            raise _Broken(f"the answer ends after {len(content):,} of {packed:,} bytes")
        if unpacked != size:
            raise _Broken(f"a cut-out of {unpacked:,} bytes instead of {size:,}")

    def _persist(self, attempt: Callable[[], T], what: str) -> T:
        """Try again, at growing intervals, before giving up."""
        import requests

        for failed in range(download.TRIES):
            if failed:
                time.sleep(min(download.WAIT_S * 2 ** (failed - 1), 30))
            try:
                return attempt()
            except requests.HTTPError as error:
                fault: Exception = error
                status = error.response.status_code if error.response is not None else 0
                words = f"HTTP {status}"
                if status and status not in download.PASSING:
                    raise DataError(
                        "BossDB refuses this",
                        f"{self.host}: {what}",
                        words,
                        "check the channel's name; what is not public needs a token",
                    ) from error
            except requests.exceptions.SSLError as error:
                raise DataError(
                    "the server cannot prove that it is itself", self.host, _line(error)
                ) from error
            except (requests.RequestException, _Broken) as error:
                fault, words = error, _line(error)
            except (KeyError, AttributeError, TypeError, ValueError) as error:
                # intern picks an answer apart without a look at what it is.
                raise DataError(
                    "this server does not answer as BossDB does",
                    f"{self.host}: {what}",
                    f"{type(error).__name__}: {_line(error)}",
                ) from error
        raise DataError(
            "cannot get this from BossDB",
            f"{self.host}: {what}",
            f"{words} ({download.TRIES} tries)",
            "check the network; the same command goes on from here",
        ) from fault


def split_uri(uri: str) -> tuple[str, str, str]:
    """Collection, experiment and channel of "bossdb://COLLECTION/EXPERIMENT/CHANNEL".

    Raises
    ------
    RecipeError
        If it is not written so.

    Example
    -------
    >>> split_uri("bossdb://prasad/prasad2020/image")
    ('prasad', 'prasad2020', 'image')
    """
    scheme, _, path = uri.partition("://")
    parts = path.split("/")
    if scheme != "bossdb" or len(parts) != 3 or not all(parts):
        raise RecipeError(
            "a channel is bossdb://COLLECTION/EXPERIMENT/CHANNEL", "channel", repr(uri)[:100]
        )
    return parts[0], parts[1], parts[2]


def _remote(protocol: str, host: str, token: str) -> Any:
    try:
        from intern.remote.boss import BossRemote
    except ModuleNotFoundError as error:
        raise RecipeError(
            "reading BossDB needs a package that is not installed",
            found=error.name,
            fix='pip install "brodmann[bossdb]"',
        ) from error
    return BossRemote({"protocol": protocol, "host": host, "token": token})


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).split("\n")[0][:160]
