"""Adversarial training of manipulators, Eq. (15): the torch core, the command, the ART trainer, the example."""

import runpy
from copy import deepcopy

import numpy as np
import pytest
import torch
from art.attacks.attack import EvasionAttack
from art.attacks.evasion import ProjectedGradientDescent

from art_idguard import manipulators
from art_idguard.attacks import IDGuardAttack, IDGuardUniversalAttack
from art_idguard.cli import main
from art_idguard.data.reading import read_labelled
from art_idguard.defences import ManipulatorAdversarialTrainer
from art_idguard.errors import IDGuardError
from art_idguard.estimators.manipulator import PyTorchManipulator
from art_idguard.hub.shipped import shipped
from art_idguard.images import from_uint8, to_unit
from art_idguard.perturbation import Protector
from art_idguard.perturbation.refined import RefinedProtector
from art_idguard.training.checkpoint import save_checkpoint
from art_idguard.training.manipulator import hardening
from art_idguard.training.manipulator.config import WARMUP, HardeningConfig, ManipulatorConfig
from art_idguard.training.manipulator.hardening import PGDAttacker, ProtectorAttacker, attacker, harden
from art_idguard.training.manipulator.objectives import OBJECTIVES
from art_idguard.training.manipulator.setup import PreloadedGAN, build_run
from art_idguard.training.manipulator.step import distill_step, train_step
from art_idguard.training.manipulator.train import train_manipulator
from art_idguard.types import ATTRIBUTES
from tests import ROOT
from tests.toys import tiny, tiny_manipulators, write_labels, write_portraits

RECIPES = sorted(path.name for path in (ROOT / "hub" / "recipes").glob("*-at-*.toml"))
SIZE, EPSILON = 64, 0.05
TINY = {"size": SIZE, "batch_size": 4, "n_critic": 1, "steps": 4, "log_every": 1, "precision": "no", "warmup": 0}


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = write_portraits(tmp_path_factory.mktemp("labelled"), 12, SIZE)
    write_labels(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Tiny manipulators and a tiny protector, saved."""
    folder = tmp_path_factory.mktemp("models")
    for model in tiny_manipulators(["stargan", "relgan"]):
        model.save_pretrained(folder / model.name)
    protector().save_pretrained(folder / "protector")
    return folder


def protector():
    torch.manual_seed(7)
    return Protector(generator_config={"channels": 8, "norm": "instance"}, size=SIZE, epsilon=EPSILON)


def config(faces, models, output, **changes):
    settings = {
        "manipulator": "stargan",
        "faces": str(faces),
        "output": str(output),
        "start": str(models / "stargan"),
        "protector": str(models / "protector"),
        "channels": 8,
        "protector_lr": 1e-3,
    }
    return HardeningConfig.from_recipe(None, **settings | TINY | changes)


def test_the_generator_sees_attacked_faces_and_the_protector_learns_in_its_ball(faces, models, tmp_path):
    attack = ProtectorAttacker(protector(), lr=1e-3)
    seen = []

    def recording(x, edit, generator):
        attacked = attack(x, edit, generator)
        seen.append((x, attacked))
        return attacked

    run = build_run(config(faces, models, tmp_path), attack=recording)
    inputs = []
    run.generator.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach().clone()))
    before = {name: p.detach().clone() for name, p in attack.protector.named_parameters()}
    train_step(run, progress=0.0)
    ((clean, attacked),) = seen
    assert any(i.shape == attacked.shape and torch.equal(i, attacked) for i in inputs)
    assert 0 < (attacked - clean).abs().max() <= EPSILON + 1e-6
    moved = {name for name, p in attack.protector.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if name != "prior"}


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: ProtectorAttacker(protector(), lr=2e-3), PGDAttacker])
def test_inner_maximisation_climbs(make, faces):
    """Eq. (15): what attacks reaches more than noise does; a protector more than it did when it began."""
    (stargan,) = tiny_manipulators(["stargan"])
    images, labels = read_labelled(faces, attributes=ATTRIBUTES, size=SIZE)
    x, edit = from_uint8(images[:4]), stargan.edits(labels[:4])[1]
    attack = make()

    def reached(attacked):
        return float((stargan(attacked, edit).output - stargan(x, edit).output).square().mean())

    first = reached(attack(x, edit, stargan))
    for _ in range(25 if isinstance(attack, ProtectorAttacker) else 0):
        attack(x, edit, stargan)
    last = reached(attack(x, edit, stargan))
    noise = reached((x + EPSILON * (2 * torch.rand(x.shape) - 1)).clamp(-1, 1))
    assert last > 1.5 * noise
    assert last > 1.5 * first or isinstance(attack, PGDAttacker)


@pytest.mark.slow
@pytest.mark.parametrize("distill", [False, True])
def test_hardening_lowers_what_pgd_reaches_more_than_training_on_clean_faces(distill, faces, tmp_path):
    images, labels = read_labelled(faces, attributes=ATTRIBUTES, size=SIZE)
    x = to_unit(from_uint8(images[:4])).numpy()
    settings = TINY | {"manipulator": "stargan", "faces": "arrays", "steps": 40, "channels": 8, "lr": 1e-3, "ema": 0.5}

    def reached(attack, name):
        (generator,) = tiny_manipulators(["stargan"])
        parts = PreloadedGAN(images, labels, generator)
        made = ManipulatorConfig.from_recipe(None, **settings, output=str(tmp_path / name), distill=distill)
        folder = train_manipulator(made, attack=attack, parts=parts, verbose=False)
        estimator = PyTorchManipulator(manipulators.load(folder))
        pgd = ProjectedGradientDescent(estimator, eps=0.025, eps_step=0.005, max_iter=10, verbose=False)
        return estimator.compute_loss(pgd.generate(x), estimator.predict(x)).mean()

    assert reached(PGDAttacker(steps=3), "hardened") < 0.9 * reached(None, "control")


@pytest.mark.parametrize("attack", ["idguard", "pgd"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_manipulator_is_hardened_from_scratch_too(name, attack, faces, models, tmp_path):
    run = build_run(made := config(faces, models, tmp_path, manipulator=name, start=None, attack=attack, pgd_steps=1))
    run.attack = attacker(made)
    report = train_step(run, progress=0.0)
    assert all(value.isfinite() for value in report.values())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_distillation_is_the_distance_from_the_originals_clean_answer(name, faces, tmp_path):
    images, labels = read_labelled(faces, attributes=OBJECTIVES[name].attributes, size=SIZE)
    settings = TINY | {
        "manipulator": name,
        "faces": "arrays",
        "channels": 8,
        "n_critic": 5,
        "warmup": 3,
        "distill": True,
    }
    made = ManipulatorConfig.from_recipe(None, **settings, output=str(tmp_path))
    seen = {}

    def shifted(x, edit, model):
        seen.update(x=x, edit=edit, model=deepcopy(model))
        return (x + EPSILON).clamp(-1, 1)

    parts = PreloadedGAN(images, labels, OBJECTIVES[name].generator(made))
    run = build_run(made, attack=shifted, parts=parts)
    before = {key: value.clone() for key, value in run.generator.state_dict().items()}
    report = distill_step(run, progress=0.0)  # at once: neither a warm-up nor a discriminator to wait for
    x, edit = seen["x"], seen["edit"]
    expected = (seen["model"]((x + EPSILON).clamp(-1, 1), edit).output - seen["model"](x, edit).output).abs().mean()
    torch.testing.assert_close(report, {"generator/distillation": expected.detach()})
    assert any(not torch.equal(value, before[key]) for key, value in run.generator.state_dict().items())
    assert all(torch.equal(value, before[key]) for key, value in run.teacher.state_dict().items())


def test_smoothness_is_the_distance_between_the_answers_to_attacked_and_clean_faces(faces, models, tmp_path):
    """TRADES: the teacher, here another model than the start, is followed on clean faces."""
    torch.manual_seed(3)
    other = tiny_manipulators(["stargan"])[0]
    other.load_state_dict({k: v * 1.1 if v.is_floating_point() else v for k, v in other.state_dict().items()})
    other.save_pretrained(tmp_path / "teacher")
    made = config(faces, models, tmp_path, distill=True, teacher=str(tmp_path / "teacher"), smoothness=3.0)
    seen = {}

    def shifted(x, edit, model):
        seen.update(x=x, edit=edit, start=deepcopy(model))
        return (x + EPSILON).clamp(-1, 1)

    report = distill_step(build_run(made, attack=shifted), progress=0.0)
    x, edit, start = seen["x"], seen["edit"], seen["start"]
    clean, attacked = start(x, edit).output, start((x + EPSILON).clamp(-1, 1), edit).output
    expected = {
        "generator/distillation": (clean - other(x, edit).output).abs().mean().detach(),
        "generator/smoothness": 3 * (attacked - clean).abs().mean().detach(),
    }
    torch.testing.assert_close(report, expected)


def test_distillation_needs_a_teacher(faces, models, tmp_path):
    with pytest.raises(IDGuardError, match="needs a generator that teaches"):
        build_run(config(faces, models, tmp_path, start=None, distill=True))
    with pytest.raises(IDGuardError, match="belong to distillation"):
        config(faces, models, tmp_path, smoothness=1.0)
    with pytest.raises(IDGuardError, match="is a relgan, not a stargan"):
        build_run(config(faces, models, tmp_path, distill=True, teacher=str(models / "relgan")))


def test_a_trained_generator_waits_for_a_new_discriminator(faces):
    given = {"manipulator": "relgan", "faces": str(faces), "output": "run", "start": "relgan"}
    new, kept = (HardeningConfig.from_recipe(None, **given, start_discriminator=judge) for judge in (None, "judge"))
    assert (new.warmup, kept.warmup) == (1000, 0)
    assert (new.penalty_weight, new.n_critic) == (150, 1)  # RelGAN's own
    assert HardeningConfig.from_recipe(None, **given, distill=True).warmup == 0
    with pytest.raises(IDGuardError, match=r"first turn is step 1001 of 50 \(warmup 1000, n_critic 1\)"):
        HardeningConfig.from_recipe(None, **given, steps=50)


def test_what_ships_is_hardened_where_no_start_is_given(faces, models, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(hardening, "train_manipulator", lambda made, **_: started.append(made.start) or tmp_path)
    harden(config(faces, models, tmp_path, start=None))
    harden(config(faces, models, tmp_path))
    assert started == [str(shipped("manipulators/stargan-celeba128")), str(models / "stargan")]
    with pytest.raises(IDGuardError, match="no trained hisd ships; name the one to harden with start"):
        harden(config(faces, models, tmp_path, start=None, manipulator="hisd"))


def test_the_protectors_rate_may_change_on_resuming(faces, models, tmp_path):
    made = config(faces, models, tmp_path)
    run = build_run(made, attack=attacker(made))
    train_step(run, progress=0.0)
    save_checkpoint(run.folder, run.state())
    made = config(faces, models, tmp_path, protector_lr=1e-7)
    resumed = build_run(made, attack=attacker(made), resume=True)
    assert resumed.attack.optimizer.param_groups[0]["lr"] == 1e-7
    assert len(resumed.attack.optimizer.state) == len(run.attack.optimizer.state) > 0


def test_during_the_warmup_only_the_discriminator_learns(faces, models, tmp_path):
    run = build_run(config(faces, models, tmp_path, warmup=2))
    before = {name: p.clone() for name, p in run.generator.state_dict().items()}
    critic = {name: p.clone() for name, p in run.discriminator.state_dict().items()}
    for step in range(3):
        same = all(torch.equal(p, before[name]) for name, p in run.generator.state_dict().items())
        assert same, f"the generator moved before step {step}"
        train_step(run, progress=0.0)
    assert not all(torch.equal(p, before[name]) for name, p in run.generator.state_dict().items())
    assert not all(torch.equal(p, critic[name]) for name, p in run.discriminator.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "distill"), [("idguard", False), ("pgd", True)])
def test_hardening_leaves_running_statistics_as_they_are(attack, distill, faces, models, tmp_path):
    made = config(
        faces,
        models,
        tmp_path / "run",
        manipulator="relgan",
        start=str(models / "relgan"),
        attack=attack,
        distill=distill,
    )
    before = statistics(manipulators.load(models / "relgan"))
    after = manipulators.load(harden(made, verbose=False))
    assert statistics(after).keys() == before.keys() != set()
    assert all(torch.equal(value, before[name]) for name, value in statistics(after).items())
    weights = manipulators.load(models / "relgan").state_dict()
    assert any(not torch.equal(value, weights[name]) for name, value in after.state_dict().items())


def test_a_generator_from_scratch_and_a_training_without_attacks_make_their_statistics(faces, models, tmp_path):
    for name, options, attack in (
        ("scratch", {"start": None}, PGDAttacker(steps=1)),
        ("clean", {"start": str(models / "relgan")}, None),
    ):
        run = build_run(config(faces, models, tmp_path / name, manipulator="relgan", **options), attack=attack)
        before = statistics(run.generator)
        train_step(run, progress=0.0)
        found = statistics(run.generator)
        assert all(not torch.equal(value, before[key]) for key, value in found.items()), name


def statistics(model):
    """SwitchNorm's, or BatchNorm's: the buffers."""
    return {name: value.clone() for name, value in model.named_buffers()}


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_recipe_runs_for_a_step(recipe, faces, models, tmp_path, capsys):
    name = recipe.partition("-")[0]
    tiny = {"size": SIZE, "channels": 8, "batch_size": 4, "n_critic": 1, "steps": 1, "warmup": 0, "pgd_steps": 1}
    options = [text for key, value in tiny.items() for text in (f"--{key.replace('_', '-')}", str(value))]
    places = ["--faces", faces, "--output", tmp_path / "run", "--start", models / name]
    command = ["harden", "--recipe", ROOT / "hub" / "recipes" / recipe, *places, "--protector", models / "protector"]
    assert main([*map(str, command), "--precision", "no", "--quiet", *options]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "run" / "manipulator")
    assert manipulators.load(tmp_path / "run" / "manipulator").name == name


@pytest.fixture
def art(faces):
    (stargan,) = tiny_manipulators(["stargan"])
    images, labels = read_labelled(faces, attributes=ATTRIBUTES, size=SIZE)
    estimator = PyTorchManipulator(stargan, input_shape=(3, SIZE, SIZE))
    return estimator, to_unit(from_uint8(images)).numpy(), labels.numpy()


@pytest.mark.parametrize(("kind", "distill"), [("idguard", False), ("pgd", False), ("pgd", True)])
def test_the_trainer_replaces_the_model_of_its_classifier(kind, distill, art, tmp_path):
    estimator, x, y = art
    attack = (
        IDGuardAttack(estimator, protector(), verbose=False)
        if kind == "idguard"
        else ProjectedGradientDescent(estimator, eps=0.025, eps_step=0.01, max_iter=2, verbose=False)
    )
    trainer = ManipulatorAdversarialTrainer(estimator, attack, verbose=False)
    before = estimator.predict(x[:1])
    trainer.fit(x, y, batch_size=4, nb_epochs=1, n_critic=1, channels=8, output=tmp_path / "run", distill=distill)
    assert trainer.classifier is estimator
    assert trainer.get_classifier() is estimator
    assert not np.array_equal(estimator.predict(x[:1]), before)
    assert not any(p.requires_grad for p in estimator.model.parameters())
    assert (tmp_path / "run" / "log.jsonl").is_file()
    assert "classifier=stargan" in repr(trainer)
    assert type(attack).__name__ in repr(trainer)


@pytest.mark.parametrize(
    ("given", "warmup"),
    [
        ({}, 3),
        ({"warmup": 1}, 1),
        ({"distill": True}, 0),
        ({"start_discriminator": "judge"}, 0),
        ({"steps": 100_000}, WARMUP),
        ({"n_critic": 5}, 3),
    ],
)
def test_the_trainer_warms_its_new_discriminator_up_as_harden_does(given, warmup, art, monkeypatch):
    estimator, x, y = art
    seen = []

    def stop(config, **_):
        seen.append(config)
        raise IDGuardError("enough")

    monkeypatch.setattr("art_idguard.defences.trainer.train_manipulator", stop)
    trainer = ManipulatorAdversarialTrainer(estimator, IDGuardAttack(estimator, protector(), verbose=False))
    with pytest.raises(IDGuardError, match="enough"):
        trainer.fit(x, y, batch_size=4, nb_epochs=4, channels=8, **{"n_critic": 1} | given)  # 12 steps
    assert seen[0].warmup == warmup


def test_the_trainer_attacks_as_strongly_as_its_attack(art):
    estimator, x, y = art
    attack = IDGuardAttack(estimator, protector(), eps=0.01, verbose=False)
    inner = ManipulatorAdversarialTrainer(estimator, attack)._attacker(1e-4)
    faces = 2 * torch.tensor(x[:2]) - 1
    moved = inner(faces, estimator.model.edits(torch.tensor(y[:2]).float())[0], estimator.model) - faces
    assert 0 < moved.abs().max() <= 0.02 + 1e-6  # on [-1, 1]


@pytest.mark.slow
def test_the_trainer_leaves_running_statistics_as_they_are(art):
    estimator, x, y = art
    (relgan,) = tiny_manipulators(["relgan"])
    estimator = PyTorchManipulator(relgan, input_shape=(3, SIZE, SIZE))
    before, weights = statistics(relgan), {name: p.clone() for name, p in relgan.named_parameters()}
    attack = ProjectedGradientDescent(estimator, eps=0.025, eps_step=0.01, max_iter=2, verbose=False)
    trainer = ManipulatorAdversarialTrainer(estimator, attack, verbose=False)
    trainer.fit(x, y, batch_size=4, nb_epochs=1, n_critic=1, channels=8, precision="no")
    assert all(torch.equal(value, before[name]) for name, value in statistics(estimator.model).items())
    assert any(not torch.equal(p, weights[name]) for name, p in estimator.model.named_parameters())


class Replacing(EvasionAttack):
    """Puts one value into every pixel, and notes which model it attacked."""

    _estimator_requirements = ()

    def __init__(self, estimator, value):
        super().__init__(estimator=estimator)
        self.value, self.attacked = value, []

    def generate(self, x, y=None, **_):
        self.attacked.append(self.estimator.model)
        return np.full_like(x, self.value)


def test_arts_attack_works_on_the_generator_in_training(art):
    estimator, x, y = art
    shown = []
    estimator.model.register_forward_pre_hook(lambda _, args: shown.append(args[0]))  # its copy keeps the hook
    original, attack = estimator.model, Replacing(estimator, 0.75)
    ManipulatorAdversarialTrainer(estimator, attack, verbose=False).fit(
        x, y, batch_size=4, nb_epochs=1, n_critic=1, channels=8
    )
    (trained,) = {id(model): model for model in attack.attacked}.values()
    assert trained is not original
    assert trained is not estimator.model  # which is the average
    assert sum(i.shape == (4, 3, SIZE, SIZE) and bool((i == 0.5).all()) for i in shown) == len(attack.attacked) == 3


def test_a_universal_attack_is_trained_on_as_it_is(art, monkeypatch):
    estimator, x, y = art
    seen, attack = [], IDGuardUniversalAttack(estimator, protector(), verbose=False)
    torch.nn.init.uniform_(attack.protector.prior, -0.05, 0.05)
    before = attack.protector.prior.clone()
    monkeypatch.setattr(type(estimator.model), "forward", _noting(type(estimator.model).forward, seen))
    ManipulatorAdversarialTrainer(estimator, attack, verbose=False).fit(
        x, y, batch_size=4, nb_epochs=1, n_critic=1, channels=8
    )
    assert torch.equal(attack.protector.prior, before)
    faces = torch.tensor(2 * x - 1)
    versions = torch.cat([(f + before).clamp(-1, 1) for f in (faces, faces.flip(-1))])
    assert any(torch.isclose(i, v[None], atol=1e-5).flatten(1).all(1).any() for i in seen for v in versions)


def _noting(forward, seen):
    def noting(self, images, edit):
        seen.append(images.detach())
        return forward(self, images, edit)

    return noting


def test_after_an_error_the_classifier_holds_what_it_held(art):
    estimator, x, y = art
    before = estimator.predict(x[:1])
    trainer = ManipulatorAdversarialTrainer(estimator, Replacing(estimator, np.nan), verbose=False)
    with pytest.raises(IDGuardError, match="not finite"):
        trainer.fit(x, y, batch_size=4, nb_epochs=1, n_critic=1, channels=8)
    assert np.array_equal(estimator.predict(x[:1]), before)
    assert not any(p.requires_grad for p in estimator.model.parameters())


def test_what_the_trainer_cannot_use_is_named(art):
    estimator, x, y = art
    trainer = ManipulatorAdversarialTrainer(estimator, IDGuardAttack(estimator, protector(), verbose=False))
    with pytest.raises(IDGuardError, match=r"labels .* of shape \(N, 5\)"):
        trainer.fit(x, y[:, :2])
    with pytest.raises(IDGuardError, match="square"):
        trainer.fit(x[..., :32], y)
    with pytest.raises(IDGuardError, match="fill a batch"):
        trainer.fit(x, y, batch_size=100)
    with pytest.raises(IDGuardError, match="subclass it"):
        ManipulatorAdversarialTrainer(PyTorchManipulator(lambda z: z))
    refined = RefinedProtector(protector(), [estimator.model])
    with pytest.raises(IDGuardError, match="a refined protector is not trained"):
        ManipulatorAdversarialTrainer(estimator, IDGuardAttack(estimator, refined, verbose=False))
    with pytest.raises(TypeError, match="PyTorchManipulator"):  # ours, or the type checker's of the tests
        ManipulatorAdversarialTrainer(estimator.model)
    with pytest.raises(TypeError, match=r"evasion attack|EvasionAttack"):
        ManipulatorAdversarialTrainer(estimator, protector())
    other = PyTorchManipulator(tiny("taef2"), input_shape=x.shape[1:])
    with pytest.raises(IDGuardError, match="no training of taef2; expected a model of: stargan"):
        ManipulatorAdversarialTrainer(other, ProjectedGradientDescent(other, verbose=False)).fit(x, y)
    other = PyTorchManipulator(estimator.model)
    with pytest.raises(IDGuardError, match="another estimator"):
        ManipulatorAdversarialTrainer(other, ProjectedGradientDescent(estimator, verbose=False))


@pytest.mark.slow
def test_the_example_runs(faces, models, capsys):
    example = runpy.run_path(str(ROOT / "examples" / "harden_with_art.py"))
    places = {"--faces": faces, "--manipulator": models / "stargan", "--protector": models / "protector"}
    toy = ["--size", "64", "--limit", "8", "--channels", "8"]
    example["main"]([*(str(t) for pair in places.items() for t in pair), *toy])
    assert "PGD-10 moves the forged faces by" in capsys.readouterr().out
