"""Light rooms stay light: each module imports in a fresh interpreter with the heavy packages blocked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

BLOCKED = {
    "impls.spec": "torch triton pynvml hydra numpy",
    "impls.interface": "torch triton pynvml hydra numpy",
    "impls.policies": "torch triton pynvml hydra",
    "bench.config": "torch triton pynvml hydra numpy",
    "bench.plan": "torch triton pynvml hydra scipy",
    "bench.workload.requests": "torch triton pynvml hydra",
    "bench.workload.layouts": "torch triton pynvml hydra",
    "bench.scenarios.filling": "torch triton pynvml hydra",
    "bench.record": "torch triton pynvml hydra numpy",
    "bench.table": "torch triton pynvml hydra",
    "bench.figures": "torch triton pynvml hydra",
    "bench.claims.judge": "torch triton pynvml hydra",
    "bench.paper": "torch triton pynvml hydra",
    "bench.workload.fetch": "torch triton pynvml hydra",
    "bench.collect": "torch triton pynvml hydra",
    "bench.compare": "torch triton pynvml hydra",
    "bench.compare.command": "torch triton pynvml hydra matplotlib",
    "bench.environment": "torch triton pynvml hydra",
    "bench.execute": "torch triton pynvml hydra",
    "bench.scenarios.decode": "triton pynvml hydra torch._dynamo",
    "bench.measure.memory": "triton pynvml hydra torch._dynamo",
    "impls.contiguous": "triton pynvml hydra torch._dynamo",
    "impls.paged_torch": "triton pynvml hydra torch._dynamo",
    "impls.reference": "triton pynvml hydra torch._dynamo",
}


BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if any(name == heavy or name.startswith(heavy + ".") for heavy in {blocked}):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocker())
"""


@pytest.mark.parametrize("module", BLOCKED)
def test_it_imports_without(module: str) -> None:
    script = BLOCKER.format(blocked=BLOCKED[module].split()) + f"import {module}"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_only_the_kernels_import_triton() -> None:
    importing = {
        path.relative_to(ROOT).parent.as_posix()
        for room in ("bench", "impls", "scripts")
        for path in (ROOT / room).rglob("*.py")
        if "import triton" in path.read_text() or "from triton" in path.read_text()
    }
    assert importing == {"impls/kernels"}
