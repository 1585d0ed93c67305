"""What is noted of a run that goes on, and the trackers that get it too."""

import json
import re
import time
from io import BytesIO

import numpy as np
import pytest
from accelerate import tracking
from accelerate.tracking import GeneralTracker
from accelerate.utils import LoggerType
from PIL import Image

from art_idguard.errors import IDGuardError
from art_idguard.training.base import make_accelerator
from art_idguard.training.checkpoint import load_checkpoint, save_checkpoint
from art_idguard.training.log import LogFile, make_trackers
from art_idguard.training.protector.setup import build_run
from art_idguard.training.protector.train import ProtectorTraining, train_protector
from tests.training.trainings import STEPS, TRAININGS, protector_config


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


@pytest.mark.parametrize("line", ["{", '"text"', "[]", "{}", '{"step": "x"}', '{"step": 1.5}', "[" * 100_000, "\x00"])
def test_a_damaged_log_is_named_and_kept(line, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(content := line + '\n{"step": 1}\n')
    with (
        pytest.raises(IDGuardError, match=r"log.jsonl is damaged .* move it away"),
        LogFile(tmp_path, step=1, accelerator=make_accelerator()),
    ):
        pass
    assert path.read_text() == content


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


@pytest.mark.slow
@pytest.mark.usefixtures("wandb")
def test_trackers_get_what_the_log_has_and_the_learning_rates(training, tmp_path):
    config, train = training
    train(config(tmp_path, steps=1, trackers=("wandb",)))
    assert not (tmp_path / "tensorboard").exists()
    (tracker,) = started
    project, (step, values), end = tracker.told
    assert (project, step, end) == ("art-idguard", 1, "end")
    record = json.loads((tmp_path / "log.jsonl").read_text())
    groups = {field: group for field, group in record.items() if isinstance(group, dict)}
    assert groups.keys() & {"objective", "loss"}
    assert all(values[f"{field}/{name}"] == value for field in groups for name, value in groups[field].items())
    assert values["lr/generator"] > 0
    assert values["speed/images_per_second"] == record["images_per_second"] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("wandb")
def test_tensorboard_has_pictures_and_a_resumed_run_may_have_another_tracker(training, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config, train = training
    train(config(tmp_path, steps=1, trackers=("tensorboard",)))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (shown,) = events.Images("sample")
    with Image.open(tmp_path / "samples" / "000001.png") as saved, Image.open(BytesIO(shown.encoded_image_string)) as x:
        assert np.array_equal(x, saved)
    assert [event.step for event in events.Scalars("lr/generator")] == [1] == [shown.step]
    save_checkpoint(tmp_path, load_checkpoint(tmp_path) | {"step": 0})
    train(config(tmp_path, steps=1, trackers=("wandb", "wandb")), resume=True)
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
        train_protector(protector_config(workplace, tmp_path, **{"faces": "nowhere"}, trackers=asked), verbose=False)
    assert make_trackers(None, tmp_path, step=0) == []


@pytest.mark.usefixtures("wandb")
def test_a_tracker_that_does_not_start_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("art_idguard.training.log.PROJECT", "refuse")
    accelerator = make_accelerator(log_with=make_trackers(("tensorboard", "wandb"), tmp_path, step=0))
    with pytest.raises(IDGuardError, match=r"cannot start the trackers, tensorboard, wandb: RuntimeError: no login"):
        LogFile(tmp_path, step=0, accelerator=accelerator).__enter__()


# --- what a person sees ---


@pytest.mark.parametrize("name", TRAININGS)
def test_the_bar_has_step_loss_speed_and_time_left(name, labelled, tmp_path, capsys):
    settings, train = TRAININGS[name]
    train(settings(labelled, tmp_path, sample_every=2))
    last = capsys.readouterr().err.split("\r")[-1]
    assert f"step {STEPS} of {STEPS}" in last
    assert re.search(r" loss -?[0-9.e-]+, .*[0-9.e+-]+ faces/s, 00:00 left", last)
    if name == "train":
        (*_, record) = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
        for measure in ("L2_face", "similarity"):
            assert f"{measure} {np.mean(list(record[measure].values())):.3g}" in last


def test_a_sample_says_what_the_protector_does_and_the_bar_keeps_it(workplace, tmp_path, capsys):
    train_protector(protector_config(workplace, tmp_path, sample_every=2))
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "L2_face" in record] == [2, 3]
    for record in records[1:]:
        assert record["L2_face"].keys() == record["similarity"].keys() == {"stargan", "relgan"}
        assert all(value > 0 for value in record["L2_face"].values())
        assert all(-1 <= value <= 1 for value in record["similarity"].values())
    bars = capsys.readouterr().err.split("\r")
    assert not any("L2_face" in bar for bar in bars if "step 1 of 3" in bar)
    for step in ("000002", "000003"):
        with Image.open(tmp_path / "samples" / f"{step}.png") as picture:
            assert picture.size == (6 * 34 - 2, 2 * (34 + 14) - 2)


@pytest.mark.parametrize(("minutes", "left"), [(None, 160.0), (1.0, 20.0), (60.0, 160.0), (0.1, 0.0)])
def test_time_left_is_that_of_the_budget_that_ends_first(minutes, left, workplace, tmp_path):
    """Of 100 steps 20 are done, 10 of them in the 20 seconds since the launch."""
    run = build_run(protector_config(workplace, tmp_path, steps=100, minutes=minutes))
    run.step, run.elapsed = 10, 20.0
    training = ProtectorTraining(run, title="training", verbose=False)
    run.step, run.elapsed = 20, 40.0
    assert training.seconds_left() == pytest.approx(left)
