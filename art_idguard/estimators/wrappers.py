"""What other programs put around a model."""

from typing import Any

from torch.nn.parallel import DataParallel, DistributedDataParallel


def unwrapped(model: Any) -> Any:
    """The model inside DataParallel, DistributedDataParallel and torch.compile; others as they are."""
    while True:
        if isinstance(model, (DataParallel, DistributedDataParallel)):
            model = model.module
        elif "_orig_mod" in getattr(model, "_modules", {}):  # torch.compile's, whose class is private
            model = model._orig_mod
        else:
            return model
