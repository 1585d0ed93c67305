"""What may be pushed: files of a few kinds that are sound, and no pickle under any name."""

import io
import json
import pickle
import zipfile

import pytest
import torch
from PIL import Image

from art_idguard.errors import IDGuardError, WeightsError
from art_idguard.hub import cards
from art_idguard.models.contents import require_publishable
from tests.toys import PORTRAIT

NAMES = ("x", "x.txt", "x.md", "x.csv", "x.json", "x.toml", "x.png", "x.safetensors", "x.onnx", "x.bin", "x.PKL")


class Called:
    def __reduce__(self):
        return print, ("ran",)


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        target.writestr("archive/data.pkl", pickle.dumps(Called()))
    return buffer.getvalue()


PICKLES = {
    **{f"protocol {n}": pickle.dumps(Called(), n) for n in range(6)},
    **{f"data, protocol {n}": pickle.dumps({"a": [1, "b"]}, n) for n in range(6)},
    "cut off": pickle.dumps(Called(), 0)[:-1] + b" and some prose",
    "with attributes first": b"cmath\nsin\n(N(dV__new__\nI1\nstbcos\ngetpid\n)R.",
    "persistent": b"Psome id\n0" + pickle.dumps(Called(), 0),
    "torch": saved({"a": torch.zeros(2)}),
    "torch, old": saved({"a": torch.zeros(2)}, _use_new_zipfile_serialization=False),
    "archive": archive(),
    "picture and archive": PORTRAIT.read_bytes() + archive(),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", PICKLES)
def test_no_pickle_passes_and_none_runs(kind, name, tmp_path, capsys):
    (tmp_path / name).write_bytes(PICKLES[kind])
    with pytest.raises(WeightsError, match=rf"{name} is not pushed"):
        require_publishable(tmp_path / name)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [b"\x7fELF" + bytes(60), bytes(range(256)), b"\xff\xfea\x00"])
def test_what_is_no_known_kind_is_named(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{name} is not pushed"):
        require_publishable(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.json", b"[" * 100_000),
        ("a.toml", b"a = "),
        ("a.png", b"<html>not found</html>"),
        ("a.png", PORTRAIT.read_bytes()[:1000]),
        ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\n"),
        ("a.onnx", b"text"),
    ],
)
def test_a_file_is_what_its_name_says(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=f"{name} is not pushed: it is damaged"):
        require_publishable(tmp_path / name)


@pytest.mark.parametrize(
    "text",
    ["", "cat,dog\n1,2\nRed,3\n", "Nr. 1 ist gut.", "(a) first\n", "# Gesicht: äöü\n", "}{\n", "class A:\n  b\n"],
)
def test_texts_and_pictures_pass(text, tmp_path):
    (tmp_path / "notes").write_text(text, encoding="utf-8")
    require_publishable(tmp_path / "notes")
    for name in ("a.png", "a.JPG", "a.webp"):
        Image.new("RGB", (9, 7)).save(tmp_path / name)
        require_publishable(tmp_path / name)


# --- what a card is made of ---

MEANS = {"l2_face": {"mean": 0.5}}
REPORT = {"summary": {"ID-Guard": dict.fromkeys(("mean over manipulators", "worst manipulator", "photo"), MEANS)}}


@pytest.mark.parametrize(
    "report",
    [
        *([], 5, "text", None, {"metadata": []}, {"metadata": {"data": 5}}, {"metadata": {"weights": [1]}}),
        *({"metadata": {"weights": {"a": 5}}}, {"summary": [1]}, {"summary": {"ID-Guard": {}}}),
        {"summary": {"ID-Guard": REPORT["summary"]["ID-Guard"] | {"photo": 3}}},
        *({"summary": {"a": {"mean": mean}}} for mean in ("0.5", [], True, float("nan"), float("inf"))),
    ],
)
def test_a_report_of_wrong_types_is_named(report, tmp_path):
    (tmp_path / "evaluation").mkdir()
    path = tmp_path / "evaluation" / "faces.json"
    path.write_text(json.dumps(REPORT))
    assert "photo, l2_face" in str(cards.generate(tmp_path))
    path.write_text(json.dumps(report))
    with pytest.raises(IDGuardError, match=r"faces\.json is no report of an evaluation"):
        cards.generate(tmp_path)


@pytest.mark.parametrize("content", [b"\xff", b"{", b"[" * 100_000])
def test_a_damaged_report_is_named(content, tmp_path):
    (tmp_path / "quality.json").write_bytes(content)
    with pytest.raises(IDGuardError, match=r"quality\.json is damaged, or no JSON"):
        cards.generate(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        *("title = 5", "license = []", "tags = 'a'", "tags = [1]", "table = 5", "table = { a = 1 }", "usage = true"),
        *("training = 'x'", "training = [5]", "training = [{ recipe = 1 }]", "sections = { a = [] }", "kind = 1.5"),
        *("title =", f"x = {'[' * 100_000}"),
    ],
)
def test_facts_of_wrong_types_are_named(line, tmp_path):
    (tmp_path / "card.toml").write_text(line)
    with pytest.raises(IDGuardError, match=r"card\.toml (has a value of another type|is damaged, or no TOML)"):
        cards.generate(tmp_path)
