"""Light rooms stay light: each module imports in a fresh interpreter with the heavy packages blocked."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

BLOCKED = {
    "impls.spec": "torch triton pynvml hydra numpy",
    "impls.interface": "torch triton pynvml hydra numpy",
    "impls.policies": "torch triton pynvml hydra",
    "bench.config": "torch triton pynvml hydra numpy",
    "bench.plan.points": "torch triton pynvml hydra scipy",
    "bench.workload.requests": "torch triton pynvml hydra",
    "bench.workload.layouts": "torch triton pynvml hydra",
    "bench.scenarios.filling": "torch triton pynvml hydra",
    "bench.rows.record": "torch triton pynvml hydra numpy",
    "bench.rows.table": "torch triton pynvml hydra",
    "bench.reports.catalogue": "torch triton pynvml hydra",
    "bench.reports.paper.judge": "torch triton pynvml hydra",
    "bench.reports.paper.runs": "torch triton pynvml hydra",
    "bench.workload.published.fetch": "torch triton pynvml hydra",
    "bench.cli.collect": "torch triton pynvml hydra",
    "bench.compare": "torch triton pynvml hydra",
    "bench.compare.command": "torch triton pynvml hydra matplotlib",
    "bench.runner.machine.environment": "torch triton pynvml hydra",
    "bench.runner.execute": "torch triton pynvml hydra",
    "bench.scenarios.tensors.decode": "triton pynvml hydra torch._dynamo",
    "bench.measure.memory.probe": "triton pynvml hydra torch._dynamo",
    "impls.caches.contiguous": "triton pynvml hydra torch._dynamo",
    "impls.caches.paged_torch": "triton pynvml hydra torch._dynamo",
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


@pytest.mark.parametrize("blocked", sorted(set(BLOCKED.values())))
def test_modules_import_without_heavy_packages(blocked: str) -> None:
    """One interpreter for all modules with the same packages blocked: what one imports, the next may import too."""
    modules = [module for module, packages in BLOCKED.items() if packages == blocked]
    script = BLOCKER.format(blocked=blocked.split()) + "".join(f"import {module}\n" for module in modules)
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
