"""The real NVML binding over a library of our own: built with ``cc``, scripted by a JSON file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import ROOT

SOURCE = Path(__file__).parent / "fake_nvml" / "nvml.c"
VARIANTS = {"new": [], "old": ["-DNO_V3", "-DNO_MEMORY_V2", "-DNO_EVENT_REASONS"]}

UnderNvml = Callable[..., Any]

TWO_GPUS = {
    "devices": 2,
    "0.uuid": "GPU-bbbb", "0.used": 7000, "0.reserved": 900, "0.total": 80_000, "0.processes": "11:500;12:600",
    "1.uuid": "GPU-aaaa", "1.used": 3000, "1.reserved": 800, "1.total": 80_000, "1.processes": "self:1234",
}  # fmt: skip


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders that each hold a ``libnvidia-ml.so.1``, by the age of the driver that it plays."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler named cc, to build the NVML library that these tests load")
    folders = {}
    for name, flags in VARIANTS.items():
        folders[name] = tmp_path_factory.mktemp(f"nvml-{name}")
        command = ["cc", "-shared", "-fPIC", "-Wall", "-Werror", *flags, str(SOURCE)]
        subprocess.run([*command, "-o", str(folders[name] / "libnvidia-ml.so.1")], check=True)
    return folders


@pytest.fixture
def under_nvml(libraries: dict[str, Path], tmp_path: Path) -> UnderNvml:
    """Run a piece of Python under a scripted NVML, and return its ``answer`` through JSON.

    In the code, ``script(**changes)`` changes the script. Dots in keys are written as ``__``.
    """

    def run(code: str, script: dict[str, Any], *, driver: str | None = "new", env: dict[str, str] | None = None) -> Any:
        path = tmp_path / "script.json"
        path.write_text(json.dumps(script))
        preamble = (
            "import json, os\nfrom pathlib import Path\n"
            "def script(**changes):\n"
            "    path = Path(os.environ['FAKE_NVML'])\n"
            "    changes = {name.replace('__', '.').strip('_'): value for name, value in changes.items()}\n"
            "    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))\n"
        )
        environment = {
            **{name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"},
            "PYTHONPATH": str(ROOT),
            "FAKE_NVML": str(path),
            "LD_LIBRARY_PATH": str(libraries[driver] if driver else tmp_path),
            **(env or {}),
        }
        done = subprocess.run(
            [sys.executable, "-c", f"{preamble}{code}\nprint(json.dumps(answer))"],
            env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
