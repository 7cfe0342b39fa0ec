"""Prove the gate: ``python scripts/prove_gate.py aa``. The proofs are in ``tests/proofs/gate.py``."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "scripts")]


def main() -> int:
    """Return 0 when the table is printed. The reader judges it."""
    from tests.proofs.gate import main as prove

    return prove()


if __name__ == "__main__":
    sys.exit(main())
