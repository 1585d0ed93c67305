"""`art-idguard protect` over a folder, killed once or twice and run again: as if it had not been killed.

Results are known by their photo's bytes, so that the order in which photos are worked on does not matter.
"""

import json
from collections import Counter
from functools import partial
from hashlib import sha256
from pathlib import Path
from random import Random

from art_idguard.photos.finding import RESULTS as SUFFIXES
from art_idguard.photos.job import SHOWN, shown_beside
from art_idguard.photos.manifest import NAME as MANIFEST
from art_idguard.photos.table import SKIPPED
from tests.torture.kills import Command, Ended, leftovers, random_kill, run
from tests.torture.kills_protecting_case import OPTIONS, Case, make, place, read_table, small, unbroken, words

NAME, IN_SUITE = "kills-protecting", 1


def attempt(random: Random, folder: Path) -> str:
    """How far it came before the last kill."""
    case = make(random, folder)
    made, whole = unbroken(case.options)
    old = before(random, case)
    share = len(case.photos) / len(made)
    kills = random.choice((1, 1, 2))
    fresh = random.random() < 0.2 and not case.show and not case.checked  # with what ships it would be others
    came = "not killed"
    for left in reversed(range(kills + 1)):
        there = snapshot(folder)
        commands = []
        for line in case.runs:
            kill = random_kill(random, whole, share=share / len(case.runs), fresh=fresh) if left else None
            commands.append(Command(line, folder, kill, None if fresh else partial(small, place())))
        ends = run(*commands)
        check_files(case, old)
        for ended in ends:
            check_skipped(case, there if len(ends) == 1 else snapshot(folder), ended)  # of another run's, too
        if left and any(ended.code < 0 or ended.code == 130 for ended in ends):
            came = progress(case)
    check_end(case, ends)
    return came


def before(random: Random, case: Case) -> set[bytes]:
    """What an earlier run with other options has left, if there was one; the bytes that may lie there."""
    if random.random() < 0.75:
        return set()
    options = random.choice(OPTIONS)
    roots = [root for root in (case.folder / "in", case.folder / "other") if root.exists()]
    line = words(*roots, output=case.output, csv=None, show=random.random() < 0.5, options=options)
    run(Command(tuple(line), case.folder, prepare=partial(small, place())))
    return set(snapshot(case.folder).values())


def snapshot(folder: Path) -> dict[Path, bytes]:
    """What there is under the names of results, and of pictures of before and after."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.name.endswith((*SUFFIXES.values(), SHOWN))}


def check_files(case: Case, old: set[bytes]) -> None:
    """Under a result's name is a whole one, of now or of before."""
    may_be = old | {content for made in case.photos.values() for content in made[:2] if content is not None}
    for path, content in snapshot(case.folder).items():
        assert content in may_be, f"{path} is no photo's result"


def check_skipped(case: Case, there: dict[Path, bytes], ended: Ended) -> None:
    """What is said to be there already was there."""
    for line in ended.out.splitlines():
        photo, said, rest = line.partition(f": {SKIPPED}")
        if said:
            made, target = case.photos[Path(photo)], Path(rest.partition(" is there already")[0])
            assert there.get(target) == made.result, line
            assert not case.show or made.shown is None or there.get(shown_beside(target)) == made.shown, line


def progress(case: Case) -> str:
    """How many photos have their results."""
    there = set(snapshot(case.folder).values())
    wanted = [made.result for made in case.photos.values() if made.result is not None]
    done = sum(result in there for result in wanted)
    if done in (0, len(wanted)):
        return "before the first result" if done == 0 else "after the last result"
    return "between results"


def check_end(case: Case, ends: list[Ended]) -> None:
    """Results, codes, rows and records are those of an unbroken run."""
    failing = {path for path, made in case.photos.items() if made.result is None}
    for line, ended in zip(case.runs, ends, strict=True):
        mine = {path for path in case.photos if any(str(path).startswith(f"{word}/") for word in line)}
        assert ended.code == bool(failing & mine), ended
        assert ended.err.rstrip().endswith(f" {len(failing & mine)} failed, 0 left out"), ended
    there = snapshot(case.folder)
    suffix = SUFFIXES[case.options.format]
    for kind, at in ((suffix, 0), *(((SHOWN, 1),) if case.show else ())):
        wanted = Counter(made[at] for made in case.photos.values() if made[at] is not None)
        found = Counter(content for path, content in there.items() if path.name.endswith(kind))
        assert not wanted - found, f"{(wanted - found).total()} of {wanted.total()} {kind} are missing"
    assert all(unbroken(case.options)[0][path.read_bytes()] is made for path, made in case.photos.items())
    assert not leftovers(case.folder)
    check_records(case, there)
    if case.csv:
        check_rows(case, failing)


def check_records(case: Case, there: dict[Path, bytes]) -> None:
    """Each result's last record is of its bytes and of its photo's."""
    photos = {made.result: sha256(path.read_bytes()).hexdigest() for path, made in case.photos.items()}
    for folder in {path.parent for path in there if path.name.endswith(SUFFIXES[case.options.format])}:
        lines = [line for line in (folder / MANIFEST).read_text().splitlines() if line.endswith("}")]
        entries = {entry["result"]: entry for entry in map(json.loads, lines)}
        for path, content in there.items():
            if path.parent == folder and content in photos and path.name.endswith(SUFFIXES[case.options.format]):
                assert entries[path.name]["bytes"] == sha256(content).hexdigest()
                assert entries[path.name]["photo"] == photos[content]


def check_rows(case: Case, failing: set[Path]) -> None:
    """The last row of each photo says what became of it."""
    assert case.csv is not None
    rows = read_table(case.csv)
    counts = Counter(row["file"] for row in rows)
    last = {Path(row["file"]): row for row in rows}
    assert last.keys() == case.photos.keys()
    for path, made in case.photos.items():
        row = last[path]
        if path in failing:
            assert row["error"].removeprefix(f"{path}") == made.row["error"].removeprefix(made.row["file"])
        elif not row["error"].startswith(SKIPPED):
            same = ("faces", "levels", "error", *(("l2_face", "similarity") if case.checked else ()))
            assert [row[name] for name in same] == [made.row[name] for name in same]
        if path not in failing and not case.overwrite:
            assert counts[str(path)] <= len(case.runs)
