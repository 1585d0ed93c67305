"""How an attempt learns: Adam on a loss, and the network as it was after some of the steps, kept in a file."""

import zlib
from collections.abc import Callable, Iterable
from copy import deepcopy
from operator import attrgetter
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from tqdm import trange

from art_idguard.adversary.setting import AdversarySetting, after
from art_idguard.data.faces import FaceBatch
from art_idguard.errors import IDGuardError
from art_idguard.files.tensors import cached, digest
from art_idguard.training.loop import guest
from art_idguard.training.seeding import batch_index, step_seed

Network = TypeVar("Network", bound=nn.Module)

BATCH = 4
BETAS = (0.5, 0.999)


def learn(
    network: Network,
    loss: Callable[[FaceBatch, int], Float[Tensor, ""]],
    setting: AdversarySetting,
    name: str,
    *,
    steps: int,
    lr: float,
    learner: nn.Module | None = None,
    given: Iterable[nn.Module] = (),
) -> dict[int, Network]:
    """The network after some numbers of steps (`setting.after`), frozen.

    Args:
        network: as it begins; it is not kept as it is, unless there is a `learner`.
        loss: of some faces and the number of the step, from 0 on.
        setting: whose folder keeps what is learnt; a rerun with the same networks, faces and numbers learns nothing.
        name: of the attempt.
        steps: of Adam.
        lr: Adam's learning rate.
        learner: what `loss` uses and Adam changes, if it is another one: its weights, by the network's names, are kept.
        given: what `loss` uses besides: others than before, and it is learnt anew.

    Raises:
        IDGuardError: a loss that is not finite.
    """
    faces = setting.learnt_from()
    learner = network if learner is None else learner
    names = [name for name, _ in network.named_parameters()]
    known: list[nn.Module] = [network, *given]
    state = (tensor for model in known for tensor in model.state_dict().values())
    key = f"{digest(state)}-{faces.labelled_digest()}-{setting.protector.epsilon}-{setting.seed}-{steps}-{lr}"

    def stages() -> Float[Tensor, "S P"]:
        parameters = [p for p in learner.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=lr, betas=BETAS)
        batch_size, kept = min(BATCH, len(faces)), []
        for step in trange(steps, desc=name, leave=False, disable=not setting.verbose):
            torch.manual_seed(step_seed(setting.seed, step))
            value = loss(faces.batch(batch_index(step, len(faces), batch_size, setting.seed)), step)
            if not value.isfinite():
                raise IDGuardError(f"{name}, step {step + 1}: the loss is not finite; give fewer steps")
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            if step + 1 in after(steps):
                with torch.no_grad():  # a parametrised weight is found under its name as well
                    kept.append(parameters_to_vector(attrgetter(name)(learner) for name in names).clone())
        return torch.stack(kept).cpu()

    file = setting.folder / f"{name}-{zlib.crc32(key.encode()):08x}.safetensors"
    with guest():
        vectors = cached(file, key, stages)
    found = {}
    for number, vector in zip(after(steps), vectors, strict=True):
        found[number] = deepcopy(network)
        vector_to_parameters(vector.to(next(network.parameters()).device), found[number].parameters())
        found[number].requires_grad_(False)
    return found
