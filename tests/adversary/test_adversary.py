"""`art-idguard adversary`: what its attempts learn, that they are kept, and what the report makes of them."""

import json
import math
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from art_idguard import manipulators
from art_idguard.adversary import adapting, cleaner
from art_idguard.adversary.adapting import fine_tuning, lora, lora_patched
from art_idguard.adversary.cleaner import Cleaner, cleaners
from art_idguard.adversary.config import AdversaryConfig
from art_idguard.adversary.families import FAMILIES
from art_idguard.adversary.learning import learn
from art_idguard.adversary.report import UNTOUCHED, worst_attempt
from art_idguard.adversary.setting import AdversarySetting, Family
from art_idguard.adversary.transforms import DENOISING, TRANSFORMS, denoise, purifiers, transforms
from art_idguard.cli import main
from art_idguard.data.reading import read_faces
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.measures import similarity, success
from art_idguard.images import to_uint8
from art_idguard.perturbation import Protector
from art_idguard.recognizers import SFace
from tests.toys import tiny_manipulators, write_portraits

SIZE = 64


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Tiny models, faces, and others to learn on, on disk."""
    folder = tmp_path_factory.mktemp("place")
    write_portraits(folder / "faces", 2, SIZE)
    write_portraits(folder / "others", 6, SIZE)
    for name in ("000.png", "001.png"):  # which are those of faces
        (folder / "others" / name).unlink()
    (model,) = tiny_manipulators(("stargan",))
    model.save_pretrained(folder / "stargan")
    torch.manual_seed(0)
    SFace(width=8).save_pretrained(folder / "judge")
    protector().save_pretrained(folder / "protector")
    return folder


def protector():
    torch.manual_seed(3)
    made = Protector(generator_config={"channels": 8, "norm": "instance"}, size=SIZE)
    nn.init.uniform_(made.prior, -0.03, 0.03)
    return made.eval().requires_grad_(False)


@pytest.fixture
def setting(place, tmp_path):
    (manipulator,) = tiny_manipulators(("stargan",))
    return AdversarySetting(
        name="stargan",
        manipulator=manipulator,
        protector=protector(),
        faces=read_faces(place / "others", size=SIZE),
        steps=4,
        cleaner_steps=4,
        taef2=None,
        seed=0,
        folder=tmp_path / "learnt",
        verbose=False,
    )


@pytest.fixture
def adversary(place, tmp_path):
    """Run the command on the toys; returns the report as JSON and as Markdown."""

    def run(*words, code=0):
        output = tmp_path / "report"
        places = ["--manipulators", place / "stargan", "--recognizers", place / "judge", "--output", output]
        places += ["--data", f"toy={place / 'faces'}", "--learn-from", f"others={place / 'others'}"]
        numbers = ["--steps", 2, "--cleaner-steps", 1, "--refine", 1, "--quiet"]
        assert main(["adversary", str(place / "protector"), *map(str, (*places, *numbers, *words))]) == code
        return (
            None if code else (json.loads((output / "stargan.json").read_text()), (output / "stargan.md").read_text())
        )

    return run


def test_a_new_lora_patch_changes_no_answer(setting):
    patched = lora_patched(setting.manipulator, seed=0)
    x = setting.faces.batch(slice(2)).images
    edit = setting.manipulator.edits(x.new_zeros(2, 5))[0]
    torch.testing.assert_close(patched(x, edit).output, setting.manipulator(x, edit).output)


def test_lora_learns_a_low_rank_change_of_the_convolutions_alone(setting):
    (*_, adapted) = lora(setting).values()
    before = dict(setting.manipulator.named_parameters())
    convolutions = {
        f"{name}.weight"
        for name, module in setting.manipulator.named_modules()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    }
    for name, weight in adapted.named_parameters():
        change = weight - before[name]
        if name in convolutions:
            assert 0 < torch.linalg.matrix_rank(change.flatten(1), rtol=1e-3) <= adapting.RANK
        else:
            assert not change.any()


def test_fine_tuning_changes_all_and_nothing_of_the_original(setting):
    before = {name: p.clone() for name, p in setting.manipulator.named_parameters()}
    (*_, adapted) = fine_tuning(setting).values()
    assert all(not torch.equal(p, before[name]) for name, p in adapted.named_parameters())
    assert all(torch.equal(p, before[name]) for name, p in setting.manipulator.named_parameters())
    assert not any(p.requires_grad for p in adapted.parameters())


def test_an_adapted_manipulator_is_a_folder_that_any_command_takes(setting):
    x = setting.faces.batch(slice(2)).images
    edit = setting.manipulator.edits(x.new_zeros(2, 5))[0]
    for name, family in (("lora", lora), ("fine-tuning", fine_tuning)):
        (*_, adapted) = family(setting).values()
        loaded = manipulators.load(str(setting.folder / f"stargan-{name}"))
        torch.testing.assert_close(loaded(x, edit).output, adapted(x, edit).output)


def test_what_has_no_weights_is_not_adapted(adversary, capsys):
    adversary("--manipulators", "photo", "--attempts", "lora", "fine-tuning", code=1)
    assert "photo has no weights to adapt; choose other attempts than lora, fine-tuning" in capsys.readouterr().err


def test_a_cleaner_learns_to_take_a_constant_perturbation_away(setting, monkeypatch):
    monkeypatch.setattr(cleaner, "Cleaner", partial(Cleaner, channels=8))
    shift = 0.05 * torch.tensor([1.0, -1.0, 1.0])[:, None, None].expand(3, SIZE, SIZE)
    setting.protector.prior.copy_(shift)
    setting.protector.forward = lambda x: type(protector()(x))((x + shift).clamp(-1, 1), x)
    (*_, attempt) = cleaners(replace(setting, cleaner_steps=40)).values()
    x = setting.faces.batch(slice(2)).images
    protected = setting.protector(x).specific
    assert F.mse_loss(attempt.operation(protected), x) < F.mse_loss(protected, x) / 4


def test_a_new_cleaner_changes_nothing():
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(Cleaner(channels=4)(x), x)


def test_what_is_learnt_is_kept_for_a_rerun(setting, monkeypatch):
    first = cleaners(setting)
    monkeypatch.setattr(torch.optim, "Adam", None)  # a rerun takes no step
    again = cleaners(setting)
    x = setting.faces.batch(slice(1)).images
    for a, b in zip(first.values(), again.values(), strict=True):
        torch.testing.assert_close(a.operation(x), b.operation(x), rtol=0, atol=0)


@pytest.mark.parametrize("family", [cleaners, fine_tuning, lora])
def test_another_protector_has_learnt_anew_what_knows_it(setting, family):
    family(setting)
    setting.protector.prior.add_(0.01)
    family(setting)
    kept = list(setting.folder.glob("*.safetensors"))
    assert len(kept) == (1 if family is lora else 2)


def test_learning_leaves_the_programs_random_numbers_alone(setting):
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    lora(setting), cleaners(setting)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_a_loss_that_is_not_finite_is_named(setting):
    network = nn.Linear(1, 1)
    with pytest.raises(IDGuardError, match="mine, step 1: the loss is not finite"):
        learn(network, lambda batch, step: network.weight.sum() * math.nan, setting, "mine", steps=2, lr=1.0)


def test_transforms_and_purifiers_keep_shape_and_range(setting):
    x = setting.faces.batch(slice(2)).images
    for attempt in (transforms(setting) | purifiers(setting)).values():
        seen = attempt.operation(x)
        assert seen.shape == x.shape
        assert seen.abs().max() <= 1 + 1e-6
    assert set(transforms(setting)) == set(TRANSFORMS)


def test_denoising_takes_noise_away():
    x = torch.linspace(-0.5, 0.5, 32).expand(1, 3, 32, 32).contiguous()
    noisy = x + 0.04 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert F.mse_loss(denoise(noisy), x) < F.mse_loss(noisy, x) / 2


def test_denoising_is_opencvs_of_the_colours_as_opencv_has_them():
    x = read_faces("astronaut", size=64).batch(slice(1)).images
    rgb = to_uint8(x)[0].permute(1, 2, 0).numpy()
    found = cv2.fastNlMeansDenoisingColored(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), None, DENOISING, DENOISING)
    assert np.array_equal(to_uint8(denoise(x))[0].permute(1, 2, 0).numpy(), cv2.cvtColor(found, cv2.COLOR_BGR2RGB))


def test_the_worst_attempt_is_taken_for_each_face_by_itself():
    cells = torch.tensor([[[0.2, math.nan], [math.nan, 0.9]], [[0.5, math.nan], [math.nan, 0.1]]])  # K=2, N=2, E=2
    alike = worst_attempt(cells, similarity("toy"))
    torch.testing.assert_close(alike, torch.tensor([[0.5, math.nan], [math.nan, 0.9]]), equal_nan=True)
    rate = worst_attempt(cells.round(), success("toy"))  # one success of two attempts is none
    torch.testing.assert_close(rate, torch.tensor([[0.0, math.nan], [math.nan, 0.0]]), equal_nan=True)


@pytest.mark.slow
def test_the_command_measures_every_attempt_and_the_worst_of_them(adversary, tmp_path, capsys):
    found, text = adversary()
    attempts = {*TRANSFORMS, "denoised", "noise, denoised", "cleaner, 1 steps"}
    attempts |= {f"{name}, {n} steps" for name in ("lora", "fine-tuning") for n in (1, 2)}
    assert set(found["attempts"]) == attempts
    rows = {"ID-Guard", "ID-Guard, refined", "PGD-10", "±epsilon noise", UNTOUCHED}
    for row in rows:
        worst = found["worst attempt on each face"][row]["similarity.sface"]["mean"]
        assert worst >= max(cells[row]["similarity.sface"]["mean"] for cells in found["attempts"].values()) - 1e-6
    assert found["attempts"]["none"][UNTOUCHED]["l2_face"]["mean"] == 0
    assert text in capsys.readouterr().out
    assert text.startswith("# What an adversary leaves of protections against stargan")
    assert (tmp_path / "report" / "report.html").read_text().count('src="data:image/png') == 3
    assert all((tmp_path / "report" / f"stargan-{plot}.png").is_file() for plot in ("left", "effort"))


@pytest.mark.slow
def test_success_is_measured_against_epsilon(adversary, tmp_path):
    found, _ = adversary("--attempts", "transforms", "--strengths", "0.5", "0.25")
    rows = ["ID-Guard, epsilon 0.0125", "ID-Guard, epsilon 0.025", "ID-Guard"]
    changes = [found["attempts"]["none"][row]["l2_face"]["mean"] for row in rows]
    assert 0 < changes[0] < changes[1] < changes[2]
    assert (tmp_path / "report" / "stargan-epsilon.png").is_file()
    assert (tmp_path / "report" / "report.html").read_text().count('src="data:image/png') == 4


@pytest.mark.parametrize("strength", [0, 1, -0.5, 2, math.nan])
def test_a_strength_that_is_no_share_is_refused(strength):
    with pytest.raises(IDGuardError, match="expected shares of the bound between 0 and 1"):
        AdversaryConfig(data="toy=x", output="y", strengths=(float(strength),))


@pytest.mark.slow
def test_chosen_attempts_need_no_faces_to_learn_on(adversary):
    found, _ = adversary("--attempts", "transforms", "--learn-from", "none=/nowhere")
    assert set(found["attempts"]) == set(TRANSFORMS)
    assert found["metadata"]["learns"] is None


def test_wrong_attempts_and_the_same_faces_are_refused(adversary, place, capsys):
    adversary("--attempts", "magic", code=1)
    assert f"unknown attempts: magic; choose from: {', '.join(FAMILIES)}" in capsys.readouterr().err
    adversary("--learn-from", f"toy={place / 'faces'}", code=1)
    assert "the adversary would learn on 2 of the 2 faces to protect" in capsys.readouterr().err


def test_quick_gives_way_to_what_is_given():
    quick = AdversaryConfig.from_recipe(None, data="toy=x", output="y", quick=True, steps=3)
    assert (quick.limit, quick.steps, quick.cleaner_steps, quick.refine) == (4, 3, 40, 4)
    assert quick.manipulators == ("stargan",)


def test_a_family_of_your_own_is_asked_for_by_name(adversary, monkeypatch):
    mine = Family(lambda setting: {"as it is": setting.manipulator})
    monkeypatch.setitem(FAMILIES, "mine", mine)
    found, _ = adversary("--attempts", "mine")
    assert set(found["attempts"]) == {"as it is"}
