"""Settings of every command, from recipes and beside them: each value has its field's type, or is named."""

import json
import os
from dataclasses import MISSING, dataclass, fields
from functools import cache
from math import inf, nan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from art_idguard import cli
from art_idguard.commands._settings import steps
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.config import EvaluationConfig
from art_idguard.files.atomic import write_text
from art_idguard.files.recipe import Settings
from art_idguard.files.shipped import find_recipe
from art_idguard.training.protector.config import ProtectorConfig
from tests import ROOT
from tests.torture.run_files import COMMANDS, NEEDED

KINDS = ("text", True, 3, 0.5, [], ["text"], [0.25, 0.75], {}, -1, inf, nan)


def needed(settings):
    """What a class of settings cannot do without."""
    return {field.name: NEEDED[field.name] for field in fields(settings) if field.default is MISSING}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("settings", COMMANDS.values())
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


def test_a_list_that_is_needed_is_not_empty():
    with pytest.raises(IDGuardError, match="data is empty; expected at least one"):
        EvaluationConfig.from_recipe(None, data=[], output="report")


def test_former_names_single_values_and_paths_are_taken():
    for value in ("sface", Path("sface"), ["sface"], (Path("sface"),)):
        config = ProtectorConfig.from_recipe(None, **needed(ProtectorConfig), recognizer=value)
        assert config.recognizers == ("sface",)


# --- on the command line ---

PARSER = cache(cli._parser)


def parsers(parser, *names):
    """Of all commands, by name; "watermark embed" is one of a command's own."""
    if parser._subparsers is None:
        return {" ".join(names): parser}
    (commands,) = parser._subparsers._group_actions
    return {k: found for name, each in commands.choices.items() for k, found in parsers(each, *names, name).items()}


def options(command):
    """What a command takes, by the names of its settings."""
    return {action.dest: action for action in parsers(PARSER())[command]._actions}


def test_these_are_the_commands():
    assert list(parsers(PARSER())) == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_is_an_option_with_help_and_every_command_takes_a_recipe(command):
    taken = options(command)
    assert {field.name for field in fields(COMMANDS[command])} <= taken.keys() - {"help", "recipe", "quiet", "resume"}
    assert taken["recipe"].option_strings == ["--recipe"]
    assert all(action.help for action in taken.values())


def words_for(command, name, value):
    """A setting as it stands on the command line, a position behind those before it."""
    action = options(command)[name]
    if isinstance(value, bool):
        return [action.option_strings[not value]]
    words = list(map(str, value if isinstance(value, list) else [value]))
    if action.option_strings:
        return [action.option_strings[0], *words]
    return [NEEDED["folder"], *words] if name == "repo_id" else words


@pytest.fixture
def outcome(monkeypatch, tmp_path, capsys):
    """The settings with which a command would begin its work, or its error."""
    made = []

    class Begun(Exception):
        pass

    def begin(config, *given, **beside):
        made.append(read(config, *given, **beside))
        raise Begun

    def run(command, recipe, *words):
        (tmp_path / "r.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in recipe.items()))
        try:
            assert cli.main([*command.split(), *words, "--recipe", str(tmp_path / "r.toml")]) == 1
        except Begun:
            return made.pop()
        return capsys.readouterr().err

    read = Settings.from_recipe.__func__
    monkeypatch.setattr(Settings, "from_recipe", classmethod(begin))
    monkeypatch.setattr(cli, "_parser", PARSER)
    return run


def values_of(action, default):
    """Two values that an option takes."""
    if action.choices:
        return action.choices[0], action.choices[-1]
    if action.nargs == 0:
        return True, False
    if action.nargs in ("+", "*"):
        numbers = {float: ([0.25, 0.75], [0.5, 0.5]), int: ([0, 2], [1]), steps: ([7, "auto"], [1])}
        return numbers.get(action.type, (["x", "y"], ["z"]))
    if action.type in (int, float):
        return 64, 128
    return (7, "auto") if default == 0 else ("x", "y")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_recipe_says_what_an_option_says_and_an_option_overrides_it(command, outcome):
    recipe, taken = needed(COMMANDS[command]), options(command)
    begun = 0
    for field in fields(COMMANDS[command]):
        one, other = values_of(taken[field.name], field.default)
        said = outcome(command, recipe | {field.name: one})
        begun += isinstance(said, Settings)
        beside = {name: value for name, value in recipe.items() if name != field.name}
        for below in (beside, beside | {field.name: other}):
            assert outcome(command, below, *words_for(command, field.name, one)) == said
        assert not isinstance(said, Settings) or getattr(said, field.name) in (
            one,
            tuple(one) if type(one) is list else one,
        )
    assert begun > len(fields(COMMANDS[command])) / 2


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_or_missing_setting_of_a_recipe_is_named(command, outcome):
    recipe = needed(COMMANDS[command])
    assert "unknown settings typo; known: " in outcome(command, recipe | {"typo": 1})
    for name in recipe:
        without = {other: value for other, value in recipe.items() if other != name}
        assert f"missing settings: {name}" in outcome(command, without)


# --- recipes that ship ---

SHIPPED = sorted(path.stem for path in (ROOT / "hub" / "recipes").glob("*.toml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_that_ships_is_known_by_its_name_and_its_place_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {find_recipe(kind(word)) for kind in (str, Path) for word in (name, f"hub/recipes/{name}.toml")}
    assert found == {ROOT / "hub" / "recipes" / f"{name}.toml"}


def test_a_recipe_of_that_name_from_here_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smoke").mkdir()
    assert ProtectorConfig.from_recipe("smoke").faces == "astronaut"
    (tmp_path / "smoke").rmdir()
    (tmp_path / "smoke").write_text('faces = "mine"\noutput = "run"\n')
    assert ProtectorConfig.from_recipe("smoke").faces == "mine"


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("smok", "no recipe smok: it is no file here, and what ships has the names .*protector-kpi, .*smoke"),
        ("own.toml", "cannot read own.toml: No such file"),
        ("runs/smoke", "cannot read runs/smoke: No such file"),
        ("../recipes/smoke.toml", "cannot read ../recipes/smoke.toml"),
        ("x" * 300, "no recipe x*: it is no file"),
        ("smoke\0", "damaged, or no TOML"),
        ("", "cannot read .: Is a directory"),
    ],
)
def test_a_recipe_that_is_not_there_is_named(name, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IDGuardError, match=match):
        ProtectorConfig.from_recipe(name)


# --- settings as a recipe ---


@dataclass(frozen=True, kw_only=True)
class Sample(Settings):
    """A field of every kind that settings have."""

    text: str
    texts: tuple[str, ...]
    number: float
    numbers: tuple[float, ...]
    count: int
    flag: bool
    kind: Literal["a", "b"] | None = None
    clip: float = inf


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBER = st.floats(min_value=0, allow_infinity=False)


@given(
    st.builds(
        Sample,
        text=TEXT,
        texts=st.lists(TEXT, min_size=1).map(tuple),
        number=NUMBER,
        numbers=st.lists(NUMBER, min_size=1).map(tuple),
        count=st.integers(min_value=1),
        flag=st.booleans(),
        kind=st.sampled_from(["a", "b", None]),
        clip=NUMBER | st.just(inf),
    )
)
def test_settings_are_a_recipe_that_makes_the_same(config):
    with TemporaryDirectory() as folder:
        write_text(path := Path(folder, "settings.toml"), config.to_toml())
        assert Sample.from_recipe(path) == config
    assert config.to_toml().count("\n") == 8 - (config.kind is None)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_works_with_is_a_recipe_of_it(command, tmp_path):
    config = COMMANDS[command].from_recipe(None, **needed(COMMANDS[command]))
    write_text(tmp_path / "settings.toml", config.to_toml())
    assert COMMANDS[command].from_recipe(tmp_path / "settings.toml") == config


def test_bytes_that_are_no_text_are_left_out_of_the_recipe_and_named(tmp_path):
    config = ProtectorConfig.from_recipe(None, faces=os.fsdecode(b"caf\xe9"), output="run")
    write_text(tmp_path / "settings.toml", config.to_toml())
    with pytest.raises(IDGuardError, match="missing settings: faces"):
        ProtectorConfig.from_recipe(tmp_path / "settings.toml")
    assert "# faces has bytes that are no UTF-8" in (tmp_path / "settings.toml").read_text()
    assert ProtectorConfig.from_recipe(tmp_path / "settings.toml", faces=config.faces) == config
