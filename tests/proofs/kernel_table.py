"""The table of ``impls/README.md``: what each variant of a kernel takes on each target."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Final

from impls.kernels.heuristics import occupancy
from tests.proofs.kernel_variants import Variant, compile_decode, compile_others, tile_of

if TYPE_CHECKING:
    from tests.proofs.machine_code import MachineCode

SINGLE: Final = (8, 8)
GROUPED: Final = (32, 8)  # query heads, KV heads
FP8: Final = "float8_e4m3fn"
TARGETS: Final = (80, 90, 100)
FP8_TARGETS: Final = (89, 90, 100)
DECODE: Final = (
    Variant(heads=GROUPED),
    Variant(heads=GROUPED, is_split=False),
    Variant(heads=GROUPED, extras=True),
    Variant(heads=GROUPED, page_size=1),
    Variant(heads=GROUPED, page_size=None),
    Variant(heads=GROUPED, kv_layout="HND"),
    Variant(heads=GROUPED, head_dim=64),
    Variant(heads=GROUPED, head_dim=80),
    Variant(heads=GROUPED, head_dim=256),
    Variant(heads=GROUPED, sliding_window=4096, soft_cap=50.0),
    Variant(heads=GROUPED, dtype="float32"),
    Variant(heads=SINGLE),
    Variant(heads=SINGLE, is_split=False),
    Variant(heads=SINGLE, page_size=None),
    Variant(heads=SINGLE, dtype="float32"),
    Variant(heads=GROUPED, kv_dtype=FP8),
    Variant(heads=SINGLE, kv_dtype=FP8),
)
PREFILL: Final = (Variant(heads=GROUPED), Variant(heads=GROUPED, kv_dtype=FP8), Variant(heads=SINGLE, dtype="float32"))
PREFIX: Final = (Variant(heads=GROUPED), Variant(heads=GROUPED, kv_dtype=FP8))
OTHERS: Final = ("merge_kernel", "write_kernel", "copy_pages_kernel")
HEADINGS: Final = ("kernel", "variant", "tile", "target", "registers", "shared memory", "programs per SM", "occupancy")
SUBSET: Final = (DECODE[0], Variant(heads=GROUPED, kv_dtype=FP8))
"""Decode variants whose rows CI compiles anew each time. All rows are compiled under ``-m slow``."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """One compilation: a kernel of a variant, its target included."""

    kernel: str
    variant: Variant

    def rows(self) -> list[list[str]]:
        """A row per tile that ``tune`` may choose."""
        if self.kernel == "decode_kernel":
            return [self._row(code) for code in compile_decode(self.variant)]
        return [self._row(code) for code in compile_others(self.variant, self.kernel)]

    def _row(self, code: MachineCode) -> list[str]:
        room = occupancy(code.registers, code.shared_bytes, code.num_warps, self.variant.capability)
        return [
            self.kernel.removesuffix("_kernel"),
            self.variant.options,
            _tile(code),
            f"sm_{self.variant.capability}",
            str(code.registers) + (f", {code.stack_bytes} bytes spilled" if code.stack_bytes else ""),
            f"{code.shared_bytes:,}",
            str(room.programs),
            f"{room.ratio:.0%}",
        ]


def all_work() -> Iterator[Work]:
    """Everything that the table shows, in its order."""
    kernels = (("decode_kernel", DECODE), ("prefill_kernel", PREFILL), ("prefix_kernel", PREFIX))
    for kernel, variants in kernels:
        for variant in variants:
            for capability in FP8_TARGETS if variant.kv_dtype else TARGETS:
                yield Work(kernel=kernel, variant=replace(variant, capability=capability))
    for kernel, capability in product(OTHERS, TARGETS):
        yield Work(kernel=kernel, variant=Variant(heads=GROUPED, capability=capability))


def subset_work() -> list[Work]:
    """What CI compiles anew: two decode variants on sm_90."""
    return [work for work in all_work() if work.kernel == "decode_kernel" and work.variant in SUBSET]


def markdown_row(cells: Sequence[str]) -> str:
    """One line of the table."""
    return f"| {' | '.join(cells)} |"


def sources_digest() -> str:
    """Return the hash of the code behind the table, without comments, docstrings and layout."""
    here = Path(__file__).resolve().parent
    compiling = ("machine_code.py", "kernel_variants.py", "kernel_table.py")
    files = [*sorted((here.parents[1] / "impls" / "kernels").glob("*.py")), *(here / name for name in compiling)]
    digest = hashlib.sha256()
    for path in files:
        tree = _without_docstrings(ast.parse(path.read_text(encoding="utf-8")))
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:16]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [part for part in node.body
                         if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))]  # fmt: skip
    return tree


def _tile(code: MachineCode) -> str:
    """Return rows of queries by tokens, warps and stages."""
    constants = code.constants
    if code.name in ("prefill_kernel", "prefix_kernel"):
        return f"{constants['BLOCK_ROWS']} x {constants['BLOCK_TOKENS']}, {code.num_warps} warps"
    if code.name != "decode_kernel":
        return f"{code.num_warps} warps"
    tile = tile_of(code)
    return f"{tile.block_group} x {tile.block_tokens}, {tile.num_warps} warps, {tile.num_stages} stages"
