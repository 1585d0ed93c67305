"""Weights files and settings that are not what they should be: each is refused at once, by name; wrapped ones load."""

import json
import time
import tracemalloc
import warnings
import zipfile
from itertools import permutations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from art_idguard.errors import WeightsError
from art_idguard.hub.weights import fitted, load_strict, read_state_dict
from art_idguard.manipulators import MANIPULATORS, load
from art_idguard.models.loading import MODELS
from art_idguard.perturbation import Protector
from tests.toys import CONFIGS, TINY


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))


STATE = Net().state_dict()
NAME = "main.0.weight"
WRAPPERS = ("_orig_mod.", "module.")
PREFIXES = ["", *("".join(order) for n in (1, 2) for order in permutations(WRAPPERS, n)), "module.module."]


# --- wrapped models ---


@pytest.mark.parametrize("save", [torch.save, save_file], ids=["torch", "safetensors"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_a_wrapped_model_saved_loads(prefix, save, tmp_path):
    path = tmp_path / ("net.pth" if save is torch.save else "net.safetensors")
    save({prefix + name: tensor for name, tensor in STATE.items()}, path)
    net = Net()
    load_strict(net, read_state_dict(path), path)
    assert all(torch.equal(tensor, STATE[name]) for name, tensor in net.state_dict().items())


def test_a_part_that_is_wrapped_is_saved_and_loaded_on_either_side():
    wrapped = Net()
    wrapped.main = nn.DataParallel(wrapped.main)
    load_strict(wrapped, STATE, "net")
    assert wrapped.state_dict().keys() != STATE.keys()
    back = fitted(Net(), wrapped.state_dict(), "net")
    assert back.keys() == STATE.keys()
    assert all(torch.equal(back[name], STATE[name]) for name in back)


def test_an_official_file_of_a_compiled_and_parallel_manipulator_loads(tmp_path):
    model = MANIPULATORS["stargan"](**TINY)
    torch.save({f"module._orig_mod.{k}": v for k, v in model.state_dict().items()}, tmp_path / "x=1.ckpt")
    loaded = load(f"stargan={tmp_path / 'x=1.ckpt'}", **TINY)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in loaded.state_dict().items())


@pytest.mark.parametrize("name", ["model.", "module_", "_orig_mod_.", "xmodule."])
def test_other_prefixes_stay_errors(name):
    with pytest.raises(WeightsError, match="unknown"):
        fitted(Net(), {name + k: v for k, v in STATE.items()}, "net")


def test_a_name_twice_is_refused():
    with pytest.raises(WeightsError, match="twice"):
        fitted(Net(), STATE | {f"module.{NAME}": STATE[NAME]}, "net")


# --- tensors that are none, and values ---

with warnings.catch_warnings(action="ignore"):  # torch's own, on its prototypes
    ODD = {
        "sparse": STATE[NAME].to_sparse(),
        "nested": torch.nested.nested_tensor([torch.zeros(3, 1, 1)] * 2),
        "quantised": torch.quantize_per_tensor(STATE[NAME], 0.1, 0, torch.qint8),
    }
ODD |= {"meta": STATE[NAME].to("meta"), "Uninitialized": nn.UninitializedParameter()}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ODD)
def test_tensors_that_are_not_dense_are_named(kind, tmp_path):
    torch.save(STATE | {NAME: ODD[kind]}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=rf"net\.pth.*({NAME}.*{kind}|was refused)"):
        read_state_dict(tmp_path / "net.pth")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_whole_and_complex_numbers_are_no_weights(dtype):
    with pytest.raises(WeightsError, match=rf"not of real numbers \({NAME}: {dtype}"):
        load_strict(Net(), STATE | {NAME: STATE[NAME].to(dtype)}, "net")


@pytest.mark.parametrize("name", [name for name, tensor in STATE.items() if tensor.is_floating_point()])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_weights_that_are_not_finite_are_named(name, value):
    tensor = STATE[name].double()
    tensor.view(-1)[-1] = value
    with pytest.raises(WeightsError, match=rf"net: {name} has values that are not finite"):
        load_strict(Net(), STATE | {name: tensor}, "net")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_load(dtype):
    net = Net()
    load_strict(net, {k: v.to(dtype) if v.is_floating_point() else v for k, v in STATE.items()}, "net")
    assert net.main[0].weight.dtype == torch.float32


def test_a_checkpoint_that_would_unpack_to_much_is_not_unpacked(tmp_path):
    torch.save({"w": torch.zeros(8_000_000)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "bomb.pth", "w", 8) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert (tmp_path / "bomb.pth").stat().st_size < 100_000
    with pytest.raises(WeightsError, match=r"bomb\.pth would unpack to 32,0.* bytes"):
        read_state_dict(tmp_path / "bomb.pth")
    assert read_state_dict(tmp_path / "plain.pth")["w"].shape == (8_000_000,)


@pytest.mark.parametrize("byte", [0.2, 0.5, 0.7])
def test_a_checkpoint_with_a_changed_byte_is_refused(byte, tmp_path):
    torch.save({"w": torch.ones(10_000)}, tmp_path / "net.pth")
    content = bytearray((tmp_path / "net.pth").read_bytes())
    content[int(byte * len(content))] ^= 1
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"net\.pth is damaged: the checksum of .*data/0 in it does not hold"):
        read_state_dict(tmp_path / "net.pth")


@pytest.mark.parametrize("state", [{1: torch.zeros(2)}, {None: torch.zeros(2)}, {"G": {("a",): torch.zeros(2)}}])
def test_tensors_without_a_name_are_no_state_dict(state, tmp_path):
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"net\.pth holds no state_dict"):
        read_state_dict(tmp_path / "net.pth")


# --- settings ---


def saved(folder, kind):
    MODELS[kind](**CONFIGS.get(kind, TINY)).save_pretrained(folder)
    return json.loads((folder / "config.json").read_text())


def refused(folder, kind, config):
    """Its refusal, which takes next to no memory, and no longer than a few hundred layers take to build."""
    (folder / "config.json").write_text(json.dumps(config))
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(WeightsError) as caught:
        MODELS[kind].from_pretrained(folder)
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()
    assert time.perf_counter() - began < 30
    assert torch.is_grad_enabled()
    assert str(folder) in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_settings_that_ask_for_much_are_refused_at_once(kind, tmp_path):
    config = saved(tmp_path, kind)
    for name, value in config.items():
        if isinstance(value, int) and name not in ("fade", "seed"):  # they cost nothing
            for much in (59_999, 10**30):
                refused(tmp_path, kind, config | {name: much})
        if isinstance(value, list):
            refused(tmp_path, kind, config | {name: [60_000] * len(value)})
            refused(tmp_path, kind, config | {name: value * 500})


@pytest.mark.parametrize("blocks", [1000, 60_000])
def test_a_network_of_too_many_blocks_is_not_built_to_its_end(blocks, tmp_path):
    config = saved(tmp_path, "protector")
    config["generator_config"]["blocks"] = blocks
    assert "many more than their 37 tensors" in refused(tmp_path, "protector", config)


@pytest.mark.parametrize("depth", [20, 400, 5000])
def test_nested_settings_are_refused(depth, tmp_path):
    saved(tmp_path, "protector")
    nested = "[" * depth + "]" * depth
    (tmp_path / "config.json").write_text(
        f'{{"model_type": "protector", "size": 16, "generator_config": {{"channels": {nested}}}}}'
    )
    with pytest.raises(WeightsError, match=r"config\.json"):
        Protector.from_pretrained(tmp_path)


def test_arguments_that_do_not_exist_are_told_as_such(tmp_path):
    """And those that do are named, before anything is read or asked."""
    for options in ({"map_location": "cpu"}, {"strict": True}, {"subfolder": "x"}, {"torch_dtype": "auto"}):
        with pytest.raises(WeightsError, match=f"from_pretrained.*local_files_only.*{next(iter(options))}.*channels"):
            MANIPULATORS["stargan"].from_pretrained("someone/model", **options)
        with pytest.raises(WeightsError, match=f"from_checkpoint has unknown settings: {next(iter(options))}"):
            load(f"stargan={tmp_path}", **options)
