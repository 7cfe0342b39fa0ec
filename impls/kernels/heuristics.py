"""How the kernels are launched: tile shapes, and what a device has room for. Integers in, integers out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from impls.spec import ceil_div

MIN_HEAD_DIM: Final = 16  # of tl.dot
MIN_BLOCK_TOKENS: Final = 16  # of tl.dot
MAX_HEAD_DIM: Final = 256
MERGE_SPLITS: Final = 32
"""Parts that the merge kernel reads per loop step."""
WRITE_ELEMENTS: Final = 1024
"""Elements of one token that a program of the write kernel copies: 16 bytes or more per thread."""

COPY_BYTES: Final = 4096
"""Bytes of a page that a program of the copy kernel moves: 32 per thread."""

_SM_SHARED_KIB: Final = {80: 164, 87: 164, 90: 228, 100: 228, 103: 228, 110: 228}  # by compute capability
_LEAST_SM_SHARED_KIB: Final = 100  # of all others from 8.0 on (CUDA C++ Programming Guide, technical specifications)
_SM_REGISTERS: Final = 64 * 1024
_SM_WARPS: Final = {80: 64, 90: 64, 100: 64, 103: 64}
_LEAST_SM_WARPS: Final = 48  # of all others from 8.0 on (the same table)
_REGISTER_UNIT: Final = 8  # registers of a thread are given out by eights
_PROGRAM_RESERVED_BYTES: Final = 1024  # shared memory of each program that CUDA takes for itself
_SCRATCH_BYTES: Final = 256  # for reductions across warps, at most
_SM_GBPS: Final = {80: 19, 90: 35, 100: 54, 103: 54}  # memory bandwidth by multiprocessors: A100, H200, B200, B300.
# The H200's is measured (4,592 GB/s by 132), the others are from data sheets. An H100 has 25: there one split may be
# enough where two are expected to be faster, and ``tune`` times both.
_LEAST_SM_GBPS: Final = 7  # of the others, such as L40S and RTX 4090 (data sheets)
_LATENCY_US: Final = 2.4  # of a load, as a program sees it: in-flight bytes by measured bandwidth (see bytes_per_us)
_SM_SHARE: Final = 1.25  # bandwidth of one program by that of its multiprocessor's share, at most (measured: 0.9)
_MAX_REGISTERS: Final = 255  # of a thread


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Compile-time shape of the decode kernel.

    Attributes:
        block_group: query heads of a program: 1 for one query head per KV head, else 16 or 32.
        block_dim: ``head_dim`` rounded up to a power of two.
        block_tokens: tokens per loop step.
        num_warps: warps per program.
        num_stages: loop steps whose loads overlap.
    """

    block_group: int
    block_dim: int
    block_tokens: int
    num_warps: int = 4
    num_stages: int = 3

    @property
    def accumulator(self) -> int:
        """Elements of the running output: lanes (see ``impls.kernels.decode``) times ``block_dim``."""
        return self.block_dim * (self.block_tokens if self.block_group == 1 else self.block_group)

    def shared_bytes(self, element_bytes: int, stored_bytes: int) -> int:
        """Return an upper bound of the shared memory of one program: K and V in flight, query, weights.

        Args:
            element_bytes: bytes of one element of the query.
            stored_bytes: bytes of one element of K and V.
        """
        keys_and_values = 2
        in_flight = (self.num_stages - 1) * keys_and_values * self.block_tokens * self.block_dim
        query_and_weights = self.block_group * (self.block_dim + self.block_tokens) if self.block_group > 1 else 0
        return in_flight * stored_bytes + query_and_weights * element_bytes + _SCRATCH_BYTES

    def programs_per_sm(self, element_bytes: int, stored_bytes: int, capability: int) -> int:
        """Return the programs that one multiprocessor surely runs at a time, at least 1.

        Args:
            element_bytes: bytes of one element of the query.
            stored_bytes: bytes of one element of K and V. Converting them takes registers.
            capability: of the device: 90 for an H100.
        """
        sm_shared_bytes = 1024 * _SM_SHARED_KIB.get(capability, _LEAST_SM_SHARED_KIB)
        by_shared_memory = sm_shared_bytes // (self.shared_bytes(element_bytes, stored_bytes) + _PROGRAM_RESERVED_BYTES)
        is_small = self.accumulator <= 2048 and stored_bytes == element_bytes
        by_registers = 4 if is_small else 3 if self.accumulator <= 4096 else 2
        if self.num_warps < 4:  # a thread holds more of the tile
            by_registers = _SM_REGISTERS // (_MAX_REGISTERS * 32 * self.num_warps)
        return max(1, min(by_shared_memory, by_registers * 4 // max(self.num_warps, 4)))

    def bytes_per_us(self, stored_bytes: int, capability: int) -> float:
        """Return what a program reads per microsecond while it has the device to itself.

        Two limits: the bytes in flight by the latency of memory, and what a multiprocessor draws. On an H200 one
        program alone read 26 kB/us with the tile 64 tokens x 4 warps x 3 stages, 32 with 128 x 4 x 2, 24 with
        32 x 4 x 4, 21 with 64 x 2 x 3 and 16 with 32 x 1 x 4. The formula gives 27, 27, 20, 27 and 20.

        Args:
            stored_bytes: bytes of one element of K and V.
            capability: of the device: 90 for an H100.
        """
        in_flight = max(self.num_stages - 1, 1) * 2 * self.block_tokens * self.block_dim * stored_bytes
        return min(in_flight / _LATENCY_US, _SM_SHARE * sm_bytes_per_us(capability))


@dataclass(frozen=True, kw_only=True)
class PrefillTile:
    """Compile-time shape of the prefill kernel. ``block_rows`` are query tokens times query heads of a group."""

    block_rows: int
    block_dim: int
    block_tokens: int
    num_warps: int = 4
    num_stages: int = 2


class Occupancy(NamedTuple):
    """Programs that one multiprocessor runs at a time, and their warps by the most that it can have."""

    programs: int
    ratio: float


def occupancy(registers: int, shared_bytes: int, num_warps: int, capability: int) -> Occupancy:
    """Return how many programs of a compiled kernel fit, by registers, shared memory and warps.

    Args:
        registers: per thread.
        shared_bytes: per program.
        num_warps: per program.
        capability: of the device.

    >>> occupancy(96, 71680, 4, 90)
    Occupancy(programs=3, ratio=0.1875)
    """
    most_warps = _SM_WARPS.get(capability, _LEAST_SM_WARPS)
    sm_shared_bytes = 1024 * _SM_SHARED_KIB.get(capability, _LEAST_SM_SHARED_KIB)
    thread_registers = ceil_div(registers, _REGISTER_UNIT) * _REGISTER_UNIT
    programs = min(
        _SM_REGISTERS // (thread_registers * 32) // num_warps,
        sm_shared_bytes // (shared_bytes + _PROGRAM_RESERVED_BYTES),
        most_warps // num_warps,
    )
    return Occupancy(programs, programs * num_warps / most_warps)


def sm_bytes_per_us(capability: int) -> float:
    """Return one multiprocessor's share of the memory bandwidth, in bytes per microsecond.

    Args:
        capability: of the device.

    >>> sm_bytes_per_us(90)
    25000.0
    """
    return 1000.0 * _SM_GBPS.get(capability, _LEAST_SM_GBPS)


def max_block_group(element_bytes: int) -> int:
    """Return the query heads of a program up to which no register spills (seen in the machine code, under test).

    A larger group is served by several programs per KV head, which read the same K and V.
    """
    return 16 if element_bytes == 4 else 32


def register_limit(tile: Tile, *, head_dim: int, element_bytes: int, stored_bytes: int) -> int | None:
    """Return the limit of registers per thread for the assembler, or ``None`` if it chooses.

    Without a limit it makes room for one program more per multiprocessor, and spills some bytes for
    that in two cases. One is e4m3 with several query heads per KV head, whose loop holds pairs and
    both their halves. The other is a short tile of 16 bits, whose shared memory leaves no room for
    that program anyway. With a limit of the registers that four programs leave, it spills nothing
    (tests check the machine code).

    Args:
        tile: those of more query rows, or of more tokens than ``default_tile`` gives, need more.
        head_dim: elements per head. Where it is odd there are no pairs.
        element_bytes: bytes of one element of the query.
        stored_bytes: bytes of one element of K and V.
    """
    in_pairs = element_bytes == 2 and stored_bytes == 1 and head_dim % 2 == 0
    if in_pairs and tile.num_warps == 1:  # shared memory leaves room for fewer programs than these registers do
        return _MAX_REGISTERS
    is_usual = tile.block_group == 16 and tile.block_tokens <= 64 and tile.num_warps == 4
    is_short = element_bytes == 2 and tile.block_dim == 128 and tile.block_tokens <= 32
    return 128 if is_usual and (in_pairs or is_short) else None


def default_tile(*, group_size: int, head_dim: int, element_bytes: int) -> Tile:
    """Return a tile that keeps the memory of an H100 busy: 16 or 32 KiB of K and V per loop step.

    Float32 with several query heads has no tensor cores. Its products are made from registers, and
    a longer tile would spill them.

    Args:
        group_size: query heads per KV head.
        head_dim: elements per head.
        element_bytes: bytes of one element of K and V.
    """
    block_dim = _block_dim(head_dim)
    token_bytes = 2 * block_dim * element_bytes
    if group_size == 1:
        return Tile(block_group=1, block_dim=block_dim, block_tokens=_clamp(16 * 1024 // token_bytes, 16, 64))
    block_group = min(next_power_of_2(max(group_size, 16)), max_block_group(element_bytes))
    tokens = 16 if element_bytes == 4 else _clamp(32 * 1024 // token_bytes, 16, 64)
    return Tile(block_group=block_group, block_dim=block_dim, block_tokens=tokens)


def prefill_tile(*, head_dim: int, element_bytes: int) -> PrefillTile:
    """Return a tile whose running output and scores stay in registers (tests check the machine code).

    Args:
        head_dim: elements per head.
        element_bytes: bytes of one element of the query.
    """
    block_dim = _block_dim(head_dim)
    if element_bytes == 4:  # no tensor cores to go to
        return PrefillTile(block_rows=16, block_dim=block_dim, block_tokens=16)
    return PrefillTile(block_rows=64 if block_dim <= 128 else 32, block_dim=block_dim, block_tokens=32)


def tile_contenders(tile: Tile, element_bytes: int) -> list[Tile]:
    """Return the tiles that may be the fastest on some device, ``tile`` first.

    A shorter tile has more loop steps in flight. With tensor cores there are tiles of fewer warps,
    which wait for one another less often, and a longer tile, which has fewer steps. A tile whose
    registers spill is not among them (seen in the machine code, under test).

    Args:
        tile: what ``default_tile`` gives.
        element_bytes: bytes of one element of the query.
    """
    if tile.block_group > 16:
        return [tile]  # shorter ones spill
    half = max(tile.block_tokens // 2, MIN_BLOCK_TOKENS)
    contenders = [tile, replace(tile, block_tokens=half, num_stages=tile.num_stages + 1)]
    if tile.block_group == 16 and element_bytes == 2 and tile.block_dim <= 128:
        contenders += [
            replace(tile, block_tokens=half, num_warps=1, num_stages=tile.num_stages + 1),
            replace(tile, num_warps=2),
            replace(tile, block_tokens=2 * tile.block_tokens, num_stages=tile.num_stages - 1),
        ]
    return contenders


def next_power_of_2(value: int) -> int:
    """Return the smallest power of two that is at least ``value``.

    >>> next_power_of_2(80)
    128
    """
    return 1 << (value - 1).bit_length()


def _block_dim(head_dim: int) -> int:
    return next_power_of_2(max(head_dim, MIN_HEAD_DIM))


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))
