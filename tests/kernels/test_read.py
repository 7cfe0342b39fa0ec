"""The streaming read reads every element once, in wide loads, and writes only its sums."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.kernels.read_case import compile_read, read_twice, refuse


@pytest.mark.parametrize("num_blocks", [1, 2, 5])
def test_it_reads_every_element_at_each_call(kernels: ProcessPoolExecutor, num_blocks: int) -> None:
    first, second, expected = kernels.submit(read_twice, num_blocks).result()
    assert first == num_blocks * 4096
    assert second == pytest.approx(expected, rel=1e-6)


def test_a_tensor_that_is_no_whole_number_of_blocks_is_refused(kernels: ProcessPoolExecutor) -> None:
    assert kernels.submit(refuse, 4097).result() == "data has 4097 elements; a multiple of 4096 is needed"


@pytest.mark.parametrize("num_elements", [2**28, 2**31])
def test_its_loads_are_wide_and_nothing_spills(compiler: ProcessPoolExecutor, num_elements: int) -> None:
    """2^31 elements no longer fit an int32."""
    code = compiler.submit(compile_read, num_elements).result()
    assert code.stack_bytes == 0
    loads = {name: count for name, count in code.body.items() if name.startswith(("LDG.", "LDGSTS."))}
    assert sum(loads.values()) >= 8
    assert all("128" in name for name in loads)
