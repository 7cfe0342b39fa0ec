"""One short visit to a GPU: ``python scripts/gpu_session.py --minutes 4.7 --out DIR --wheels .whl``.

Steps run in order of worth. After each of them ``DIR/visit.tar.gz`` and ``DIR/session.json`` are
written anew, so that what was measured returns whenever the visit ends. A second visit goes on with
``--state session.json``. See docs/gpu_visit.md.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "scripts")]

from bench.cli.exits import EXIT_BAD_INPUT, EXIT_OK, EXIT_VISIT_INCOMPLETE  # noqa: E402
from scripts.visit import wheels  # noqa: E402
from scripts.visit.session import State, VisitSession  # noqa: E402
from scripts.visit.steps import FAST, SMALL, Step, chosen  # noqa: E402
from scripts.visit.table import as_text, compared  # noqa: E402

PACK_S = 6.0
"""Seconds kept for the last archive."""


def environment(packages: Path | None, base: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """The environment of all steps: the repository and the unpacked wheels on the import path."""
    paths = [str(ROOT), *([str(packages)] if packages else []), base.get("PYTHONPATH", "")]
    return {
        **base,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
        "FLASHINFER_CUDA_ARCH_LIST": base.get("FLASHINFER_CUDA_ARCH_LIST", "9.0a"),
        "FLASHINFER_WORKSPACE_BASE": str(scratch),
        "PAGED_ATTENTION_BENCH_CACHE": str(scratch / "tiles"),
    }


SHOWN = ("flagship", "flashinfer", "ragged", "fig18a")
"""Sweeps whose decode rows are printed at the end. The archive has all of them in ``table.txt``."""


def shown_table(rows: Sequence[tuple[str, Mapping[str, object]]]) -> str:
    """Return the decode rows of the sweeps that matter most as text."""
    return as_text(compared((sweep, row) for sweep, row in rows if sweep in SHOWN))


def visit(arguments: argparse.Namespace, steps: Sequence[Step]) -> int:
    """Run the steps. Exit 0 if all that ran is ok, 4 if a step failed, was cut or not run."""
    deadline = time.monotonic() + 60 * arguments.minutes - PACK_S
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    state = State.read(arguments.state) if arguments.state else State()
    with tempfile.TemporaryDirectory(prefix="visit-", ignore_cleanup_errors=True) as scratch:
        packages = Path(scratch) / "packages" if arguments.wheels else None
        if packages:
            wheels.unpack(arguments.wheels, packages)
        session = VisitSession(
            steps,
            work=Path(scratch) / "work",
            out=out,
            device=arguments.device,
            deadline=deadline,
            env=environment(packages, os.environ, Path(scratch)),
            state=state,
            small=arguments.small,
            overrides=SMALL if arguments.small else FAST,
            repeat=arguments.only is not None,
        )
        if packages and (packages / "flashinfer").is_dir() and arguments.device == "cuda":
            session.start_background("flashinfer", [sys.executable, "-m", "scripts.visit.flashinfer_jit"])
        outcomes = session.run()
        print(shown_table(session.rows()))
    for outcome in outcomes.values():
        print(f"{outcome.status:12} {outcome.wall_s:7.1f} s  {outcome.name}")
    print(f"{session.packed}")
    good = all(outcome.status in ("ok", "absent", "done earlier") for outcome in outcomes.values())
    return EXIT_OK if good else EXIT_VISIT_INCOMPLETE


def dry_run(arguments: argparse.Namespace, steps: Sequence[Step]) -> int:
    """Plan every sweep. No device is needed with ``--assume``."""
    import json
    import subprocess

    with tempfile.TemporaryDirectory(prefix="visit-") as scratch:
        packages = Path(scratch) / "packages" if arguments.wheels else None
        if packages:
            wheels.unpack(arguments.wheels, packages)
        env = environment(packages, os.environ, Path(scratch))
        session = VisitSession(
            steps, work=Path(scratch), out=Path(scratch), device=arguments.device, deadline=0.0, env=env,
            state=State(), small=arguments.small, overrides=SMALL if arguments.small else FAST,
        )  # fmt: skip
        requests = "".join(json.dumps(session.request(step)) + "\n" for step in steps if step.sweeps)
        assume = ["--assume", arguments.assume] if arguments.assume else []
        command = [sys.executable, "-m", "scripts.visit.sweeps", "--dry-run", "--work", scratch, "--device",
                   arguments.device, *assume]  # fmt: skip
        return subprocess.run(command, cwd=ROOT, env=env, input=requests, text=True, check=False).returncode


def main() -> int:
    """Exit 0 if all is ok, 2 for bad input, 4 if a step failed, was cut or not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.3, help="whole length of the visit")
    parser.add_argument("--out", type=Path, help="where visit.tar.gz and session.json go")
    parser.add_argument("--wheels", type=Path, help="folder of wheels, subfolders too, to unpack onto the import path")
    parser.add_argument("--prepare", type=Path, metavar="DIR", help="collect these wheels, print their sizes, and end")
    parser.add_argument("--only", help="names of steps, with commas between")
    parser.add_argument("--after", help="begin after this step")
    parser.add_argument("--state", type=Path, help="session.json of an earlier visit, to go on with")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="every step in a small form, to rehearse")
    parser.add_argument("--dry-run", action="store_true", help="print the plan of every sweep, run nothing")
    parser.add_argument("--assume", choices=("h100", "h200"), help="the device that --dry-run plans for")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's `&` leaves it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if arguments.prepare:
            wheels.collect(arguments.prepare, ROOT)
            return EXIT_OK
        steps = chosen(arguments.only, arguments.after)
        if arguments.dry_run:
            return dry_run(arguments, steps)
        if arguments.out is None:
            raise ValueError("--out is missing; give the folder for visit.tar.gz and session.json")
        return visit(arguments, steps)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
