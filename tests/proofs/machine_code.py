"""What Triton and its bundled assembler make of a kernel, for any NVIDIA target and without a GPU."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
import triton.backends.nvidia
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

_POINTERS = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float8_e4m3fn: "*fp8e4nv",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
_OPTIONS = ("num_warps", "maxnreg", "launch_pdl")  # of the compiler, not of the kernel
_TOOLS = Path(triton.backends.nvidia.__file__).parent / "bin"
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?(?P<name>[A-Z][\w.]*)(?P<operands>.*)")
_LABEL = re.compile(r"^(\.L_x_\d+):")


@dataclass(frozen=True)
class Launch:
    """A launch of a kernel, ``kernel[grid](*arguments, **keywords)``, noted down instead of made."""

    kernel: Any
    arguments: Sequence[object]
    keywords: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class MachineCode:
    """Facts of one compiled kernel.

    Attributes:
        name: of the kernel.
        constants: compile-time constants of its launch.
        num_warps: per program.
        registers: per thread.
        stack_bytes: per thread, where registers spill.
        shared_bytes: per program.
        loop: number of occurrences of each instruction in the longest loop, by its full name.
        body: number of occurrences of each instruction in the whole kernel.
        ptx: the code before assembly.
    """

    name: str
    constants: Mapping[str, Any]
    num_warps: int
    registers: int
    stack_bytes: int
    shared_bytes: int
    loop: Mapping[str, int]
    body: Mapping[str, int]
    ptx: str

    def in_loop(self, prefix: str) -> int:
        """Instructions of the longest loop whose names begin so."""
        return sum(count for name, count in self.loop.items() if name.startswith(prefix))

    def in_body(self, prefix: str) -> int:
        """Instructions of the whole kernel whose names begin so."""
        return sum(count for name, count in self.body.items() if name.startswith(prefix))


def assemble(launch: Launch, capability: int) -> MachineCode:
    """Compile a launch as the launcher would specialise it: aligned pointers, constants, dtypes.

    Args:
        launch: the launch. Only dtype and alignment of its tensors matter.
        capability: compute capability of the target, 90 for an H100.
    """
    kernel, keywords = launch.kernel, dict(launch.keywords)
    options = {name: keywords.pop(name) for name in _OPTIONS if name in keywords}
    names = kernel.arg_names
    given = dict(zip(names, launch.arguments, strict=False))
    unspecialised = {parameter.name for parameter in kernel.params if parameter.do_not_specialize}
    constants = {name: value for name, value in {**given, **keywords}.items() if name in keywords or value is None}
    aligned = {
        (index,): [["tt.divisibility", 16]]
        for index, name in enumerate(names)
        if name not in constants and name not in unspecialised and _is_aligned(given[name])
    }
    source = ASTSource(
        fn=kernel,
        signature={name: "constexpr" if name in constants else _type_of(given[name]) for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs=aligned,
    )
    return _facts(launch, triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options))


def _type_of(value: object) -> str:
    if isinstance(value, Tensor):
        return _POINTERS[value.dtype]
    if isinstance(value, float):
        return "fp32"
    return "i64" if isinstance(value, int) and value >= 2**31 else "i32"


def _is_aligned(value: object) -> bool:
    """Return whether the launcher would declare this a multiple of 16 to the compiler."""
    if isinstance(value, Tensor):
        return value.data_ptr() % 16 == 0
    return isinstance(value, int) and value % 16 == 0


def _facts(launch: Launch, compiled: Any) -> MachineCode:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        Path(cubin.name).write_bytes(compiled.asm["cubin"])
        usage = _output(_TOOLS / "cuobjdump", "-res-usage", cubin.name)
        sass = _output(_TOOLS / "nvdisasm", "-c", cubin.name)
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    if found is None:
        raise ValueError(f"cuobjdump -res-usage tells no registers: {usage!r}")
    return MachineCode(
        name=launch.kernel.__name__,
        constants={name: value for name, value in launch.keywords.items() if name not in _OPTIONS},
        num_warps=compiled.metadata.num_warps,
        registers=int(found[1]),
        stack_bytes=int(found[2]),
        shared_bytes=compiled.metadata.shared,
        loop=Counter(_longest_loop(sass)),
        body=Counter(match["name"] for line in sass.splitlines() if (match := _INSTRUCTION.match(line))),
        ptx=compiled.asm["ptx"],
    )


def _output(*command: object) -> str:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout


def _longest_loop(sass: str) -> list[str]:
    """Instructions from the target of the longest backward branch to the branch."""
    names: list[str] = []
    labels: dict[str, int] = {}
    loop: list[str] = []
    for line in sass.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(names)
        elif match := _INSTRUCTION.match(line):
            names.append(match["name"])
            target = re.search(r"`\((\.L_x_\d+)\)", match["operands"]) if match["name"].startswith("BRA") else None
            if target and target[1] in labels and len(names) - labels[target[1]] > len(loop):
                loop = names[labels[target[1]] :]
    return loop
