"""What goes wrong around a training: the process that it is a guest in, the disk, the launcher, data that moved."""

import csv
import json
import random
import resource
import shutil
import warnings
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import pytest
import torch
from accelerate import Accelerator, tracking
from accelerate.state import AcceleratorState, GradientState
from accelerate.tracking import GeneralTracker
from accelerate.utils import LoggerType
from PIL import Image
from safetensors.torch import save_file

from art_idguard.errors import IDGuardError
from art_idguard.files.tensors import cached, cached_rows
from art_idguard.training.base import RANKS, make_accelerator
from art_idguard.training.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from art_idguard.training.log import LogFile, make_trackers
from art_idguard.training.manipulator.config import HardeningConfig, ManipulatorConfig
from art_idguard.training.manipulator.hardening import harden
from art_idguard.training.manipulator.train import train_manipulator
from art_idguard.training.protector.config import ProtectorConfig
from art_idguard.training.protector.setup import build_run
from art_idguard.training.protector.train import train_protector
from art_idguard.types import ATTRIBUTES
from tests.runs import config


def gan(workplace, output, settings=ManipulatorConfig, **changes):
    tiny = {"size": 64, "channels": 8, "batch_size": 4, "n_critic": 1, "steps": 2, "checkpoint_every": 1}
    named = {"faces": str(workplace / "faces"), "output": str(output), "manipulator": "stargan"}
    return settings.from_recipe(None, **named | tiny | changes)


@pytest.fixture(scope="module")
def workplace(workplace):
    """With labels, which a manipulator's training needs."""
    with (workplace / "faces" / "train.csv").open("w", newline="") as file:
        rows = [(path.name, *(i % 2 for i in range(5))) for path in sorted((workplace / "faces").glob("*.png"))]
        csv.writer(file).writerows([("file", *ATTRIBUTES), *rows])
    return workplace


TRAININGS = {"train": (config, train_protector), "train-manipulator": (gan, train_manipulator)}


@pytest.fixture(params=TRAININGS)
def training(request):
    """The settings of one kind of training, and the training."""
    return TRAININGS[request.param]


@pytest.mark.usefixtures("unchecked")  # the type checker of the tests draws random numbers
def test_the_program_around_a_training_keeps_its_random_numbers_and_its_accelerator(training, workplace, tmp_path):
    settings, train = training
    AcceleratorState._reset_state()
    GradientState._reset_state()
    own = Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=4)
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    expected = torch.rand(3), np.random.rand(), random.random()
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    train(settings(workplace, tmp_path, steps=1), verbose=False)
    assert torch.equal(torch.rand(3), expected[0])
    assert (np.random.rand(), random.random()) == expected[1:]
    assert (own.mixed_precision, own.gradient_accumulation_steps) == ("bf16", 4)
    AcceleratorState._reset_state()
    GradientState._reset_state()
    train(settings(workplace, tmp_path / "other", steps=1), verbose=False)
    assert Accelerator(cpu=True, mixed_precision="bf16").mixed_precision == "bf16"  # refused had one stayed
    AcceleratorState._reset_state()


def test_an_update_that_is_not_finite_saves_nothing(training, workplace, tmp_path):
    """Of the last step, whose objective and gradients were finite."""
    settings, train = training
    with pytest.raises(IDGuardError, match=r"step 1: the (weights|loss) of .* not finite. There is no checkpoint"):
        train(settings(workplace, tmp_path, steps=1, lr=1e38), verbose=False)
    assert not list(tmp_path.rglob("model.safetensors"))
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_changed_byte_never_resumes_to_another_run(tmp_path):
    state = {"config": {"lr": 1e-3}, "step": 3, "weights": torch.arange(64.0)}
    save_checkpoint(tmp_path, state)
    path = tmp_path / CHECKPOINT
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            loaded = load_checkpoint(tmp_path)
        except IDGuardError:
            refused += 1
            continue
        assert torch.equal(loaded.pop("weights"), state["weights"])
        assert loaded == {"config": {"lr": 1e-3}, "step": 3}
    assert refused > 10
    for length in range(0, len(whole), 101):
        path.write_bytes(whole[:length])
        with pytest.raises(IDGuardError, match=r"cannot resume from .*checkpoint.pt"):
            load_checkpoint(tmp_path)


@pytest.mark.parametrize("foreign", [3, [1, 2], {"step": 1}, {"weights": torch.ones(2)}])
def test_what_is_no_run_is_not_resumed(foreign, tmp_path):
    torch.save(foreign, tmp_path / CHECKPOINT)
    with pytest.raises(IDGuardError, match="it holds no run of this version; delete it to start anew"):
        load_checkpoint(tmp_path)


@contextmanager
def disk_of(size):
    """No file may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path):
    state = {"config": {}, "step": 1, "weights": torch.zeros(1000)}
    save_checkpoint(tmp_path, state)
    with disk_of(20_000), pytest.raises((IDGuardError, OSError)) as full:
        save_checkpoint(tmp_path, state | {"step": 2, "weights": torch.zeros(100_000)})
    assert "checkpoint" in str(full.value)
    assert load_checkpoint(tmp_path)["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


@pytest.mark.slow
@pytest.mark.parametrize("line", ["{", '"text"', "[]", "{}", '{"step": "x"}', '{"step": 1.5}', "[" * 100_000, "\x00"])
def test_a_damaged_log_is_named(line, workplace, tmp_path):
    settings = config(workplace, tmp_path, steps=1)
    train_protector(settings, verbose=False)
    whole = (tmp_path / "log.jsonl").read_text()
    (tmp_path / "log.jsonl").write_text(line + "\n" + whole)
    save_checkpoint(tmp_path, load_checkpoint(tmp_path) | {"step": 0})
    with pytest.raises(IDGuardError, match=r"log.jsonl is damaged .* move it away"):
        train_protector(settings, resume=True, verbose=False)
    (tmp_path / "log.jsonl").unlink()
    train_protector(settings, resume=True, verbose=False)
    assert json.loads((tmp_path / "log.jsonl").read_text())["step"] == 1


class StandIn(GeneralTracker):
    """In place of somebody's tracker; keeps what it is told."""

    name, requires_logging_directory, tracker = "wandb", False, None

    def __init__(self, project):
        super().__init__()
        self.told = [project]

    def start(self):
        if self.told == ["refuse"]:
            raise RuntimeError("no login")
        started.append(self)

    def log(self, values, step=None):
        self.told.append((step, values))

    def finish(self):
        self.told.append("end")


started: list[StandIn] = []


@pytest.fixture
def wandb(monkeypatch):
    """As if it were installed."""
    started.clear()
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: [LoggerType.TENSORBOARD, LoggerType.WANDB])
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", StandIn)


@pytest.mark.usefixtures("wandb")
def test_trackers_get_what_the_log_has_and_the_learning_rates(training, workplace, tmp_path):
    settings, train = training
    train(settings(workplace, tmp_path, steps=1, trackers=("wandb",)), verbose=False)
    assert not (tmp_path / "tensorboard").exists()
    (tracker,) = started
    project, (step, values), end = tracker.told
    assert (project, step, end) == ("art-idguard", 1, "end")
    record = json.loads((tmp_path / "log.jsonl").read_text())
    groups = {field: group for field, group in record.items() if isinstance(group, dict)}
    assert groups.keys() & {"objective", "loss"}
    assert all(values[f"{field}/{name}"] == value for field in groups for name, value in groups[field].items())
    assert values["lr/generator"] > 0


@pytest.mark.usefixtures("wandb")
def test_tensorboard_has_pictures_and_a_resumed_run_may_have_another_tracker(training, workplace, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings, train = training
    train(settings(workplace, tmp_path, steps=1, trackers=("tensorboard",)), verbose=False)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (shown,) = events.Images("sample")
    with Image.open(tmp_path / "samples" / "000001.png") as saved, Image.open(BytesIO(shown.encoded_image_string)) as x:
        assert np.array_equal(x, saved)
    assert [event.step for event in events.Scalars("lr/generator")] == [1] == [shown.step]
    save_checkpoint(tmp_path, load_checkpoint(tmp_path) | {"step": 0})
    train(settings(workplace, tmp_path, steps=1, trackers=("wandb", "wandb")), resume=True, verbose=False)
    (tracker,) = started
    assert tracker.told[1][0] == 1


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("paper",), r"unknown tracker 'paper'; choose from: .*tensorboard"),
        (("all",), "unknown tracker 'all'"),
        (("wandb", "tensorboard"), "the tracker tensorboard is not installed: pip install tensorboard"),
    ],
)
@pytest.mark.usefixtures("wandb")
def test_a_tracker_that_is_not_there_is_named(asked, message, workplace, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: [LoggerType.WANDB])
    with pytest.raises(IDGuardError, match=message):
        train_protector(config(workplace, tmp_path, **{"faces": "nowhere"}, trackers=asked), verbose=False)
    assert make_trackers(None, tmp_path, step=0) == []


@pytest.mark.usefixtures("wandb")
def test_a_tracker_that_does_not_start_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("art_idguard.training.log.PROJECT", "refuse")
    accelerator = make_accelerator(log_with=make_trackers(("tensorboard", "wandb"), tmp_path, step=0))
    with pytest.raises(IDGuardError, match=r"cannot start the trackers, tensorboard, wandb: RuntimeError: no login"):
        LogFile(tmp_path, step=0, accelerator=accelerator).__enter__()


@pytest.mark.parametrize("variable", RANKS)
def test_what_a_launcher_left_over_is_no_launch(variable, monkeypatch):
    monkeypatch.setenv(variable, "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert make_accelerator().num_processes == 1
    assert variable in str(told[0].message)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("settings", [ProtectorConfig, ManipulatorConfig, HardeningConfig])
def test_the_precision_is_that_of_the_launch_where_the_settings_have_none(settings, monkeypatch):
    given = {"faces": "faces", "output": "run", "manipulator": "stargan", "manipulators": ("stargan",)}
    given = {name: value for name, value in given.items() if name in settings.__dataclass_fields__}
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert settings.from_recipe(None, **given).precision == "bf16"
    assert settings.from_recipe(None, **given, precision="no").precision == "no"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(IDGuardError, match="unknown precision 'fp8'; choose from: no, bf16"):
        settings.from_recipe(None, **given)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert settings.from_recipe(None, **given).precision == "no"


@pytest.mark.slow
def test_a_run_goes_on_where_its_data_and_networks_have_moved(workplace, tmp_path):
    """What they hold is compared, not what they are called."""
    place = shutil.copytree(workplace, tmp_path / "before")
    shutil.copytree(train_protector(config(place, tmp_path / "first", steps=1), verbose=False), place / "begun")
    changes = {"steps": 2, "norm": "batch", "channels": 64, "prior": "gradient", "checkpoint_every": 1}
    settings = config(place, tmp_path / "run", start=str(place / "begun"), **changes)
    run = build_run(settings)
    run.save_checkpoint()
    moved = shutil.move(place, tmp_path / "after")
    resumed = config(tmp_path / "after", tmp_path / "run", start=f"{moved}/begun", **changes)
    assert build_run(resumed, resume=True).inputs == run.inputs
    other = train_protector(config(moved, tmp_path / "second", steps=1, seed=1), verbose=False)
    with pytest.raises(IDGuardError, match="start changed since it began"):
        build_run(config(moved, tmp_path / "run", start=str(other), **changes), resume=True)


@pytest.mark.slow
def test_a_hardening_goes_on_where_its_networks_have_moved(workplace, tmp_path):
    place = shutil.copytree(workplace, tmp_path / "before")
    shutil.move(train_protector(config(place, tmp_path / "first", steps=1), verbose=False), place / "protector")

    def settings(place, steps=1):
        players = {"start": str(place / "stargan"), "protector": str(place / "protector")}
        return gan(place, tmp_path / "run", HardeningConfig, distill=True, steps=steps, minutes=9.0, **players)

    before = settings(place, steps=2)
    harden(before, verbose=False)
    (tmp_path / "after").mkdir()
    moved = tmp_path / "after" / "place"
    shutil.move(place, moved)
    harden(settings(moved, steps=2), resume=True, verbose=False)
    build = train_protector(config(moved, tmp_path / "third", steps=1, seed=1), verbose=False)
    shutil.rmtree(moved / "protector")
    shutil.move(build, moved / "protector")
    with pytest.raises(IDGuardError, match="protector changed since it began"):
        harden(settings(moved, steps=2), resume=True, verbose=False)


@pytest.mark.parametrize("keep", ["rows", "one"])
def test_a_cache_knows_its_own_files(keep, tmp_path):
    path = tmp_path / "model.safetensors"

    def use():
        if keep == "one":
            return cached(path, "key", lambda: torch.ones(2))
        return cached_rows(path, "key", [1, 2], lambda missing: torch.ones(len(missing)))

    save_file({"weight": torch.zeros(2)}, path)
    model = path.read_bytes()
    with pytest.raises(IDGuardError, match="is no cache of art-idguard and would be overwritten; choose another path"):
        use()
    assert path.read_bytes() == model
    path.unlink()
    assert torch.equal(use(), use())
    save_file({"points": torch.zeros(1, 5, 2), "points.of": torch.tensor([1])}, path)  # as older versions wrote it
    assert torch.equal(use(), torch.ones(2))
