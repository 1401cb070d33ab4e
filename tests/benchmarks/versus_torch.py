"""Memwall and PyTorch side by side on this machine: the same models, the same threads, in turn.

    python3 -m venv /tmp/torch && /tmp/torch/bin/pip install torch
    /tmp/torch/bin/python tests/benchmarks/versus_torch.py --memwall build/memwall

First every way that torch_step.py knows to run PyTorch is tried (eager; torch.compile; with
max-autotune), and the fastest is kept: its best settings. Then rounds of `memwall bench step`,
PyTorch, `memwall bench step`, PyTorch ... follow. The table shows the median of the rounds' medians
and of their fastest steps, and the ratio of tokens/s. --json FILE also writes the figures.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
MODELS = {"GPT-2 124M": HERE / "gpt2-124m.textproto",
          "6 layers of 384": HERE / "width-384.textproto"}
VARIANTS = ("eager", "compile", "max-autotune")


def run(command, threads):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    done = subprocess.run([str(word) for word in command], env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        sys.stderr.write(done.stderr)
        raise SystemExit(f"{command[0]} ended with {done.returncode}")
    return json.loads(done.stdout.strip() if done.stdout.startswith("{\n") else
                      done.stdout.strip().splitlines()[-1])


def run_memwall(options, config):
    return run([options.memwall, "bench", "step", config, "--steps", options.steps, "--json"],
               options.threads)


def run_torch(options, config, variant, steps):
    return run([sys.executable, HERE / "torch_step.py", config, "--variant", variant, "--threads",
                options.threads, "--steps", steps], options.threads)


def middle(results, name):
    return statistics.median(result[name] for result in results)


def compare(options, name, config):
    tried = {variant: run_torch(options, config, variant, max(3, options.steps // 2))
             for variant in VARIANTS}
    best = min(tried, key=lambda variant: tried[variant]["step_seconds_min"])
    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(run_memwall(options, config))
        theirs.append(run_torch(options, config, best, options.steps))
    if {o["parameters"] for o in ours} != {t["parameters"] for t in theirs}:
        raise SystemExit(f"{name}: the two models have different sizes")
    tokens = ours[0]["tokens"]
    return {
        "model": name,
        "torch": theirs[0]["torch"],
        "variants": {v: tried[v]["step_seconds_min"] for v in tried},
        "best": best,
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
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="measured, a round and side")
    parser.add_argument("--json", help="a file for the figures")
    options = parser.parse_args()
    rows = []
    for name, config in MODELS.items():
        rows.append(compare(options, name, config))
        show(rows[-1])
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
