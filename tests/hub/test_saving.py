"""Saving a model over another: killed between any two changes of the folder, the old or the new one loads."""

import json
import os
import shutil
import signal
import sys
from functools import cache
from multiprocessing import get_context
from threading import Thread

import pytest
import torch

from art_idguard.files.atomic import alone_in, replacing
from art_idguard.hub import model
from art_idguard.manipulators import MANIPULATORS
from art_idguard.models.push import push_folder

EVENTS = ("rename", "replace", "unlink", "remove", "open", "mkdir")
FILES = {"README.md", "config.json", "model.safetensors"}


def tiny(seed):
    torch.manual_seed(seed)
    return MANIPULATORS["stargan"](channels=4, blocks=1)


@cache
def first_weights(seed):
    return tiny(seed).state_dict()["main.0.weight"]


def seed_of(folder):
    """Which of the models is in the folder."""
    loaded = MANIPULATORS["stargan"].from_pretrained(folder).state_dict()["main.0.weight"]
    (seed,) = [seed for seed in range(4) if torch.equal(loaded, first_weights(seed))]
    return seed


def save_and_die(seed, folder, after):
    """Save; SIGKILL after so many changes to the file system. Without `after`: exit with their number, then live."""
    changes = 0

    def counted(real):
        def call(*args, **kwargs):
            nonlocal changes
            result = real(*args, **kwargs)
            changes += 1
            if changes == after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    torch.set_num_threads(1)  # those of the parent do not live in a fork
    for name in EVENTS:
        setattr(os, name, counted(getattr(os, name)))
    tiny(seed).save_pretrained(folder)
    os._exit(changes)


def test_a_model_saved_while_the_one_before_is_loaded_loads(tmp_path, monkeypatch):
    """Its weights are not those of the config that was read first, and not damaged either."""
    tiny(0).save_pretrained(tmp_path)
    monkeypatch.setattr(
        model, "parse_config", saving_behind(model.parse_config, lambda: tiny(1).save_pretrained(tmp_path))
    )
    assert seed_of(tmp_path) == 1


def saving_behind(read, save):
    """`read`, behind which somebody saves, once."""
    saves = iter([save])

    def reading(path):
        config = read(path)
        next(saves, lambda: None)()
        return config

    return reading


def in_a_process(seed, folder, after=None):
    process = get_context("fork").Process(target=save_and_die, args=(seed, folder, after))
    process.start()
    process.join()
    return process.exitcode


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    tiny(0).save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("hashed", [True, False], ids=["", "without sha256"])
def test_killed_at_any_change_the_old_or_the_new_model_loads(first, tmp_path, hashed):
    changes = in_a_process(1, shutil.copytree(first, tmp_path / "counted"))
    assert changes >= 4
    found = []
    for after in range(1, changes + 1):
        folder = shutil.copytree(first, tmp_path / f"{after}")
        if not hashed:
            config = json.loads((folder / "config.json").read_text())
            del config["sha256"]
            (folder / "config.json").write_text(json.dumps(config))
        assert in_a_process(1, folder, after) == -signal.SIGKILL
        found.append(seed_of(folder))
        # A second save that is killed over it loses nothing either.
        in_a_process(2, folder, 1 + after % changes)
        assert seed_of(folder) in (found[-1], 2)
        tiny(3).save_pretrained(folder)
        assert seed_of(folder) == 3
        assert {path.name for path in folder.iterdir()} == FILES
    assert found == sorted(found)  # the old one until some moment, then the new one
    assert set(found) == {0, 1}


@pytest.mark.slow
def test_a_killed_first_save_is_pushed_whole(tmp_path):
    for after in range(1, 20):
        folder = tmp_path / f"{after}"
        if in_a_process(1, folder, after) != -signal.SIGKILL:
            break
        if (folder / "config.json").is_file():
            assert seed_of(folder) == 1
            assert "model.safetensors" in push_folder(folder, "someone/model", dry_run=True)
    assert after > 4


@pytest.mark.parametrize("flock", [True, False])
def test_two_savers_take_turns_and_foreign_hidden_files_stay(tmp_path, flock, monkeypatch):
    if not flock:  # as on Windows
        monkeypatch.setitem(sys.modules, "fcntl", None)
    (tmp_path / ".notes.tmp").write_text("mine")
    with alone_in(tmp_path):
        waiting = Thread(target=tiny(1).save_pretrained, args=(tmp_path,))
        waiting.start()
        in_a_process(2, tmp_path / "other")  # a fork while the lock is held
        assert waiting.is_alive()
        assert not (tmp_path / "config.json").exists()
    waiting.join()
    assert seed_of(tmp_path) == 1
    assert (tmp_path / ".notes.tmp").read_text() == "mine"


def test_what_a_killed_writer_left_is_removed_but_nothing_that_is_at_work(tmp_path):
    abandoned, mine = tmp_path / f".{'0' * 16}.tmp", tmp_path / ".notes.tmp"
    with replacing(tmp_path / "a") as at_work:
        for path in (abandoned, mine):
            path.touch()
        with replacing(tmp_path / "b"):
            assert abandoned.exists()
        assert at_work.exists()
    with replacing(tmp_path / "c"):
        assert not abandoned.exists()
    assert sorted(tmp_path.iterdir()) == sorted([mine, *(tmp_path / name for name in "abc")])
