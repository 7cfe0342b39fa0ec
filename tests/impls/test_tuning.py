"""Which failures leave a way to compute attention out, and which end the search for the fastest."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from impls.interface import Unsupported
from impls.launch.setup import check_interpreter
from impls.launch.tuning import fastest

CPU = torch.device("cpu")


def triton_error(name: str, message: str) -> Exception:
    """An error as Triton raises it: of a class of its own that derives from ``Exception``."""
    kind = type(name, (Exception,), {"__module__": "triton.runtime.errors"})
    error: Exception = kind(message)
    return error


def failing(error: Exception) -> Callable[[], object]:
    def call() -> object:
        raise error

    return call


def good() -> object:
    return time.sleep(0)


@pytest.mark.parametrize("name", ["OutOfResources", "PTXASError", "CompilationError"])
def test_a_tile_that_triton_refuses_is_left_out_with_its_reason(name: str) -> None:
    refused: dict[str, str] = {}
    calls = {"wide": failing(triton_error(name, "\n shared memory\nmore")), "narrow": good}
    assert fastest(calls, CPU, refused=refused) == "narrow"
    assert refused == {"wide": f"{name}: shared memory"}


def test_the_real_classes_of_triton_are_recognised() -> None:
    errors = pytest.importorskip("triton.runtime.errors")
    refused: dict[str, str] = {}
    calls = {"wide": failing(errors.OutOfResources(327680, 232448, "shared memory")),
             "odd": failing(errors.PTXASError("ptxas fatal")), "narrow": good}  # fmt: skip
    assert fastest(calls, CPU, refused=refused) == "narrow"
    assert set(refused) == {"wide", "odd"}


def test_a_back_end_that_torch_refuses_is_left_out() -> None:
    refused: dict[str, str] = {}
    calls = {"cudnn": failing(RuntimeError("No available kernel")), "math": good}
    assert fastest(calls, CPU, refused=refused) == "math"
    assert refused == {"cudnn": "No available kernel"}


def test_nothing_fits_on_the_device() -> None:
    calls = {16: failing(triton_error("OutOfResources", "a")), 32: failing(RuntimeError("b"))}
    with pytest.raises(Unsupported, match=r"16: OutOfResources: a; 32: b"):
        fastest(calls, CPU)


def test_a_kernel_that_compiles_in_no_form_is_a_fault() -> None:
    calls = {16: failing(triton_error("CompilationError", "at 3:4")), 32: failing(RuntimeError("b"))}
    with pytest.raises(RuntimeError, match=r"16: CompilationError: at 3:4; 32: b") as raised:
        fastest(calls, CPU)
    assert not isinstance(raised.value, Unsupported)


@pytest.mark.parametrize("error", [TypeError("missing argument"), torch.OutOfMemoryError("full"), AssertionError("bug"),
                                   triton_error("InterpreterError", "a fault in the kernel")])  # fmt: skip
def test_what_is_no_refusal_ends_the_search(error: Exception) -> None:
    with pytest.raises(type(error)):
        fastest({"broken": failing(error), "good": good}, CPU)


def test_a_device_that_has_failed_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a memory fault each later call fails too, with a misleading message."""
    fault = RuntimeError("CUDA error: an illegal memory access was encountered")
    calls = {"wild": failing(fault), "good": good}
    synchronised: list[torch.device] = []

    def synchronize(device: torch.device) -> None:
        synchronised.append(device)
        if len(synchronised) > 1:  # the first one comes before the call
            raise fault

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        fastest(calls, torch.device("cuda"))


@pytest.mark.parametrize(("triton", "numpy"), [("3.6.0", "2.3.5"), ("3.7.1", "2.4.6"), ("3.10.0", "2.5.2")])
def test_pairs_whose_interpreter_works(triton: str, numpy: str) -> None:
    check_interpreter(triton, numpy)


@pytest.mark.parametrize(("triton", "numpy"), [("3.6.0", "2.4.0"), ("3.5.1", "2.10.0rc1")])
def test_a_pair_whose_interpreter_fails_is_named(triton: str, numpy: str) -> None:
    with pytest.raises(Unsupported, match=rf"Triton {triton} fails with NumPy {numpy}; install numpy<2.4"):
        check_interpreter(triton, numpy)
