"""Memwall and PyTorch side by side on this machine: the same models, the same threads, in turn.

    python3 -m venv /tmp/torch && /tmp/torch/bin/pip install torch
    /tmp/torch/bin/python tests/benchmarks/versus_torch.py --memwall build/memwall

First PyTorch's best settings are looked for: eager with the C library's allocator as it comes, with
freed memory kept (so that a step's large tensors do not fault in every page again) and with that in
huge pages; then, with the best of these, torch.compile and its max-autotune. Then rounds follow of
`memwall bench step`, PyTorch, `memwall bench step`, PyTorch ... The table shows the median of the
rounds' medians and of their fastest steps, and the ratio of tokens/s. --json FILE also writes the
figures.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
MODELS = ("gpt2-124m", "width-384")  # configurations beside this file
COMPILED = ("compile", "max-autotune")  # of torch_step.py, beside eager
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
               "MALLOC_TOP_PAD_": str(1 << 26)}
ALLOCATION = {"": {}, ", memory kept": KEEP_MEMORY,
              ", huge pages kept": dict(KEEP_MEMORY, THP_MEM_ALLOC_ENABLE="1")}


def run(command, threads, settings):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), **settings)
    done = subprocess.run([str(word) for word in command], env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        sys.stderr.write(done.stderr)
        raise SystemExit(f"{command[0]} ended with {done.returncode}")
    return json.loads(done.stdout.strip() if done.stdout.startswith("{\n") else
                      done.stdout.strip().splitlines()[-1])


def run_memwall(options, config):
    return run([options.memwall, "bench", "step", config, "--steps", options.steps, "--json"],
               options.threads, {})


def run_torch(options, config, variant, settings, steps):
    return run([sys.executable, HERE / "torch_step.py", config, "--variant", variant, "--threads",
                options.threads, "--steps", steps], options.threads, settings)


def middle(results, name):
    return statistics.median(result[name] for result in results)


def compare(options, name):
    config = HERE / f"{name}.textproto"
    tried = {}  # seconds of a step, by what was tried: (variant, allocation)

    def attempt(variant, allocation):
        result = run_torch(options, config, variant, ALLOCATION[allocation],
                           max(3, options.steps // 2))
        tried[variant, allocation] = result["step_seconds_min"]

    for allocation in ALLOCATION:
        attempt("eager", allocation)
    allocation = min(tried, key=tried.get)[1]
    for variant in COMPILED:
        attempt(variant, allocation)
    best = min(tried, key=tried.get)
    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(run_memwall(options, config))
        theirs.append(run_torch(options, config, best[0], ALLOCATION[best[1]], options.steps))
    if {o["parameters"] for o in ours} != {t["parameters"] for t in theirs}:
        raise SystemExit(f"{name}: the two models have different sizes")
    tokens = ours[0]["tokens"]
    return {
        "model": name,
        "torch": theirs[0]["torch"],
        "variants": {"".join(key): seconds for key, seconds in tried.items()},
        "best": "".join(best),
        "tokens": tokens,
        "memwall_step_seconds": middle(ours, "step_seconds"),
        "torch_step_seconds": middle(theirs, "step_seconds"),
        "memwall_step_seconds_min": middle(ours, "step_seconds_min"),
        "torch_step_seconds_min": middle(theirs, "step_seconds_min"),
        "ratio": middle(theirs, "step_seconds") / middle(ours, "step_seconds"),
        "ratio_min": middle(theirs, "step_seconds_min") / middle(ours, "step_seconds_min"),
        "gemm_fraction": middle(ours, "gemm_fraction"),
        "gemm_fraction_min": middle(ours, "gemm_fraction_min"),
    }


def show(row):
    variants = ", ".join(f"{v} {1e3 * s:.0f} ms" for v, s in row["variants"].items())
    print(f"{row['model']} (PyTorch {row['torch']}, {row['best']}; fastest steps: {variants})")
    for kind, suffix, ratio in (("median", "", "ratio"), ("fastest", "_min", "ratio_min")):
        ours, theirs = (row["tokens"] / row[f"{side}_step_seconds{suffix}"]
                        for side in ("memwall", "torch"))
        print(f"  {kind:8} Memwall {ours:8.0f} tokens/s   PyTorch {theirs:8.0f} tokens/s"
              f"   ratio {row[ratio]:.3f}   GEMM-only limit {row['gemm_fraction' + suffix]:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memwall", default="build/memwall")
    parser.add_argument("--model", choices=MODELS, help="only this one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="measured, a round and side")
    parser.add_argument("--json", help="a file for the figures")
    options = parser.parse_args()
    rows = []
    for name in [options.model] if options.model else MODELS:
        rows.append(compare(options, name))
        show(rows[-1])
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
