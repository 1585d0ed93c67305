"""The manipulators and discriminators are the official ones: names, shapes, counts, values."""

import json

import pytest
import torch
from torch import nn

from art_idguard.manipulators import (
    MANIPULATORS,
    Discriminator,
    HiSD,
    HiSDDiscriminator,
    RelGAN,
    RelGANDiscriminator,
)
from art_idguard.manipulators.hisd import STYLE_WIDTHS_128
from art_idguard.manipulators.layers import InstanceNorm
from art_idguard.types import Edit
from tests import KEYS
from tests.golden import check, fill, h

LABELS = torch.tensor([[1, 0, 0, 1, 0], [0, 1, 0, 0, 1]], dtype=torch.float64)
VECTORS = torch.tensor([[0, -1, 0, 0, 0], [1, 0, 0, -1, 0]], dtype=torch.float64)

OTHERS = {
    "hisd_128": (HiSD, {"style_widths": STYLE_WIDTHS_128}),
    "stargan_discriminator_128": (Discriminator, {"size": 128}),
    "stargan_discriminator_256": (Discriminator, {"size": 256}),
    "relgan_discriminator": (RelGANDiscriminator, {}),
    "hisd_discriminator": (HiSDDiscriminator, {}),
    "hisd_discriminator_128": (HiSDDiscriminator, {"style_widths": STYLE_WIDTHS_128}),
}
COUNTS = {
    "stargan": 8_430_528,
    "attentiongan": 8_433_664,
    "fpgan": 8_430_528,
    "relgan": 8_434_345,
    "hisd": 19_043_939,
    "stargan_discriminator_128": 44_762_048,
    "stargan_discriminator_256": 44_884_928,
    "relgan_discriminator": 53_140_434,
    "hisd_discriminator": 12_500_042,
}


def face(name):
    return 0.9 * h(f"input.{name}", 2, 3, 64, 64)


@pytest.fixture(scope="module", params=["stargan", "attentiongan", "fpgan"])
def family(request):
    return request.param, fill(MANIPULATORS[request.param]())


@pytest.fixture(scope="module")
def relgan():
    return fill(RelGAN())


@pytest.mark.parametrize("name", [*MANIPULATORS, *OTHERS])
def test_official_names_shapes_and_counts(name):
    network, config = OTHERS.get(name) or (MANIPULATORS[name], {})
    with torch.device("meta"):
        model = network(**config)
    official = json.loads((KEYS / f"{name}.json").read_text())
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == official
    if name in COUNTS:
        assert sum(p.numel() for p in model.parameters()) == COUNTS[name]


@torch.no_grad()
def test_stargan_family_goldens(family):
    """The official code never calls eval(), so its train mode is what the models return."""
    name, model = family
    edit = Edit("", LABELS)
    output, features = model(face("x"), edit)
    golden = f"{name}_generator_trainmode"
    check(features, golden, "E_k_main0_to_11")
    check(output, golden, "output_tanh_x_plus_delta" if name == "fpgan" else "output")
    raw = model.raw(face("x"), edit).output
    if name == "fpgan":
        check(raw, golden, "raw_delta")
    if name == "attentiongan":
        attention, content = model.split(raw)
        check(attention.expand_as(content), golden, "attention")
        check(content, golden, "content")


@torch.no_grad()
def test_stargan_family_goldens_by_running_statistics(family, monkeypatch):
    """Not what forward does; it shows that the running buffers are the official ones."""
    name, model = family
    monkeypatch.setattr(InstanceNorm, "forward", nn.InstanceNorm2d.forward)
    model.eval()
    edit = Edit("", LABELS)
    # the stored values of Fixed-Point GAN are those of its last convolution
    output = (model.raw if name == "fpgan" else model)(face("x"), edit).output
    check(output, f"{name}_generator_evalmode", "output")


@torch.no_grad()
def test_relgan_goldens(relgan):
    output, features = relgan(face("x"), Edit("", VECTORS))
    check(features, "relgan_generator_evalmode", "E_k_resb0_to_2")
    check(output, "relgan_generator_evalmode", "output")


@torch.no_grad()
def test_relgan_goldens_by_batch_statistics():
    model = fill(RelGAN()).use_batch_statistics()
    running = model.conv_in[1].running_var.clone()
    check(model(face("x"), Edit("", VECTORS)).output, "relgan_generator_trainmode", "output")
    assert not torch.equal(model.conv_in[1].running_var, running)


@torch.no_grad()
def test_hisd_goldens():
    model = fill(HiSD())
    golden = "hisd_generator_256cfg"
    e = model.encode(face("x"))
    style = model.extract(face("ref"), 1)
    check(e, golden, "encode")
    check(style, golden, "style_tag1")
    check(model.translate(e, style, 1), golden, "translate_tag1")
    check(model.decode(e), golden, "rec")
    check(model.map(0.9 * h("input.noise", 2, 32), 2, 1), golden, "map_tag2_attr1")
    output, features = model(face("x"), model.edit_from_reference("Eyeglasses", face("ref")))
    check(output, golden, "output")
    check(features, golden, "encode")

    judge = fill(HiSDDiscriminator())
    scores = judge(face("x"), style, torch.eye(2, dtype=torch.float64), 2)
    check(scores, "hisd_discriminator_256cfg", "tag2")


@torch.no_grad()
def test_stargan_discriminator_goldens():
    scores, logits = fill(Discriminator(size=64))(face("x"))
    check(scores, "stargan_family_discriminator_64", "out_src")
    check(logits, "stargan_family_discriminator_64", "out_cls")


@torch.no_grad()
def test_relgan_discriminator_goldens():
    judge = fill(RelGANDiscriminator())
    adversarial, match = judge(face("x"), face("x_b"), VECTORS)
    golden = "relgan_discriminator_64"
    check(adversarial, golden, "adv")
    check(match, golden, "match")
    check(judge.interpolation(face("x")), golden, "critic")
