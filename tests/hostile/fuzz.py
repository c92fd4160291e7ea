"""Fuzzing of every parser: `python -m tests.hostile.fuzz [--inputs N] [--seed S] [--target NAME]`.

Input number i of a target depends on the seed, the target and i alone, so that one that fails can
be had again by itself: `--target NAME --first I --inputs 1`.
"""

import argparse
import gc
import random
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field

from .parsers import TARGETS, Target

CPU_LIMIT_S = 0.25
"""For one input, of processor time: the slowest that was seen takes 0.02 s."""

SHOWN_BYTES = 2000


@dataclass
class Outcome:
    inputs: int = 0
    taken: int = 0
    slowest_s: float = 0.0
    slowest: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    bugs: list[str] = field(default_factory=list)


def fuzz(target: Target, seed: int, first: int, inputs: int) -> Outcome:
    """Try `inputs` inputs of one target, from number `first` on; ends at the third bug."""
    gc.freeze()  # else one of them is charged with all that the tests before have left
    try:
        return _fuzz(target, seed, first, inputs)
    finally:
        gc.unfreeze()


def _fuzz(target: Target, seed: int, first: int, inputs: int) -> Outcome:
    outcome = Outcome()
    for number in range(first, first + inputs):
        made = target.make(random.Random(f"{seed} {target.name} {number}"))
        outcome.inputs += 1
        begun = time.thread_time()
        try:
            outcome.taken += target.check(made)
        except target.refuses as exc:
            outcome.refused[type(exc).__name__] += 1
            if "\n" in str(exc):
                outcome.bugs.append(_bug(target, seed, number, made, "more than one line"))
        except Exception:
            outcome.bugs.append(_bug(target, seed, number, made, traceback.format_exc()[-1500:]))
        took_s = time.thread_time() - begun
        if took_s > outcome.slowest_s:
            outcome.slowest_s, outcome.slowest = took_s, number
        if took_s > CPU_LIMIT_S:
            outcome.bugs.append(_bug(target, seed, number, made, f"took {took_s:.2f} s"))
        if len(outcome.bugs) == 3:
            break
    return outcome


def _bug(target: Target, seed: int, number: int, made: object, what: str) -> str:
    again = f"--seed {seed} --target {target.name!r} --first {number} --inputs 1"
    return f"{again}\n{repr(made)[:SHOWN_BYTES]}\n{what}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Fuzz every parser of ArtStoreFS.")
    parser.add_argument("--inputs", type=int, default=110_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--target", choices=[target.name for target in TARGETS])
    options = parser.parse_args(arguments)
    targets = [one for one in TARGETS if options.target in (None, one.name)]
    print(f"seed {options.seed}")
    bugs = 0
    for target in targets:
        begun = time.monotonic()
        share = max(1, options.inputs // len(targets))
        outcome = fuzz(target, options.seed, options.first, share)
        print(
            f"{target.name:17} {outcome.inputs:8} inputs {outcome.taken:8} taken"
            f" {time.monotonic() - begun:7.1f} s, slowest {outcome.slowest_s * 1000:.1f} ms"
            f" (number {outcome.slowest})"
        )
        print(*outcome.bugs, sep="\n\n", end="\n" * bool(outcome.bugs))
        bugs += len(outcome.bugs)
    return bool(bugs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
