"""Rehearse a visit to a GPU on this CPU: ``make gpu-rehearsal``.

The first command meets a hang and a tile that does not compile, and is killed in the middle. The
second one goes on from its state. Both archives become a reference folder, and its claims are judged.
Exit codes: 0 all went as it should, 1 something did not, 2 bad input.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "scripts")]

from bench.cli.exits import EXIT_BAD_INPUT, EXIT_OK, EXIT_REHEARSAL_FAILED, EXIT_VISIT_INCOMPLETE  # noqa: E402
from scripts.visit import wheels  # noqa: E402
from scripts.visit.unpack import read_archive  # noqa: E402

PROBE = """
import importlib.util, json, sys
import numpy, torch, triton
print(json.dumps({"python": sys.version.split()[0], "torch": torch.__version__, "triton": triton.__version__,
                  "numpy": numpy.__version__, "hydra": importlib.util.find_spec("hydra") is not None}))
"""
VARIABLE = "GPU_REHEARSAL_PYTHON"
"""Environment variable that names an interpreter like that of the GPU machine."""
CUT_WAIT_S = 240.0


def probe(python: str) -> dict[str, Any] | None:
    """Return the versions of an interpreter's packages. ``None`` if it has no torch or no Triton."""
    try:
        done = subprocess.run([python, "-c", PROBE], capture_output=True, text=True, timeout=60, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return found


def choose_python(candidates: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """Return the first interpreter that is like the GPU machine's, else this one.

    Python 3.12, torch 2.11, Triton 3.6 and no Hydra.

    Raises:
        ValueError: this interpreter has no torch or no Triton.
    """
    for python in candidates:
        found = probe(python)
        if found and is_alike(found):
            return python, found
    found = probe(sys.executable)
    if found is None:
        raise ValueError(f"{sys.executable} has no torch or no triton")
    return sys.executable, found


def is_alike(found: Mapping[str, Any]) -> bool:
    """Return whether an interpreter is like that of the GPU machine."""
    wanted = {"python": "3.12.", "torch": "2.11.", "triton": "3.6."}
    return all(str(found[name]).startswith(start) for name, start in wanted.items()) and not found["hydra"]


def run_visit(python: str, out: Path, options: list[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start one command of the visit."""
    command = [python, "-m", "scripts.visit.rehearsal", "--out", str(out), *options]
    return subprocess.Popen(command, cwd=ROOT, env={**env, "PYTHONPATH": str(ROOT)}, start_new_session=True)


def cut(process: subprocess.Popen[bytes], out: Path, after: str) -> None:
    """Kill a command without warning, once a step has ended and the next one has begun.

    Raises:
        ValueError: the step did not end in time.
    """
    deadline = time.monotonic() + CUT_WAIT_S
    while time.monotonic() < deadline and process.poll() is None:
        if after in statuses(out) and statuses(out)[after] != "not run":
            time.sleep(2)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.2)
    raise ValueError(f"step {after} did not end within {CUT_WAIT_S:.0f} s")


def statuses(out: Path) -> dict[str, str]:
    """Status of each step, from ``session.json``. Empty before it is written."""
    path = out / "session.json"
    if not path.is_file():
        return {}
    return {step["name"]: step["status"] for step in json.loads(path.read_text(encoding="utf-8"))["steps"]}


def rows(archives: Iterable[Path], sweep: str) -> dict[str, dict[str, Any]]:
    """Rows of a sweep, by implementation."""
    found = {}
    for archive in archives:
        for name, content in read_archive(archive).items():
            if name.startswith(f"sweeps/{sweep}/points/"):
                row = json.loads(content)
                found[str(row["implementation"])] = row
    return found


def problems(first: Path, second: Path) -> list[str]:
    """What did not go as it should, a sentence each."""
    archives = [first / "visit.tar.gz", second / "visit.tar.gz"]
    hang, tile = rows(archives, "hang"), rows(archives, "failing_tile")
    later = statuses(second)
    checks = {
        "the hanging point is no timeout": hang.get("hanging", {}).get("status") == "timeout",
        "the point after the hang was not measured": hang.get("paged_torch", {}).get("status") == "ok",
        "the tile that does not compile ended its point": tile.get("failing_tile", {}).get("status") == "ok",
        "the refused tile is not in the row": "OutOfResources"
        in str(tile.get("failing_tile", {}).get("kernel_choice")),
        "the second command ran a finished step again": later.get("flagship") == "done earlier",
        "the second command did not finish the rest": all(
            later.get(name) in ("ok", "absent", "done earlier") for name in ("ragged", "fig18a", "prefill", "tiles")
        ),
    }
    return [sentence for sentence, good in checks.items() if not good]


def main() -> int:
    """Exit with a code of the list above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=os.environ.get(VARIABLE), help=f"interpreter; default: {VARIABLE}")
    parser.add_argument("--out", type=Path, help="where archives and the reference stay; default: nowhere")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="gpu-rehearsal-") as scratch:
            return rehearse(arguments.python, arguments.out or Path(scratch))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT


def rehearse(asked: str | None, out: Path) -> int:
    """Run both commands and what follows. Returns the exit code.

    Raises:
        ValueError: the chosen interpreter has no torch, or a wheel is not available.
    """
    began = time.monotonic()
    candidates = [asked] if asked else sorted(str(p) for p in Path.home().glob(".pyenv/versions/3.12*/bin/python"))
    python, found = choose_python(candidates)
    print(f"interpreter: {python} {found}{'' if is_alike(found) else ' (not like the GPU machine)'}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    env, options = {**os.environ, "TRITON_INTERPRET": "1"}, []
    if not found["hydra"]:
        wheels.collect(out / "wheels", ROOT)
        options = ["--wheels", str(out / "wheels")]
    first, second = out / "first", out / "second"
    cut(run_visit(python, first, options, env), first, after="hang")
    print(f"cut after {time.monotonic() - began:.0f} s: {statuses(first)}", flush=True)
    code = run_visit(python, second, [*options, "--state", str(first / "session.json")], env).wait()
    print(f"second command: exit code {code}: {statuses(second)}", flush=True)
    archives = [str(folder / "visit.tar.gz") for folder in (first, second)]
    merged = subprocess.run(
        [sys.executable, "scripts/visit_to_reference.py", *archives, "--out", str(out / "reference")],
        cwd=ROOT, check=False,
    ).returncode  # fmt: skip
    found_problems = problems(first, second)
    if merged not in (EXIT_OK, EXIT_VISIT_INCOMPLETE):
        found_problems.append(f"visit_to_reference.py ended with exit code {merged}")
    for readme in sorted((out / "reference").glob("*/README.md")):
        print(readme.read_text(encoding="utf-8"))
    sizes = ", ".join(f"{Path(archive).stat().st_size:,} bytes" for archive in archives)
    print(f"rehearsal: {time.monotonic() - began:.0f} s; archives: {sizes}")
    for problem in found_problems:
        print(f"problem: {problem}")
    return EXIT_REHEARSAL_FAILED if found_problems else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
