"""`python -m tests.torture --minutes 30`: a table of what was tried, and the seed of each fault."""

import argparse
import sys
import tempfile
import time
import traceback
from collections import Counter
from itertools import count
from pathlib import Path
from random import Random
from types import ModuleType

from tqdm import tqdm

from tests.torture.corpora import CORPORA


def run(corpus: ModuleType, first: int, seconds: float, attempts: int | None) -> tuple[Counter[str], list[int]]:
    """Outcomes, and the seeds of the faults, of one attempt a seed until the time or the attempts are over."""
    outcomes: Counter[str] = Counter()
    faults: list[int] = []
    end = time.monotonic() + seconds
    seeds = count(first) if attempts is None else range(first, first + attempts)
    for seed in tqdm(seeds, desc=corpus.NAME, unit="case", mininterval=1):
        if time.monotonic() > end:
            break
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcomes[corpus.attempt(Random(seed), Path(folder))] += 1
            except Exception:
                faults.append(seed)
                tqdm.write(f"FAULT: --only {corpus.NAME} --seed {seed} --attempts 1\n{traceback.format_exc()}")
    return outcomes, faults


def main() -> int:
    """Exit code 1 if there was a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="in all; each corpus has an equal share")
    parser.add_argument("--attempts", type=int, help="of each corpus, however long they take")
    parser.add_argument("--only", nargs="+", choices=list(CORPORA), default=list(CORPORA), help="default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the first attempt; the next has the next number")
    options = parser.parse_args()
    if options.attempts is None and options.minutes == float("inf"):
        parser.error("say how long: --minutes or --attempts")
    rows, faulty = [], False
    for name in options.only:
        share = options.minutes * 60 / len(options.only)
        outcomes, faults = run(CORPORA[name], options.seed, share, options.attempts)
        faulty |= bool(faults)
        ends = ", ".join(f"{n} {outcome}" for outcome, n in outcomes.most_common())
        rows.append(f"| {name} | {outcomes.total() + len(faults)} | {ends} | {len(faults)} |")
    print("\n| corpus | tried | how they ended | faults |\n|---|---|---|---|", *rows, sep="\n")
    return int(faulty)


if __name__ == "__main__":
    sys.exit(main())
