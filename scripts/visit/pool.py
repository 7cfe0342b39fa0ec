"""Calls in forked children, several at a time, for steps that time nothing."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.rows.result import Answer
from bench.runner.process.server import Server, ServerLost
from bench.runner.round import TENSOR_MODULES

TIMEOUT_S = 60.0
Then = Callable[[str, Answer, float], None]
"""Gets the name of a call, its answer and its seconds."""


class Pool:
    """Runs calls in forked children, several at a time.

    Args:
        size: children at a time.
        folder: for logs, and for the tile cache that is thrown away.
        deadline: of ``time.monotonic``. A call that would begin later does not run.
    """

    def __init__(self, size: int, folder: Path, deadline: float) -> None:
        self.folder, self.deadline = folder, deadline
        self.waiting: queue.Queue[tuple[str, str, Any, Then] | None] = queue.Queue()
        self.threads = [threading.Thread(target=self._work, args=(index,), daemon=True) for index in range(size)]
        for thread in self.threads:
            thread.start()

    def submit(self, name: str, call: str, argument: Any, then: Then) -> None:
        """Queue one call. ``then`` gets its name, its answer and its seconds."""
        self.waiting.put((name, call, argument, then))

    def join(self) -> None:
        """Wait for all calls."""
        for _ in self.threads:
            self.waiting.put(None)
        for thread in self.threads:
            thread.join()

    def _work(self, index: int) -> None:
        env = {"PAGED_ATTENTION_BENCH_CACHE": str(self.folder / f"tiles-{index}"), "OMP_NUM_THREADS": "2"}
        server: Server | None = None
        while (item := self.waiting.get()) is not None:
            name, call, argument, then = item
            left_s = self.deadline - time.monotonic()
            if left_s < 2:
                then(name, Answer(status="interrupted", status_reason="no time was left"), 0.0)
                continue
            began = time.monotonic()
            try:
                if server is None:
                    server = Server(
                        env, preload=(*TENSOR_MODULES, "triton", "impls.caches.paged_triton", "impls.kernels.decode")
                    )
                log = self.folder / f"{call.partition(':')[2]}-{index}.log"
                answer = server.run(call, argument, log=log, timeout_s=min(TIMEOUT_S, left_s)).answer
            except ServerLost as error:
                answer = Answer(status="crashed", status_reason=str(error))
                if server is not None:
                    server.close()
                server = None
            except Exception as error:
                answer = Answer(status="crashed", status_reason=f"{type(error).__name__}: {error}")
            then(name, answer, time.monotonic() - began)
        if server is not None:
            server.close()
