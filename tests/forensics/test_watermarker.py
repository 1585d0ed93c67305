"""The watermarker: its bound, and its training step against the textbook's."""

import json
from itertools import pairwise

import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional as F

from art_idguard.cli import main
from art_idguard.errors import IDGuardError
from art_idguard.forensics import Watermarker
from art_idguard.images import from_uint8
from art_idguard.models.loading import load
from art_idguard.training.checkpoint import load_checkpoint
from art_idguard.training.cut_graph import TaskGradients
from art_idguard.training.edits import edits_of
from art_idguard.training.seeding import batch_index, seed_step
from art_idguard.training.watermark import WatermarkConfig, train_watermarker
from art_idguard.training.watermark.run import build_run
from art_idguard.training.watermark.step import AT_CHANCE, KPI_FLOOR, WIDEST, bound, train_step
from art_idguard.weighting import TaskWeighting
from tests.training.trainings import contents

TINY = {"bits": 12, "size": 32, "channels": 4}


def config(workplace, output, **changes):
    settings = {
        "faces": str(workplace / "faces"),
        "manipulators": (str(workplace / "stargan"), str(workplace / "relgan")),
        "output": str(output),
        **TINY,
        **{"alone": 1, "batch_size": 4, "steps": 4, "checkpoint_every": 1, "sample_every": 2},
    }
    return WatermarkConfig(**(settings | changes))


@pytest.mark.parametrize("size", [(32, 32), (48, 40), (16, 64)])
@pytest.mark.parametrize("epsilon", [0.01, 0.05, 1.5])
def test_the_change_is_within_epsilon_at_any_size(size, epsilon):
    watermarker = Watermarker(epsilon=epsilon, **TINY).eval()
    watermarker.encoder.residual[-2].bias.data.fill_(9)  # saturated
    x = torch.rand(3, 3, *size) * 2 - 1
    marked = watermarker(x, torch.randint(2, (3, 12)).float())
    assert marked.shape == x.shape
    assert (marked - x).abs().max() <= epsilon + 1e-6
    assert marked.abs().max() <= 1
    assert watermarker.read(marked).shape == (3, 12)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"bits": 11}, "bits is 11; expected 12 to 64"),
        ({"bits": 65}, "bits is 65"),
        ({"epsilon": 0.0}, r"in \(0, 2\]; found 0.0"),
        ({"size": 36}, "size is 36 and channels 4; expected multiples of 8"),
        ({"channels": 6}, "channels 6; expected multiples"),
    ],
)
def test_options_out_of_range_are_named(wrong, match):
    with pytest.raises(IDGuardError, match=match):
        Watermarker(**TINY | wrong)


def test_it_is_saved_and_loaded_like_every_model(tmp_path):
    watermarker = Watermarker(epsilon=0.1, **TINY).eval()
    watermarker.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert isinstance(again, Watermarker)
    assert (again.bits, again.epsilon, again.size) == (12, 0.1, 32)
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(again.read(x), watermarker.read(x))
    assert "art-idguard watermark embed photo.jpg" in (tmp_path / "README.md").read_text()


# --- its training ---


class Fixed(TaskWeighting):
    """Weights of the test's choice; keeps what it was told."""

    def __init__(self, *weights):
        super().__init__()
        self.weights = torch.tensor(weights)

    def forward(self, statistics):
        self.statistics = statistics
        self.gramian = statistics.gramian("perturbation")
        return self.weights


@pytest.mark.usefixtures("labels")
def test_a_step_has_the_gradients_of_the_textbook(workplace, tmp_path):
    """One graph through encoder, manipulators and decoder at once; the Gramian is that of all they share."""
    run = build_run(config(workplace, tmp_path, alone=1, epsilon=0.3, adversarial_weight=0.01))
    run.step, run.begun, run.weighting = 1, 0.0, Fixed(0.5, 2.0)
    weights = {name: value.clone() for name, value in run.watermarker.state_dict().items()}
    report = train_step(run, progress=1.0)
    learned = list(run.watermarker.parameters())
    found = [p.grad.clone() for p in learned]

    run.watermarker.load_state_dict(weights)
    index = batch_index(1, len(run.images), 4, 0)
    seed_step(0, 1, 0)
    x, message = from_uint8(run.images[index]), torch.randint(2, (4, 12)).float()
    edits, _ = edits_of(run.manipulators, run.attributes[index], 1, torch.arange(4))
    torch.manual_seed(0)  # the discriminator before its update
    discriminator = build_run(config(workplace, tmp_path / "again")).discriminator
    marked = run.watermarker(x, message)
    losses = [
        F.mse_loss(run.watermarker.read(m(marked, edit).output), message)
        for m, edit in zip(run.manipulators, edits, strict=True)
    ]
    beside = F.mse_loss(run.watermarker.read(marked), message)
    beside = beside + 0.05 * (marked - x).square().mean() / 0.3**2
    beside = beside + 0.01 * (discriminator(marked) - 1).square().mean()
    total = 0.5 * losses[0] + 2.0 * losses[1] + 1.25 * beside
    expected = torch.autograd.grad(total, learned, retain_graph=True)
    for mine, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(report.objective, -torch.stack(losses).detach())
    expected = (1 - torch.stack(losses).detach() / AT_CHANCE).clamp_min(KPI_FLOOR)
    torch.testing.assert_close(report.kpi, expected)
    shared = [marked, *run.watermarker.decoder.parameters()]
    rows = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses]
    matrix = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).double()
    torch.testing.assert_close(run.weighting.gramian, matrix @ matrix.T, rtol=1e-3, atol=1e-12)


def test_what_is_shared_may_be_parameters_themselves():
    """TaskGradients through a leaf: its gradient is the cotangent."""
    network, own = torch.nn.Linear(3, 2), torch.nn.Parameter(torch.rand(4))
    out = network(torch.rand(5, 3))
    gradients = TaskGradients([out, own], network.parameters(), [own], Accelerator(cpu=True))
    gradients.cotangents.append((torch.zeros_like(out), torch.arange(4.0)))
    assert torch.equal(gradients.gradient(torch.tensor([2.0]))[-4:], 2 * torch.arange(4.0))


@pytest.mark.slow
@pytest.mark.usefixtures("labels")
@pytest.mark.parametrize("weighting", ["kpi", "mgda"])
def test_a_training_from_scratch_that_was_broken_leaves_what_an_unbroken_one_leaves(workplace, tmp_path, weighting):
    settings = {"weighting": weighting, "augment": ("none", "crop", "noise")}
    train_watermarker(config(workplace, tmp_path / "whole", **settings), verbose=False)
    broken = config(workplace, tmp_path / "broken", **settings)
    for step in (1, 2):
        run = build_run(broken, resume=step > 1)
        train_step(run, progress=run.progress())
        run.save_checkpoint()
    train_watermarker(broken, resume=True, verbose=False)
    mine, whole = (load_checkpoint(tmp_path / name) for name in ("broken", "whole"))
    for name in ("watermarker", "discriminator"):
        assert all(torch.equal(mine[name][key], value) for key, value in whole[name].items())
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert list(log[0]["errors"]) == ["photo"]
    assert list(log[1]["errors"]) == ["stargan", "relgan"]
    assert contents(tmp_path / "whole").keys() >= {"step 1", "step 4"}


@pytest.mark.usefixtures("labels")
def test_the_bound_is_wide_until_the_message_is_learnt_then_falls_to_epsilon(workplace, tmp_path):
    run = build_run(config(workplace, tmp_path, alone=50, steps=100))
    assert bound(run, 0.9) == WIDEST
    run.begun = 0.5
    values = [bound(run, progress / 100) for progress in range(50, 101)]
    assert values[0] == WIDEST
    assert all(after < before for before, after in pairwise(values[:26]))
    assert values[25:] == pytest.approx([0.05] * 26)
    with pytest.raises(IDGuardError, match="has its own bits, channels, alone; leave out"):
        config(workplace, tmp_path, start="somewhere", bits=12)


@pytest.mark.usefixtures("labels")
def test_manipulators_take_part_once_the_steps_alone_are_over(workplace, tmp_path):
    with pytest.warns(UserWarning, match="the bound had not fallen to epsilon yet; give it more steps"):
        train_watermarker(config(workplace, tmp_path, alone=3), verbose=False)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [list(line["errors"]) for line in lines] == [["photo"]] * 3 + [["stargan", "relgan"]]
    with pytest.warns(UserWarning, match="no manipulator took part yet"):
        train_watermarker(config(workplace, tmp_path / "alone", alone=9), verbose=False)


@pytest.mark.usefixtures("labels")
def test_a_run_that_began_elsewhere_does_not_go_on_from_scratch(workplace, tmp_path):
    Watermarker(**TINY).save_pretrained(tmp_path / "start")
    started = {"start": str(tmp_path / "start"), "bits": 30, "channels": 32, "alone": 2000}
    run = build_run(config(workplace, tmp_path / "run", **started))
    train_step(run)
    run.save_checkpoint()
    with pytest.raises(IDGuardError, match="run: start changed since it began"):
        build_run(config(workplace, tmp_path / "run", channels=32, bits=30, alone=2000), resume=True)


@pytest.mark.usefixtures("labels")
@pytest.mark.parametrize("name", ["watermark-celeba64", "watermark-celeba128"])
def test_every_recipe_trains_a_step_from_the_command_line(name, workplace, tmp_path, capsys):
    tiny = {"size": 32, "channels": 4, "bits": 12, "steps": 1, "batch-size": 4, "manipulators": workplace / "stargan"}
    words = [str(word) for option, value in tiny.items() for word in (f"--{option}", value)]
    places = ["--faces", str(workplace / "faces"), "--output", str(tmp_path), "--precision", "no"]
    with pytest.warns(UserWarning, match="no manipulator took part yet"):
        assert main(["watermark", "train", "--recipe", name, *places, *words, "--quiet"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "watermarker")
