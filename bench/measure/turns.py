"""Taking turns with the same sweep of another revision on this machine, point by point and block by block.

``scripts/ab.py`` starts both sides' sweeps at once, names them the place to ask by ``VARIABLE``, and lets one of them
compute at a time (``bench/ab/turn_keeper.py``). They meet at every point; in it, one side's block of samples follows
the other's within a fraction of a second. What slows the machine down for longer than that slows both down alike.
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
"""``<side>@<address>``, in the environment of a sweep that has another side."""

WAITED, DONE = "waited", "done"
"""What a sweep says at a point: how long did I wait; I am through with it."""

LOST = "the comparison that this run belongs to has ended"


class TurnsLost(ValueError):
    """Nobody hands turns out where the environment says so: nobody compares what is measured now."""


def variable(side: str, address: str) -> dict[str, str]:
    """What the environment of a side's sweep holds."""
    return {VARIABLE: f"{side}@{address}"}


@dataclass(frozen=True, kw_only=True)
class Visit:
    """A point that is being run.

    Attributes:
        together: whether there is another side that came to the same point.
        connection: to whom hands turns out, if anybody does.
    """

    together: bool = False
    connection: Connection | None = None

    def waited_s(self) -> float:
        """Seconds that this side has waited for its turns, since the sweep began.

        Raises:
            TurnsLost: nobody hands turns out any more.
        """
        return 0.0 if self.connection is None else float(_ask(self.connection, WAITED))


@contextlib.contextmanager
def visit(key: str, environment: Mapping[str, str]) -> Iterator[Visit]:
    """Begin a point when the other side does, and end it when the other has; one of both computes at a time.

    Raises:
        TurnsLost: nobody hands turns out any more.
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
    """A measuring process's own: it gives a turn away and waits for the next one.

    Attributes:
        connection: to whom hands turns out.
        peers: processes of the other side that computed meanwhile.
    """

    connection: Connection
    peers: set[int] = field(default_factory=set)

    def give(self, *, enough: bool) -> bool:
        """Let the other side take its block; returns, in the next turn, whether both sides have enough samples.

        Raises:
            TurnsLost: nobody hands turns out any more.
        """
        stop, peer = _ask(self.connection, enough)
        if peer is not None:
            self.peers.add(peer)
        return bool(stop)


@functools.cache
def turns_of_process() -> Turns | None:
    """This process's turns, or ``None`` where there is no other side.

    Raises:
        TurnsLost: nobody hands turns out any more.
    """
    return Turns(_connected(os.environ, pid=os.getpid())) if VARIABLE in os.environ else None


def _connected(environment: Mapping[str, str], **about: str | int) -> Connection:
    side, _, address = environment[VARIABLE].partition("@")
    try:
        connection = Client(address)
        connection.send({"side": side, **about})
    except (OSError, ValueError) as error:
        told = f"{VARIABLE}={environment[VARIABLE]} names nobody who hands turns out"
        raise TurnsLost(f"{told} ({error}); scripts/ab.py sets it, else leave it unset") from error
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
