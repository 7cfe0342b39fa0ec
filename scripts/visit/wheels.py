"""What the bare machine lacks, as wheels to carry: collected here, unpacked there."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

NEEDED = ("hydra-core==1.3.8", "omegaconf==2.3.1", "antlr4-python3-runtime==4.9.3")
"""Installed nowhere on the bare machine. The last one has no wheel and is built."""
MAX_BYTES = 64 * 2**20
"""What may travel there, the tree included."""


def collect(folder: Path, root: Path, needed: Sequence[str] = NEEDED) -> int:
    """Build or download the wheels, print their sizes, and return the sum with the tree.

    Args:
        folder: gets the wheels. Wheels that are there already, in subfolders too, count as well.
        root: the tree that travels.
        needed: requirements with exact versions. Empty: only check the sizes.

    Raises:
        ValueError: pip failed, or tree and wheels together are too large.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), *needed]
    if needed:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(f"pip wheel failed: {done.stderr.strip()[-500:]}")
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*.whl"))}
    tree = tree_bytes(root)
    for name, size in sizes.items():
        print(f"{size:>12,}  {name}")
    total = sum(sizes.values()) + tree
    print(f"{sum(sizes.values()):>12,}  wheels\n{tree:>12,}  tree\n{total:>12,}  of {MAX_BYTES:,} that may travel")
    if total > MAX_BYTES:
        raise ValueError(f"{total:,} bytes of tree and wheels; at most {MAX_BYTES:,} may travel")
    return total


def tree_bytes(root: Path) -> int:
    """Bytes of the tracked files, and of those that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout.decode().split("\0")
    return sum((root / name).stat().st_size for name in listed if name and (root / name).is_file())


def unpack(wheels: Path, into: Path) -> None:
    """Unpack every wheel under a folder onto what will be on the import path.

    Raises:
        ValueError: there is no wheel.
    """
    found = sorted(wheels.rglob("*.whl"))
    if not found:
        raise ValueError(f"--wheels {wheels} holds no wheel; make them with --prepare")
    for wheel in found:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(into)
