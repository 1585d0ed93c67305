"""What holds for every training: how it is interrupted, goes on, is refused, and leaves the program around it."""

import os
import random
import shutil
import signal
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from hypothesis import assume, given
from hypothesis import strategies as st

from art_idguard.errors import IDGuardError
from art_idguard.files.lock import exclusive
from art_idguard.files.recipe import SETTINGS
from art_idguard.perturbation.precision import faster_precision
from art_idguard.training import base
from art_idguard.training.base import TrainingRun
from art_idguard.training.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from art_idguard.training.loop import Training
from art_idguard.training.manipulator.config import ManipulatorConfig
from tests.training.trainings import STEPS, TRAININGS, behind, contents, in_a_process

STEP, CHECKPOINTED = (Training, "note_time"), (TrainingRun, "save_checkpoint")
"""Where a step is done, before its record, sample and checkpoint; and behind its checkpoint."""


def power_cut(run):
    raise RuntimeError("power cut")


def spoil(run):
    for network in run.networks.values():
        next(network.parameters()).data.fill_(torch.nan)


@pytest.mark.slow
def test_a_broken_and_resumed_run_leaves_what_an_unbroken_one_leaves(training, tmp_path):
    config, train = training
    options = {"checkpoint_every": 2, "sample_every": 1}
    train(config(tmp_path / "unbroken", **options))
    expected = contents(tmp_path / "unbroken")
    assert {name for name in expected if name.startswith("step ")} == {f"step {i + 1}" for i in range(STEPS)}
    for name, place in (("between checkpoints", STEP), ("behind one", CHECKPOINTED)):
        broken = config(tmp_path / name, **options)
        with behind(place, 2, power_cut), pytest.raises(RuntimeError, match="power cut"):
            train(broken)
        if place is CHECKPOINTED:
            with pytest.raises(IDGuardError, match=r"behind one holds a run; resume it \(--resume\) or choose another"):
                train(broken)
        train(broken, resume=True)
        assert contents(tmp_path / name) == expected, name


@pytest.mark.slow
def test_faces_on_disk_make_the_same_steps(training, tmp_path):
    config, train = training
    options = {"steps": 2, "sample_every": 1}
    train(config(tmp_path / "memory", **options))
    train(config(tmp_path / "disk", decoded_in=str(tmp_path / "decoded"), **options))
    assert len(list((tmp_path / "decoded").iterdir())) == 2
    assert contents(tmp_path / "disk") == contents(tmp_path / "memory")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "harden"])  # and the torture's corpora
def test_kill_9_loses_no_more_than_the_steps_since_the_checkpoint(name, labelled, tmp_path):
    settings, train = TRAININGS[name]
    train(settings(labelled, tmp_path / "unbroken"), verbose=False)
    broken = settings(labelled, tmp_path / "broken")
    with in_a_process(broken, ready=tmp_path / "broken" / CHECKPOINT) as process:
        process.kill()
    train(broken, resume=True, verbose=False)
    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_ends_behind_its_step_and_keeps_what_it_has_learnt(number, training, tmp_path):
    config, train = training
    told = []
    settings = config(tmp_path, steps=1000, checkpoint_every=1000, sample_every=1000)
    with behind(STEP, 2, lambda _: os.kill(os.getpid(), number)):
        folder = train(settings, on_stop=told.append)
    assert told == ["training stopped at step 2 of 1000"]
    assert load_checkpoint(tmp_path)["step"] == 2
    assert (folder / "model.safetensors").is_file()
    assert (tmp_path / "samples" / "000002.png").is_file()


def test_what_is_not_finite_stops_the_run_with_its_step_and_the_good_checkpoint(training, tmp_path):
    config, train = training
    expected = r"step 3: the (objective|loss) of .* is not finite.*checkpoint\.pt; resume with a lower lr$"
    with behind(CHECKPOINTED, 2, spoil), pytest.raises(IDGuardError, match=expected):
        train(config(tmp_path))
    good = load_checkpoint(tmp_path)
    assert good["step"] == 2
    assert all(value.isfinite().all() for key in ("protector", "average") for value in good.get(key, {}).values())


def test_an_update_that_is_not_finite_saves_nothing(training, tmp_path):
    """Of the last step, whose objective and gradients were finite."""
    config, train = training
    expected = r"step 1: the weights of the \w+ are not finite. There is no checkpoint yet; start with a lower lr"
    with behind(STEP, 1, spoil), pytest.raises(IDGuardError, match=expected):
        train(config(tmp_path, steps=1))
    assert not list(tmp_path.rglob("model.safetensors"))
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_folder_has_one_training_at_a_time(training, tmp_path):
    config, train = training
    settings = config(tmp_path / "run", steps=1)
    with (
        exclusive(tmp_path / "run" / ".lock", "training"),
        pytest.raises(IDGuardError, match=r"another training is at work in .*run; choose another"),
    ):
        train(settings)
    train(settings)


@pytest.mark.slow
def test_minutes_end_a_run_and_count_over_its_launches(training, tmp_path):
    config, train = training
    settings = config(tmp_path, steps=1000, minutes=1e-6)
    train(settings)
    first = load_checkpoint(tmp_path)
    train(settings, resume=True)
    assert first["step"] == load_checkpoint(tmp_path)["step"] == 1
    assert first["elapsed"] > 0


@pytest.fixture
def begun(training, tmp_path):
    """A run's settings with changes, the training, and the state that a first step has left."""
    config, train = training
    with behind(CHECKPOINTED, 1, power_cut), pytest.raises(RuntimeError, match="power cut"):
        train(config(tmp_path / "run"))
    return lambda **changes: config(tmp_path / "run", **changes), train, load_checkpoint(tmp_path / "run")


@pytest.mark.slow
def test_what_a_run_cannot_go_on_with_is_named(begun, labelled, tmp_path):
    config, train, state = begun
    with pytest.raises(
        IDGuardError, match=r"cannot resume .*run with other settings: (limit, size|size, limit) changed"
    ):
        train(config(size=128, limit=9, lr=1.0), resume=True)
    save_checkpoint(tmp_path / "run", state | {"config": state["config"] | {"speed": 1}})
    with pytest.raises(IDGuardError, match="another version began it, which differs in speed"):
        train(config(), resume=True)
    save_checkpoint(tmp_path / "run", state | {"command": "dance"})
    with pytest.raises(IDGuardError, match=f"holds a run of dance, not of {config().command};"):
        train(config(), resume=True)
    save_checkpoint(tmp_path / "run", state)
    other = shutil.copytree(labelled / "faces", tmp_path / "faces")
    shutil.copy(other / "001.png", other / "000.png")
    with pytest.raises(IDGuardError, match="run: faces changed since it began; bring them back, or choose another"):
        train(config(faces=str(other)), resume=True)


@pytest.mark.slow
def test_a_resumed_run_may_take_what_helps_against_nan(begun, tmp_path):
    """And in one process, for which accelerate keeps one precision."""
    config, train, state = begun
    assert state["precision"] == "no"
    with behind(CHECKPOINTED, 2, power_cut), pytest.raises(RuntimeError, match="power cut"):
        train(config(precision="bf16", lr=1e-9, seed=3), resume=True)
    now = load_checkpoint(tmp_path / "run")
    assert now["precision"] == "bf16"
    for name in ("protector", "generator"):
        for key, value in state.get(name, {}).items():
            if value.is_floating_point() and "running" not in key:
                torch.testing.assert_close(now[name][key], value, rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("unchecked")  # the type checker of the tests draws random numbers
def test_the_program_around_a_training_keeps_its_random_numbers_and_its_accelerator(training, tmp_path):
    config, train = training
    AcceleratorState._reset_state()
    GradientState._reset_state()
    own = Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=4)
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    expected = torch.rand(3), np.random.rand(), random.random()
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    train(config(tmp_path, steps=1))
    assert torch.equal(torch.rand(3), expected[0])
    assert (np.random.rand(), random.random()) == expected[1:]
    assert (own.mixed_precision, own.gradient_accumulation_steps) == ("bf16", 4)
    AcceleratorState._reset_state()
    GradientState._reset_state()
    train(config(tmp_path / "other", steps=1))
    assert Accelerator(cpu=True, mixed_precision="bf16").mixed_precision == "bf16"  # refused had one stayed
    AcceleratorState._reset_state()


@pytest.mark.slow
def test_a_run_leaves_its_settings_with_which_its_command_repeats_it(training, tmp_path):
    config, train = training
    settings = config(tmp_path / "first", steps=2, precision="bf16")
    folder = train(settings)
    again = type(settings).from_recipe(tmp_path / "first" / "settings.toml", output=tmp_path / "again")
    assert train(again) == tmp_path / "again" / folder.name
    assert contents(tmp_path / "again") == contents(tmp_path / "first")
    for left in (tmp_path / "first", folder):
        assert f"art-idguard {settings.command} --recipe settings.toml" in (left / "settings.toml").read_text()
    with pytest.raises(IDGuardError, match=r"missing settings: faces, output$"):  # they are of this machine
        type(settings).from_recipe(folder / "settings.toml")
    assert str(tmp_path) not in (folder / "settings.toml").read_text()
    mine = type(settings).from_recipe(folder / "settings.toml", faces="faces", output="run")
    assert (mine.size, mine.steps, mine.precision) == (settings.size, 2, "bf16")
    assert "settings in [settings.toml](settings.toml)" in (folder / "README.md").read_text()


@pytest.mark.slow
def test_precision_is_chosen_by_measuring_once(training, tmp_path, monkeypatch):
    config, train = training
    asked = []
    monkeypatch.setattr(base, "faster_precision", lambda device: asked.append(device) or "bf16")
    settings = config(tmp_path, precision="auto", steps=1)
    train(settings)
    assert type(settings).from_recipe(tmp_path / SETTINGS).precision == "bf16"
    train(replace(settings, steps=2), resume=True)
    assert load_checkpoint(tmp_path)["precision"] == "bf16"
    assert len(asked) == 1
    monkeypatch.undo()
    assert faster_precision(torch.device("cpu")) in ("no", "bf16")


def test_a_refused_run_leaves_the_settings_as_they_are(begun, tmp_path):
    config, train, _ = begun
    before = (tmp_path / "run" / "settings.toml").read_bytes()
    for changes in ({"limit": 9}, {"faces": str(tmp_path / "nowhere")}):
        with pytest.raises(IDGuardError):
            train(config(**changes), resume=True)
        assert (tmp_path / "run" / "settings.toml").read_bytes() == before


# --- more steps ---


@pytest.mark.slow
def test_an_extended_run_leaves_what_a_long_one_leaves(training, tmp_path):
    config, train = training
    options = {"sample_every": 1} | (
        {"schedule": "constant"} if "schedule" in vars(config(tmp_path)) else {"decay_from": 1.0}
    )
    train(config(tmp_path / "long", **options))
    for steps in (1, 2, STEPS):
        train(config(tmp_path / "extended", steps=steps, **options), resume=True)
    assert contents(tmp_path / "extended") == contents(tmp_path / "long")
    with pytest.raises(IDGuardError, match=f"has done {STEPS} steps; steps is 2, expected at least {STEPS}"):
        train(config(tmp_path / "extended", steps=2, **options), resume=True)


@pytest.mark.slow
def test_a_run_whose_learning_rate_has_fallen_is_not_extended(training, tmp_path):
    config, train = training
    options = {"schedule": "linear"} if "schedule" in vars(config(tmp_path)) else {"decay_from": 0.0}
    train(config(tmp_path, steps=2, **options))
    before = contents(tmp_path)
    with pytest.raises(IDGuardError, match=r"with 4 steps: its learning rate falls .*, and has begun to"):
        train(config(tmp_path, steps=4, **options), resume=True)
    assert contents(tmp_path) == before


def budget(steps, **changes):
    needed = {"faces": "faces", "output": "run", "manipulator": "stargan", "n_critic": 1}
    return ManipulatorConfig.from_recipe(None, **needed, steps=steps, **changes)


@given(*[st.integers(1, 20)] * 3, st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_steps_may_change_where_the_past_stays_what_it_was(step, before, now, decay_from):
    assume(step <= before)

    def rates(steps):
        shares = [done / steps for done in range(step)]
        return [1.0 if share <= decay_from else (1 - share) / (1 - decay_from) for share in shares]

    same = now >= step and rates(before) == rates(now)
    with nullcontext() if same else pytest.raises(IDGuardError, match=r"expected at least|cannot resume run with"):
        budget(now, decay_from=decay_from).check_steps(vars(budget(before)), step=step, elapsed=1.0)


def test_more_steps_alone_are_no_use_where_the_minutes_are_used_up():
    saved = vars(budget(5, minutes=2.0))
    with pytest.raises(IDGuardError, match="run has used up its 2 minutes; give it more of them, too, not steps alone"):
        budget(9, minutes=2.0).check_steps(saved, step=1, elapsed=120.0)
    for steps, minutes in ((9, 3.0), (9, None), (5, 2.0)):
        budget(steps, minutes=minutes).check_steps(saved, step=1, elapsed=120.0)
