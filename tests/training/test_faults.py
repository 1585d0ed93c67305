"""What goes wrong around a training: the process that it is a guest in, the disk, the launcher, data that moved."""

import resource
import shutil
import warnings
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import save_file

from art_idguard.errors import IDGuardError
from art_idguard.files.tensors import cached, cached_rows
from art_idguard.perturbation import Protector
from art_idguard.training.base import RANKS, make_accelerator
from art_idguard.training.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from art_idguard.training.manipulator.config import HardeningConfig, ManipulatorConfig
from art_idguard.training.protector.config import ProtectorConfig
from art_idguard.training.protector.setup import build_run
from art_idguard.training.protector.train import train_protector
from tests.training.trainings import TRAININGS, protector_config


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
    shutil.copytree(
        train_protector(protector_config(place, tmp_path / "first", steps=1), verbose=False), place / "begun"
    )
    changes = {"steps": 2, "norm": "batch", "channels": 64, "prior": "gradient", "checkpoint_every": 1}
    settings = protector_config(place, tmp_path / "run", start=str(place / "begun"), **changes)
    run = build_run(settings)
    run.save_checkpoint()
    moved = shutil.move(place, tmp_path / "after")
    resumed = protector_config(tmp_path / "after", tmp_path / "run", start=f"{moved}/begun", **changes)
    assert build_run(resumed, resume=True).inputs == run.inputs
    other = train_protector(protector_config(moved, tmp_path / "second", steps=1, seed=1), verbose=False)
    with pytest.raises(IDGuardError, match="start changed since it began"):
        build_run(protector_config(moved, tmp_path / "run", start=str(other), **changes), resume=True)


@pytest.mark.slow
def test_a_hardening_goes_on_where_its_networks_have_moved(labelled, tmp_path):
    settings, harden = TRAININGS["harden by distillation"]
    place = shutil.copytree(labelled, tmp_path / "before")
    harden(settings(place, tmp_path / "run", steps=2), verbose=False)
    (tmp_path / "after").mkdir()
    moved = tmp_path / "after" / "place"
    shutil.move(place, moved)
    harden(settings(moved, tmp_path / "run", steps=2), resume=True, verbose=False)
    Protector(generator_config={"channels": 8, "norm": "instance"}, size=64).save_pretrained(moved / "protector")
    with pytest.raises(IDGuardError, match="protector changed since it began"):
        harden(settings(moved, tmp_path / "run", steps=2), resume=True, verbose=False)


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
