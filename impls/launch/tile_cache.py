"""What tuning found, kept on disk by device and shape, so that the next process need not time it again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from filelock import FileLock

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FOLDER_VARIABLE: Final = "PAGED_ATTENTION_BENCH_CACHE"
"""Environment variable that names another folder than the user's cache."""
KERNELS: Final = Path(__file__).resolve().parents[1] / "kernels"


_Tile = TypeVar("_Tile", bound="DataclassInstance")


class Choice(NamedTuple, Generic[_Tile]):
    """A tile, and where it came from: ``timed``, ``cached``, or ``timed, not kept: …``."""

    tile: _Tile
    source: str


class TileCache:
    """Tiles by question, one JSON file. Several processes may use it at once.

    Args:
        folder: of ``tiles.json``. It is made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "tiles.json"

    def choose(
        self,
        question: Mapping[str, object],
        tiles: Sequence[_Tile],
        time_them: Callable[[], _Tile],
        times_us: Mapping[str, float] | None = None,
    ) -> Choice[_Tile]:
        """The tile kept for a question, or the one that timing finds, which is kept.

        Args:
            question: everything that the answer depends on, as plain values.
            tiles: those in contention. A kept one that is no longer among them is not taken.
            time_them: finds the fastest.
            times_us: microseconds of each tile, filled by ``time_them``. Kept beside the choice.

        Raises:
            ValueError: the file cannot be read as JSON.
        """
        key = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:16]
        kept = self._read().get(key)
        for tile in tiles:
            if kept is not None and kept["tile"] == asdict(tile):
                return Choice(tile, "cached")
        tile = time_them()
        try:
            self._keep(key, {"tile": asdict(tile), "times_us": dict(times_us or {}), "question": dict(question)})
        except OSError as error:  # such as a read-only home
            return Choice(tile, f"timed, not kept: {error.strerror}")
        return Choice(tile, "timed")

    def _read(self) -> dict[str, Any]:
        if not self._file.is_file():
            return {}
        try:
            kept: dict[str, Any] = json.loads(self._file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self._file} is no JSON; delete it") from error
        return kept

    def _keep(self, key: str, entry: Mapping[str, object]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._file.with_suffix(".lock")):
            fresh = self._file.with_suffix(f".{os.getpid()}.tmp")
            fresh.write_text(json.dumps({**self._read(), key: entry}, indent=1), encoding="utf-8")
            fresh.replace(self._file)


def user_cache() -> TileCache:
    """The user's own, or that of ``PAGED_ATTENTION_BENCH_CACHE``."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return TileCache(Path(named))
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return TileCache(Path(base).expanduser() / "paged-attention-bench")


def kernels_digest() -> str:
    """Return the hash of the kernels' sources. If they change, tiles are timed again."""
    digest = hashlib.sha256()
    for path in sorted(KERNELS.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
