"""A second device for machines that have only a CPU: it computes on the CPU and refuses to be mixed with it.

Under `Elsewhere()` tensors on torch's "meta" device hold values. As on a GPU, an operation on tensors of both devices
is an error (numbers, and tensors without dimensions, may be mixed), and numpy arrays come and go only by `.to` and
`.cpu`. To read a value is to wait for the device, which `waits` counts, and so is to send one, unless `non_blocking`.
"""

import contextlib
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("meta")
_ATEN = torch.ops.aten
_TRANSFERS = (_ATEN._to_copy.default, _ATEN.copy_.default)
_READS = (_ATEN._local_scalar_dense.default, _ATEN._linalg_check_errors.default)


class _There(Tensor):
    """A tensor that says it is elsewhere."""

    @staticmethod
    def __new__(cls, values: Tensor) -> "_There":
        values = values.resolve_conj()  # a wrapper keeps no such flag
        return Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=DEVICE,
        )

    def __init__(self, values: Tensor) -> None:
        self.values_ = values.resolve_conj()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func}: the device is gone, Elsewhere() has ended")


class _Literals(TorchFunctionMode):
    """Lists to tensors and back, where the device sees it; torch by itself would send the shape without the values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.new_tensor and isinstance(args[0], _There):
            return torch.tensor(args[1], dtype=kwargs.get("dtype", args[0].dtype)).to(DEVICE)
        if func is Tensor.tolist and isinstance(args[0], _There):
            return args[0].cpu().tolist()
        if func is torch.tensor and kwargs.get("device") == DEVICE:
            return torch.tensor(*args, **kwargs | {"device": "cpu"}).to(DEVICE)
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], _There):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            args = (args[0], tuple(torch.tensor(i).to(DEVICE) if isinstance(i, list) else i for i in index), *args[2:])
        return func(*args, **kwargs)


class Elsewhere(TorchDispatchMode):
    """The device; `waits` counts how often something waited for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    def __enter__(self) -> "Elsewhere":
        self._autocast = torch.autocast  # unknown to torch for this device
        torch.autocast = lambda device_type, *args, **kwargs: (  # type: ignore[assignment, misc]
            contextlib.nullcontext() if device_type == DEVICE.type else self._autocast(device_type, *args, **kwargs)
        )
        self._literals = _Literals()
        self._literals.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._literals.__exit__(*error)
        torch.autocast = self._autocast  # type: ignore[misc]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        there = any(isinstance(t, _There) for t in tensors)
        if func is _ATEN._has_compatible_shallow_copy_type.default:
            return not there  # Module.to asks whether it may swap the values and keep the tensor
        if there and func not in _TRANSFERS and any(t.dim() and not isinstance(t, _There) for t in tensors):
            raise RuntimeError(f"{func} mixes two devices: {[(tuple(t.shape), t.device.type) for t in tensors]}")
        target = kwargs.get("device")
        goes_there = there if target is None else torch.device(target).type == DEVICE.type
        arrives = goes_there and func in _TRANSFERS and not isinstance(args[func is _ATEN.copy_.default], _There)
        blocks = arrives and not kwargs.get("non_blocking") and args[2:] != (True,)
        self.waits += blocks or (there and (not goes_there or func in _READS))
        if target is not None and goes_there:
            kwargs = kwargs | {"device": "cpu"}
        values = func(*_values(args), **_values(kwargs))
        if not (goes_there or there) or func in _TRANSFERS[1:]:
            return args[0] if func in _TRANSFERS[1:] else values
        result = tree_map_only(Tensor, _There, values) if goes_there else values
        return return_and_correct_aliasing(func, args, kwargs, result) if there and goes_there else result


def _values(tree: Any) -> Any:
    return tree_map_only(_There, lambda t: t.values_, tree)
