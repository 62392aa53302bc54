"""The long run: python -m tests.fuzz [--count 100000] [--first 0] [--out FOLDER] [TARGET...]."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.harness import fuzz
from tests.fuzz.targets import targets


def main() -> None:
    parser = argparse.ArgumentParser(description="Read mutated files; report what is neither read nor refused.")
    parser.add_argument("names", nargs="*", metavar="TARGET")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where to write the files that failed")
    args = parser.parse_args()
    for name, target in targets().items():
        if args.names and name not in args.names:
            continue
        start = time.perf_counter()
        done = fuzz(target, args.first, args.count)
        print(f"{name}: {done.read} read, {done.refused} refused, {len(done.failures)} failed, slowest "
              f"{done.slowest:.2f} s, {time.perf_counter() - start:.0f} s in all", flush=True)
        for what, number in Counter(w[:160] for w, _ in done.failures).most_common(40):
            print(f"  {number} x {what}", flush=True)
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            for i, (_, data) in enumerate(done.failures):
                (args.out / f"{name}-{i}{target.suffix}").write_bytes(data)


if __name__ == "__main__":
    main()
