"""Taking turns with the same sweep of another revision on this machine, point by point and block by block.

``scripts/ab.py`` starts both sides' sweeps at once, names them the place to ask by ``VARIABLE``, and lets one of them
compute at a time (``bench/compare/turns.py``). They meet at every point; in it, one side's block of samples follows the
other's within a fraction of a second. What slows the machine down for longer than that slows both down alike.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Connection
from typing import Any

VARIABLE = "PAGED_ATTENTION_BENCH_TURNS"
"""``<side>@<address>``, in the environment of a sweep that has another side."""


class TurnsLost(RuntimeError):
    """Whoever handed turns out has ended, and nobody compares what is measured now."""


def variable(side: str, address: str) -> dict[str, str]:
    """What the environment of a side's sweep holds."""
    return {VARIABLE: f"{side}@{address}"}


@contextlib.contextmanager
def visit(key: str, environment: Mapping[str, str]) -> Iterator[bool]:
    """Begin a point when the other side does, and end it when the other has; one of both computes at a time.

    Yields whether there is another side that has come to the same point.

    Raises:
        TurnsLost: nobody hands turns out any more.
    """
    if VARIABLE not in environment:
        yield False
        return
    with _connected(environment, key=key) as connection:
        yield bool(_ask(connection))
        _ask(connection, "done")


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


_turns: dict[int, Turns] = {}  # by process: a forked child must not speak through its parent's connection


def turns_of_process() -> Turns | None:
    """This process's turns, or ``None`` where there is no other side.

    Raises:
        TurnsLost: nobody hands turns out any more.
    """
    if VARIABLE not in os.environ:
        return None
    if os.getpid() not in _turns:
        _turns[os.getpid()] = Turns(_connected(os.environ, pid=os.getpid()))
    return _turns[os.getpid()]


def _connected(environment: Mapping[str, str], **about: str | int) -> Connection:
    side, _, address = environment[VARIABLE].partition("@")
    try:
        connection = Client(address)
        connection.send({"side": side, **about})
    except OSError as error:
        raise TurnsLost(f"{VARIABLE}: {address} cannot be reached: {error.strerror}") from error
    return connection


def _ask(connection: Connection, *message: object) -> Any:
    try:
        for part in message:
            connection.send(part)
        return connection.recv()
    except (EOFError, OSError) as error:
        raise TurnsLost("the comparison that this run belongs to has ended") from error
