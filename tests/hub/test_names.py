"""What ships has names, a path that is not here fails at once, and each culprit on the way to the Hub is named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from art_idguard import list_models, recognizers
from art_idguard.cli import main
from art_idguard.errors import WeightsError
from art_idguard.estimators import PyTorchManipulator
from art_idguard.hub import shipped
from art_idguard.hub.loading import load_member, official_file, weights_sha256
from art_idguard.hub.repository import explained, locate
from art_idguard.hub.shipped import NAMES, resolve
from art_idguard.manipulators import MANIPULATORS
from art_idguard.manipulators import load as load_manipulator
from art_idguard.models.loading import load
from art_idguard.models.push import push_folder
from art_idguard.perturbation import Protector
from tests.toys import TINY


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """Outside of the repository, and without a Hub: whoever asks it fails the test."""

    def asked(*args, **kwargs):
        raise AssertionError(f"the Hub was asked: {args}")

    monkeypatch.setattr("art_idguard.hub.repository.hf_hub_download", asked)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def same(a, b):
    return all(torch.equal(tensor, b.state_dict()[name]) for name, tensor in a.state_dict().items())


# --- names ---


@pytest.mark.parametrize("name", NAMES)
def test_what_ships_loads_by_its_names(name):
    folder = shipped(NAMES[name])
    for spelled in (name, NAMES[name], f"hub/{NAMES[name]}", f"hub/{NAMES[name]}/"):
        assert resolve(spelled) == folder
    model = load(name)
    assert same(type(model).from_pretrained(NAMES[name]), model)
    assert weights_sha256(name) == weights_sha256(str(folder))


def test_loading_draws_no_random_numbers():
    """The file's weights replace them, and they take most of the time."""
    before = torch.get_rng_state()
    for name in ("protector-wide", "relgan", "sface"):
        load(name)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_ships_is_listed():
    assert list_models() == sorted(NAMES)
    assert list_models("*gan-hardened") == ["relgan-hardened", "stargan-hardened"]
    assert list_models("nothing") == []


def test_every_folder_that_ships_has_a_name():
    assert sorted(NAMES.values()) == sorted(str(path.parent.relative_to(shipped(""))) for path in _configs())


def _configs():
    return shipped("").glob("*/*/config.json")


def test_families_estimators_and_commands_take_names(capsys):
    assert load_manipulator("stargan").name == recognizers.load("sface").name.replace("sface", "stargan")
    assert PyTorchManipulator.from_pretrained("relgan", input_shape=(3, 64, 64)).input_shape == (3, 64, 64)
    assert Protector.from_pretrained("protector").epsilon == 0.05
    assert "would push" in push_folder(Path("sface"), "someone/sface", dry_run=True)
    assert main(["info", "manipulators/stargan-celeba128"]) == 0
    assert "kind: stargan" in capsys.readouterr().out
    assert main(["info"]) == 0
    assert "stargan-hardened (hardened/stargan-celeba128)" in capsys.readouterr().out


def test_the_folder_of_a_run_names_the_model_in_it(tmp_path):
    model = tmp_path / "run" / "protector"
    model.mkdir(parents=True)
    (tmp_path / "run" / "checkpoint.pt").touch()
    with pytest.raises(WeightsError, match=r"checkpoint\.pt is refused, a pickle"):
        load(tmp_path / "run")
    (model / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=f"no config.json in .*run; name a model in it: {model};"):
        load(tmp_path / "run")


def test_a_name_of_another_kind_is_refused():
    with pytest.raises(WeightsError, match="of kind 'relgan', not 'stargan'"):
        MANIPULATORS["stargan"].from_pretrained("relgan")


def test_a_model_in_a_folder_of_that_name_comes_first_a_mere_folder_does_not(elsewhere):
    (elsewhere / "stargan").mkdir()
    assert load("stargan").main[0].weight.shape[0] == 64
    MANIPULATORS["stargan"](**TINY).save_pretrained(elsewhere / "stargan")
    assert load("stargan").main[0].weight.shape[0] == 8


def test_what_an_installation_lacks_is_told(monkeypatch, elsewhere):
    module = sys.modules["art_idguard.hub.shipped"]  # whose name the function has in the package
    monkeypatch.setattr(module, "shipped", lambda path: elsewhere / "nothing" / path)
    for name in ("stargan-hardened", "manipulators/stargan-celeba128"):
        with pytest.raises(WeightsError, match="does not ship with this installation"):
            load(name)


# --- paths ---

MISSING = [
    *("runs/protector", "./model", "../model", "~/model", "/absent/model", "a/b/c", "model", "stargn", "", "folder/"),
    *("weights/g.pth", "weights/g.safetensors", "manipulators/stragan", "runs/lr=1e-4/stargan", "lr=1e-4/stargan"),
    *("=stargan", "a=b", "stargan=absent.pth", "stargan=", "stargan=runs"),
]


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("missing", MISSING)
def test_a_path_that_is_not_here_fails_without_the_hub(missing, kind, elsewhere):
    (elsewhere / "runs").mkdir()
    with pytest.raises(ValueError, match=r"no folder|no weights file|does not ship|no config\.json") as caught:
        load_manipulator(kind(missing))
    assert str(kind(missing)).rpartition("=")[2] in str(caught.value)
    assert "unknown model" not in str(caught.value)


def test_a_path_as_an_object_is_no_hub_id():
    with pytest.raises(WeightsError, match="no folder someone/model is here"):
        Protector.from_pretrained(Path("someone/model"))
    with pytest.raises(WeightsError, match="was asked"):
        Protector.from_pretrained("someone/model")


def test_folders_with_an_equals_sign_load(elsewhere):
    for place in ("runs/lr=1e-4/stargan", "lr=1e-4", "stargan=1"):
        MANIPULATORS["stargan"](**TINY).save_pretrained(elsewhere / place)
        assert official_file(place) is None
        assert load_member(MANIPULATORS, place).name == "stargan"


# --- culprits ---


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "/cache"), "cannot read or write /cache: .* HF_HOME"),
        (OSError(28, "No space left on device"), "cannot read or write .* HF_HOME"),
        (OSError("Consistency check failed"), "broke off .* try again"),
        (ImportError("Using SOCKS proxy, but socksio is missing"), "a package is missing.*socksio"),
        (ValueError("Unknown scheme for proxy URL"), r"cannot be asked.*HF_ENDPOINT, and the proxy \(ALL_PROXY"),
        (AssertionError("etag must have been retrieved"), "cannot be asked"),
    ],
)
def test_culprits_are_told_apart(error, message, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(WeightsError, match=message), explained("someone/model", "config.json"):
        raise error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ALL_PROXY": "socks5://127.0.0.1:9"}, "through a proxy"),
        *(({"HF_ENDPOINT": place}, "HF_ENDPOINT") for place in ("nonsense", "", "http://[x")),
        ({"HF_HUB_DOWNLOAD_TIMEOUT": "abc"}, "HF_HUB_DOWNLOAD_TIMEOUT=abc is no setting of the Hub"),
        ({"HF_HUB_ETAG_TIMEOUT": "1.5"}, "HF_HUB_ETAG_TIMEOUT=1.5 is no setting of the Hub"),
        ({"HF_HOME": __file__}, "set it to a folder that you may write"),
        ({"HF_TOKEN": "tökén"}, "HF_TOKEN"),
    ],
)
def test_no_traceback_in_any_environment(environment, message, elsewhere):
    """In a process of its own, as the libraries read their environment when they are imported."""
    kept = {k: v for k, v in os.environ.items() if not k.lower().startswith(("hf_", "http", "all_proxy", "no_proxy"))}
    home = {"HOME": str(elsewhere / "absent"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    words = [sys.executable, "-m", "art_idguard.cli", "info", "someone/model"]
    found = subprocess.run(words, env=kept | home | environment, capture_output=True, text=True, timeout=200)
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    assert message in found.stderr


def test_the_cache_is_not_asked_for_by_a_folder(elsewhere):
    """A model's folder loads wherever the cache would be."""
    MANIPULATORS["stargan"](**TINY).save_pretrained(elsewhere / "model")
    assert locate("model", "config.json", cache_dir="/proc/none").is_file()
