"""The protector: its generators are the official ones, its perturbations lie in the ball; PGD and the prior."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from art_idguard.errors import IDGuardError, WeightsError
from art_idguard.images import box_blur
from art_idguard.perturbation import (
    GENERATORS,
    Protector,
    ResnetGenerator,
    UNetGenerator,
    Visibility,
    gradient_prior,
    initial_prior,
    pgd,
    train_surrogate,
)
from art_idguard.perturbation import protector as protector_module
from art_idguard.perturbation.prior import kept_surrogate
from art_idguard.perturbation.protector import BOUNDS
from art_idguard.perturbation.weakened import WeakenedProtector
from tests import KEYS
from tests.golden import check, fill, h

TINY = {"channels": 12}  # the transformer has six heads
EPSILON = 0.05
ROUNDING = 1e-7  # of a float32 sum of size one


def faces(*size, count=2, dtype=torch.float32):
    g = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, *(size or (32, 32)), generator=g, dtype=dtype) * 2 - 1


def small(generator="resnet", **options):
    torch.manual_seed(0)
    protector = Protector(generator=generator, size=32, generator_config=TINY, **options)
    nn.init.uniform_(protector.prior, -0.03, 0.03)
    return protector


@pytest.fixture(params=GENERATORS)
def protector(request):
    return small(request.param)


# The official networks


def cat_of(image, prior, *shape):
    return torch.cat((0.9 * h(f"input.{image}", *shape), 0.05 * h(f"input.{prior}", *shape)), 1)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_resnet_computes_what_the_official_one_does(mode):
    network = fill(ResnetGenerator()).train(mode == "train")
    check(network(cat_of("x", "prior", 2, 3, 64, 64)), f"idguard_resnet_{mode}mode", "output")


@pytest.mark.slow
@torch.no_grad()
def test_unet_computes_what_the_official_one_does():
    network = fill(UNetGenerator()).eval()
    check(network(cat_of("x256", "prior256", 1, 3, 256, 256)), "idguard_unet_evalmode_256", "output")


@pytest.mark.parametrize(
    ("generator", "file"), [("resnet", "idguard_resnet_generator"), ("unet", "idguard_unet_generator_in6")]
)
def test_parameters_have_the_official_names_and_shapes(generator, file):
    with torch.device("meta"):
        found = {key: list(value.shape) for key, value in GENERATORS[generator]().state_dict().items()}
    assert found == json.loads((KEYS / f"{file}.json").read_text())


@pytest.mark.parametrize(
    ("generator", "options", "count"),
    [
        ("resnet", {}, 7_850_819),  # Table IV
        ("resnet", {"norm": "instance"}, 7_847_107),
        ("unet", {}, 54_414_595),  # Table IV
        ("transformer", {}, 14_769_715),  # our own
    ],
)
def test_parameter_count(generator, options, count):
    with torch.device("meta"):
        network = GENERATORS[generator](**options)
    assert sum(p.numel() for p in network.parameters()) == count


@torch.no_grad()
def test_the_official_clamp_saturates_96_percent_of_a_new_generator():
    output = ResnetGenerator()(torch.cat((faces(64, 64), torch.zeros(2, 3, 64, 64)), 1))
    assert (output.abs() > EPSILON).float().mean().item() == pytest.approx(0.963, abs=0.01)


# Every protector


@torch.no_grad()
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("generator", GENERATORS)
def test_both_perturbations_stay_in_the_ball_and_the_pictures_in_range(generator, bound):
    protector = small(generator, bound=bound)
    nn.init.uniform_(protector.prior, -1, 1)  # far outside: forward must bound it by itself
    x = faces()
    x[0] = x[0].sign()  # black and white: the range is the tighter bound
    for picture in protector(x):
        assert picture.shape == x.shape
        assert picture.dtype == x.dtype
        assert (picture - x).abs().max() <= EPSILON + ROUNDING
        assert picture.abs().max() <= 1
        assert (picture - x)[1].abs().max() > 1e-4


@torch.no_grad()
def test_specific_follows_eq_14_by_hand(protector):
    protector.eval()
    x = faces(256, 256, count=1)  # of which every generator takes all
    prior = F.interpolate(protector.prior, (256, 256), mode="bilinear")
    output = protector.generator(torch.cat((x, prior), 1))
    specific, universal = protector(x)
    torch.testing.assert_close(specific, (x + EPSILON * output).clamp(-1, 1))
    torch.testing.assert_close(universal, (x + prior).clamp(-1, 1))
    protector.bound = "residual"
    logits = np.arctanh(output.double().numpy()) + np.arctanh(0.9 * prior.double().numpy() / EPSILON)
    expected = x.numpy() + EPSILON * np.tanh(logits)
    np.testing.assert_allclose(protector(x).specific.numpy(), expected.clip(-1, 1), atol=1e-6)
    protector.bound = "clamp"
    expected = x.numpy() + output.numpy().clip(-EPSILON, EPSILON)
    torch.testing.assert_close(protector(x).specific, torch.from_numpy(expected.clip(-1, 1)))


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (37, 50), (41, 96)])
def test_any_size_is_protected(protector, size):
    x = faces(*size)
    for picture in protector.eval()(x):
        assert picture.shape == x.shape
        assert (picture - x).abs().max() <= EPSILON + ROUNDING


def test_the_gradient_reaches_every_parameter(protector):
    protector(faces() * 0.9).specific.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in protector.parameters())
    assert protector.prior.grad.abs().max() > 0  # the prior is an input of the generator
    assert sum(p.grad.abs().max() > 0 for p in protector.generator.parameters()) > 4


def test_p_pert_depends_on_the_prior_alone(protector):
    protector((faces() * 0.9).requires_grad_()).prior.sum().backward()
    torch.testing.assert_close(protector.prior.grad, torch.full((1, 3, 32, 32), 2.0))  # two faces
    assert all(p.grad is None for p in protector.generator.parameters())


def test_the_perturbation_depends_on_the_face(protector):
    with torch.no_grad():
        x = faces() * 0.9
        change = protector.eval()(x).specific - x
    assert (change[0] - change[1]).abs().max() > 1e-5


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_to_bf16_changes_little(protector, dtype):
    protector.eval()
    x = faces() * 0.9
    expected = protector(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = protector(x.to(dtype))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.float(), b, rtol=0, atol=0.01 if dtype == torch.bfloat16 else 0.003)


@torch.no_grad()
def test_float64_stays_float64(protector):
    specific, prior = protector.double()(faces(dtype=torch.float64))
    assert specific.dtype == prior.dtype == torch.float64


@torch.no_grad()
@pytest.mark.parametrize("generator", GENERATORS)
def test_saved_and_loaded_it_is_the_same_to_the_bit(generator, tmp_path):
    protector = small(generator, epsilon=0.03, bound="clamp").eval()
    protector.save_pretrained(tmp_path)
    loaded = Protector.from_pretrained(tmp_path)
    assert (loaded.epsilon, loaded.bound) == (0.03, "clamp")
    assert not loaded.training
    assert type(loaded.generator) is GENERATORS[generator]
    for a, b in zip(loaded(faces()), protector(faces()), strict=True):
        assert torch.equal(a, b)


@torch.no_grad()
def test_without_an_argument_the_shipped_protector_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(protector_module, "shipped", lambda path: tmp_path / path)
    with pytest.raises(WeightsError, match="no protector ships"):
        Protector.from_pretrained()
    protector = small()
    protector.save_pretrained(tmp_path / "protectors" / "default")
    assert torch.equal(Protector.from_pretrained().prior, protector.prior)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generator": "resent"}, "choose from: resnet, unet, transformer"),
        ({"bound": "scale"}, "choose from: tanh, clamp, residual"),
        ({"epsilon": 0.0}, r"\[-1, 1\] scale"),
        ({"epsilon": float("nan")}, r"\[-1, 1\] scale"),
        ({"generator_config": {"depth": 3}}, "depth"),
        ({"generator_config": {"norm": "layer"}}, "layer"),
    ],
)
def test_unusable_options_are_named(options, message):
    with pytest.raises(IDGuardError, match=message):
        Protector(**options)


def test_instance_norm_resnet_treats_each_face_alone():
    protector = Protector(size=32, generator_config={**TINY, "norm": "instance"})
    with torch.no_grad():
        torch.testing.assert_close(protector(faces()).specific[:1], protector(faces()[:1]).specific)


def test_a_projected_prior_goes_on_learning():
    protector = small()
    x = faces() * 0.9
    with torch.no_grad():
        protector.prior.fill_(2 * EPSILON)
    (blocked,) = torch.autograd.grad(protector(x).prior.sum(), protector.prior)
    protector.project_prior_()
    assert protector.prior.abs().max().item() == pytest.approx(EPSILON)
    (learning,) = torch.autograd.grad(protector(x).prior.sum(), protector.prior)
    assert not blocked.any()
    assert learning.all()


# PGD


def network(dtype=torch.float64):
    torch.manual_seed(3)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 3, 3, padding=1), nn.Tanh()
    return nn.Sequential(*layers).to(dtype)


def distance_from_clean(model, x):
    with torch.no_grad():
        clean = model(x)
    return lambda attacked: F.mse_loss(model(attacked), clean)


@settings(max_examples=20, deadline=None)
@given(
    epsilon=st.floats(1e-4, 2),
    steps=st.integers(0, 4),
    step_size=st.floats(1e-4, 5),
    random_start=st.booleans(),
)
def test_pgd_stays_in_the_ball_and_in_range(epsilon, steps, step_size, random_start):
    x = faces(8, 8)
    attacked = pgd(
        distance_from_clean(network(torch.float32), x),
        x,
        epsilon=epsilon,
        steps=steps,
        step_size=step_size,
        random_start=random_start,
    )
    assert (attacked - x).abs().max() <= epsilon + 2 * ROUNDING
    assert attacked.abs().max() <= 1
    assert not attacked.requires_grad


def test_pgd_reaches_the_maximum_of_a_linear_objective():
    x, direction = 0.9 * faces(8, 8), torch.randn(2, 3, 8, 8)
    attacked = pgd(lambda z: z * direction, x, epsilon=EPSILON, steps=10, step_size=0.01)
    torch.testing.assert_close(attacked, x + EPSILON * direction.sign())


@pytest.mark.parametrize("random_start", [True, False])
def test_pgd_beats_uniform_noise_and_leaves_no_gradients(random_start):
    model, x = network(), faces(16, 16, dtype=torch.float64)
    objective = distance_from_clean(model, x)
    with torch.no_grad():  # the caller's mode must not matter
        attacked = objective(pgd(objective, x, random_start=random_start))
        noise = (x + EPSILON * (2 * torch.rand_like(x) - 1)).clamp(-1, 1)
        assert attacked > 5 * objective(noise)
    assert all(p.grad is None for p in model.parameters())


def test_pgd_without_random_start_is_no_null_attack():
    x = faces(8, 8)
    objective = distance_from_clean(network(torch.float32), x)
    at_clean = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(at_clean), at_clean)
    assert not gradient.any()  # what an attack that starts at x would follow
    attacked = pgd(objective, x, random_start=False)
    assert (attacked - x).abs().mean() > 0.5 * EPSILON


def test_pgd_with_a_falling_step_and_momentum_by_hand():
    x, slopes = torch.zeros(1, 3, 2, 2), iter([1.0, -0.2, -0.2])

    def objective(z):
        """The first pixel climbs for ever; the others' slope turns."""
        slope = torch.full_like(z, next(slopes))
        slope[..., 0, 0] = 1000.0
        return (slope * z).sum(dim=(1, 2, 3))

    start = pgd(lambda z: z.sum(), x, steps=0, random_start=False, generator=torch.Generator().manual_seed(0))
    options = {"epsilon": 1.0, "steps": 3, "step_size": 0.3, "random_start": False}
    attacked = pgd(
        objective, x, **options, falling=True, momentum=0.5, generator=torch.Generator().manual_seed(0), warn=False
    )
    moved = (attacked - start)[0, 0]
    torch.testing.assert_close(moved[0, 0], torch.tensor(0.3 + 0.2 + 0.1), atol=1e-6, rtol=0)
    # Divided by their 1-norms: 1, then 0.5 - 0.2, then 0.15 - 0.2.
    torch.testing.assert_close(moved[1, 1], torch.tensor(0.3 + 0.2 - 0.1), atol=1e-6, rtol=0)


def test_pgd_repeats_with_its_generator():
    x = faces(8, 8)
    objective = distance_from_clean(network(torch.float32), x)
    runs = [pgd(objective, x, steps=2, generator=torch.Generator().manual_seed(s)) for s in (4, 4, 5)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


# The prior


def test_gradient_prior_is_the_mean_of_the_faces_own_pgd():
    model, x = network(), faces(8, 8, count=3, dtype=torch.float64)
    g = torch.Generator().manual_seed(2)
    alone = [pgd(distance_from_clean(model, f), f, epsilon=EPSILON, generator=g) - f for f in x.split(1)]
    g = torch.Generator().manual_seed(2)
    found = gradient_prior(model, x.split(2), epsilon=EPSILON, generator=g)
    torch.testing.assert_close(found, sum(alone) / 3)


def smooth_faces(count=32, size=32):
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(6))
    return (255 * F.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)).to(torch.uint8)


@pytest.mark.slow
def test_the_surrogate_learns_to_reconstruct_and_repeats():
    state = torch.get_rng_state()
    model, loss = train_surrogate(smooth_faces(), steps=150)
    assert torch.equal(torch.get_rng_state(), state)
    _, start = train_surrogate(smooth_faces(), steps=1)
    assert loss < 0.4 * start
    again, _ = train_surrogate(smooth_faces(), steps=150)
    assert all(map(torch.equal, again.parameters(), model.parameters()))
    assert not any(p.requires_grad for p in model.parameters())


def test_a_surrogate_is_trained_once_for_its_faces_seed_and_steps(tmp_path):
    trained = []

    def surrogate(count=4, size=16, **changes):
        options = {"seed": 0, "steps": 2, "progress": False, "cache": tmp_path / "kept.safetensors"} | changes
        model = kept_surrogate(smooth_faces(count, size), **options)
        return parameters_to_vector(model.parameters())

    def counted(*args, train=train_surrogate, **options):
        trained.append(options)
        return train(*args, **options)

    state = torch.get_rng_state()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("art_idguard.perturbation.prior.train_surrogate", counted)
        variants = [{}, {"seed": 1}, {"steps": 1}, {"count": 5}, {"size": 8}, {"count": 16, "size": 8}]
        first = [surrogate(**changes) for changes in variants]
        assert len(trained) == len(variants)
        assert all(map(torch.equal, first, [surrogate(**changes) for changes in variants]))
        assert len(trained) == len(variants)
        assert torch.equal(surrogate(cache=None), first[0])
    assert torch.equal(torch.get_rng_state(), state)
    assert len({tuple(weights.tolist()) for weights in first}) == len(variants)
    model, _ = train_surrogate(smooth_faces(4, 16), steps=2)
    assert torch.equal(parameters_to_vector(model.parameters()), first[0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gradient", "noise", "zeros"])
def test_initial_prior_lies_in_the_ball_and_repeats(kind):
    prior = initial_prior(kind, smooth_faces(), epsilon=EPSILON, seed=1)
    assert prior.shape == (1, 3, 32, 32)
    assert prior.abs().max() <= EPSILON
    assert (prior.abs().mean() > 0.05 * EPSILON) == (kind != "zeros")
    assert torch.equal(prior, initial_prior(kind, smooth_faces(), epsilon=EPSILON, seed=1))


# What of a perturbation may be seen


def low(perturbation):
    return box_blur(perturbation, 9).square().mean() / perturbation.square().mean()


@torch.no_grad()
@pytest.mark.parametrize("bound", BOUNDS)
def test_both_perturbations_lose_what_may_not_be_seen(bound):
    plain, hidden = small(bound=bound), small(bound=bound, lowpass=9, chroma=0.0, fade=4)
    cast = 0.04 * torch.tensor([1.0, -1.0, 0.5]).view(1, 3, 1, 1)
    for protector in (plain, hidden):
        protector.prior += cast
    x = 0.9 * faces()
    for before, after in zip(plain(x), hidden(x), strict=True):
        change = after - x
        assert change.abs().max() <= EPSILON + ROUNDING
        assert change.std(dim=1, correction=0).max() < 1e-6  # brightness alone
        assert change[..., 0].abs().max() <= EPSILON / 5 + ROUNDING
        inner = (..., slice(8, -8), slice(8, -8))
        assert low(change[inner]) < min(0.05, low((before - x)[inner]))
    assert torch.equal(hidden(x).prior, (x + hidden.universal(x)).clamp(-1, 1))


def test_default_visibility_changes_nothing():
    perturbation = 0.1 * faces()
    assert Visibility().limit(perturbation, faces(), EPSILON) is perturbation


def test_a_grey_photo_stays_grey_where_colour_is_weighed_less():
    x = faces()
    x[1] = x[1].mean(0, keepdim=True)
    limited = Visibility(chroma=0.5).limit(0.04 * faces(count=2).flip(0), x, EPSILON)
    assert limited[0].std(dim=0).max() > 1e-3
    assert limited[1].std(dim=0).max() < 1e-8


def test_chroma_weighs_what_differs_from_brightness():
    raw = 1e-4 * faces()  # where tanh is straight: its slope is 2
    limited = Visibility(chroma=0.25).limit(raw, faces(), EPSILON) / 2
    brightness = raw.mean(dim=1, keepdim=True)
    torch.testing.assert_close(limited, brightness + 0.25 * (raw - brightness), rtol=1e-3, atol=1e-9)


def test_lowpass_takes_a_constant_away_and_leaves_a_fine_pattern():
    x = faces(40, 40)
    constant = torch.full_like(x, EPSILON)
    assert Visibility(lowpass=9).limit(constant, x, EPSILON).abs().max() < 1e-6
    rows = torch.arange(40) % 2 * 2.0 - 1
    checked = (EPSILON * rows[:, None] * rows).expand_as(x)
    assert Visibility(lowpass=9).limit(checked, x, EPSILON).abs().mean() > 0.95 * EPSILON


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"lowpass": 8}, "lowpass is 8; expected an odd"),
        ({"chroma": 1.5}, "chroma is 1.5"),
        ({"fade": -1}, "fade is -1"),
    ],
)
def test_senseless_visibility_is_refused(options, match):
    with pytest.raises(IDGuardError, match=match):
        Protector(**options)


def test_visibility_is_part_of_what_is_saved(tmp_path):
    small(lowpass=5, chroma=0.5, fade=2).save_pretrained(tmp_path)
    assert Protector.from_pretrained(tmp_path).visibility == Visibility(5, 0.5, 2)
    assert Protector.from_pretrained(tmp_path, chroma=0.25).visibility == Visibility(5, 0.25, 2)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (lambda x: (x + 1) * 127.5, r"expected pixels within \[-1, 1\], found .* take x / 127.5 - 1"),
        (lambda x: ((x + 1) * 127.5).byte(), "expected float images within .* found torch.uint8"),
        (lambda x: x.permute(0, 2, 3, 1), "channels come first"),
        (lambda x: x[0], "one image needs"),
        (lambda x: x[:, :1], r"shape \(B, 3, H, W\)"),
        (lambda x: x * torch.nan, "found \\[nan"),
        (lambda x: x / 0, "expected pixels within"),
    ],
)
def test_images_on_another_scale_are_refused(wrong, match):
    """Of them a protector would make a white picture, or torch an error of its own."""
    protector = Protector(size=32, generator_config={"channels": 8, "norm": "instance"}).eval()
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    for use in (protector, protector.universal):
        with pytest.raises(IDGuardError, match=match):
            use(wrong(images))
        use(images)
        use(images[:0] if use is protector.universal else images * 1.005)


# Weaker


@pytest.mark.parametrize("strength", [0.2, 1.0])
def test_a_weakened_protector_adds_its_share_of_both_perturbations(strength):
    full, x = small(), 0.9 * faces()
    weak = WeakenedProtector(full, strength)
    for less, more in zip(weak(x), full(x), strict=True):
        torch.testing.assert_close(less - x, strength * (more - x), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(weak.universal(x), strength * full.universal(x))
    assert weak.epsilon == strength * full.epsilon
    assert weak.training == full.training
    with pytest.raises(IDGuardError, match=r"save the one behind it, \.full"):
        weak.save_pretrained("anywhere")


@pytest.mark.parametrize("strength", [0, -0.5, 1.5, float("nan"), "1", None])
def test_only_a_share_is_a_strength(strength, unchecked):
    with pytest.raises(IDGuardError, match=r"a share of the protector's bound in \(0, 1\]; found"):
        WeakenedProtector(small(), strength)
