"""Assign turns to two sweeps that run at once: one side computes, the other waits (``bench/measure/turns.py``).

Both sides meet before a point and leave it together, so that the work of one side between points does not disturb a
measurement of the other. Inside a point they alternate after every block of samples. Both stop sampling when both
have enough. A point that only one side has runs alone.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection, Listener

from bench.measure.turns import WAITED

BACKLOG = 16
"""Most waiting connections: two of each side."""

OUTSIDE, ARRIVED, WAITING, RUNNING, DONE, ENDED = "outside", "arrived", "waiting", "running", "done", "ended"


@dataclass(eq=False)
class _Side:
    """State of one sweep.

    Attributes:
        state: between points, before one, waiting for its turn, having the turn, done with the point, or ended.
        key: the point.
        enough: whether it has enough samples.
        verdict: whether both sides stop sampling, once that is known for this round of blocks.
        pid: the process that measures.
        waited_s: seconds that it has waited for turns.
        waits_since: start of the current wait.
    """

    state: str = OUTSIDE
    key: str = ""
    enough: bool = False
    verdict: bool | None = None
    pid: int | None = None
    waited_s: float = 0.0
    waits_since: float | None = None


class TurnKeeper:
    """Decides which side has the turn. A call waits until its side has the turn.

    Args:
        sides: names of the sides. The first has the first turn of each point.
        position: position of a key in the order of the points. The side that is behind goes first, alone.
    """

    def __init__(self, sides: Sequence[str], position: Callable[[str], int]) -> None:
        self._sides = {name: _Side() for name in sides}
        self._position = position
        self._visitors: list[_Side] = []  # of the running point
        self._last: _Side | None = None
        self._changed = threading.Condition()

    def enter(self, name: str, key: str) -> bool:
        """Wait for the first turn in a point. Return whether the other side runs the same point."""
        side = self._sides[name]
        with self._changed:
            if side.state == ENDED:
                return False
            side.state, side.key, side.enough = ARRIVED, key, False
            self._await(side, RUNNING)
            return len(self._visitors) > 1

    def give(self, name: str, *, enough: bool, pid: int) -> tuple[bool, int | None]:
        """Give the turn away. With the next turn, return whether both stop sampling, and the PID of the other side."""
        side = self._sides[name]
        with self._changed:
            if side.state != RUNNING:
                return enough, None
            side.state, side.enough, side.verdict, side.pid = WAITING, enough, None, pid
            self._await(side, RUNNING)
            others = [other.pid for other in self._visitors if other is not side]
            return bool(side.verdict), others[0] if others else None

    def leave(self, name: str) -> None:
        """Wait until the other side is also done with the point."""
        side = self._sides[name]
        with self._changed:
            if side.state != ENDED:
                side.state = DONE if side in self._visitors else OUTSIDE
                self._await(side, OUTSIDE)

    def waited_s(self, name: str) -> float:
        """Return the seconds that this side has waited for turns until now."""
        side = self._sides[name]
        with self._changed:
            return side.waited_s + (0.0 if side.waits_since is None else time.monotonic() - side.waits_since)

    def end(self, name: str) -> None:
        """Mark this side as ended."""
        with self._changed:
            self._sides[name].state = ENDED
            self._advance()

    def _await(self, side: _Side, state: str) -> None:
        """Wait for a state. A wait for a turn also ends with the point, because its process may have been killed."""
        given_up = (DONE, OUTSIDE) if state == RUNNING else ()
        began = side.waits_since = time.monotonic()
        self._advance()
        self._changed.wait_for(lambda: side.state in (state, ENDED, *given_up))
        side.waits_since = None
        side.waited_s += time.monotonic() - began

    def _advance(self) -> None:
        """Assign the next turn if no side has one."""
        self._visitors = [side for side in self._visitors if side.state != ENDED]
        if all(side.state == DONE for side in self._visitors):
            for side in self._visitors:
                side.state = OUTSIDE
            self._visitors = self._begin()
        staying = [side for side in self._visitors if side.state != DONE]
        if staying and not any(side.state == RUNNING for side in staying):
            if not any(side.verdict is not None for side in staying):
                stop = all(side.enough for side in staying)
                for side in staying:
                    side.verdict = stop
            ready = [side for side in staying if side.verdict is not None]
            self._last = next((side for side in ready if side is not self._last), ready[0])
            self._last.state = RUNNING
        self._changed.notify_all()

    def _begin(self) -> list[_Side]:
        """Return the sides of the next point. The list is empty until all sides have arrived at a point."""
        present = [side for side in self._sides.values() if side.state != ENDED]
        if not present or any(side.state != ARRIVED for side in present):
            return []
        keys = {side.key for side in present}
        key = min(keys, key=self._position) if len(keys) > 1 else keys.pop()
        visitors = [side for side in present if side.key == key]
        for side in visitors:
            side.state, side.verdict = WAITING, None
        self._last = None
        return visitors


@contextlib.contextmanager
def handed_out(keeper: TurnKeeper) -> Iterator[str]:
    """Serve turns to the sweeps of both sides at an address until the block ends."""
    closing = threading.Event()
    with Listener(backlog=BACKLOG) as listener:
        answering = threading.Thread(target=_accept, args=(listener, keeper, closing), daemon=True)
        answering.start()
        try:
            yield str(listener.address)
        finally:
            closing.set()
            Client(listener.address).close()  # wakes the listener up
            answering.join()


def _accept(listener: Listener, keeper: TurnKeeper, closing: threading.Event) -> None:
    while not closing.is_set():
        with contextlib.suppress(OSError):  # a process was killed while it connected
            connection = listener.accept()
            threading.Thread(target=_answer, args=(connection, keeper), daemon=True).start()


def _answer(connection: Connection, keeper: TurnKeeper) -> None:
    """Serve one connection, of a sweep at a point or of its measuring process, until it closes."""
    with connection, contextlib.suppress(EOFError, OSError):
        about = connection.recv()
        if "key" in about:
            _answer_visit(connection, keeper, about["side"], about["key"])
        else:
            while True:
                connection.send(keeper.give(about["side"], enough=connection.recv(), pid=about["pid"]))


def _answer_visit(connection: Connection, keeper: TurnKeeper, side: str, key: str) -> None:
    try:
        connection.send(keeper.enter(side, key))
        while connection.recv() == WAITED:
            connection.send(keeper.waited_s(side))
    finally:
        keeper.leave(side)
    connection.send(None)
