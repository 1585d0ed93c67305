"""The manipulators' own training: losses by hand, one step of each, budgets, resume, NaN, the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from art_idguard import manipulators
from art_idguard.cli import main
from art_idguard.errors import IDGuardError
from art_idguard.images import from_uint8
from art_idguard.manipulators import MANIPULATORS, RelGAN
from art_idguard.training import base
from art_idguard.training.base import follow
from art_idguard.training.checkpoint import save_checkpoint
from art_idguard.training.manipulator import losses as losses
from art_idguard.training.manipulator import step as training
from art_idguard.training.manipulator.objectives import OBJECTIVES, Batch
from art_idguard.training.manipulator.objectives.base import discriminator_layers, random_shares
from art_idguard.training.manipulator.setup import ManipulatorRun, build_run
from art_idguard.training.manipulator.train import require_finite, train_manipulator
from art_idguard.training.seeding import seed_step
from tests import ROOT
from tests.toys import LABELS, in_one_and_two_processes, write_labels, write_portraits
from tests.training.trainings import STEPS, gan_config

RECIPES = sorted(
    path.name
    for path in (ROOT / "hub" / "recipes").glob("*-celeba128.toml")
    if not path.name.startswith(("protector", "watermark")) and "-at-" not in path.name  # of other commands
)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = write_portraits(tmp_path_factory.mktemp("labelled"), 12)
    write_labels(folder)
    return folder


# ---------------------------------------------------------------- losses by hand


def test_scores_by_hand():
    real, fake = torch.tensor([3.0, 1.0]), torch.tensor([0.0, -2.0])
    assert losses.wasserstein(real, fake) == -3
    assert losses.least_squares(real, 1.0) == 2
    assert losses.hinge(torch.tensor([2.0, 0.5]), 1) == 0.25
    assert losses.hinge(torch.tensor([2.0, -0.5]), -1) == 1.75


def test_classification_by_hand():
    logits, labels = torch.tensor([[0.0, 2.0], [-1.0, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    p = 1 / (1 + (-logits.double()).exp())
    expected = -(labels * p.log() + (1 - labels) * (1 - p).log()).sum() / 2
    torch.testing.assert_close(losses.classification(logits, labels).double(), expected)


def test_gradient_penalty_by_hand():
    """Of <w, x> the gradient is w wherever the mixture lies; of |x|^2 / 2 it is the mixture itself."""
    real, fake, w = torch.randn(3, 2, 3, 4, 4, dtype=torch.float64)
    mix = torch.tensor([0.25, 1.0], dtype=torch.float64)[:, None, None, None]
    linear = losses.gradient_penalty(lambda x: (w * x).sum((1, 2, 3)), real, fake, mix)
    torch.testing.assert_close(linear, ((w.flatten(1).norm(dim=1) - 1) ** 2).mean())
    quadratic = losses.gradient_penalty(lambda x: x**2 / 2, real, fake, mix)
    mixed = torch.stack([0.25 * real[0] + 0.75 * fake[0], real[1]])
    torch.testing.assert_close(quadratic, ((mixed.flatten(1).norm(dim=1) - 1) ** 2).mean())


def test_gradient_penalty_trains_the_critic():
    critic = nn.Conv2d(3, 1, 3).double()
    real, fake = torch.randn(2, 2, 3, 8, 8, dtype=torch.float64)
    losses.gradient_penalty(critic, real, fake, random_shares(real)).backward()
    assert critic.weight.grad.norm() > 0


def test_squared_gradient_by_hand():
    pictures = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    value = losses.squared_gradient((3 * pictures**2).sum((1, 2, 3)), pictures)
    torch.testing.assert_close(value, (36 * pictures**2).sum() / 2)


def test_interpolation_by_hand():
    """Below one half the near end is no edit, above it the full edit."""
    alpha, between = torch.tensor([[0.25], [0.75]]), torch.tensor([[0.5], [0.5]])
    none, full = torch.tensor([[2.0], [100.0]]), torch.tensor([[100.0], [3.0]])
    expected = ((0.25 - 0.5) ** 2 + 2**2 + (1 - 0.75 - 0.5) ** 2 + 3**2) / 2
    assert losses.interpolation(alpha, between, none, full) == expected


def test_orthogonality_by_hand():
    kernels = [torch.randn(4, 3, 3, 3).double(), torch.randn(2, 5, 4, 4).double()]
    expected = 0.0
    for kernel in kernels:
        for place in kernel.permute(2, 3, 0, 1).flatten(0, 1):
            for i in range(kernel.shape[1]):
                for j in range(kernel.shape[1]):
                    expected += float(place[:, i] @ place[:, j]) ** 2 if i != j else 0.0
    found = losses.orthogonality([*kernels, torch.randn(4, 3, 1, 1).double()])
    assert float(found) == pytest.approx(expected, rel=1e-10)


# ---------------------------------------------------------------- objectives as published, term by term


@pytest.fixture
def game(faces, tmp_path, request):
    """A run in float64 with one batch of it, whose inputs are attacked, and what its generator makes of those."""
    run = build_run(gan_config(faces, tmp_path, request.param))
    batch = training._batch(run, with_gradient=False)
    run.generator.double(), run.discriminator.double()
    attacked = (batch.real + 0.1 * torch.randn_like(batch.real)).clamp(-1, 1)
    batch = Batch(batch.real.double(), attacked.double(), batch.labels.double(), _edit64(batch.edit), batch.task)
    torch.manual_seed(11)
    return run, batch, run.objective.forge(run.generator, batch)


def _edit64(edit):
    return edit._replace(condition=edit.condition.detach().double())


def both_terms(run, batch, forged):
    torch.manual_seed(7)
    critic = run.objective.discriminator_terms(run.discriminator, batch, tuple(t.detach() for t in forged))
    return critic, run.objective.generator_terms(run.generator, run.discriminator, batch, forged)


def compare(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("game", ["stargan", "attentiongan", "fpgan"], indirect=True)
def test_stargan_family_terms_are_the_published_ones(game):
    run, batch, forged = game
    G, D, x, labels = run.generator, run.discriminator, batch.real, batch.labels
    target = batch.edit.condition
    critic, adversary = both_terms(run, batch, forged)

    def translate(picture, to):
        return G(picture, batch.edit._replace(condition=to)).output

    fake = translate(batch.inputs, target)
    torch.manual_seed(7)
    mix = torch.rand(4, 1, 1, 1, dtype=torch.float64)
    penalty = losses.gradient_penalty(lambda p: D(p)[0], x, fake, mix)
    compare(
        critic,
        {
            "critic": D(fake)[0].mean() - D(x)[0].mean(),
            "classification": F.binary_cross_entropy(D(x)[1].sigmoid(), labels, reduction="sum") / 4,
            "penalty": 10 * penalty,
        },
    )

    def towards(picture, wanted):
        return {
            "adversarial": -D(picture)[0].mean(),
            "classification": F.binary_cross_entropy(D(picture)[1].sigmoid(), wanted, reduction="sum") / 4,
            "cycle": 10 * (translate(picture, labels) - x).abs().mean(),
        }

    expected = towards(fake, target)
    if run.config.manipulator == "fpgan":
        own = translate(batch.inputs, labels)
        expected |= {f"same_{name}": value for name, value in towards(own, labels).items()}
        expected["identity"] = 10 * (own - x).abs().mean()
    compare(adversary, expected)


@pytest.mark.parametrize("game", ["relgan"], indirect=True)
def test_relgan_terms_are_the_published_ones(game):
    run, batch, forged = game
    G, D, a, va = run.generator, run.discriminator, batch.real, batch.labels
    critic, adversary = both_terms(run, batch, forged)
    alpha = forged[3]

    def change(picture, vector):
        return G(picture, batch.edit._replace(condition=vector)).output

    b, c, vb, vc = a.roll(1, 0), a.roll(2, 0), va.roll(1, 0), va.roll(2, 0)
    ab, ac, cb = vb - va, vc - va, vb - vc
    torch.testing.assert_close(batch.edit.condition, ab)
    full, none, between = (change(batch.inputs, share * ab) for share in (1, 0, alpha))
    torch.manual_seed(7)
    penalty = losses.gradient_penalty(lambda p: D(a, p, ab)[0], a, full, torch.rand(4, 1, 1, 1, dtype=torch.float64))
    wrong = [D(a, full, ab), D(c, b, ab), D(a, c, ab), D(a, b, ac), D(a, b, cb)]
    d = [D.interpolation(picture) for picture in (between, none, full)]
    compare(
        critic,
        {
            "realness": ((D(a, b, ab)[0] - 1) ** 2 + D(a, full, ab)[0] ** 2).mean(),
            "match": ((D(a, b, ab)[1] - 1) ** 2 + sum(match**2 for _, match in wrong)).mean(),
            "penalty": 150 * penalty,
            "interpolation": losses.interpolation(alpha, *d),
        },
    )
    realness, match = D(a, full, ab)
    compare(
        adversary,
        {
            "realness": ((realness - 1) ** 2).mean(),
            "match": ((match - 1) ** 2).mean(),
            "cycle": 10 * (change(full, -ab) - a).abs().mean(),
            "identity": 10 * (none - a).abs().mean(),
            "interpolation": (d[0] ** 2).mean(),
            "orthogonality": 1e-4 * losses.orthogonality(p for p in G.parameters() if p.dim() == 4),
        },
    )


@pytest.mark.parametrize("game", ["hisd"], indirect=True)
def test_hisd_terms_are_the_published_ones(game):
    run, batch, forged = game
    G, D, x, (i, j, k) = run.generator, run.discriminator, batch.real, batch.task
    y = 2 * batch.labels[:, -2:] - 1
    critic, adversary = both_terms(run, batch, forged)
    e, s, target = G.encode(batch.inputs), G.extract(batch.inputs, i), batch.edit.condition
    translated = G.decode(G.translate(e, target, i))
    cycled = G.decode(G.translate(G.encode(translated), s, i))

    def score(picture, style, kind, attribute):
        return D(picture, style, y, i)[:, kind, attribute]

    leaf = x.detach().requires_grad_()
    real = [score(leaf, s.detach(), kind, j) for kind in (0, 1)]
    gradients = [torch.autograd.grad(r.sum(), leaf, create_graph=True)[0] for r in real]
    compare(
        critic,
        {
            "real": sum(F.relu(1 - r).mean() for r in real),
            "translated": F.relu(1 + score(translated, target, 0, k)).mean(),
            "cycled": F.relu(1 + score(cycled, s, 1, j)).mean(),
            "penalty": sum((g**2).sum() / 4 for g in gradients),
        },
    )
    compare(
        adversary,
        {
            "adversarial": sum(score(x, s, kind, j).mean() for kind in (0, 1))
            - score(translated, target, 0, k).mean()
            - score(cycled, s, 1, j).mean(),
            "style": (G.extract(translated, i) - target).abs().mean(),
            "cycle": sum(
                (picture - x).abs().mean() for picture in (G.decode(e), G.decode(G.translate(e, s, i)), cycled)
            ),
        },
    )


def test_hisd_draws_faces_of_the_source_attribute_and_another_target(faces, tmp_path):
    run = build_run(gan_config(faces, tmp_path, "hisd"))
    seen = set()
    for step in range(300):
        index, (tag, source, target) = run.objective.sample_batch(step)
        assert source != target
        seen.add((tag, source, target))
        labels = run.labels[index]
        if tag < 2:
            assert (labels[:, tag] == 1 - source).all()
        else:
            assert (labels[:, 2:6].sum(1) == 1).all()
            assert (labels[:, 2 + source] == 1).all()
    assert len(seen) == 10  # 2 + 2 + 6 translations


def test_hisd_mappers_learn_slowly(faces, tmp_path):
    run = build_run(gan_config(faces, tmp_path, "hisd"))
    others, mappers = run.optimizers["generator"].param_groups
    assert (others["lr"], mappers["lr"]) == (1e-4, 1e-6)
    assert {id(p) for p in mappers["params"]} == {id(p) for p in run.generator.mappers.parameters()}
    assert len(others["params"]) + len(mappers["params"]) == len(list(run.generator.parameters()))


def test_stargan_asks_for_the_labels_of_other_faces(faces, tmp_path):
    run = build_run(gan_config(faces, tmp_path, batch_size=12))
    wanted = run.objective.edit(run.generator, run.faces(torch.arange(12)), run.labels, ()).condition
    assert not torch.equal(wanted, run.labels)
    assert sorted(wanted.tolist()) == sorted(run.labels.tolist())


def test_hisd_has_the_style_widths_of_its_size(faces, tmp_path):
    with torch.device("meta"):
        networks = [
            make(gan_config(faces, tmp_path, "hisd", size=size, channels=64))
            for make in (OBJECTIVES["hisd"].generator, OBJECTIVES["hisd"].discriminator)
            for size in (128, 256)
        ]
    found = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert found == [48_245_891, 19_043_939, 40_543_850, 12_500_042]  # as official


# ---------------------------------------------------------------- the step and the loop


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_step_changes_both_networks_and_the_average(name, faces, tmp_path):
    run = build_run(gan_config(faces, tmp_path, name))
    networks = {**run.networks, "average": run.average}
    before = {who: {k: v.clone() for k, v in network.state_dict().items()} for who, network in networks.items()}
    report = training.train_step(run, progress=0.0)
    assert all(value.isfinite() for value in report.values())
    for who, network in networks.items():
        assert any(not torch.equal(v, before[who][k]) for k, v in network.state_dict().items()), who
        assert all(v.isfinite().all() for v in network.state_dict().values())
    assert all(p.requires_grad for network in run.networks.values() for p in network.parameters())


def test_generator_learns_every_n_critic_steps(faces, tmp_path):
    run = build_run(gan_config(faces, tmp_path, n_critic=3))
    turns = [any(k.startswith("generator") for k in training.train_step(run, progress=0.0)) for _ in range(6)]
    assert turns == [False, False, True] * 2


def test_average_follows_faster_at_first(faces, tmp_path):
    """Decay min(ema, (1 + t) / (10 + t)): at the first update a tenth of the old average stays."""
    run = build_run(gan_config(faces, tmp_path))
    before = run.average.main[0].weight.clone()
    training.train_step(run, progress=0.0)
    expected = 0.1 * before + 0.9 * run.generator.main[0].weight
    torch.testing.assert_close(run.average.main[0].weight, expected.detach())


@pytest.mark.parametrize(("warmup", "n_critic"), [(0, 2), (3, 1), (3, 2)])
def test_average_counts_updates_from_the_generators_first(warmup, n_critic, faces, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(training, "follow", lambda *given: seen.append(given[-1]))
    run = build_run(gan_config(faces, tmp_path, warmup=warmup, n_critic=n_critic, steps=20))
    for _ in range(run.config.first_update + 2 * n_critic):
        training.train_step(run, progress=0.0)
    assert seen == [0, 1, 2]


@torch.no_grad()
def test_average_keeps_its_share_later_on(faces, tmp_path):
    run = build_run(gan_config(faces, tmp_path, ema=0.25))
    average, current = run.average.main[0].weight, run.generator.main[0].weight
    before = average.clone()
    current.add_(1)
    follow(run.average, run.generator, 0.25, 10**6)
    torch.testing.assert_close(average, before + 0.75)


def test_gradients_are_clipped_and_adam_has_its_decay_rates(faces, tmp_path):
    run = build_run(gan_config(faces, tmp_path, clip=1e-3, betas=(0.1, 0.2)))
    training.train_step(run, progress=0.0)
    for name, network in run.networks.items():
        norm = torch.stack([p.grad.norm() for p in network.parameters()]).norm()
        assert norm == pytest.approx(1e-3, rel=1e-2)
        assert [group["betas"] for group in run.optimizers[name].param_groups] == [(0.1, 0.2)]


def test_relgan_trains_on_batch_statistics_and_its_average_on_running_ones(faces, tmp_path):
    run = build_run(gan_config(faces, tmp_path, "relgan"))
    norms = [m for network in (run.generator, run.average) for m in network.modules() if hasattr(m, "mean_weight")]
    assert [m.use_batch_statistics for m in norms] == [True] * (len(norms) // 2) + [False] * (len(norms) // 2)


@pytest.mark.slow
def test_training_lowers_the_cycle_loss(faces, tmp_path):
    train_manipulator(gan_config(faces, tmp_path, steps=25, lr=2e-3), verbose=False)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    cycles = [record["loss"]["generator/cycle"] for record in records]
    assert sum(cycles[-5:]) < 0.8 * sum(cycles[:5])
    assert all(record["images_per_second"] > 0 for record in records)


def test_faces_are_crops_some_mirrored(faces, tmp_path):
    run = build_run(gan_config(faces, tmp_path, margin=8))
    seen = set()
    for step in range(12):
        seed_step(0, step, 0)
        face = run.faces(torch.tensor([3]))[0]
        for mirrored in (False, True):
            whole = from_uint8(run.images[3]).flip(-1) if mirrored else from_uint8(run.images[3])
            windows = whole.unfold(1, 64, 1).unfold(2, 64, 1)  # 3, top, left, 64, 64
            seen |= {(mirrored, *place) for place in (windows == face[:, None, None]).all((0, 3, 4)).nonzero().tolist()}
    assert {mirrored for mirrored, *_ in seen} == {False, True}
    assert len(seen) > 6


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 1), (0.5, 1), (0.75, 0.5), (1.0, 0)])
def test_learning_rate_falls_linearly_from_half_of_the_budget(progress, factor, faces, tmp_path):
    run = build_run(gan_config(faces, tmp_path, "hisd", decay_from=0.5))
    for _ in range(2):  # not cumulative
        training.set_learning_rates(run, progress)
    others, mappers = run.optimizers["generator"].param_groups
    assert (others["lr"], mappers["lr"]) == pytest.approx((1e-4 * factor, 1e-6 * factor))


def test_progress_is_that_of_the_budget_that_ends_first(faces, tmp_path):
    run = build_run(gan_config(faces, tmp_path, steps=100, minutes=2.0))
    run.step, run.elapsed = 10, 60.0
    assert run.progress() == 0.5
    run.step = 80
    assert run.progress() == 0.8


@pytest.fixture(scope="module")
def one_and_two(faces, tmp_path_factory):
    """What tests/training/two_gan_processes.py finds in one process and in two."""
    folder = tmp_path_factory.mktemp("processes")
    return in_one_and_two_processes("training/two_gan_processes.py", faces, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_processes_average_the_gradients_of_their_shares(one_and_two, name):
    one, two = one_and_two
    assert int(two["processes"]) == 2
    assert one[name].norm() > 0
    assert (two[name] - one[name]).norm() <= 1e-5 * one[name].norm()


class Noise(nn.Module):
    """An attack that learns: its parameter grows with each call; at call `at` it does something else."""

    def __init__(self, at=None, instead=None):
        super().__init__()
        self.calls = nn.Parameter(torch.zeros(()))
        self.at, self.instead = at, instead

    def forward(self, x, edit, manipulator):
        assert manipulator(x, edit).output.shape == x.shape
        with torch.no_grad():
            self.calls += 1
        attacked = (x + 0.05 * torch.randn_like(x) * self.calls).clamp(-1, 1)
        return self.instead(attacked) if self.at == self.calls else attacked


def crash(_):
    raise RuntimeError("power cut")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["relgan", "hisd"])  # StarGAN's is in the contract
def test_broken_and_resumed_run_is_bit_identical_to_an_unbroken_one(name, faces, tmp_path):
    unbroken = train_manipulator(gan_config(faces, tmp_path / "unbroken", name), verbose=False, attack=Noise())
    broken = gan_config(faces, tmp_path / "broken", name, checkpoint_every=1)
    with pytest.raises(RuntimeError, match="power cut"):
        train_manipulator(broken, verbose=False, attack=Noise(at=3, instead=crash))
    with pytest.raises(IDGuardError, match="--resume"):
        train_manipulator(broken, verbose=False)
    attack = Noise()
    resumed = train_manipulator(broken, resume=True, verbose=False, attack=attack)
    assert attack.calls == STEPS
    assert (resumed / "model.safetensors").read_bytes() == (unbroken / "model.safetensors").read_bytes()
    discriminators = [load_file(tmp_path / w / "discriminator.safetensors") for w in ("unbroken", "broken")]
    assert all(torch.equal(value, discriminators[1][key]) for key, value in discriminators[0].items())


@pytest.mark.slow
def test_a_resumed_run_has_the_log_and_the_samples_of_an_unbroken_one(faces, tmp_path):
    """Killed behind a checkpoint that lies between two turns of the generator."""

    def left(output):
        records = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
        samples = {path.name: path.read_bytes() for path in (output / "samples").iterdir()}
        return [record["loss"] for record in records], samples

    options = {"steps": 4, "n_critic": 2, "sample_every": 1}
    train_manipulator(gan_config(faces, tmp_path / "unbroken", **options), verbose=False)
    for steps in (2, 3):
        settings = gan_config(faces, tmp_path / f"{steps}", **options)
        with pytest.MonkeyPatch.context() as patch:

            def saved_and_killed(run, steps=steps, save=ManipulatorRun.save_checkpoint):
                save(run)
                if run.step == steps:
                    raise KeyboardInterrupt

            patch.setattr(ManipulatorRun, "save_checkpoint", saved_and_killed)
            with pytest.raises(KeyboardInterrupt):
                train_manipulator(settings, verbose=False)
        train_manipulator(settings, resume=True, verbose=False)
        assert left(tmp_path / f"{steps}") == left(tmp_path / "unbroken")


def test_nan_stops_the_run_with_step_model_and_checkpoint(faces, tmp_path):
    """Seen at the next line of the log, which names the step that it began with."""
    settings = gan_config(faces, tmp_path, steps=100, log_every=5, checkpoint_every=2)
    match = r"step 3: the loss of stargan's discriminator is not finite.*checkpoint\.pt; resume with a lower lr$"
    with pytest.raises(IDGuardError, match=match):
        train_manipulator(settings, verbose=False, attack=Noise(at=3, instead=lambda x: x * torch.nan))
    good = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert good["step"] == 2
    assert all(value.isfinite().all() for value in good["average"].values())


def test_nan_before_the_first_checkpoint(faces, tmp_path):
    run = build_run(gan_config(faces, tmp_path))
    next(run.discriminator.parameters()).data.fill_(torch.nan)
    training.train_step(run, progress=0.0)
    with pytest.raises(IDGuardError, match=r"step 1: .*no checkpoint yet"):
        require_finite(run)


def test_resuming_with_other_labels_is_refused(tmp_path):
    folder = write_portraits(tmp_path / "faces", 12)
    write_labels(folder)
    run = build_run(gan_config(folder, tmp_path / "run"))
    save_checkpoint(run.folder, run.state())
    write_labels(folder, LABELS | {"Young": "1" * 12})
    with pytest.raises(IDGuardError, match="run: faces changed since it began"):
        build_run(gan_config(folder, tmp_path / "run"), resume=True)


def test_minutes_that_end_before_the_generators_first_turn_are_an_error(faces, tmp_path):
    settings = gan_config(faces, tmp_path, steps=1000, minutes=1e-6, warmup=3, n_critic=2)
    with pytest.raises(
        IDGuardError, match="never learned: 1 steps in 1e-06 minutes, warmup 3, n_critic 2; resume with"
    ):
        train_manipulator(settings, verbose=False)
    assert not (tmp_path / "manipulator").exists()
    turns = build_run(gan_config(faces, tmp_path / "turns", steps=4, warmup=3, n_critic=2))
    learnt = [any(k.startswith("generator") for k in training.train_step(turns, progress=0.0)) for _ in range(4)]
    assert learnt.index(True) + 1 == settings.first_update == 4


def test_training_goes_on_from_a_manipulator_and_its_discriminator(faces, tmp_path):
    first = train_manipulator(gan_config(faces, tmp_path / "first", "relgan", steps=1), verbose=False)
    judge = tmp_path / "first" / "discriminator.safetensors"
    settings = gan_config(
        faces, tmp_path / "second", "relgan", start=str(first), start_discriminator=str(judge), seed=9
    )
    run = build_run(settings)
    for key, value in load_file(first / "model.safetensors").items():
        assert torch.equal(run.generator.state_dict()[key], value)
    for key, value in load_file(judge).items():
        assert torch.equal(run.discriminator.state_dict()[key].half(), value)
    training.train_step(run, progress=0.0)
    with pytest.raises(IDGuardError, match="is a relgan, not a stargan"):
        build_run(gan_config(faces, tmp_path / "third", "stargan", start=str(first)))


# ---------------------------------------------------------------- settings, data, command line


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains_a_step_from_the_command_line(recipe, faces, tmp_path, capsys):
    words = ["--faces", faces, "--output", tmp_path / "run", "--size", 64, "--channels", 8, "--batch-size", 4]
    words += ["--steps", 1, "--n-critic", 1, "--recipe", ROOT / "hub" / "recipes" / recipe, "--quiet"]
    assert main(["train-manipulator", *map(str, words)]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert load_file(folder / "model.safetensors").popitem()[1].dtype in (torch.float16, torch.int64)
    model = manipulators.load(folder)
    x = torch.zeros(2, 3, 64, 64)
    assert all(model(x, edit).output.isfinite().all() for edit in model.edits(torch.zeros(2, 5)))
    assert json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])["step"] == 1
    assert (tmp_path / "run" / "samples" / "000001.png").is_file()


def test_command_line_names_the_manipulator(faces, tmp_path):
    words = ["relgan", "--faces", faces, "--output", tmp_path, "--size", 64, "--channels", 8, "--steps", 1, "--quiet"]
    assert main(["train-manipulator", *map(str, words)]) == 0
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["config"]
    assert (saved["manipulator"], saved["penalty_weight"], saved["n_critic"]) == ("relgan", 150, 1)


def test_there_is_a_recipe_for_each_manipulator_and_for_the_gray_box():
    expected = {*(f"{name}-celeba128.toml" for name in OBJECTIVES)}
    assert set(RECIPES) == expected | {"stargan-seed2-celeba128.toml", "relgan-instance-celeba128.toml"}
    assert OBJECTIVES.keys() == {name for name, kind in MANIPULATORS.items() if kind.published is None}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"size": 100}, "multiple of 64"),
        ({"betas": (0.5,)}, "expected 2"),
        ({"betas": (2.0, 3.0)}, "expected 2 numbers, each from 0 to below 1"),
        ({"betas": (0.5, float("nan"))}, "each from 0 to below 1"),
        ({"ema": 2.0}, "ema is 2.0"),
        ({"clip": 0.0}, "clip is 0.0; expected more than 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"steps": 4, "n_critic": 5}, "never learn: its first turn is step 5 of 4"),
        ({"steps": 0}, "expected at least 1"),
        ({"decay_from": 1.5}, "share of the budget"),
        ({"minutes": 0.0}, "more than 0"),
        ({"manipulator": "hisd", "precision": "bf16"}, "diverges in bf16"),
        ({"manipulator": "relgan", "batch_size": 2}, "at least 3 a process, found 2"),
        ({"batch_size": 13}, "12 faces do not fill"),
    ],
)
def test_bad_settings_are_named(changes, match, faces, tmp_path):
    with pytest.raises(IDGuardError, match=match):
        build_run(gan_config(faces, tmp_path, **changes))


def test_what_diverges_in_bf16_is_in_float32_by_itself(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "faster_precision", lambda device: "bf16")
    for name, precision in (("hisd", "no"), ("stargan", "bf16")):
        run = build_run(gan_config(faces, tmp_path / name, name, precision="auto"))
        assert run.accelerator.mixed_precision == precision


def test_missing_labels_are_named(tmp_path):
    folder = write_portraits(tmp_path / "faces", 4)
    with pytest.raises(IDGuardError, match=r"000\.png of .* has no labels; expected .*train\.csv"):
        build_run(gan_config(folder, tmp_path / "run"))
    write_labels(folder, {name: value[:4] for name, value in LABELS.items() if name != "Eyeglasses"})
    with pytest.raises(IDGuardError, match="lacks the columns Eyeglasses"):
        build_run(gan_config(folder, tmp_path / "run", "hisd"))


def test_faces_that_hisd_cannot_learn_an_attribute_from_are_named(tmp_path):
    folder = write_portraits(tmp_path / "faces", 12)
    for name, values in (("Eyeglasses", "0" * 12), ("without Eyeglasses", "1" * 12), ("Blond_Hair", "0" * 12)):
        write_labels(folder, LABELS | {name.removeprefix("without "): values})
        with pytest.raises(IDGuardError, match=f"none of the 12 faces is one for {name};"):
            build_run(gan_config(folder, tmp_path / "run", "hisd"))


def test_instance_normalised_relgan_has_the_gray_boxes_names():
    with torch.device("meta"):
        model = RelGAN(norm="instance")
    official = json.loads((ROOT / "tests" / "keys" / "relgan_instance.json").read_text())
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == official


@pytest.mark.slow
def test_training_needs_neither_art_nor_opencv_nor_torchcam():
    blocked = ("art", "cv2", "torchcam", "cvxpy", "torchvision", "matplotlib", "tensorboard")
    script = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import art_idguard.training.manipulator.train"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


@pytest.mark.parametrize(("size", "side"), [(64, 2), (128, 2), (192, 3), (256, 4)])
def test_a_discriminator_ends_in_a_map_of_two_pixels_and_six_halvings_at_most(size, side):
    assert size >> discriminator_layers(size) == side
