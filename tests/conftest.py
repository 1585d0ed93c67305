import os
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from jaxtyping import config

from tests import ROOT
from tests.chromium import CHROMIUM, FLAGS

if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores: threads of several would wait for each other
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA needs it to be deterministic

SHARED = Path(os.environ.get("IDGUARD_SHARED", ROOT.parent / "shared"))
"""Real faces and weights for development; tests that use them are skipped where they are absent."""


@pytest.fixture(autouse=True)
def _deterministic():
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True, warn_only=False)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def unchecked():
    """As users run it: without the type checker of the tests, which comes before the code's own errors."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("needs the development data")
    return SHARED


@pytest.fixture
def example(monkeypatch):
    """Imports a script of the examples as Python does that runs it."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    yield import_module
    own = {path.stem for path in ROOT.glob("examples/*.py")} | {"benchmarks"}
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Tiny manipulators and faces on disk, as a user has them."""
    from art_idguard.recognizers import SFace
    from tests.toys import tiny_manipulators, write_portraits  # only now are the types of the package checked

    folder = tmp_path_factory.mktemp("workplace")
    write_portraits(folder / "faces", 10)
    torch.manual_seed(0)
    for model in (*tiny_manipulators(("stargan", "relgan")), SFace(width=4)):
        model.save_pretrained(folder / model.name)
    return folder


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs a Chromium")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
