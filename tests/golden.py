"""Parity with the official networks without their code or weights: every tensor is hashed from its name.

`h` gives reproducible values in [-1, 1); `fill` sets a network's parameters from their official names,
`check` compares a tensor with the statistics stored in tests/goldens/.
"""

import json
import zlib

import numpy as np
import torch

from tests import ROOT

GOLDENS = ROOT / "tests" / "goldens"
OWNERS = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)


def h(key, *shape):
    n = int(np.prod(shape))
    x = np.arange(n, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(zlib.crc32(key.encode()))
    x &= np.uint64(0xFFFFFFFF)
    for _ in range(2):
        x ^= x >> np.uint64(16)
        x = (x * np.uint64(0x45D9F3B)) & np.uint64(0xFFFFFFFF)
    x ^= x >> np.uint64(16)
    return torch.from_numpy(x.astype(np.float64) / 2**31 - 1).reshape(shape)


def fill(model):
    """Set every parameter and buffer from its name; returns the model in float64."""
    model = model.double()
    weights = {f"{name}.weight".removeprefix(".") for name, m in model.named_modules() if isinstance(m, OWNERS)}
    for key, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            value = torch.zeros_like(tensor)
        else:
            v = h(key, *tensor.shape)
            if key in weights:
                value = v * (3 / (tensor.numel() / tensor.shape[0])) ** 0.5
            elif key.endswith((".bias", "running_mean")):
                value = 0.1 * v
            elif key.endswith("running_var"):
                value = 1 + 0.5 * v**2
            else:
                value = 1 + 0.1 * v
        tensor.copy_(value)
    return model


def check(tensor, file, entry, rtol=1e-6):
    """Compare with tests/goldens/<file>.json: shape, mean, mean of |.|, std and eight values."""
    golden = json.loads((GOLDENS / f"{file}.json").read_text())[entry]
    tensor = tensor.detach()
    assert list(tensor.shape) == golden["shape"]
    found = torch.cat(
        [
            torch.stack([tensor.mean(), tensor.abs().mean(), tensor.std(correction=0)]),
            tensor.flatten()[golden["flat_index"]],
        ]
    )
    expected = [golden["mean"], golden["mean_abs"], golden["std"], *golden["values"]]
    torch.testing.assert_close(found, torch.tensor(expected).to(found), rtol=rtol, atol=1e-9)
