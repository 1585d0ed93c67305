"""Settings of every command, from recipes and beside them: each value has its field's type, or is named."""

from dataclasses import MISSING, fields
from math import inf, nan
from pathlib import Path

import pytest

from art_idguard.errors import IDGuardError
from art_idguard.evaluation.config import EvaluationConfig
from art_idguard.training.manipulator.config import HardeningConfig, ManipulatorConfig
from art_idguard.training.protector.config import ProtectorConfig

NEEDED = {"faces": "faces", "manipulators": ["a"], "manipulator": "stargan", "data": ["a=faces"], "output": "run"}
COMMANDS = (ProtectorConfig, ManipulatorConfig, HardeningConfig, EvaluationConfig)
KINDS = ("text", True, 3, 0.5, [], ["text"], [0.25, 0.75], {}, -1, inf, nan)


def needed(settings):
    """What a class of settings cannot do without."""
    return {field.name: NEEDED[field.name] for field in fields(settings) if field.default is MISSING}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("settings", COMMANDS)
def test_a_setting_has_its_fields_type_or_is_named(settings):
    """Every field of every command with values of all types that TOML has."""
    accepted = 0
    for field in fields(settings):
        for value in KINDS:
            try:
                config = settings.from_recipe(None, **needed(settings) | {field.name: value})
            except IDGuardError:
                continue
            accepted += 1
            taken = getattr(config, field.name)
            assert taken == (tuple(value) if isinstance(value, list) else value) or taken == (value,)
            assert isinstance(taken, bool) == isinstance(value, bool)
            assert taken not in (inf, -1) or field.default == taken, f"{field.name} took {taken}"
    assert accepted > len(fields(settings)) / 2


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("value", "match"),
    [
        ({"aligned": "no"}, "aligned is 'no'; expected true or false"),
        ({"lr": True}, "lr is True; expected a number"),
        ({"lr": inf}, "lr is inf; expected a finite number"),
        ({"minutes": "5"}, "minutes is '5'; expected a number or nothing"),
        ({"manipulators": [1]}, "expected a list, each a text"),
        ({"loss": "none"}, "unknown loss 'none'; choose from: paper"),
        ({"recognizer": "a", "recognizers": "b"}, "recognizer and recognizers are one setting"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(value, match):
    with pytest.raises(IDGuardError, match=match):
        ProtectorConfig.from_recipe(None, **needed(ProtectorConfig) | value)


def test_former_names_single_values_and_paths_are_taken():
    for value in ("sface", Path("sface"), ["sface"], (Path("sface"),)):
        config = ProtectorConfig.from_recipe(None, **needed(ProtectorConfig), recognizer=value)
        assert config.recognizers == ("sface",)
