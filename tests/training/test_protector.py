"""The training step against the textbook's, two processes against one, and what a training consists of."""

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from art_idguard.cli import main
from art_idguard.data.faces import FaceBatch
from art_idguard.data.reading import read_faces
from art_idguard.distortions import NOTHING, sample_distortion
from art_idguard.errors import IDGuardError
from art_idguard.hub.shipped import list_models
from art_idguard.losses import LOG, OFFICIAL, PAPER, TERMS
from art_idguard.manipulators import MANIPULATORS
from art_idguard.objective import objective
from art_idguard.perturbation import GENERATORS, Protector, pgd
from art_idguard.perturbation.prior import kept_surrogate
from art_idguard.recognizers import SFace
from art_idguard.regions import MaskedFaces
from art_idguard.training.checkpoint import save_checkpoint
from art_idguard.training.edits import edits_of
from art_idguard.training.protector import probe as probe_module
from art_idguard.training.protector import setup
from art_idguard.training.protector import step as step_module
from art_idguard.training.protector.config import OF_A_PROTECTOR, ProtectorConfig
from art_idguard.training.protector.run import Preloaded
from art_idguard.training.protector.setup import build_run
from art_idguard.training.protector.step import cut_graph_step, task_gradients, train_step
from art_idguard.training.protector.train import train_protector
from art_idguard.training.seeding import batch_index, step_seed
from art_idguard.types import Protected, Region
from art_idguard.weighting import TaskStatistics, make_weighting
from examples.benchmarks.step import textbook_step
from tests import ROOT
from tests.toys import ToyRecognizer, in_one_and_two_processes, tiny_manipulators
from tests.training.trainings import arguments, in_a_process, protector_config
from tests.training.two_processes import CASES


def double_setting(space):
    torch.manual_seed(3)
    dtype = torch.float64
    protector = Protector(size=32, generator_config={"channels": 8, "norm": "instance"}).to(dtype)
    protector.prior.data.uniform_(-0.05, 0.05)
    targets = tiny_manipulators(dtype=dtype)
    images = torch.rand(3, 3, 32, 32, dtype=dtype) * 2 - 1
    region = Region(*torch.rand(3, 3, 1, 32, 32, dtype=dtype))
    edits = [t.edits(torch.eye(5, dtype=dtype)[:3])[1] for t in targets]
    recognizers = [ToyRecognizer(width=w).to(dtype).requires_grad_(False) for w in (4, 6)]
    return protector, targets, edits, recognizers, MaskedFaces(images, region, None)


def gradients(protector):
    return torch.cat([p.grad.flatten() for p in protector.parameters() if p.grad is not None])


@pytest.mark.parametrize("loss", [PAPER, OFFICIAL, LOG], ids=["paper", "official", "log"])
@pytest.mark.parametrize("weighting", ["kpi", "mgda"])
@pytest.mark.parametrize("train_prior", [True, False], ids=["joint", "generator alone"])
def test_cut_graph_step_equals_textbook_step(train_prior, weighting, loss):
    protector, targets, edits, recognizers, masked = double_setting("parameters")
    protector.prior.requires_grad_(train_prior)
    rule = make_weighting(weighting, alpha=(1.0, 10.0, 1.0, 1.0), space="parameters")
    own_rule = make_weighting(weighting, alpha=(1.0, 10.0, 1.0, 1.0), space="parameters")
    kpi = []
    rule.register_forward_pre_hook(lambda _, args: kpi.append(args[0].kpi))
    twice = weighting == "kpi" and train_prior  # the second weights depend on the KPIs; those of z_p stay out else
    for step in range(2 if twice else 1):
        protector.zero_grad()
        expected_weights = textbook_step(protector, targets, edits, recognizers, rule, masked, loss)
        expected = gradients(protector)
        protector.zero_grad()
        report = cut_graph_step(protector, targets, edits, recognizers, own_rule, masked, Accelerator(cpu=True), loss)
        assert expected.norm() > 0
        if train_prior:
            torch.testing.assert_close(report.kpi, kpi[step], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(report.weights, expected_weights, rtol=1e-9, atol=1e-12)
        assert (gradients(protector) - expected).norm() <= 1e-9 * expected.norm()
    assert not (twice and torch.allclose(report.weights, own_rule.alpha.double()))


@pytest.mark.parametrize("operation", ["none", "blur"])
def test_micro_batches_do_what_the_batch_does(operation):
    protector, targets, edits, recognizers, masked = double_setting("perturbation")
    seen, found = [], []
    targets[0].register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    for micro_batch in (None, 2):
        rule = make_weighting("mgda", alpha=(1.0, 10.0, 1.0, 1.0), space="perturbation")
        report = cut_graph_step(
            protector,
            targets,
            edits,
            recognizers,
            rule,
            masked,
            Accelerator(cpu=True),
            PAPER,
            sample_distortion((operation,), seed=1),
            shares=True,
            micro_batch=micro_batch,
        )
        found.append((*report, gradients(protector)))
        protector.zero_grad()
    assert max(seen[: len(seen) // 2]) == 6  # both protected versions in one pass
    assert max(seen[len(seen) // 2 :]) == 4
    for whole, parts in zip(*found, strict=True):
        assert (whole - parts).norm() <= 1e-9 * whole.norm()


def test_the_official_loops_form_takes_the_same_step():
    protector, *parts, masked = double_setting("parameters")
    found = []
    for apart in (False, True):
        protector.zero_grad()
        rule = make_weighting("mgda", alpha=(1.0,) * 4, space="parameters")
        textbook_step(protector, *parts, rule, masked, PAPER, apart=apart)
        found.append(gradients(protector))
    assert found[0].norm() > 0
    assert (found[1] - found[0]).norm() <= 1e-9 * found[0].norm()


def test_gramian_in_perturbation_space_is_that_of_the_images_and_the_prior():
    protector, *_ = double_setting("perturbation")
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64) * 1.8 - 0.9  # no pixel is clipped
    protected = protector(x)
    tasks = task_gradients(protector, Protected(*protected), Accelerator(cpu=True))
    rows = []
    for _ in range(3):
        v = (torch.randn_like(x), torch.randn_like(x))
        tasks.cotangents.append(v)
        rows.append(torch.cat([v[0].flatten(), v[1].sum(0).flatten()]))
    matrix = torch.stack(rows)
    torch.testing.assert_close(tasks.gramian("perturbation"), matrix @ matrix.T)


@pytest.mark.parametrize("space", ["perturbation", "parameters"])
def test_a_prior_that_is_not_trained_stays_and_has_no_part_in_the_gramian(workplace, tmp_path, space):
    settings = {"train_prior": False, "weighting": "mgda", "mgda_space": space, "steps": 2}
    folder = train_protector(protector_config(workplace, tmp_path, **settings), verbose=False)
    (before,) = load_file(tmp_path / "initial_prior.safetensors").values()
    assert torch.equal(load_file(folder / "model.safetensors")["prior"], before)
    assert before.abs().max() > 0

    protector, *_ = double_setting(space)
    protector.prior.requires_grad_(False)
    images = protector(torch.rand(2, 3, 32, 32, dtype=torch.float64)).specific
    tasks = task_gradients(protector, [images], Accelerator(cpu=True))
    rows = [torch.randn_like(images) for _ in range(2)]
    for row in rows:
        tasks.cotangents.append((row,))
    if space == "parameters":
        own = list(protector.generator.parameters())
        rows = [torch.cat([g.flatten() for g in torch.autograd.grad(images, own, r, retain_graph=True)]) for r in rows]
    matrix = torch.stack([row.flatten() for row in rows])
    torch.testing.assert_close(tasks.gramian(space), matrix @ matrix.T)


@pytest.mark.parametrize("space", ["perturbation", "parameters"])
def test_a_prior_that_learns_alone_is_a_universal_perturbation_and_no_generator_runs(workplace, tmp_path, space):
    settings = {"train_generator": False, "weighting": "mgda", "mgda_space": space, "steps": 2, "lr": 0.01}
    run = build_run(protector_config(workplace, tmp_path, **settings))
    before = {name: value.clone() for name, value in run.protector.state_dict().items()}
    run.protector.generator.register_forward_pre_hook(lambda *_: pytest.fail("the generator runs"))
    for _ in range(2):
        train_step(run)
    changed = [name for name, value in run.protector.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["prior"]


def test_the_step_of_a_prior_alone_is_that_of_its_own_gradient():
    protector, targets, edits, recognizers, masked = double_setting("perturbation")
    protector.generator.requires_grad_(False)
    rule = make_weighting("uniform", alpha=(1.0,) * 4, space="perturbation")
    report = cut_graph_step(protector, targets, edits, recognizers, rule, masked, Accelerator(cpu=True), LOG)
    protected = (masked.images + protector.universal(masked.images)).clamp(-1, 1)
    found = [
        objective(target, edit, recognizers, masked, [protected], LOG)
        for target, edit in zip(targets, edits, strict=True)
    ]
    total = torch.stack([task.total for task in found])
    (expected,) = torch.autograd.grad(total @ report.weights, protector.prior)
    torch.testing.assert_close(report.objective, total.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(-protector.prior.grad, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_new_residual_generator_begins_with_what_the_prior_does(generator, workplace, tmp_path):
    settings = {"bound": "residual", "generator": generator, "size": 128 if generator == "unet" else 32}
    config = protector_config(workplace, tmp_path, **settings)
    protector = setup._new(config).eval()
    protector.prior.data.uniform_(-0.05, 0.05)
    x = torch.rand(2, 3, config.size, config.size) - 0.5
    torch.testing.assert_close(protector(x).specific, x + 0.9 * protector.universal(x))


def test_recognisers_look_beside_the_frame_in_another_way_each_step(workplace, tmp_path):
    frames = {}
    for nudge in (0.0, 0.1):
        run = build_run(protector_config(workplace, tmp_path / str(nudge), loss="log", nudge=nudge))
        seen = []
        run.recognizers[0].register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[1][:4]))
        for _ in range(2):
            train_step(run)
        frames[nudge] = torch.stack(seen).unflatten(0, (2, -1))  # step, pass: all of a step are alike
        assert (frames[nudge] == frames[nudge][:, :1]).all()
    first, second = (frames[0.1] - frames[0.0])[:, 0]
    assert all(0.01 < beside.abs().max() < 0.3 for beside in (first, second, first - second))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_generator": False, "train_prior": False}, "nothing would learn"),
        ({"nudge": 0.6}, "a share of the frame, at most 0.5"),
        ({"nudge": 0.1, "aligned": False}, "the frame of aligned faces"),
        ({"nudge": 0.1, "clean_cache": "cache"}, "leave out one"),
        ({"lr": 0.0, "prior_lr": 0.1}, "a share of lr, which is 0"),
    ],
)
def test_what_cannot_be_trained_so_is_refused(settings, message, workplace, tmp_path):
    with pytest.raises(IDGuardError, match=message):
        protector_config(workplace, tmp_path, **settings)


def test_every_epoch_shows_every_face_once():
    n, batch = 11, 3
    for epoch in range(3):
        seen = torch.cat([batch_index(epoch * (n // batch) + i, n, batch, seed=1) for i in range(n // batch)])
        assert len(set(seen.tolist())) == 9
    assert batch_index(0, n, batch, 1).tolist() != batch_index(3, n, batch, 1).tolist()


@pytest.fixture(scope="module")
def one_and_two(workplace, tmp_path_factory):
    """What tests/training/two_processes.py finds in one process and in two."""
    folder = tmp_path_factory.mktemp("processes")
    return in_one_and_two_processes("training/two_processes.py", workplace, folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spread", "dtype", "name"), [(*case, name) for case, names in CASES.items() for name in names], ids=str
)
def test_two_processes_give_the_update_of_one(one_and_two, spread, dtype, name):
    one, two = one_and_two
    assert int(two["processes"]) == 2
    key = f"{name}.{spread}.{dtype}"
    a, b = one[key], two[key]
    relative = 1e-9 if dtype == torch.float64 else 1e-4  # float32 rounds differently in other batch sizes
    assert a.norm() > 0
    assert (a - b).norm() <= relative * a.norm()
    assert (a - b).abs().max() <= relative * a.abs().max()
    for said in ("weights", "objective", "kpi"):
        torch.testing.assert_close(two[f"{key}.{said}"], one[f"{key}.{said}"], rtol=relative, atol=0)


@pytest.mark.slow
def test_tasks_are_shared_out_by_processes(one_and_two):
    """Of three tasks the first process asks two, of all faces, so that terms have the same shares, too."""
    one, two = one_and_two
    assert 2 * one["tasks.torch.float64.asked"] == 3 * two["tasks.torch.float64.asked"]
    assert one["faces.torch.float64.asked"] == two["faces.torch.float64.asked"]
    shares = (found["kpi.tasks.torch.float64.shares"] for found in one_and_two)
    torch.testing.assert_close(*shares, rtol=1e-8, atol=0)


@pytest.mark.parametrize("verbose", [True, False])
def test_quiet_runs_show_no_bar_while_they_prepare(verbose, workplace, tmp_path, monkeypatch, capsys):
    """Of however many faces: the search for them and for their heat maps."""
    for module in ("data.reading", "regions.masked_faces"):  # the latter's name is a function's, too
        monkeypatch.setattr(sys.modules[f"art_idguard.{module}"], "BAR_FROM", 1)
    shown = []

    def initial_prior(kind, images, *, progress, **_):
        shown.append(progress)
        return torch.zeros(1, *images.shape[1:])

    monkeypatch.setattr(setup, "initial_prior", initial_prior)
    regions = str(tmp_path / "regions.safetensors")
    train_protector(protector_config(workplace, tmp_path, steps=1, regions=regions), verbose=verbose)
    assert shown == [verbose]
    bars = capsys.readouterr().err
    assert all((what in bars) is verbose for what in ("finding faces", "heat maps", "1/1"))


def test_the_prior_stays_in_its_ball(workplace, tmp_path):
    run = build_run(protector_config(workplace, tmp_path, lr=1.0))
    train_step(run)
    assert run.protector.prior.abs().max() <= 0.05


def test_every_face_has_an_edit_of_its_own_that_changes_from_step_to_step(workplace, tmp_path):
    run = build_run(protector_config(workplace, tmp_path))
    batch = run.faces.batch(torch.arange(4))
    for step in range(6):
        for places in ([0, 1, 2, 3], [1, 3]):  # one process, and the second of two
            chosen, numbers = edits_of(run.manipulators, batch_of(batch, places).attributes, step, torch.tensor(places))
            for target, edit, choice in zip(run.manipulators, chosen, numbers, strict=True):
                assert choice.tolist() == [(step + place) % 5 for place in places]
                for row, (place, number) in enumerate(zip(places, choice, strict=True)):
                    expected = target.edits(batch.attributes)[number].condition[place]
                    assert torch.equal(edit.condition[row], expected)


def batch_of(batch, rows):
    return FaceBatch(*(None if t is None else t[rows] for t in batch))


def test_a_manipulator_that_cannot_mix_edits_gives_all_faces_the_same(workplace, tmp_path):
    run = build_run(protector_config(workplace, tmp_path))
    target = run.manipulators[0]
    target.mixes_edits = False
    batch = run.faces.batch(torch.arange(4))
    (edit,), (choice,) = edits_of([target], batch.attributes, 7, torch.arange(4))
    assert choice.tolist() == [2] * 4
    assert edit.name == target.edits(batch.attributes)[2].name
    assert torch.equal(edit.condition, target.edits(batch.attributes)[2].condition)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["log", "paper", "official"])
def test_the_clean_cache_changes_nothing_and_asks_each_manipulator_once(loss, workplace, tmp_path):
    """Twice the same three steps: with a cold cache, then with a warm one; half precision rounds."""
    found, calls = [], []
    for name, cache in (("plain", None), ("cold", "clean"), ("warm", "clean")):
        settings = {"loss": loss, "identity": "embedding", "train_prior": False, "lr": 0.0}
        settings["clean_cache"] = cache and str(tmp_path / cache)
        run = build_run(protector_config(workplace, tmp_path / name, **settings))
        images = []
        for target in run.manipulators:
            target.register_forward_pre_hook(
                lambda _, args, images=images: images.append(0 if args[0].requires_grad else len(args[0]))
            )
        found.append(torch.stack([train_step(run).objective for _ in range(3)]))
        calls.append(sum(images))
    assert calls == [2 * 3 * 4, 2 * 3 * 4, 0]  # clean faces: two manipulators, three steps of four
    torch.testing.assert_close(found[1], found[0], rtol=2e-3, atol=2e-3)
    assert torch.equal(found[2], found[1])


@pytest.mark.slow
def test_the_clean_cache_is_of_these_faces_and_networks(workplace, tmp_path):
    folders = []
    for changes in (
        {},
        {"limit": 5},
        {"precision": "bf16"},
        {"loss": "paper"},  # whose features the others do not keep
        {"manipulators": (str(workplace / "relgan"), str(workplace / "stargan"))},
    ):
        settings = {"loss": "log", "clean_cache": str(tmp_path / "clean")} | changes
        build_run(protector_config(workplace, tmp_path / str(len(folders)), **settings))
        folders.append({path.name for path in (tmp_path / "clean").iterdir()})
    assert [len(names) for names in folders] == [2, 4, 6, 8, 8]


def test_a_cache_of_embeddings_is_refused_where_feature_maps_are_the_identity(workplace, tmp_path):
    settings = {"clean_cache": str(tmp_path / "clean"), "identity": "feature_map"}
    with pytest.raises(IDGuardError, match="needs identity 'embedding', found 'feature_map'"):
        build_run(protector_config(workplace, tmp_path, **settings))


@pytest.mark.slow
def test_what_is_saved_is_the_average_of_the_weights(workplace, tmp_path):
    """By hand over three steps: at update t the average keeps min(ema, (1 + t) / (10 + t))."""
    run = build_run(protector_config(workplace, tmp_path, ema=0.15, lr=1e-2))
    expected = run.protector.prior.detach().clone()
    for step in range(3):
        train_step(run)
        keep = min(0.15, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * run.protector.prior.detach()
    torch.testing.assert_close(run.trained.prior, expected)
    assert not torch.allclose(run.trained.prior, run.protector.prior)
    folder = train_protector(protector_config(workplace, tmp_path / "whole", ema=0.9, steps=2), verbose=False)
    assert torch.equal(load_file(folder / "model.safetensors")["prior"], _state(tmp_path / "whole")["average"]["prior"])


def _state(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


@pytest.mark.slow
def test_a_run_that_starts_with_another_goes_on_with_its_moments(workplace, tmp_path):
    train_protector(protector_config(workplace, tmp_path / "first", steps=2), verbose=False)
    settings = vars(protector_config(workplace, tmp_path / "second"))
    others = {name: value for name, value in settings.items() if name not in OF_A_PROTECTOR}
    moments = _state(tmp_path / "first")["optimizer"]["state"]
    for start, kept in ((tmp_path / "first", True), (tmp_path / "first" / "protector", False)):
        run = build_run(ProtectorConfig(**others | {"start": str(start)}))
        state = run.optimizer.state_dict()["state"]
        assert bool(state) == kept
        for number in state:
            assert torch.equal(state[number]["exp_avg_sq"], moments[number]["exp_avg_sq"])
    (tmp_path / "first" / "checkpoint.pt").write_bytes(b"of another version")
    with pytest.raises(IDGuardError, match=r"first was trained by another version .*; start with .*first/protector"):
        build_run(ProtectorConfig(**others | {"start": str(tmp_path / "first")}))


@pytest.mark.slow
def test_the_prior_takes_part_in_every_so_many_th_step(workplace, tmp_path):
    run = build_run(protector_config(workplace, tmp_path, prior_every=2, prior_lr=1e-2, lr=1e-3))
    faces = []
    run.manipulators[0].register_forward_pre_hook(
        lambda _, args: faces.append(len(args[0])) if args[0].requires_grad else None
    )
    for _ in range(4):
        before = run.protector.prior.detach().clone()
        train_step(run)
        assert not torch.equal(run.protector.prior, before)  # it learns through the generator, too
    assert faces == [8, 4, 8, 4]
    assert [group["lr"] for group in run.optimizer.param_groups] == pytest.approx([1e-3, 1e-2])


@pytest.mark.parametrize("every", [1, 2, 4, 5, 10])
def test_the_prior_sees_all_edits_however_seldom_it_takes_part(every, workplace, tmp_path, monkeypatch):
    """As often each, the step's first face's; so does the generator, which takes part in all."""

    class Seen(Exception):
        pass

    def cut(_, targets, edits, *args, **options):
        seen.append((edits[0].condition[0].tolist(), options["prior"]))
        raise Seen

    run, seen = build_run(protector_config(workplace, tmp_path, prior_every=every)), []
    condition = run.faces.batch(torch.zeros(1, dtype=torch.long)).attributes
    monkeypatch.setattr(step_module, "cut_graph_step", cut)
    monkeypatch.setattr(step_module, "batch_index", lambda *_: torch.zeros(4, dtype=torch.long))  # one face
    for run.step in range(10 * every):
        with pytest.raises(Seen):
            train_step(run)
    expected = [edit.condition[0].tolist() for edit in run.manipulators[0].edits(condition)]
    for rows in ([edit for edit, prior in seen if prior], [edit for edit, _ in seen]):
        assert [rows.count(edit) for edit in expected] == [len(rows) // 5] * 5


@pytest.mark.parametrize("space", ["perturbation", "parameters"])
def test_mgda_weighs_the_steps_without_the_prior_too(workplace, tmp_path, space):
    run = build_run(protector_config(workplace, tmp_path, prior_every=2, weighting="mgda", mgda_space=space))
    assert [train_step(run).weights.sum().item() for _ in range(2)] == pytest.approx([1, 1])


@pytest.mark.slow
def test_the_learning_rate_rises_in_the_warm_up(workplace, tmp_path):
    run = build_run(protector_config(workplace, tmp_path, warmup=4, lr=1.0, prior_lr=0.5))
    rates = []
    for _ in range(5):
        train_step(run)
        rates.append([group["lr"] for group in run.optimizer.param_groups])
    assert rates == [[0.25, 0.125], [0.5, 0.25], [0.75, 0.375], [1.0, 0.5], [1.0, 0.5]]


@pytest.mark.slow
def test_the_log_has_each_terms_share_of_the_gradient(workplace, tmp_path):
    train_protector(protector_config(workplace, tmp_path, steps=3, shares_every=2), verbose=False)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert ["share of masks" in record for record in records] == [False, True, False]
    for name in ("stargan", "relgan"):
        parts = [records[1][f"share of {term}"][name] for term in TERMS]
        assert sum(parts) == pytest.approx(1)
        assert all(part > 0 for part in parts)


def test_two_manipulators_of_a_kind_have_lines_of_their_own(workplace, tmp_path):
    """Such as one and what an adversary's LoRA made of it."""
    twice = (str(workplace / "stargan"),) * 2
    train_protector(protector_config(workplace, tmp_path, steps=1, manipulators=twice, alpha=(1.0, 1.0)), verbose=False)
    record = json.loads((tmp_path / "log.jsonl").read_text())
    assert list(record["kpi"]) == list(record["L2_face"]) == ["stargan", "stargan-2"]


@pytest.mark.slow
def test_recognisers_are_all_asked_or_one_by_chance(workplace, tmp_path):
    SFace(width=6).save_pretrained(tmp_path / "other")
    both = (str(workplace / "sface"), str(tmp_path / "other"))
    counts = {}
    for choice in ("all", "random"):
        run = build_run(protector_config(workplace, tmp_path / choice, recognizers=both, recognizer_choice=choice))
        asked = []
        for number, judge in enumerate(run.recognizers):
            judge.fc.register_forward_pre_hook(lambda *_, number=number, asked=asked: asked.append(number))
        for _ in range(6):
            train_step(run)
            counts.setdefault(choice, []).append(sorted(set(asked)))
            asked.clear()
    assert counts["all"] == [[0, 1]] * 6
    assert {tuple(each) for each in counts["random"]} == {(0,), (1,)}


def test_which_recogniser_is_asked_says_nothing_of_the_distortion(workplace, tmp_path):
    """Every pair comes up, though both are drawn for the same step."""
    both = (str(workplace / "sface"), str(workplace / "sface"))
    run = build_run(protector_config(workplace, tmp_path, recognizers=both, recognizer_choice="random"))
    pairs = set()
    for run.step in range(100):
        (judge,) = step_module._recognizers(run)
        distortion = sample_distortion(("none", "crop"), seed=step_seed(run.config.seed, run.step))
        pairs.add((run.recognizers.index(judge), distortion is NOTHING))
    assert len(pairs) == 4


def test_recognisers_are_not_asked_where_identity_has_no_weight(workplace, tmp_path):
    run = build_run(protector_config(workplace, tmp_path, identity_weight=0.0))
    for recognizer in run.recognizers:
        recognizer.register_forward_pre_hook(lambda *_: pytest.fail("asked"))
    report = train_step(run)
    assert report.objective.isfinite().all()


def test_beta_separates_an_easy_from_a_hard_model(workplace, tmp_path):
    """Of two models that a protector has disrupted alike, the one that PGD disrupts far more has the greater weight.

    Literally, K is so small for both that their weights are the same but for a tenth.
    """
    easy, hard = tiny_manipulators(["stargan", "stargan"])
    hard.load_state_dict(easy.state_dict())
    easy.main[-1].weight.data.mul_(3)
    faces = read_faces(workplace / "faces", size=64)
    ratio = {}
    for kpi in ("share", "literal"):
        protector = Protector(size=64, generator_config={"channels": 8, "norm": "instance"})
        settings = protector_config(
            workplace, tmp_path / kpi, manipulators=("a", "b"), kpi=kpi, distance="square", alpha=(1.0, 1.0)
        )
        run = build_run(settings, parts=Preloaded(faces, [easy, hard], protector))
        assert (run.kpi_scale[0] / run.kpi_scale[1] > 2) == (kpi == "share")
        alike = torch.tensor([2e-4, 2e-4]) / run.kpi_scale
        run.weighting(TaskStatistics(torch.zeros(2), alike, lambda _: torch.eye(2)))
        weights = run.weighting(TaskStatistics(torch.zeros(2), alike, lambda _: torch.eye(2)))
        ratio[kpi] = (weights[0] / weights[1]).item()
    assert ratio["literal"] == pytest.approx(1)
    assert ratio["share"] > 1.15


def test_all_that_ship_have_their_names_in_the_settings_of_a_run(workplace, tmp_path, monkeypatch):
    """Another version may ship others."""
    monkeypatch.setattr(
        setup, "load_manipulator", lambda folder: tiny_manipulators([Path(folder).name.split("-")[0]])[0]
    )
    run = build_run(protector_config(workplace, tmp_path, manipulators=()))
    assert run.config.manipulators == ("attentiongan", "fpgan", "relgan", "stargan")
    assert run.config.manipulators == tuple(target.name for target in run.manipulators)


def test_prior_weights_are_found_by_a_slight_pgd_within_the_protectors_bound(workplace, tmp_path, monkeypatch):
    """Powers of ten; a model whose pictures move a tenth as far, in squares a hundredth, weighs a hundred times."""
    weak, hard = tiny_manipulators(["stargan", "stargan"])
    weak.main[-1].weight.data.mul_(0.1)
    hard.load_state_dict(weak.state_dict())
    hard.main[-1].weight.data.mul_(0.1)
    faces = read_faces(workplace / "faces", size=64)
    bounds = []
    monkeypatch.setattr(
        probe_module, "pgd", lambda *args, **options: bounds.append(options["epsilon"]) or pgd(*args, **options)
    )
    for targets, alpha in (([weak, hard], [1, 100]), ([hard, weak], [100, 1])):
        protector = Protector(size=64, generator_config={"channels": 8, "norm": "instance"}, epsilon=0.02)
        settings = protector_config(workplace, tmp_path, weighting="kpi", manipulators=("weak", "hard"))
        run = build_run(settings, parts=Preloaded(faces, targets, protector))
        assert run.weighting.alpha.tolist() == alpha
    assert set(bounds) == {0.02}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"lr": float("nan")}, "lr is nan; expected at least 0"),
        ({"minutes": float("nan")}, "minutes is nan"),
        ({"minutes": 0.0}, "minutes is 0.0; expected more than 0"),
        ({"epsilon": 0.0}, "epsilon is 0.0; expected more than 0"),
        ({"seed": 2**31}, "seed is 2147483648; expected less"),
        ({"size": 126}, "size is 126; expected a multiple of 4"),
        ({"batch_size": 0}, "batch_size is 0; expected at least 1"),
        ({"alpha": (1.0,)}, "1 prior weights for 2 manipulators"),
        ({"alpha": (0.0, 1.0)}, "positive"),
        ({"generator": "rnn"}, "unknown generator 'rnn'"),
        ({"weighting": "none"}, "unknown weighting 'none'"),
        ({"augment": ("paint",)}, "paint"),
        ({"lowpass": 4}, "lowpass is 4; expected an odd"),
        ({"ema": 1.0}, "ema is 1.0; expected"),
        ({"start": "protector"}, "protector has its own norm, channels, prior; leave out"),
    ],
)
def test_bad_settings_are_named_before_the_faces_are_read(changes, match, workplace, tmp_path):
    with pytest.raises(IDGuardError, match=match):
        train_protector(protector_config(workplace, tmp_path, **{"faces": "nowhere"} | changes), verbose=False)


@pytest.mark.slow
def test_training_disrupts_more(workplace, tmp_path):
    """The objective of the last steps lies above that of the first ones."""
    train_protector(protector_config(workplace, tmp_path, steps=15, lr=1e-2, checkpoint_every=100), verbose=False)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    mean = [sum(sum(r["objective"].values()) for r in part) for part in (records[:5], records[-5:])]
    assert mean[1] > mean[0]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for the CPU with a C++ compiler")
def test_compiled_training_takes_the_same_step(workplace, tmp_path):
    """As Adam's first step is the sign of the gradient, the networks' roundings differ where it is about zero."""
    records, weights = [], []
    MANIPULATORS["stargan"](channels=8, blocks=0).save_pretrained(
        tmp_path / "stargan"
    )  # what has no block compiles fast
    for name, options in (("plain", []), ("compiled", ["--compile"])):
        settings = protector_config(
            workplace, tmp_path / name, steps=1, manipulators=(str(tmp_path / "stargan"),), alpha=(1.0,)
        )
        subprocess.run([*arguments(settings), *options], check=True, timeout=300, cwd=ROOT)
        records.append(json.loads((tmp_path / name / "log.jsonl").read_text()))
        saved = load_file(tmp_path / name / "protector" / "model.safetensors")
        weights.append(torch.cat([value.flatten() for value in saved.values()]))
    assert records[1]["objective"]["stargan"] == pytest.approx(records[0]["objective"]["stargan"], rel=1e-4)
    assert (weights[0] - weights[1]).abs().gt(1e-6).float().mean() < 0.02


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("steps = ", r"recipe\.toml is damaged, or no TOML"),
        ("stepz = 3", "unknown settings stepz"),
        ("steps = 3", "missing settings"),
    ],
)
def test_bad_recipes_are_named(tmp_path, text, match):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text)
    with pytest.raises(IDGuardError, match=match):
        ProtectorConfig.from_recipe(recipe)


def test_shipped_recipes_are_valid():
    for recipe in (ROOT / "hub" / "recipes").glob("protector*.toml"):
        assert ProtectorConfig.from_recipe(recipe).size == (64 if recipe.stem.endswith("celeba64") else 128)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_torchrun_on_cpus_is_one_training(workplace, tmp_path):
    """Accelerate by itself takes two processes for two trainings there, into one folder."""
    words = arguments(protector_config(workplace, tmp_path, steps=1))[1:]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE")}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", *words]
    result = subprocess.run(launcher, env=environment | {"OMP_NUM_THREADS": "1"}, cwd=ROOT, capture_output=True)
    assert result.returncode == 0, result.stderr.decode()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
def test_training_needs_neither_art_nor_opencv_nor_torchcam():
    """A machine that trains on prepared faces has torch, accelerate, safetensors and huggingface_hub."""
    blocked = ("art", "cv2", "torchcam", "cvxpy", "torchvision", "matplotlib", "tensorboard")
    script = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import art_idguard.training.protector.train"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        ("torchcam", {"regions": "none.safetensors"}, "lacks heat maps of these 10 faces, and torchcam, which makes"),
        ("cvxpy", {"weighting": "mgda"}, "this needs cvxpy, which is not installed"),
        ("kornia", {"augment": ("jpeg",)}, "this needs kornia"),
    ],
)
def test_a_module_that_a_bare_machine_lacks_is_named(module, settings, message, workplace, tmp_path):
    if "regions" in settings:
        settings = {"regions": str(tmp_path / settings["regions"])}
    script = f"import sys; sys.modules['{module}'] = None; from art_idguard import cli; sys.exit(cli.main())"
    words = arguments(protector_config(workplace, tmp_path / "run", steps=1, **settings))[3:]
    run = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 1
    assert message in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.slow
def test_training_goes_on_from_a_protector(workplace, tmp_path):
    """`start` takes generator, prior and bound from a finished protector; without a step nothing changes."""
    first = train_protector(protector_config(workplace, tmp_path / "first", steps=1), verbose=False)
    settings = vars(protector_config(workplace, tmp_path / "second", seed=1))
    others = {name: value for name, value in settings.items() if name not in OF_A_PROTECTOR}
    run = build_run(ProtectorConfig(**others | {"start": str(first)}))
    for key, value in load_file(first / "model.safetensors").items():
        assert torch.equal(run.protector.state_dict()[key], value)
    assert run.protector.training
    assert run.step == 0


@pytest.mark.slow
def test_interrupted_run_keeps_a_checkpoint(workplace, tmp_path):
    settings = protector_config(workplace, tmp_path, steps=100_000, checkpoint_every=100_000)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    log = tmp_path / "log.jsonl"
    with in_a_process(settings, ready=log, **pipes) as process:
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    steps = len(log.read_text().splitlines())
    assert process.returncode == 130
    assert said == ""
    assert errors.splitlines()[-1] == f"art-idguard: training stopped at step {steps} of 100000; go on with --resume"
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == steps
    assert (tmp_path / "protector" / "model.safetensors").is_file()


def test_resuming_with_other_faces_or_networks_is_refused(workplace, tmp_path):
    place = shutil.copytree(workplace, tmp_path / "place")
    settings = protector_config(place, tmp_path / "run", recognizers=(str(place / "sface"),))
    torch.manual_seed(1)
    SFace(width=4).save_pretrained(place / "sface")
    run = build_run(settings)
    save_checkpoint(run.folder, run.state())
    (run.folder / "initial_prior.safetensors").unlink()
    build_run(settings, resume=True)
    assert not (run.folder / "initial_prior.safetensors").exists()  # nor is it needed
    SFace(width=4).save_pretrained(place / "sface")
    with pytest.raises(IDGuardError, match="run: recognizers changed since it began"):
        build_run(settings, resume=True)
    run.manipulators[0].train().apply(lambda module: module.requires_grad_(True))
    next(run.manipulators[0].parameters()).data.mul_(2)
    run.manipulators[0].save_pretrained(place / "stargan")
    (place / "faces" / "003.png").unlink()
    with pytest.raises(IDGuardError, match="run: faces, labels, manipulators, recognizers changed"):
        build_run(settings, resume=True)


@pytest.mark.slow
def test_the_initial_prior_is_kept_for_the_very_same_settings_and_faces(workplace, tmp_path):
    kept = tmp_path / "initial_prior.safetensors"
    variants = [{}, {"epsilon": 0.03}, {"seed": 1}, {"prior": "zeros"}, {"prior_faces": 5}, {"limit": 8}, {"size": 96}]
    for count, changes in enumerate([{}, *variants]):
        prior = build_run(protector_config(workplace, tmp_path, **changes)).protector.prior
        assert len(load_file(kept)) == max(1, count), changes
        assert prior.shape[-1] == changes.get("size", 32)
        assert prior.abs().max() <= changes.get("epsilon", 0.05)


@pytest.mark.slow
def test_the_next_run_with_these_faces_takes_the_surrogate_of_the_last(workplace, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("art_idguard.perturbation.prior.kept_surrogate", partial(kept_surrogate, steps=2))
    options = {"prior": "gradient", "regions": str(tmp_path / "regions.safetensors")}
    for name, trains in (("first", True), ("second", False)):
        run = build_run(protector_config(workplace, tmp_path / name, epsilon=0.05 if trains else 0.03, **options))
        assert ("training the surrogate" in capsys.readouterr().err) == trains
        assert run.protector.prior.any()


def test_a_learning_rate_falls_with_the_minutes_of_all_launches(workplace, tmp_path):
    run = build_run(protector_config(workplace, tmp_path, steps=1000, minutes=2.0, schedule="linear"))
    run.elapsed = 90.0
    train_step(run, progress=run.progress())
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4 / 4)


def test_a_coarse_run_is_told_of_precision_too(workplace, tmp_path):
    run = build_run(protector_config(workplace, tmp_path, precision="bf16"))
    assert run.recovery_hint() == "There is no checkpoint yet; start with a lower lr or with precision 'no'"


@pytest.mark.slow
def test_the_smoke_recipe_makes_a_protector_that_loads(workplace, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert set(ProtectorConfig.from_recipe("smoke").manipulators) <= set(list_models())
    tiny = ["--manipulators", str(workplace / "stargan"), "--recognizers", str(workplace / "sface")]
    assert main(["train", "--recipe", "smoke", "--steps", "1", "--quiet", *tiny]) == 0
    assert capsys.readouterr().out.strip() == "runs/smoke/protector"
    assert Protector.from_pretrained("runs/smoke/protector").epsilon == 0.05
