"""The steps of a visit, in order of worth. No torch, no Hydra.

A sweep step names the overrides of one or more sweeps whose points go to one run folder. Other
steps name a command.
"""

from __future__ import annotations

from dataclasses import dataclass

FLAGSHIP = ("model=llama-3-8b", "model.dtype=float16", "model.max_seq_len=8192", "workload=fixed",
            "workload.length=8192", "num_seqs=32")  # fmt: skip
RAGGED = ("model=llama-3-8b", "model.dtype=float16", "model.max_seq_len=2048", "workload=sharegpt", "page_size=16")
FAST = ("measure=visit", "timeout_s=60", "draw=false")
SMALL = ("measure=quick", "measure.max_s=0", "measure.weigh=false", "timeout_s=60", "draw=false", "num_seqs=2",
         "model.max_seq_len=1024")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Step:
    """One part of a visit.

    Attributes:
        name: of its folder and its log.
        sweeps: overrides of each sweep. Empty for a command.
        small: overrides that make the sweeps small enough to rehearse on a CPU.
        command: module and arguments, after ``python -m``. Empty for a sweep.
        max_s: seconds after which it is cut.
        min_s: not begun with less time left.
        first: it runs in every visit, also where it is finished in the state.
        takes_times: nothing else may compute meanwhile.
    """

    name: str
    sweeps: tuple[tuple[str, ...], ...] = ()
    small: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    max_s: float = 120.0
    min_s: float = 10.0
    first: bool = False
    takes_times: bool = True


def _experiment(name: str, *overrides: str) -> tuple[str, ...]:
    return (f"experiment={name}", *overrides)


STEPS: tuple[Step, ...] = (
    Step(name="facts", command=("scripts.visit.facts",), max_s=45, first=True),
    Step(name="check", takes_times=False, command=("scripts.visit.check",), max_s=80, min_s=30),
    Step(name="kernels", command=("scripts.visit.kernels",), max_s=75, min_s=30),
    Step(
        name="flagship",
        sweeps=(
            (*FLAGSHIP, "impl=contiguous,triton_contiguous,paged_triton", "page_size=16,1,4,64",
             "page_layout=shuffled,contiguous"),
            (*FLAGSHIP, "impl=paged_triton", "+impl.options.kv_layout=HND", "page_size=16,64"),
            (*FLAGSHIP, "impl=paged_torch", "page_size=16"),
        ),
        small=("workload.length=64", "page_size=16"),
        max_s=110,
    ),
    Step(
        name="flashinfer",
        sweeps=((*FLAGSHIP, "impl=paged_flashinfer,contiguous,paged_triton", "page_size=16,1"),),
        small=("workload.length=64", "page_size=16"),
        max_s=90,
    ),
    Step(  # the memory process runs only here: NVML and torch beside what the policy counts
        name="memory",
        sweeps=((*FLAGSHIP, "impl=contiguous,paged_triton,paged_torch", "page_size=16", "measure.weigh=true"),),
        small=("workload.length=64",),
    ),
    Step(
        name="ragged",
        sweeps=((*RAGGED, "impl=contiguous,triton_contiguous,paged_triton", "num_seqs=64,256"),),
        small=("num_seqs=2",),
    ),
    Step(name="fig18a", sweeps=(_experiment("paper_fig18a"),), small=("num_seqs=2", "workload.length=64"), max_s=150),
    Step(
        name="fig18b",
        sweeps=(_experiment("paper_fig18b_kernel", "impl=contiguous,triton_contiguous,paged_triton"),),
        small=("num_seqs=2", "page_size=16"),
    ),
    Step(
        name="batch_length",
        sweeps=(_experiment("gpu_batch_length"),),
        small=("num_seqs=2", "workload.length=512"),
        max_s=240,
    ),
    Step(name="tests", command=("scripts.visit.tests",), max_s=75, min_s=30),
    Step(
        name="fig19a",
        sweeps=(_experiment("paper_fig19a", "impl=paged_triton"),),
        small=("impl=paged_torch", "num_seqs=1", "workload.length=64", "page_size=16"),
        max_s=180,
    ),
    Step(
        name="fig19a_recompute",
        sweeps=(_experiment("paper_fig19a_recompute", "impl=paged_triton"),),
        small=("impl=paged_torch", "num_seqs=1", "workload.length=64", "page_size=16", "model.num_parameters=1000000"),
    ),
    Step(
        name="prefill",
        sweeps=(_experiment("gpu_prefill"),),
        small=("workload.length=256", "scenario.cached_tokens=0", "page_size=16",
               "impl=contiguous,paged_torch,paged_triton"),
    ),
    Step(
        name="swap",
        sweeps=(_experiment("gpu_swap"),),
        small=("workload.length=512", "page_size=16", "scenario.layers_allocated=1"),
        max_s=200,
    ),
    Step(
        name="implementations",
        sweeps=((*FLAGSHIP, "page_size=16", "impl=contiguous_flex,paged_torch,paged_torch_varlen,paged_flex"),),
        small=("impl=paged_torch", "workload.length=64"),
        max_s=150,
    ),
    Step(name="capacity", sweeps=(_experiment("gpu_capacity"),), small=("memory_budget=256MiB",)),
    Step(
        name="short_contexts",
        sweeps=(_experiment("gpu_short_contexts"),),
        small=("num_seqs=2", "workload.length=64", "page_size=16"),
        max_s=240,
    ),
    Step(name="sanitizer", takes_times=False, command=("scripts.visit.sanitizer",), max_s=100, min_s=30),
    Step(name="calibration", command=("scripts.visit.calibration",), max_s=100, min_s=40),
    Step(name="tiles", command=("scripts.visit.tiles",), max_s=80, min_s=25),
    Step(name="ncu", takes_times=False, command=("scripts.visit.profile",), max_s=45, min_s=20),
)  # fmt: skip
"""Most worthwhile first."""


def chosen(only: str | None, after: str | None) -> list[Step]:
    """Return the steps that a command line chooses, in order.

    Args:
        only: names with commas between. ``None``: all.
        after: the step before the first one. ``None``: from the beginning.

    Raises:
        ValueError: no step has that name.

    >>> [step.name for step in chosen("tiles,facts", None)]
    ['facts', 'tiles']
    """
    names = [step.name for step in STEPS]
    wanted = names if only is None else [name.strip() for name in only.split(",")]
    for option, asked in (("--only", wanted), ("--after", [after] if after is not None else [])):
        for name in asked:
            if name not in names:
                raise ValueError(f"{option} {name} is no step; the steps are {', '.join(names)}")
    start = 0 if after is None else names.index(after) + 1
    return [step for step in STEPS[start:] if step.name in wanted]
