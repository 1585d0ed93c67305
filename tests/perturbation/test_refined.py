"""Refining a protector's answer on the face at hand, against a step written out by hand."""

from functools import partial

import cv2
import pytest
import torch
from torch.nn import functional as F

from art_idguard import IDGuardAttack, IDGuardError, PyTorchManipulator, recognizers
from art_idguard import attribute_classifier as attributes
from art_idguard.attribute_classifier import predictions
from art_idguard.distortions import NOTHING, crop, rescale, sample_distortion
from art_idguard.faces.alignment import arcface_frame, celeba_landmarks, nudged
from art_idguard.files.photo import read_photo
from art_idguard.images import box_blur, from_array, resize
from art_idguard.manipulators.photo import Photo
from art_idguard.metrics import l2_face
from art_idguard.perturbation import Protector, Visibility
from art_idguard.perturbation import refined as refinement
from art_idguard.perturbation.precision import autocast
from art_idguard.perturbation.refined import (
    MOST,
    NUDGE,
    PHOTO,
    SMOOTHING,
    UNNOTICED,
    UNNOTICED_IN_PHOTO,
    RefinedProtector,
    _faces,
    _Lengths,
    _Objectives,
    refined_in_photo,
)
from art_idguard.recognizers import SFace
from art_idguard.regions import face_mask
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


def test_every_step_is_told_and_may_end_the_work(parts):
    protector, manipulators, recognizer = parts
    told = []

    def tell(done, most):
        told.append((done, most))
        if done == 2:
            raise InterruptedError

    refined = RefinedProtector(protector, manipulators[:1], [recognizer], steps=5, on_step=tell)
    with pytest.raises(InterruptedError):
        refined(torch.zeros(1, 3, SIZE, SIZE))
    assert told == [(0, 5), (1, 5), (2, 5)]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_work_ends_where_it_is_enough_which_is_asked_after_each_round_of_edits(parts, x, count):
    protector, manipulators, recognizer = parts
    asked, steps = [], []

    def enough(faces, protected):
        assert torch.equal(faces, x)
        asked.append((len(steps), protected))
        return len(asked) == 3

    options = {"enough": enough, "on_step": lambda done, most: steps.append(done)}
    refined = RefinedProtector(protector, manipulators[:count], [recognizer], steps=40, **options)(x).specific
    turns = 5 * max(1, count)
    assert [done for done, _ in asked] == [0, turns, 2 * turns]
    assert torch.equal(asked[-1][1], refined)
    assert not torch.equal(asked[0][1], refined)


def test_no_step_begins_after_the_time(parts, x, monkeypatch):
    protector, manipulators, recognizer = parts
    monkeypatch.setattr(refinement.time, "monotonic", lambda: next(clock))
    moved, free = [], Visibility()
    options = {"on_step": lambda done, most: steps.append(done), "visibility": free}
    for seconds in (0.0, 2.0, 3.0, 4.0):
        clock, steps = iter(range(100)), []
        refined = RefinedProtector(protector, manipulators[:1], [recognizer], steps=20, seconds=seconds, **options)
        moved.append((refined(x).specific - protector(x).specific).abs().max().item())
        assert steps == list(range(max(0, int(seconds) - 1)))
    assert moved[0] == 0
    assert moved == sorted(moved)
    assert 0 < moved[1] <= 0.06 / 2 + 1e-6


@pytest.mark.slow
def test_refining_stays_in_the_ball_and_disrupts_every_manipulator_more(parts, x):
    protector, manipulators, recognizer = parts
    refined = RefinedProtector(protector, manipulators, [recognizer])
    before, after = protector(x), refined(x.clone().requires_grad_())  # as ART's preprocessors give it
    assert (after.specific - x).abs().max() <= protector.epsilon + 1e-6
    assert after.specific.abs().max() <= 1
    assert not after.specific.requires_grad
    assert torch.equal(after.prior, before.prior)
    assert torch.equal(refined(x).specific, after.specific)
    gains = zip(distance(manipulators, x, after.specific), distance(manipulators, x, before.specific), strict=True)
    assert all(now > 1.5 * then for now, then in gains)


@pytest.mark.slow
def test_networks_run_in_the_precision_asked_for_and_win_as_much(parts, x):
    protector, manipulators, recognizer = parts
    seen, won = {}, {}
    for precision, dtype in (("no", torch.float32), ("bf16", torch.bfloat16)):
        refined = RefinedProtector(protector, manipulators, [recognizer], steps=8, precision=precision)
        conv = next(m for m in manipulators[0].modules() if isinstance(m, torch.nn.Conv2d))
        hook = conv.register_forward_hook(lambda _module, _inputs, output: seen.setdefault(output.dtype))
        after = refined(x).specific
        hook.remove()
        assert seen.popitem()[0] == dtype
        assert not seen
        assert after.dtype == torch.float32
        won[precision] = sum(distance(manipulators, x, after))
    assert won["bf16"] > 0.9 * won["no"] > 0


def test_a_photo_is_refined_in_what_is_faster_here(parts, monkeypatch):
    protector, manipulators, recognizer = parts
    for found in ("no", "bf16"):
        monkeypatch.setattr("art_idguard.perturbation.precision.faster_precision", lambda device, found=found: found)
        refined = refined_in_photo(protector, manipulators, recognizers=[recognizer])
        with autocast(refined.precision, torch.device("cpu")):
            assert torch.is_autocast_enabled("cpu") == (found == "bf16")


def test_no_step_is_the_protector(parts, x):
    protector, manipulators, recognizer = parts
    assert torch.equal(
        RefinedProtector(protector, manipulators, [recognizer], steps=0)(x).specific, protector(x).specific
    )


@pytest.mark.parametrize("augment", [(), ("crop",)])
@pytest.mark.parametrize(("count", "smoothing"), [(0, 0.0), (2, 0.0), (2, 1.0)])
@pytest.mark.parametrize("visibility", [Visibility(), UNNOTICED], ids=["seen", "unnoticed"])
def test_three_steps_are_the_signs_of_gradients_of_the_criterion_with_momentum(
    parts, augment, count, smoothing, visibility
):
    """The photo's own in each, a manipulator's by turns. One picture without a face: CelebA's framing is assumed."""
    protector, manipulators, _ = parts
    recognizer = recognizers.default()  # to one that learnt nothing all pictures are alike
    torch.manual_seed(1)
    x, labels = torch.rand(1, 3, SIZE, SIZE) - 0.5, torch.tensor([[1.0, 0, 0, 0, 1]])
    landmarks = celeba_landmarks((SIZE, SIZE))
    aligned, mask = arcface_frame(landmarks, (SIZE, SIZE)), face_mask(landmarks, (SIZE, SIZE))
    epsilon, free, direction = protector.epsilon, protector(x).specific - x, torch.zeros_like(x)
    for step in range(3):
        seen = sample_distortion(augment, seed=step)
        free.requires_grad_()
        protected = (x + visibility.limit(free, x, epsilon)).clamp(-1, 1)
        before, after = (seen.images(images) for images in (x, protected))
        beside = seen.frame(nudged(aligned, NUDGE, seed=step))
        frames = (beside if augment else aligned, beside)  # what is made of the clean face is kept where it can be

        def cosine(*pictures, frames=frames):
            return F.cosine_similarity(*(recognizer(y, frame) for y, frame in zip(pictures, frames, strict=True)))

        total = -2 * cosine(before, after)
        if count:
            manipulator = manipulators[step % 2]
            edit = manipulator.edits(labels)[step // 2]
            clean, disrupted = (manipulator(images, edit).output for images in (before, after))
            distance = l2_face(clean, disrupted, seen.maps(mask))
            total = total + distance.clamp(max=0.08).log() - 2 * cosine(clean, disrupted).clamp(min=0.2)
        (gradient,) = torch.autograd.grad(total.sum(), protected, retain_graph=True)
        if smoothing:
            pixels = cv2.GaussianBlur(gradient[0].permute(1, 2, 0).numpy(), (7, 7), smoothing)
            gradient = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        (gradient,) = torch.autograd.grad(protected, free, gradient)
        direction = 0.4 * direction + gradient / gradient.abs().mean()
        length = 0.01 * (1 - step / 3)
        free = (free.detach() + length * direction.sign()).clamp(-epsilon, epsilon)
    expected = (x + visibility.limit(free, x, epsilon)).clamp(-1, 1)
    options = {"steps": 3, "step_size": 0.01, "augment": augment, "visibility": visibility, "smoothing": smoothing}
    refined = RefinedProtector(protector, manipulators[:count], [recognizer], **options)
    found = refined(x, labels).specific
    assert ((found - expected).abs() > 1e-6).float().mean() < 1e-3  # signs of gradients next to zero
    assert (expected - protector(x).specific).abs().max() > 0.01


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_photo_itself_is_a_manipulator_that_is_there_anyway(parts, x, precision):
    protector, manipulators, recognizer = parts
    options = {"steps": 2, "precision": precision}
    results = [
        RefinedProtector(protector, targets, [recognizer], **options)(x).specific
        for targets in ([], [Photo()], manipulators[:1], [manipulators[0], Photo()])
    ]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[2], results[3])
    assert not torch.equal(results[0], results[2])


def test_unlabelled_faces_are_edited_as_the_classifier_sees_them(parts, x):
    protector, manipulators, recognizer = parts
    refined = RefinedProtector(protector, manipulators, [recognizer], steps=1)
    asked = []
    hook = manipulators[0].register_forward_pre_hook(lambda _, args: asked.append(args[1].condition))
    refined(x)
    refined(x, torch.tensor([[0.0, 0, 1, 0, 0], [0, 1, 0, 1, 1]]))
    hook.remove()
    seen = predictions(attributes.default()(x))[:, [0, 1, 2, 4, 5]]
    assert torch.equal(asked[0], manipulators[0].edits(seen)[0].condition)
    assert not torch.equal(asked[0], asked[-1])


@torch.no_grad()
def test_what_is_refined_may_not_be_seen(parts, x):
    protector, manipulators, recognizer = parts
    x = 0.9 * x
    hidden = Visibility(lowpass=9, chroma=0.0)
    change = RefinedProtector(protector, manipulators, [recognizer], steps=5, visibility=hidden)(x).specific - x
    assert change.std(dim=1, correction=0).max() < 1e-6
    assert change.abs().max() <= protector.epsilon + 1e-6
    inner = change[..., 8:-8, 8:-8]
    assert box_blur(inner, 9).square().mean() < 0.1 * inner.square().mean()


def test_automatic_steps_halve_and_end_where_no_more_is_won():
    """Rounds of five: the first win, then nothing does; four times too little is won."""
    lengths, taken = _Lengths("auto", 0.02, turns=5), []
    for step, length in enumerate(lengths):
        taken.append(length)
        lengths.note(min(step // 5, 3) * 0.1)
    assert taken == [0.02] * 25 + [0.01] * 5 + [0.005] * 5 + [0.0025] * 5
    eleven = _Lengths("auto", 0.02, turns=11)  # an edit that has its turn again may not be better than the one before
    for step, _ in enumerate(eleven):
        eleven.note((step % 11 == 0) + step // 11 * 0.1)
    assert len(eleven.values) == MOST
    improving = _Lengths("auto", 0.02, turns=5)
    for step, _ in enumerate(improving):
        improving.note(step * 0.1)
    assert len(improving.values) == MOST


@pytest.mark.slow
def test_automatic_refinement_wins_more_than_a_few_steps(parts, x, monkeypatch):
    """By what it maximises, summed over the edits of faces without labels."""
    monkeypatch.setattr(refinement, "MOST", 20)
    protector, manipulators, recognizer = parts
    refined = {s: RefinedProtector(protector, manipulators, [recognizer], steps=s) for s in (3, "auto")}
    objectives = _Objectives(manipulators, [recognizer], _faces(x, attributes.labels(refined[3].classifier, x)), "no")
    won = {s: sum(objectives.ascent(r(x).specific, e, NOTHING)[0] for e in range(10)) for s, r in refined.items()}
    assert won["auto"] > won[3] + 0.1
    assert (refined["auto"](x).specific - x).abs().max() <= protector.epsilon + 1e-6


@pytest.mark.slow
def test_what_is_refined_through_other_framings_survives_one_more(parts, x):
    protector, manipulators, recognizer = parts
    held_out = partial(crop, zoom=1.03, shift=(0.05, -0.02))
    kept = []
    for augment in ((), PHOTO):
        refined = RefinedProtector(protector, manipulators, [recognizer], augment=augment)(x).specific
        kept.append(sum(distance(manipulators, held_out(x), held_out(refined))))
    assert kept[1] > 1.1 * kept[0]


@pytest.mark.slow
def test_what_is_refined_for_a_photo_survives_half_its_size(parts, x):
    """As what is refined through other framings does not, for all its larger change."""
    protector, manipulators, recognizer = parts
    half = partial(rescale, factor=0.5)
    kept = []
    for visibility in (UNNOTICED, UNNOTICED_IN_PHOTO):
        refined = RefinedProtector(protector, manipulators, [recognizer], augment=PHOTO, visibility=visibility)
        kept.append(sum(distance(manipulators, half(x), half(refined(x).specific))))
    assert kept[1] > 1.1 * kept[0]
    in_photo = refined_in_photo(protector, manipulators, recognizers=[recognizer], steps=2)
    options = {"augment": PHOTO, "visibility": visibility, "smoothing": SMOOTHING, "precision": "auto"}
    by_hand = RefinedProtector(protector, manipulators, [recognizer], steps=2, **options)
    assert torch.equal(in_photo(x).specific, by_hand(x).specific)
    assert refined_in_photo(protector, manipulators, precision="no", steps=2).precision == "no"


def test_celeba_points_are_the_template_in_pixels():
    torch.testing.assert_close(celeba_landmarks((112, 112))[0, 2], torch.tensor([55.0, 72.0]))
    torch.testing.assert_close(celeba_landmarks((224, 112))[0, 2], torch.tensor([55.0, 144.5]))


def test_senseless_refinement_is_refused(parts):
    protector, manipulators, recognizer = parts
    with pytest.raises(IDGuardError, match="expected a smoothing of 0 pixels or more, found -1"):
        RefinedProtector(protector, manipulators, [recognizer], smoothing=-1.0)
    with pytest.raises(IDGuardError, match="expected at least 0 steps, found -1"):
        RefinedProtector(protector, manipulators, [recognizer], steps=-1)


def test_an_unknown_operation_is_refused(parts):
    protector, manipulators, recognizer = parts
    with pytest.raises(IDGuardError, match="unknown operation sharpen; choose from: none, jpeg"):
        RefinedProtector(protector, manipulators, [recognizer], augment=["sharpen"])


def test_a_refined_protector_serves_as_an_art_attack(parts, x):
    protector, manipulators, recognizer = parts
    images = ((x + 1) / 2).numpy()
    refined = RefinedProtector(protector, manipulators, [recognizer], steps=2)
    found = IDGuardAttack(protector=refined, verbose=False).generate(images)
    plain = IDGuardAttack(protector=protector, verbose=False).generate(images)
    assert abs(found - images).max() <= 0.025 + 1e-6
    assert abs(found - plain).max() > 0.005


def test_a_refined_protector_is_neither_saved_nor_trained(parts, x, tmp_path):
    protector, manipulators, recognizer = parts
    refined = RefinedProtector(protector, manipulators, [recognizer])
    with pytest.raises(IDGuardError, match=r"save the one that it begins with, \.start"):
        refined.save_pretrained(tmp_path)
    estimator = PyTorchManipulator(manipulators[0], input_shape=(3, SIZE, SIZE), device_type="cpu")
    with pytest.raises(IDGuardError, match=r"fit an attack with the one that it begins with, \.start"):
        IDGuardAttack(estimator, refined, verbose=False).fit(((x + 1) / 2).numpy())


@pytest.mark.parametrize(
    ("options", "said"),
    [({"steps": 2}, "refining: 100%"), ({"steps": 2, "seconds": 60.0}, "refining (at most 60 s): 2step")],
)
def test_a_bar_says_what_is_left_only_where_all_steps_are_done(parts, x, options, said, monkeypatch, capsys):
    protector, manipulators, recognizer = parts
    monkeypatch.setattr(refinement, "tqdm", partial(refinement.tqdm, mininterval=0))
    RefinedProtector(protector, manipulators[:1], [recognizer], verbose=True, **options)(x[:1])
    assert said in capsys.readouterr().err
