"""Time, memory and arithmetic of a call, and variants in turn."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

T = TypeVar("T")

DTYPES = {"no": "float32", "bf16": "bfloat16"}
"""As rows and peaks name a precision."""

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    # With what a step and `Count` import late: or it would take seconds of each process, and count as memory of a step.
    ["accelerate", "cvxpy", "torch._dynamo", "art_idguard.attacks.idguard", "art_idguard.training.protector.step"]
)


def turns(repeats: int, variants: Mapping[str, T]) -> Iterator[list[tuple[str, T]]]:
    """The order of the variants in each turn, in every second one backwards."""
    for turn in range(repeats):
        yield list(variants.items())[:: -1 if turn % 2 else 1]


def alone(function: Callable[..., T], *args: Any) -> T:
    """What a module's function returns in a new process, whose peak of memory is its own."""
    with ProcessPoolExecutor(1, PROCESSES) as pool:
        return pool.submit(function, *args).result()


def seconds(run: Callable[[], object]) -> float:
    """By the clock, of a call and of what it gave a GPU to do."""
    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start


def wait() -> None:
    """Until the device has done what was asked of it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measured_peak(device: str, precision: str) -> float:
    """Floating point operations a second of the fastest of eight products of large matrices.

    They take some tenths of a second, on few cores as on many, so that other work hardly meets all of them.
    """
    side = 8192 if device == "cuda" else 1024 * min(4, torch.get_num_threads())
    a, b = torch.randn(2, side, side, device=device).to(getattr(torch, precision))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True  # as convolutions have it
    try:
        return 2 * side**3 / min(seconds(lambda: a @ b) for _ in range(8))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before  # or what is compiled would be so anew


class Count(TorchDispatchMode):
    """Counts floating point operations; torch's own FlopCounterMode fails where a gradient is differentiated."""

    total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Does what was asked for, and adds its operations."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if formula := flop_registry.get(func._overloadpacket):
            self.total += formula(*args, **kwargs, out_val=out)
        return out


def operations(run: Callable[[], object]) -> int:
    """Floating point operations of a call."""
    with Count() as counter:
        run()
    return counter.total


def operations_of_steps(run: Callable[[int], object], steps: int) -> int:
    """Those of `run(steps)`, from a run of one step and one of two: all have equally many."""
    one, two = (operations(lambda n=n: run(n)) for n in (1, 2))
    return one + (steps - 1) * (two - one)
