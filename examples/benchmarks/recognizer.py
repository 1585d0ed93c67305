"""Forward and backward through the frozen recogniser, against the same network of PyTorch's own layers."""

from argparse import Namespace
from copy import deepcopy

import torch
from torch import Tensor, nn

from art_idguard import recognizers
from art_idguard.faces.alignment import align, arcface_frame, celeba_landmarks
from art_idguard.perturbation.precision import Precision, autocast
from art_idguard.recognizers.base import Recognizer
from art_idguard.recognizers.layers import Conv2d, Normalised, PReLU

from .measuring import DTYPES, seconds, turns
from .suite import Suite


def plain(recognizer: Recognizer) -> Recognizer:
    """The same of PyTorch's layers, whose crops have their channels first."""
    copy = deepcopy(recognizer)
    for module in copy.modules():
        if isinstance(module, PReLU):
            module.__class__ = nn.PReLU
        elif isinstance(module, Conv2d):
            module.__class__ = nn.Conv2d
        elif isinstance(module, Normalised):
            module.__class__ = nn.Sequential
    copy.crop = lambda images, frame: align(images, frame, copy.size)  # type: ignore[method-assign]
    return copy


def step(recognizer: Recognizer, x: Tensor, frame: Tensor, precision: Precision) -> None:
    """An embedding, and its gradient by the picture."""
    x = x.detach().requires_grad_()
    with autocast(precision, x.device):
        embedding = recognizer(x, frame)
    torch.autograd.grad(embedding.float().sum(), x)


def measure(suite: Suite, options: Namespace) -> None:
    """Seconds in both precisions, in turn."""
    images = 4 * options.batch
    suite.about(f"{images} faces of {options.size} px: embeddings, and their gradient by the faces.")
    ours, size = recognizers.default(), (options.size, options.size)
    x, frame = torch.randn(images, 3, *size), arcface_frame(celeba_landmarks(size).expand(images, -1, -1), size)
    variants = {"PyTorch's layers": plain(ours), "ours": ours}
    for model in variants.values():
        step(model, x, frame, "no")
    precisions = suite.precisions(x.device)
    for turn in turns(options.repeats, variants):
        for name, model in turn:
            for precision in precisions:
                taken = seconds(lambda model=model, precision=precision: step(model, x, frame, precision))
                kind = DTYPES[precision]
                suite.add(f"{name}, {kind}", {"seconds": taken}, of=f"PyTorch's layers, {kind}")
