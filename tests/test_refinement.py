"""Refining a protector's answer on the face at hand, against a step written out by hand."""

from functools import partial

import pytest
import torch

from art_idguard import IDGuardAttack, IDGuardError, PyTorchManipulator
from art_idguard.faces import arcface_frame, celeba_points
from art_idguard.images import from_array, resize
from art_idguard.losses import adversarial_loss
from art_idguard.perturbation import Protector
from art_idguard.photo_files import read_photo
from art_idguard.recognizers import SFace
from art_idguard.refinement import LOSS, PHOTO, RefinedProtector
from art_idguard.regions import component_mask, heat_map, heat_to_picture
from art_idguard.robustness import crop, draw
from art_idguard.types import Region
from tests.toys import PORTRAIT, tiny_manipulators

SIZE = 64
NAMES = ("stargan", "relgan")


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    protector = Protector(size=SIZE, generator_config={"channels": 8, "norm": "instance"}).eval().requires_grad_(False)
    return protector, tiny_manipulators(NAMES), SFace(width=4).requires_grad_(False)


@pytest.fixture(scope="module")
def x():
    """A face that is found, and a picture without one."""
    portrait = resize(from_array(read_photo(PORTRAIT).pixels[None]), (SIZE, SIZE))
    return torch.cat([portrait, torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2)) - 0.5])


def distance(manipulators, x, protected):
    with torch.no_grad():
        labels = torch.zeros(len(x), 5)
        return [
            sum((m(protected, e).output - m(x, e).output).square().mean().item() for e in m.edits(labels))
            for m in manipulators
        ]


def test_refining_stays_in_the_ball_and_disrupts_every_manipulator_more(parts, x):
    protector, manipulators, recognizer = parts
    refined = RefinedProtector(protector, manipulators, recognizer)
    before, after = protector(x), refined(x.clone().requires_grad_())  # as ART's preprocessors give it
    assert (after.specific - x).abs().max() <= protector.epsilon + 1e-6
    assert after.specific.abs().max() <= 1
    assert not after.specific.requires_grad
    assert torch.equal(after.prior, before.prior)
    assert torch.equal(refined(x).specific, after.specific)
    gains = zip(distance(manipulators, x, after.specific), distance(manipulators, x, before.specific), strict=True)
    assert all(now > 1.5 * then for now, then in gains)


def test_no_step_is_the_protector(parts, x):
    protector, manipulators, recognizer = parts
    assert torch.equal(
        RefinedProtector(protector, manipulators, recognizer, steps=0)(x).specific, protector(x).specific
    )


@pytest.mark.parametrize("augment", [(), ("crop",)])
def test_two_steps_are_the_signs_of_gradients_of_equation_9_at_the_fourth_root_of_their_length(parts, augment):
    """One picture without a face: CelebA's framing is assumed there."""
    protector, manipulators, recognizer = parts
    torch.manual_seed(1)
    x = torch.rand(1, 3, SIZE, SIZE) - 0.5
    points = celeba_points((SIZE, SIZE))
    aligned = arcface_frame(points, (SIZE, SIZE))
    heat = heat_to_picture(heat_map(x, recognizer, aligned), aligned, (SIZE, SIZE))
    epsilon, expected, direction = protector.epsilon, protector(x).specific, torch.zeros_like(x)
    for step in range(2):
        seen = draw(augment, seed=step)
        region = Region(seen.maps(component_mask(points, (SIZE, SIZE))), seen.maps(heat))
        frame = seen.frame(aligned)
        leaf = expected.detach().requires_grad_()
        ascent = torch.zeros_like(x)
        for manipulator in manipulators:
            edit = manipulator.edits(torch.zeros(1, 5))[step]
            clean, disrupted = manipulator(seen.images(x), edit), manipulator(seen.images(leaf), edit)
            identities = recognizer(clean.output, frame), recognizer(disrupted.output, frame)
            task = adversarial_loss(clean, disrupted, identities, region, LOSS)
            (gradient,) = torch.autograd.grad(task.total, leaf)
            ascent += gradient / (gradient**2).sum() ** 0.375
        direction = 0.5 * direction + ascent / (ascent**2).sum() ** 0.5
        length = 0.01 * (1 - step / 2)
        moved = leaf.detach() + length * direction.sign()
        expected = (x + (moved - x).clamp(-epsilon, epsilon)).clamp(-1, 1)
    refined = RefinedProtector(protector, manipulators, recognizer, steps=2, step_size=0.01, augment=augment)
    found = refined(x).specific
    assert ((found - expected).abs() > 1e-6).float().mean() < 1e-3  # signs of gradients next to zero
    assert (expected - protector(x).specific).abs().max() > 0.01


def test_what_is_refined_through_other_framings_survives_one_more(parts, x):
    protector, manipulators, recognizer = parts
    held_out = partial(crop, zoom=1.03, shift=(0.05, -0.02))
    kept = []
    for augment in ((), PHOTO):
        refined = RefinedProtector(protector, manipulators, recognizer, augment=augment)(x).specific
        kept.append(sum(distance(manipulators, held_out(x), held_out(refined))))
    assert kept[1] > 1.1 * kept[0]


def test_celeba_points_are_the_template_in_pixels():
    torch.testing.assert_close(celeba_points((112, 112))[0, 2], torch.tensor([55.0, 72.0]))
    torch.testing.assert_close(celeba_points((224, 112))[0, 2], torch.tensor([55.0, 144.5]))


@pytest.mark.parametrize(("count", "steps"), [(0, 10), (2, -1)])
def test_senseless_refinement_is_refused(parts, count, steps):
    protector, manipulators, recognizer = parts
    with pytest.raises(IDGuardError, match=f"at least 0 steps, found {count} and {steps}"):
        RefinedProtector(protector, manipulators[:count], recognizer, steps=steps)


def test_an_unknown_operation_is_refused(parts):
    protector, manipulators, recognizer = parts
    with pytest.raises(IDGuardError, match="unknown operation sharpen; choose from: none, jpeg"):
        RefinedProtector(protector, manipulators, recognizer, augment=["sharpen"])


def test_a_refined_protector_serves_as_an_art_attack(parts, x):
    protector, manipulators, recognizer = parts
    images = ((x + 1) / 2).numpy()
    refined = RefinedProtector(protector, manipulators, recognizer, steps=2)
    found = IDGuardAttack(protector=refined, verbose=False).generate(images)
    plain = IDGuardAttack(protector=protector, verbose=False).generate(images)
    assert abs(found - images).max() <= 0.025 + 1e-6
    assert abs(found - plain).max() > 0.005


def test_a_refined_protector_is_neither_saved_nor_trained(parts, x, tmp_path):
    protector, manipulators, recognizer = parts
    refined = RefinedProtector(protector, manipulators, recognizer)
    with pytest.raises(IDGuardError, match=r"save the one that it begins with, \.start"):
        refined.save_pretrained(tmp_path)
    estimator = PyTorchManipulator(manipulators[0], input_shape=(3, SIZE, SIZE), device_type="cpu")
    with pytest.raises(IDGuardError, match=r"fit an attack with the one that it begins with, \.start"):
        IDGuardAttack(estimator, refined, verbose=False).fit(((x + 1) / 2).numpy())
