"""The machine code of every kernel variant: nothing spills, loads are wide, tensor cores are used."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product

import pytest

from impls.spec import DTYPE_BYTES
from tests.proofs.kernel_variants import Variant, compile_decode, compile_others, tile_of
from tests.proofs.machine_code import MachineCode

SM_REGISTERS = 64 * 1024  # per multiprocessor
SM_SHARED_BYTES = {80: 164 * 1024, 89: 100 * 1024, 90: 228 * 1024, 100: 228 * 1024}
WARP = 32
SMALLEST_SHARED_LIMIT_BYTES = 163 * 1024  # of one program, on sm_80
TENSOR_CORES = ("HMMA", "HGMMA", "UTCHMMA")  # of a warp, of four warps on sm_90, on sm_100
ONE_TO_ONE, GROUPED = (8, 8), (32, 8)  # query heads, KV heads
FP8 = "float8_e4m3fn"

USUAL = [Variant(heads=heads, dtype=dtype) for heads, dtype in product((ONE_TO_ONE, GROUPED), ("float16", "float32"))]
USUAL += [Variant(heads=GROUPED, head_dim=64), Variant(heads=GROUPED, head_dim=80)]
USUAL += [Variant(heads=GROUPED, dtype="bfloat16", page_size=page_size) for page_size in (3, 64)]
USUAL += [Variant(heads=ONE_TO_ONE, dtype="float32", head_dim=64)]
USUAL += [Variant(heads=heads, page_size=None) for heads in (ONE_TO_ONE, GROUPED)]
USUAL += [Variant(heads=GROUPED, kv_layout="HND"), Variant(heads=GROUPED, sliding_window=1000, soft_cap=30.0)]
USUAL += [Variant(heads=heads, is_split=False) for heads in (ONE_TO_ONE, GROUPED)]
USUAL += [Variant(heads=(64, 1))]
USUAL += [Variant(heads=ONE_TO_ONE, kv_dtype=FP8)]
USUAL += [
    Variant(heads=GROUPED, kv_dtype=FP8, page_size=page_size, capability=capability)
    for capability, page_size in product((89, 90, 100), (16, 64))
]
USUAL += [Variant(heads=GROUPED, capability=capability) for capability in (80, 100)]
USUAL += [Variant(heads=ONE_TO_ONE, dtype="float32", head_dim=64, capability=capability) for capability in (80, 100)]

ALL = [
    Variant(heads=heads, dtype=dtype, head_dim=head_dim, capability=capability)
    for capability, dtype, head_dim, heads in product(
        (80, 90, 100), ("float16", "float32"), (64, 80, 96, 128, 256), (ONE_TO_ONE, GROUPED)
    )
]
ALL += [  # tiles of more query rows, which float32 does not take
    Variant(heads=(32, 1), head_dim=head_dim, capability=capability)
    for capability, head_dim in product((80, 90, 100), (64, 128, 256))
]
ALL += [
    Variant(heads=heads, dtype=dtype, page_size=page_size, capability=capability)
    for capability, heads, (dtype, page_size) in product(
        (80, 90, 100), (ONE_TO_ONE, GROUPED), (("float16", 1), ("float16", 1024), ("bfloat16", 4))
    )
]
ALL += [
    Variant(heads=GROUPED, kv_dtype=FP8, dtype=dtype, head_dim=head_dim, page_size=page_size, capability=capability)
    for capability, dtype, head_dim, page_size in product(
        (89, 90, 100), ("float16", "bfloat16"), (64, 80, 96, 128, 256), (1, 16, 64, None)
    )
]
ALL += [
    Variant(heads=GROUPED, kv_dtype=FP8, page_size=64, capability=capability, **options)
    for capability, options in product(
        (89, 90, 100), ({"kv_layout": "HND"}, {"sliding_window": 1000, "soft_cap": 30.0})
    )
]
ALL += [Variant(heads=(32, 1), kv_dtype=FP8, capability=capability) for capability in (89, 90, 100)]


def check(compiled: MachineCode, variant: Variant) -> None:
    """What must hold for any tile of any variant."""
    tile, query_bytes, stored_bytes = tile_of(compiled), DTYPE_BYTES[variant.dtype], variant.model.stored_bytes
    assert compiled.stack_bytes == 0, "registers spill"
    assert not compiled.in_body("LDL")
    assert not compiled.in_body("STL")
    _check_loads(compiled, stored_bytes)
    _check_products(compiled, variant)
    assert compiled.shared_bytes <= tile.shared_bytes(query_bytes, stored_bytes)
    assert compiled.shared_bytes <= SMALLEST_SHARED_LIMIT_BYTES
    programs = tile.programs_per_sm(query_bytes, stored_bytes, variant.capability)
    assert programs * compiled.registers * tile.num_warps * WARP <= SM_REGISTERS
    assert programs * (compiled.shared_bytes + 1024) <= SM_SHARED_BYTES[variant.capability]


def _check_loads(compiled: MachineCode, stored_bytes: int) -> None:
    """K and V of a loop step are copied past the registers, 16 bytes per thread at a time, and not read bytewise."""
    tile = tile_of(compiled)
    wide = compiled.in_loop("LDGSTS.E.BYPASS.128")
    assert 16 * wide == 2 * tile.block_tokens * tile.block_dim * stored_bytes // (tile.num_warps * WARP)
    assert compiled.in_loop("LDGSTS") == wide
    assert compiled.in_loop("LDS.U8") == 0


def _check_products(compiled: MachineCode, variant: Variant) -> None:
    """Tensor cores for 16-bit tiles. None for float32, whose TF32 would lose 13 bits."""
    assert "tf32" not in compiled.ptx
    if variant.dtype != "float32" and variant.model.group_size > 1:
        assert compiled.in_loop("HMMA") > 0
    else:
        assert compiled.in_loop("HMMA") == 0
        assert compiled.in_loop("FFMA") > 0


@pytest.mark.parametrize("variant", USUAL, ids=str)
def test_decode_kernel(compiler: ProcessPoolExecutor, variant: Variant) -> None:
    compiled = compiler.submit(compile_decode, variant).result()
    tiles = {tile_of(one) for one in compiled}
    assert len(tiles) == len(compiled) >= (2 if variant.model.group_size <= 16 else 1)
    for one in compiled:
        check(one, variant)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("variant", ALL, ids=str)
def test_decode_kernel_in_every_variant(compiler: ProcessPoolExecutor, variant: Variant) -> None:
    for compiled in compiler.submit(compile_decode, variant).result():
        check(compiled, variant)


def check_small(compiled: MachineCode) -> None:
    """No kernel spills, and each reads 16 bytes at a time."""
    assert compiled.stack_bytes == 0, "registers spill"
    assert not compiled.in_body("LDL")
    assert not compiled.in_body("STL")
    assert compiled.in_body("LDG.E.128") + compiled.in_body("LDGSTS.E.BYPASS.128") > 0
    assert compiled.shared_bytes <= SMALLEST_SHARED_LIMIT_BYTES
    assert compiled.registers * compiled.num_warps * WARP <= SM_REGISTERS


@pytest.mark.parametrize("capability", [80, 90, 100])
def test_merge_write_and_copy_kernels(compiler: ProcessPoolExecutor, capability: int) -> None:
    names = ("merge_kernel", "write_kernel", "copy_pages_kernel")
    merge, *others = compiler.submit(compile_others, Variant(heads=GROUPED, capability=capability), *names).result()
    for kernel in (merge, *others):
        check_small(kernel)
    for kernel in others:
        assert kernel.in_body("STG.E.128") > 0


@pytest.mark.parametrize("heads", [ONE_TO_ONE, GROUPED])
def test_sinks_alibi_and_log_sum_exp_do_not_spill(compiler: ProcessPoolExecutor, heads: tuple[int, int]) -> None:
    for compiled in compiler.submit(compile_decode, Variant(heads=heads, extras=True)).result():
        assert compiled.stack_bytes == 0
        assert compiled.in_loop("LDGSTS.E.BYPASS.128") == compiled.in_loop("LDGSTS") > 0


def test_what_is_off_leaves_no_instruction(compiler: ProcessPoolExecutor) -> None:
    """Loads and stores outside the loop: one length, the query, the page ids and the output."""
    variants = [Variant(heads=GROUPED, is_split=False), Variant(heads=GROUPED), Variant(heads=GROUPED, extras=True)]
    plain, split, extended = (compiler.submit(compile_decode, one).result()[0] for one in variants)
    stores = [one.in_body("STG") for one in (plain, split, extended)]
    loads = [one.in_body("LDG.E") for one in (plain, split, extended)]
    assert stores[0] < stores[1] < stores[2]
    assert loads[0] < loads[1] < loads[2]
    assert plain.in_body("MUFU.LG2") == 0  # the logarithm is for merging only


def test_kernels_overlap_only_where_asked(compiler: ProcessPoolExecutor) -> None:
    for merge, is_expected in (("after", False), ("overlap", True)):
        variant = Variant(heads=GROUPED, merge=merge)
        decode = compiler.submit(compile_decode, variant).result()[0]
        (joined,) = compiler.submit(compile_others, variant, "merge_kernel").result()
        assert ("griddepcontrol.launch_dependents" in decode.ptx) == is_expected
        assert ("griddepcontrol.wait" in joined.ptx) == is_expected


PREFILLS = [Variant(heads=GROUPED, capability=capability) for capability in (80, 90, 100)]
PREFILLS += [Variant(heads=ONE_TO_ONE, dtype="float32"), Variant(heads=GROUPED, head_dim=256, dtype="bfloat16")]
PREFILLS += [Variant(heads=GROUPED, kv_dtype=FP8, kv_layout="HND", sliding_window=1000, soft_cap=30.0)]


PREFIXES = [replace(variant, sliding_window=None) for variant in PREFILLS]
MANY_ROWS = [(one, "prefill_kernel") for one in PREFILLS] + [(one, "prefix_kernel") for one in PREFIXES]


@pytest.mark.parametrize(("variant", "name"), MANY_ROWS, ids=str)
def test_kernels_of_many_rows(compiler: ProcessPoolExecutor, variant: Variant, name: str) -> None:
    (compiled,) = compiler.submit(compile_others, variant, name).result()
    check_small(compiled)
    assert "tf32" not in compiled.ptx
    on_tensor_cores = sum(map(compiled.in_loop, TENSOR_CORES))
    if variant.dtype == "float32":
        assert on_tensor_cores == 0
        assert compiled.in_loop("FFMA") > 0
    else:
        assert on_tensor_cores > 0


def test_page_ids_of_a_tile_are_one_load_where_a_page_holds_the_tile(compiler: ProcessPoolExecutor) -> None:
    (small, *_), (large, *_) = (
        compiler.submit(compile_decode, Variant(heads=GROUPED, page_size=page_size)).result() for page_size in (16, 64)
    )
    assert large.in_loop("LDG.E") == 1
    assert small.in_loop("LDG.E") > 1
