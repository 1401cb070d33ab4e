#!/usr/bin/env python3
"""How robust AdamW and ADAHESSIAN are to the learning rate, on real text.

Each optimizer's best rate is looked for on a grid of powers of two with the first seed; then both train
at x0.25, 0.5, 1, 2, 4 and 8 of it, for equal steps, with three seeds. Runs that are done are kept in the
results file, so that the script can be stopped and started again. Prints the tables of
docs/adahessian.md.

    python3 tests/benchmarks/learning_rates.py --memwall build/memwall --text data/bible.txt
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
FACTORS = [0.25, 0.5, 1, 2, 4, 8]
SEEDS = [1, 2, 3]
# The grid in which the best rate is looked for, and what else an optimizer is given.
OPTIMIZERS = {
    "AdamW": {"rates": [2.0**k for k in range(-11, -4)], "sets": ["optimizer.kind=ADAMW"]},
    "ADAHESSIAN": {
        "rates": [2.0**k for k in range(-6, 3)],
        "sets": ["optimizer.kind=ADAHESSIAN", "optimizer.beta2=0.98"],
    },
    "ADAHESSIAN, every 10th": {
        "rates": [2.0**k for k in range(-6, 3)],
        "sets": ["optimizer.kind=ADAHESSIAN", "optimizer.beta2=0.98",
                 "optimizer.adahessian.update_every=10"],
    },
}


def run(args, optimizer, rate, seed):
    """{validation, seconds a step, losses by step}; a run that ends in numbers that are not finite is infinite."""
    with tempfile.TemporaryDirectory() as folder:
        command = [args.memwall, "train", str(FOLDER / "learning_rates.textproto"), "--run-dir", folder + "/run"]
        sets = [f"data.text={args.text}", f"optimizer.learning_rate={rate!r}", f"run.seed={seed}",
                f"model.init_seed={seed}", f"run.steps={args.steps}", f"run.eval_every={args.steps}"]
        for value in OPTIMIZERS[optimizer]["sets"] + sets:
            command += ["--set", value]
        environment = dict(os.environ, OMP_NUM_THREADS="1")
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
        lines = [json.loads(line) for line in open(folder + "/run/metrics/rank-00000.jsonl")]
        validation = math.inf
        if done.returncode == 0:
            last = json.loads(open(folder + "/run/validation.jsonl").read().splitlines()[-1])
            validation = float(last["loss"])
    if not math.isfinite(validation):
        validation = math.inf
    return {"validation": validation,
            "step_seconds": statistics.median(line["step_seconds"] for line in lines),
            "seconds": sum(line["step_seconds"] for line in lines),
            "losses": [round(float(line["loss"]), 4) for line in lines]}


class Results:
    """Runs by (optimizer, rate, seed), kept in a file."""

    def __init__(self, args):
        self.args = args
        self.path = Path(args.results)
        self.runs = json.loads(self.path.read_text()) if self.path.exists() else {}

    def key(self, optimizer, rate, seed):
        return f"{optimizer} rate {rate:g} seed {seed} steps {self.args.steps}"

    def get(self, wanted):
        missing = [w for w in wanted if self.key(*w) not in self.runs]
        with ThreadPoolExecutor(self.args.jobs) as pool:
            for w, result in zip(missing, pool.map(lambda w: run(self.args, *w), missing)):
                self.runs[self.key(*w)] = result
                self.path.write_text(json.dumps(self.runs))
                print(f"# {self.key(*w)}: {result['validation']:.4f} in {result['seconds']:.1f} s", flush=True)
        return [self.runs[self.key(*w)] for w in wanted]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memwall", default="build/memwall")
    parser.add_argument("--text", default="data/bible.txt")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--results", default="learning_rates.json", help="where finished runs are kept")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, of one thread each")
    args = parser.parse_args()
    args.text = str(Path(args.text).resolve())
    results = Results(args)
    table, curves = [], []
    for optimizer, how in OPTIMIZERS.items():
        found = results.get([(optimizer, rate, SEEDS[0]) for rate in how["rates"]])
        best = min(zip(found, how["rates"]), key=lambda pair: pair[0]["validation"])[1]
        row = []
        for factor in FACTORS:
            runs = results.get([(optimizer, best * factor, seed) for seed in SEEDS])
            losses = [r["validation"] for r in runs]
            finite = all(map(math.isfinite, losses))
            row.append(f"{statistics.mean(losses):.3f} ± {statistics.stdev(losses):.3f}" if finite
                       else f"{sum(not math.isfinite(x) for x in losses)} of 3 diverged")
            if factor == 1:
                curves.append((optimizer, runs))
        table.append(f"| {optimizer} | {best:g} | " + " | ".join(row) + " |")
    print(f"\nValidation loss after {args.steps} steps, mean and standard deviation of {len(SEEDS)} seeds:\n")
    print("| optimizer | best rate | " + " | ".join(f"x{f:g}" for f in FACTORS) + " |")
    print("|---|---|" + "---|" * len(FACTORS))
    print("\n".join(table))
    marks = [m for m in (25, 50, 100, 200, 400, 800) if m <= args.steps]
    print("\nTraining loss at the best rate (mean of the last 10 steps and of the seeds), and seconds up to there:\n")
    print("| optimizer | ms a step | " + " | ".join(f"step {m}" for m in marks) + " |")
    print("|---|---|" + "---|" * len(marks))
    for optimizer, runs in curves:
        per_step = statistics.mean(r["seconds"] for r in runs) / args.steps
        cells = []
        for m in marks:
            loss = statistics.mean(statistics.mean(r["losses"][m - 10:m]) for r in runs)
            cells.append(f"{loss:.3f} ({per_step * m:.1f} s)")
        print(f"| {optimizer} | {1e3 * per_step:.1f} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
