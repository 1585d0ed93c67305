"""bfloat16, where this machine's convolutions are faster in it."""

import time
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Literal

import torch
from torch import nn

Precision = Literal["no", "bf16", "auto"]
"""float32, bfloat16 under autocast, or what `faster_precision` finds."""


@lru_cache
def faster_precision(device: torch.device) -> Literal["no", "bf16"]:
    """Measured: "bf16" where a convolution as the manipulators have it takes under 0.8 of float32's time, else "no"."""
    layer, x = nn.Conv2d(256, 256, 3, padding=1).to(device), torch.rand(1, 256, 32, 32, device=device)

    def seconds(precision: torch.dtype) -> float:
        times = []
        for _ in range(3):  # the first one warms up
            began = time.perf_counter()
            with torch.no_grad(), torch.autocast(device.type, precision, enabled=precision != torch.float32):
                layer(x).sum().item()
            times.append(time.perf_counter() - began)
        return min(times[1:])

    return "bf16" if seconds(torch.bfloat16) < 0.8 * seconds(torch.float32) else "no"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The block in which networks run in this precision."""
    chosen = faster_precision(device) if precision == "auto" else precision
    return torch.autocast(device.type, torch.bfloat16) if chosen == "bf16" else nullcontext()
