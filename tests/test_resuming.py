"""What interrupts the training of a protector, and how it goes on."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from art_idguard.errors import IDGuardError
from art_idguard.files.lock import exclusive
from art_idguard.recognizers import SFace
from art_idguard.training.base import make_accelerator
from art_idguard.training.checkpoint import save_checkpoint
from art_idguard.training.log import LogFile, make_trackers
from art_idguard.training.protector.run import ProtectorRun
from art_idguard.training.protector.setup import build_run
from art_idguard.training.protector.step import train_step
from art_idguard.training.protector.train import train_protector
from tests.runs import STEPS, arguments, config

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_killed_and_resumed_run_is_bit_identical_to_an_unbroken_one(workplace, tmp_path):
    unbroken = train_protector(config(workplace, tmp_path / "unbroken"), verbose=False)

    broken = config(workplace, tmp_path / "broken")
    process = subprocess.Popen(arguments(broken), env=os.environ | {"ACCELERATE_USE_CPU": "true"}, cwd=ROOT)
    log = tmp_path / "broken" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.is_file() and len(log.read_text().splitlines()) >= 2):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "broken" / "protector").exists()

    with pytest.raises(IDGuardError, match="--resume"):
        train_protector(broken, verbose=False)
    resumed = train_protector(broken, resume=True, verbose=False)
    assert (resumed / "model.safetensors").read_bytes() == (unbroken / "model.safetensors").read_bytes()
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == list(range(1, STEPS + 1))


@pytest.mark.slow
def test_the_initial_prior_is_kept_for_the_very_same_settings_and_faces(workplace, tmp_path):
    kept = tmp_path / "initial_prior.safetensors"
    variants = [{}, {"epsilon": 0.03}, {"seed": 1}, {"prior": "zeros"}, {"prior_faces": 5}, {"limit": 8}, {"size": 96}]
    for count, changes in enumerate([{}, *variants]):
        prior = build_run(config(workplace, tmp_path, **changes)).protector.prior
        assert len(load_file(kept)) == max(1, count), changes
        assert prior.shape[-1] == changes.get("size", 32)
        assert prior.abs().max() <= changes.get("epsilon", 0.05)


def test_a_kill_behind_a_checkpoint_loses_no_sample(workplace, tmp_path):
    settings = config(workplace, tmp_path, steps=2, sample_every=1)

    def saved_and_killed(run):
        save_checkpoint(run.folder, run.state())
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProtectorRun, "save_checkpoint", saved_and_killed)
        with pytest.raises(KeyboardInterrupt):
            train_protector(settings, verbose=False)
    train_protector(settings, resume=True, verbose=False)
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["000001.png", "000002.png"]


def test_resuming_with_other_settings_is_refused(workplace, tmp_path):
    run = build_run(config(workplace, tmp_path))
    save_checkpoint(run.folder, run.state())
    with pytest.raises(IDGuardError, match="settings: steps, masks changed"):
        build_run(config(workplace, tmp_path, steps=2, masks="product", lr=1.0), resume=True)
    save_checkpoint(run.folder, state := run.state() | {"config": run.state()["config"] | {"speed": 1}})
    with pytest.raises(IDGuardError, match="another version began it, which differs in speed"):
        build_run(config(workplace, tmp_path), resume=True)
    save_checkpoint(run.folder, state | {"command": "harden"})
    with pytest.raises(IDGuardError, match="holds a run of harden, not of train;"):
        build_run(config(workplace, tmp_path), resume=True)


def test_resuming_with_other_faces_or_networks_is_refused(workplace, tmp_path):
    place = shutil.copytree(workplace, tmp_path / "place")
    settings = config(place, tmp_path / "run", recognizers=(str(place / "sface"),))
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


def test_a_folder_has_one_training_at_a_time(workplace, tmp_path):
    settings = config(workplace, tmp_path / "run", steps=1)
    with (
        exclusive(Path(settings.output) / ".lock", "training"),
        pytest.raises(IDGuardError, match=r"another training is at work in .*run; choose another"),
    ):
        train_protector(settings, verbose=False)
    train_protector(settings, verbose=False)


def test_nan_stops_the_run_with_step_model_and_checkpoint(workplace, tmp_path):
    run = build_run(config(workplace, tmp_path))
    train_step(run)
    save_checkpoint(run.folder, run.state())
    next(run.manipulators[1].parameters()).data.fill_(torch.nan)
    before = [p.clone() for p in run.protector.parameters()]
    with pytest.raises(
        IDGuardError, match=r"step 2: the objective of relgan is not finite.*checkpoint\.pt.* lower lr$"
    ):
        train_step(run)
    assert all(torch.equal(a, b) for a, b in zip(before, run.protector.parameters(), strict=True))


def test_a_resumed_run_may_take_what_helps_against_nan(workplace, tmp_path):
    """And in one process, for which accelerate keeps one precision."""
    run = build_run(config(workplace, tmp_path, precision="bf16"))
    assert run.recovery_hint() == "There is no checkpoint yet; start with a lower lr or with precision 'no'"
    train_step(run)
    save_checkpoint(run.folder, run.state())
    resumed = build_run(config(workplace, tmp_path, precision="no", lr=1e-6, seed=3), resume=True)
    assert resumed.accelerator.mixed_precision == "no"
    assert resumed.optimizer.param_groups[0]["lr"] == 1e-6
    moments = [r.optimizer.state_dict()["state"][0]["exp_avg"] for r in (run, resumed)]
    assert torch.equal(*moments)
    assert resumed.step == 1
    before = resumed.protector.prior.detach().clone()
    train_step(resumed)
    assert 0 < (resumed.protector.prior - before).abs().max() < 2e-6


@pytest.mark.slow
def test_interrupted_run_keeps_a_checkpoint(workplace, tmp_path):
    settings = config(workplace, tmp_path, steps=100_000, checkpoint_every=100_000)
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(arguments(settings), env=environment, cwd=ROOT, **pipes)
    log = tmp_path / "log.jsonl"
    while not (log.is_file() and log.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    steps = len(log.read_text().splitlines())
    assert process.returncode == 130
    assert said == ""
    assert errors.splitlines()[-1] == f"art-idguard: training stopped at step {steps} of 100000; go on with --resume"
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == steps
    assert (tmp_path / "protector" / "model.safetensors").is_file()


def test_log_is_cut_to_where_a_run_goes_on(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def write(step, steps, value):
        accelerator = make_accelerator(log_with=make_trackers(None, tmp_path, step=step))
        with LogFile(tmp_path, step=step, accelerator=accelerator) as log:
            for i in steps:
                log.write({"step": i, "objective": {"stargan": value}}, lr={"generator": value})

    write(0, (1, 2, 3), 0.0)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "obj')
    time.sleep(1.1)  # TensorBoard orders its files by the second, and within one by a number as text, 10 before 9
    write(1, (2, 3), 1.0)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for found in (
        [(record["step"], record["objective"]["stargan"]) for record in records],
        [(event.step, event.value) for event in events.Scalars("objective/stargan")],
        [(event.step, event.value) for event in events.Scalars("lr/generator")],
    ):
        assert found == [(1, 0.0), (2, 1.0), (3, 1.0)]


def test_minutes_end_a_run_and_its_learning_rate_over_all_launches(workplace, tmp_path):
    settings = config(workplace, tmp_path / "short", steps=1000, minutes=1e-6)
    for resume in (False, True):
        train_protector(settings, resume=resume, verbose=False)
        assert torch.load(tmp_path / "short" / "checkpoint.pt", weights_only=True)["step"] == 1
    run = build_run(config(workplace, tmp_path / "long", steps=1000, minutes=2.0, schedule="linear"))
    run.elapsed = 90.0
    train_step(run, progress=run.progress())
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4 / 4)
