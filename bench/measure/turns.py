"""Take turns with the same sweep of another revision on this machine, point by point and block by block.

``scripts/ab.py`` starts the sweeps of both sides at once, passes the address of the turn server in ``VARIABLE``, and
lets one side compute at a time (``bench/ab/turn_keeper.py``). Both sides meet at every point. Inside a point, their
blocks of samples alternate within a fraction of a second. A slow phase of the machine therefore slows both sides.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Connection
from typing import Any

VARIABLE = "PAGED_ATTENTION_BENCH_TURNS"
"""Environment variable of a sweep with another side: ``<side>@<address>``."""

WAITED, DONE = "waited", "done"
"""Messages of a sweep at a point: request the waiting time, and leave the point."""

LOST = "the comparison that this run belongs to has ended"


class TurnsLost(ValueError):
    """The turn server is unreachable, so this measurement has no other side."""


def variable(side: str, address: str) -> dict[str, str]:
    """Return the environment variables of the sweep of one side."""
    return {VARIABLE: f"{side}@{address}"}


@dataclass(frozen=True, kw_only=True)
class Visit:
    """A point that is being run.

    Attributes:
        together: whether the other side runs the same point.
        connection: to the turn server, if there is one.
    """

    together: bool = False
    connection: Connection | None = None

    def waited_s(self) -> float:
        """Return the seconds that this side has waited for its turns since the sweep began.

        Raises:
            TurnsLost: the turn server has ended.
        """
        return 0.0 if self.connection is None else float(_ask(self.connection, WAITED))


@contextlib.contextmanager
def visit(key: str, environment: Mapping[str, str]) -> Iterator[Visit]:
    """Begin and end a point together with the other side. Only one side computes at a time.

    Raises:
        TurnsLost: the turn server has ended.
    """
    if VARIABLE not in environment:
        yield Visit()
        return
    with _connected(environment, key=key) as connection:
        together = bool(_told(connection))
        yield Visit(together=together, connection=connection)
        _ask(connection, DONE)


@dataclass
class Turns:
    """The turns of a measuring process: it gives a turn away and waits for the next one.

    Attributes:
        connection: to the turn server.
        peers: processes of the other side that computed in between.
    """

    connection: Connection
    peers: set[int] = field(default_factory=set)

    def give(self, *, enough: bool) -> bool:
        """Let the other side take its block. In the next turn, return whether both sides have enough samples.

        Raises:
            TurnsLost: the turn server has ended.
        """
        stop, peer = _ask(self.connection, enough)
        if peer is not None:
            self.peers.add(peer)
        return bool(stop)


@functools.cache
def turns_of_process() -> Turns | None:
    """Return the turns of this process, or ``None`` if there is no other side.

    Raises:
        TurnsLost: the turn server has ended.
    """
    return Turns(_connected(os.environ, pid=os.getpid())) if VARIABLE in os.environ else None


def _connected(environment: Mapping[str, str], **about: str | int) -> Connection:
    side, _, address = environment[VARIABLE].partition("@")
    try:
        connection = Client(address)
        connection.send({"side": side, **about})
    except (OSError, ValueError) as error:
        problem = f"{VARIABLE}={environment[VARIABLE]} must name a running turn server"
        raise TurnsLost(f"{problem} ({error}). scripts/ab.py sets it. Otherwise leave it unset") from error
    return connection


def _ask(connection: Connection, message: object) -> Any:
    try:
        connection.send(message)
    except OSError as error:
        raise TurnsLost(LOST) from error
    return _told(connection)


def _told(connection: Connection) -> Any:
    try:
        return connection.recv()
    except (EOFError, OSError) as error:
        raise TurnsLost(LOST) from error
