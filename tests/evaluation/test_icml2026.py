"""The Proactive Defense Benchmark's protocol: its measures, its scores, its command."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from art_idguard.cli import main
from art_idguard.errors import WeightsError
from art_idguard.evaluation.icml2026 import PROBES, cidr
from art_idguard.evaluation.leaderboard import MEASURES, SCORES, Defence, Leaderboard, published
from art_idguard.evaluation.lpips import LPIPS
from art_idguard.perturbation import Protector
from art_idguard.recognizers import SFace
from tests.toys import tiny_manipulators, write_portraits

SIZE = 40
GENERATORS = ("stargan", "relgan")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    write_portraits(folder / "faces", 2, SIZE)
    for model in tiny_manipulators(GENERATORS):
        model.save_pretrained(folder / model.name)
    torch.manual_seed(0)
    SFace(width=8).save_pretrained(folder / "judge")
    for name, epsilon in (("guard", 0.05), ("weaker", 0.03)):
        made = Protector(generator_config={"channels": 8, "norm": "instance"}, size=SIZE, epsilon=epsilon)
        torch.nn.init.uniform_(made.prior, -epsilon, epsilon)
        made.save_pretrained(folder / name)
    torch.save(lpips_state(), folder / "lpips.pth")
    return folder


def command(place, output, *words, guard="guard"):
    models = [place / name for name in GENERATORS]
    given = ("--protocol", "icml2026", "--protector", place / guard, "--manipulators", *models)
    given += ("--recognizers", place / "judge", "--data", f"toy={place / 'faces'}", "--output", output, "--quiet")
    return main(["evaluate", *map(str, (*given, *words))])


@pytest.fixture(scope="module")
def written(place, tmp_path_factory):
    """What the command writes, as JSON and Markdown."""
    output = tmp_path_factory.mktemp("report")
    assert command(place, output, "--lpips", place / "lpips.pth", "--batch-size", "1") == 0
    return json.loads((output / "toy-icml2026.json").read_text()), (output / "toy-icml2026.md").read_text(), output


def test_measured_and_published_stand_apart(written):
    found, text, _ = written
    assert found["published"] == published()
    assert found["measured"].keys() == set(GENERATORS)
    for scores in (row for rows in found["measured"].values() for row in rows.values()):
        assert scores.keys() == {"setting", *SCORES}
    ours, theirs = text.index("**stargan, measured here**"), text.index("**stargan, published**")
    assert ours < text.index("| ID-Guard |") < theirs < text.index("| NullSwap |")
    lines = text.splitlines()
    own = next(line for line in lines if line.startswith("| ID-Guard"))
    assert "Blond_Hair, 40 px, toy, 2 faces |" in own
    other = next(line for line in lines if line.startswith("| PGD") and "CelebA-HQ" in line)
    assert "| 1.3715 | 0.688 | 0.376 | 0.701 | 0.444 | official weights, 256 px" in other
    assert text.count("published**") == 1  # nothing is published of the other generator


def test_a_black_box_has_no_transfer(written):
    measured = written[0]["measured"]["stargan"]
    assert measured["ID-Guard"]["te"]["mean"] is None
    assert measured["ID-Guard"]["setting"] == "black box"
    assert 0 < measured["PGD"]["te"]["mean"] <= 1
    assert measured["PGD"]["setting"] == "white box"


def test_who_knows_the_generator_does_more_to_it(written):
    measured = written[0]["measured"]["stargan"]
    assert measured["PGD"]["mse"]["mean"] > 2 * measured["±epsilon noise"]["mse"]["mean"]


@pytest.mark.slow
def test_a_cut_run_goes_on_to_the_same_report(place, written, tmp_path):
    _, _, output = written
    whole = (output / "toy-icml2026.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "toy-icml2026.jsonl").write_text(whole[0] + whole[1] + whole[2][:40])
    assert command(place, tmp_path, "--lpips", place / "lpips.pth", "--batch-size", "1") == 0
    for name in ("toy-icml2026.json", "toy-icml2026.md", "toy-icml2026.jsonl"):
        assert (tmp_path / name).read_text() == (output / name).read_text()


def test_records_of_other_lpips_weights_are_not_gone_on_with(place, written, tmp_path, capsys):
    shutil.copy(written[2] / "toy-icml2026.jsonl", tmp_path)
    torch.save({name: 2 * value for name, value in lpips_state().items()}, tmp_path / "other.pth")
    assert command(place, tmp_path, "--lpips", tmp_path / "other.pth", "--batch-size", "1") == 1
    assert "weights changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "guard", "says"),
    [
        (["--operations", "jpeg=75"], "guard", "leaves no choice of operations"),
        (["--edits", "cycle", "--baselines"], "guard", "leaves no choice of edits, baselines"),
        ([], "weaker", "this protector's is 0.03"),
    ],
)
def test_what_the_protocol_fixes_is_refused(place, tmp_path, capsys, words, guard, says):
    assert command(place, tmp_path, *words, guard=guard) == 1
    assert says in capsys.readouterr().err
    assert not [*tmp_path.glob("*.json")]


def test_cidr_is_the_share_that_the_protection_adds():
    clean, protected = torch.tensor([0.2, 0.3, 0.0, 0.2]), torch.tensor([0.5, 0.1, 0.0, 0.2])
    assert cidr(clean, protected).tolist() == pytest.approx([0.6, 0, 0, 0])


def board(values, sources=GENERATORS):
    defences = (Defence("guard"), *(Defence("PGD", source) for source in sources))
    return Leaderboard(defences, GENERATORS, values, {})


def random_values(n=5):
    shape = (len(MEASURES), 1 + len(PROBES), 3, 2, n)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_rob_and_te_are_means_of_clipped_ratios_of_means():
    values = random_values()
    v = values.double().numpy().mean(axis=-1)
    rob = np.mean([np.mean([min(1, v[m, s, 1, 0] / v[m, 0, 1, 0]) for m in range(3)]) for s in range(1, 9)])
    te = np.mean([min(1, v[m, 0, 1, 1] / v[m, 0, 2, 1]) for m in range(3)])
    found = board(values)
    assert found.score("rob", "PGD", "stargan").mean == pytest.approx(rob, rel=1e-5)
    assert found.score("te", "PGD", "stargan").mean == pytest.approx(te, rel=1e-5)
    assert found.score("mse", "PGD", "relgan").mean == pytest.approx(v[0, 0, 2, 1], rel=1e-5)
    assert found.score("mse", "guard", "relgan").mean == pytest.approx(v[0, 0, 0, 1], rel=1e-5)


def test_a_measure_that_is_missing_is_left_out():
    values = random_values()
    values[MEASURES.index("lpips")] = math.nan
    v = values.double().numpy().mean(axis=-1)
    rob = np.mean([np.mean([min(1, v[m, s, 0, 0] / v[m, 0, 0, 0]) for m in (0, 2)]) for s in range(1, 9)])
    found = board(values)
    assert found.score("rob", "guard", "stargan").mean == pytest.approx(rob, rel=1e-5)
    assert math.isnan(found.score("lpips", "guard", "stargan").mean)


def test_the_interval_holds_the_score_and_one_face_has_none():
    for name in ("mse", "rob", "te"):
        found = board(random_values()).score(name, "PGD", "stargan")
        assert found.low < found.mean < found.high
        assert math.isnan(board(random_values(1)).score(name, "PGD", "stargan").low)


def test_probes_are_those_of_the_benchmark():
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    assert torch.equal(PROBES["blur1"](x), x)
    window = torch.tensor([0.27406862, 0.45186276, 0.27406862])  # torchvision's GaussianBlur(3, 1)
    kernel = (window[:, None] * window).expand(3, 1, 3, 3)
    expected = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, groups=3)
    assert torch.allclose(PROBES["blur3"](x), expected, atol=1e-6)
    for name, sigma in (("noise001", 0.001), ("noise003", 0.003)):
        assert (PROBES[name](x * 0.9) - x * 0.9).std().item() == pytest.approx(sigma, rel=0.05)
    grey = torch.zeros(1, 3, 512, 512)
    for name, share in (("salt_pepper001", 0.001), ("salt_pepper003", 0.003)):
        salted = PROBES[name](grey)
        assert salted.abs().mean().item() == pytest.approx(share, rel=0.1)
        assert (salted == 1).float().mean().item() == pytest.approx(share / 2, rel=0.15)
    assert (PROBES["jpeg70"](x) - x).abs().mean() > (PROBES["jpeg90"](x) - x).abs().mean() > 0


def lpips_state():
    """Random weights in the layout of the package's file."""
    chance = torch.Generator().manual_seed(0)
    state = {
        "scaling_layer.shift": torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1),
        "scaling_layer.scale": torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1),
    }
    shapes = {
        "1.0": (64, 3, 11),
        "2.3": (192, 64, 5),
        "3.6": (384, 192, 3),
        "4.8": (256, 384, 3),
        "5.10": (256, 256, 3),
    }
    for i, (name, (after, before, side)) in enumerate(shapes.items()):
        weight = torch.randn(after, before, side, side, generator=chance) / (before * side**2) ** 0.5
        state |= {f"net.slice{name}.weight": weight, f"net.slice{name}.bias": torch.zeros(after) + 0.1}
        head = torch.rand(1, after, 1, 1, generator=chance)
        state |= {f"lin{i}.model.1.weight": head, f"lins.{i}.model.1.weight": head}
    return state


def test_lpips_by_its_formula(place):
    state = lpips_state()
    a, b = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    total = torch.zeros(2)
    x, y = ((p - state["scaling_layer.shift"]) / state["scaling_layer.scale"] for p in (a, b))
    for i, (name, pool, stride, padding) in enumerate(
        [("1.0", 0, 4, 2), ("2.3", 1, 1, 2), ("3.6", 1, 1, 1), ("4.8", 0, 1, 1), ("5.10", 0, 1, 1)]
    ):
        weight, bias = state[f"net.slice{name}.weight"], state[f"net.slice{name}.bias"]
        x, y = (F.max_pool2d(p, 3, 2) if pool else p for p in (x, y))
        x, y = (F.relu(F.conv2d(p, weight, bias, stride, padding)) for p in (x, y))
        difference = F.normalize(x, dim=1) - F.normalize(y, dim=1)
        total += (difference**2 * state[f"lin{i}.model.1.weight"]).sum(dim=1).mean(dim=(1, 2))
    model = LPIPS.from_checkpoint(place / "lpips.pth")
    assert torch.allclose(model(a, b), total, rtol=1e-4)
    assert model(a, a).tolist() == [0, 0]


@pytest.mark.parametrize(("name", "becomes"), [("net.slice1.0.weight", None), ("lin0.model.1.weight", "lin0.weight")])
def test_lpips_refuses_other_weights(tmp_path, name, becomes):
    state = lpips_state()
    tensor = state.pop(name)
    if becomes:
        state[becomes] = tensor
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth"):
        LPIPS.from_checkpoint(tmp_path / "other.pth")
