"""A visit in small form on a CPU, with what may go wrong on a device: a hang, and a tile that does not compile.

``scripts/gpu_rehearsal.py`` runs it twice, and kills it in the middle of the first time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from scripts.gpu_session import environment
from scripts.visit import wheels
from scripts.visit.session import State, VisitSession
from scripts.visit.steps import SMALL, Step, chosen

BEFORE = "facts,check,kernels,flagship"
AFTER = "ragged,fig18a,prefill,tiles"

HANGING = '''"""An implementation that hangs, and one with a tile that its compiler refuses."""

import importlib
import time

from impls.caches.paged_torch import PagedTorch
from impls.launch.tuning import fastest


class Hanging(PagedTorch):
    def tune(self, query, batch):
        time.sleep(3600)


class FailingTile(PagedTorch):
    refused = {}

    def tune(self, query, batch):
        super().tune(query, batch)
        calls = {"64 tokens": lambda: self.decode(0, query, batch), "256 tokens": self._too_large}
        fastest(calls, query.device, refused=self.refused)

    def _too_large(self):
        errors = importlib.import_module("triton.runtime.errors")
        raise errors.OutOfResources(327680, 232448, "shared memory")

    def details(self):
        return {**super().details(), "kernel_choice": f"refused: {self.refused}"}
'''
IMPL = """name: {name}
target: rehearsed.{target}
policies: [paged]
devices: [cpu]
options: {{}}
"""


def make_implementations(folder: Path) -> None:
    """Write two implementations from outside of the repository."""
    (folder / "impl").mkdir(parents=True)
    (folder / "rehearsed.py").write_text(HANGING, encoding="utf-8")
    for name, target in (("hanging", "Hanging"), ("failing_tile", "FailingTile")):
        (folder / "impl" / f"{name}.yaml").write_text(IMPL.format(name=name, target=target), encoding="utf-8")


def steps(folder: Path) -> list[Step]:
    """The steps of the rehearsal, in order."""
    search = f"hydra.searchpath=[file://{folder}]"
    injected = [
        Step(name="failing_tile", sweeps=((search, "impl=failing_tile"),), small=("page_size=16",)),
        Step(name="hang", sweeps=((search, "impl=hanging,paged_torch"),), small=("timeout_s=4", "page_size=16")),
    ]
    return [*chosen(BEFORE, None), *injected, *chosen(AFTER, None)]


def main() -> int:
    """Exit 0 if the visit went as far as its time allowed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--state", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rehearsal-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch) / "outside"
        make_implementations(folder)
        packages = Path(scratch) / "packages" if arguments.wheels else None
        if packages:
            wheels.unpack(arguments.wheels, packages)
        env = environment(packages, os.environ, Path(scratch))
        env["PYTHONPATH"] = os.pathsep.join([env["PYTHONPATH"], str(folder)])
        session = VisitSession(
            steps(folder),
            work=Path(scratch) / "work",
            out=arguments.out,
            device="cpu",
            deadline=time.monotonic() + 60 * arguments.minutes,
            env=env,
            state=State.read(arguments.state) if arguments.state else State(),
            small=True,
            overrides=SMALL,
        )
        session.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
