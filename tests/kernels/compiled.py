"""What Triton and its bundled assembler make of the kernels, without a GPU.

``PagedTriton`` itself is asked how it would launch: its launches are recorded, not run, and each
is compiled as the launcher would specialise it (aligned pointers, constants, dtypes).
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from impls import triton_decoder
from impls.kernels.heuristics import Tile
from impls.kernels.support import Device, Kernels
from impls.paged_triton import PagedTriton
from impls.policies import PagePool
from impls.spec import ModelSpec, ceil_div

_POINTERS = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16"}
_POINTERS |= {torch.int32: "*i32", torch.int64: "*i64"}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A model's attention shape on a target."""

    heads: tuple[int, int]  # query heads, KV heads
    head_dim: int = 128
    dtype: str = "float16"
    page_size: int = 16
    seq_lens: Sequence[int] = (4096,)
    capability: int = 90

    @property
    def model(self) -> ModelSpec:
        return ModelSpec(
            name="variant",
            num_layers=1,
            num_query_heads=self.heads[0],
            num_kv_heads=self.heads[1],
            head_dim=self.head_dim,
            dtype=self.dtype,
            max_seq_len=max(self.seq_lens),
        )

    def __str__(self) -> str:
        heads = "/".join(map(str, self.heads))
        return f"sm_{self.capability} {self.dtype} {heads}x{self.head_dim} page {self.page_size}"


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """Facts of one compiled kernel.

    Attributes:
        name: of the kernel.
        tile: of the decode kernel, else ``None``.
        registers: per thread.
        stack_bytes: per thread, where registers spill.
        shared_bytes: per program.
        loop: how often each instruction stands in the innermost loop, by its full name.
        body: the same of the whole kernel.
        ptx: the code before assembly.
    """

    name: str
    tile: Tile | None
    registers: int
    stack_bytes: int
    shared_bytes: int
    loop: Mapping[str, int]
    body: Mapping[str, int]
    ptx: str

    def in_loop(self, prefix: str) -> int:
        return sum(count for name, count in self.loop.items() if name.startswith(prefix))

    def in_body(self, prefix: str) -> int:
        return sum(count for name, count in self.body.items() if name.startswith(prefix))


@dataclass(frozen=True)
class Launch:
    """One recorded launch of a kernel."""

    kernel: Any
    arguments: Sequence[object]
    keywords: Mapping[str, Any]


class Recorder:
    """Stands in for a kernel: ``kernel[grid](...)`` is noted down."""

    def __init__(self, kernel: Any, launches: list[Launch]) -> None:
        self._kernel = kernel
        self._launches = launches

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return lambda *arguments, **keywords: self._launches.append(Launch(self._kernel, arguments, keywords))


def compile_decode(variant: Variant) -> list[Compiled]:
    """Every tile that ``tune`` may choose for this variant."""
    return [
        _compile(launch, variant.capability)
        for launch in _launches(variant)
        if launch.kernel.__name__ == "decode_kernel"
    ]


def compile_helpers(variant: Variant) -> list[Compiled]:
    """The merge kernel and the write kernel."""
    launches = {launch.kernel.__name__: launch for launch in _launches(variant)}
    return [_compile(launches[name], variant.capability) for name in ("merge_kernel", "write_kernel")]


def _launches(variant: Variant) -> list[Launch]:
    launches: list[Launch] = []
    device = Device(multiprocessors=132, capability=variant.capability)
    with mock.patch.object(triton_decoder, "describe_device", return_value=device):
        cache = _cache(variant)
    decoder = cache.decoder
    decode, merge, write, are_interpreted = decoder._kernels
    decoder._kernels = Kernels(*(Recorder(kernel, launches) for kernel in (decode, merge, write)), are_interpreted)
    num_query_heads, num_kv_heads = variant.heads
    dtype = getattr(torch, variant.dtype)
    rows = torch.empty((len(variant.seq_lens), num_kv_heads, variant.head_dim), dtype=dtype)
    batch = cache.prepare(range(len(variant.seq_lens)))
    cache.write(0, batch.slot_mapping, rows, rows)
    for tile in decoder.tiles:
        plan = decoder.plan_with(tile, batch.paged.host.seq_lens)
        query = torch.empty((len(variant.seq_lens), num_query_heads, variant.head_dim), dtype=dtype)
        decoder.attend(query, cache._storage.layer(0), batch.rows, plan)
    return launches


def _cache(variant: Variant) -> PagedTriton:
    num_pages = sum(ceil_div(seq_len, variant.page_size) for seq_len in variant.seq_lens)
    policy = PagePool(num_pages, variant.page_size, variant.model.token_bytes)
    for seq_id, seq_len in enumerate(variant.seq_lens):
        policy.admit(seq_id, seq_len)
    return PagedTriton(variant.model, policy, device="cpu", num_layers=1, options={})


def _compile(launch: Launch, capability: int) -> Compiled:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel, keywords = launch.kernel, dict(launch.keywords)
    options = {"num_warps": keywords.pop("num_warps")} if "num_warps" in keywords else {}
    names = kernel.arg_names
    given = dict(zip(names, launch.arguments, strict=False))
    unspecialised = {parameter.name for parameter in kernel.params if parameter.do_not_specialize}
    constants = {name: value for name, value in {**given, **keywords}.items() if name in keywords or value is None}
    signature = {name: "constexpr" if name in constants else _type_of(given[name]) for name in names}
    aligned = {
        (index,): [["tt.divisibility", 16]]
        for index, name in enumerate(names)
        if name not in constants and name not in unspecialised and _is_aligned(given[name])
    }
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs=aligned,
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return _facts(kernel.__name__, _tile(keywords, options), compiled)


def _type_of(value: object) -> str:
    if isinstance(value, Tensor):
        return _POINTERS[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def _is_aligned(value: object) -> bool:
    """Whether the launcher would tell the compiler that this is a multiple of 16."""
    if isinstance(value, Tensor):
        return value.data_ptr() % 16 == 0
    return isinstance(value, int) and value % 16 == 0


def _tile(keywords: Mapping[str, int], options: Mapping[str, int]) -> Tile | None:
    if "BLOCK_GROUP" not in keywords:
        return None
    fields = ("block_group", "block_dim", "block_tokens", "num_stages")
    return Tile(**{field: keywords[field.upper()] for field in fields}, **options)


def _facts(name: str, tile: Tile | None, compiled: Any) -> Compiled:
    import triton.backends.nvidia

    tools = Path(triton.backends.nvidia.__file__).parent / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        Path(cubin.name).write_bytes(compiled.asm["cubin"])
        usage = _output(tools / "cuobjdump", "-res-usage", cubin.name)
        sass = _output(tools / "nvdisasm", "-c", cubin.name)
    (registers, stack_bytes) = map(int, re.search(r"REG:(\d+) STACK:(\d+)", usage).groups())
    instructions = _instructions(sass)
    return Compiled(
        name=name,
        tile=tile,
        registers=registers,
        stack_bytes=stack_bytes,
        shared_bytes=compiled.metadata.shared,
        loop=Counter(_longest_loop(sass)),
        body=Counter(instructions),
        ptx=compiled.asm["ptx"],
    )


def _output(*command: object) -> str:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout


_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?(?P<name>[A-Z][\w.]*)(?P<operands>.*)")
_LABEL = re.compile(r"^(\.L_x_\d+):")


def _instructions(sass: str) -> list[str]:
    return [match["name"] for line in sass.splitlines() if (match := _INSTRUCTION.match(line))]


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
