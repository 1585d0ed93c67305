"""The log of a run that goes on."""

import json
import time

import pytest

from art_idguard.errors import IDGuardError
from art_idguard.training.log import LogFile


def test_log_is_cut_to_where_a_run_goes_on(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def write(step, steps, value):
        with LogFile(tmp_path, step=step, enabled=True) as log:
            for i in steps:
                log.write({"step": i, "objective": {"stargan": value}})

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
    ):
        assert found == [(1, 0.0), (2, 1.0), (3, 1.0)]


@pytest.mark.parametrize("line", ["{", '"text"', "[]", "{}", '{"step": "x"}', '{"step": 1.5}', "[" * 100_000, "\x00"])
def test_a_damaged_log_is_named_and_kept(line, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(content := line + '\n{"step": 1}\n')
    with (
        pytest.raises(IDGuardError, match=r"log.jsonl is damaged .* move it away"),
        LogFile(tmp_path, step=1, enabled=True),
    ):
        pass
    assert path.read_text() == content
