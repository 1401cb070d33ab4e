"""Reads the metrics of runs and says in one line whether they are what they should be.

    python3 tests/gpu/compare.py close A B --tolerance 1e-3    losses of A and B, step by step
    python3 tests/gpu/compare.py equal A B C...                losses and gradient norms, bit for bit
    python3 tests/gpu/compare.py plan A...                     planned against measured, every rank
    python3 tests/gpu/compare.py speed A --after 5             median speed after step 5
    python3 tests/gpu/compare.py bus A --after 5               bandwidth of its collectives
    python3 tests/gpu/compare.py torch FILE                    what torch_gpt2.py wrote, in short
    python3 tests/gpu/compare.py versus A FILE --after 5       the two side by side

A, B, C are run folders. Exit status 0: as it should be; 1: not; 2: a run cannot be read.
"""

import argparse
import json
import math
import pathlib
import statistics
import sys


class Unreadable(Exception):
    pass


def read_rank(path, parse_float=float):
    try:
        text = path.read_text(encoding="utf-8")
        lines = [json.loads(line, parse_float=parse_float) for line in text.splitlines()]
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path}: {error}") from error
    if not lines:
        raise Unreadable(f"{path}: no step")
    return lines


def read_run(folder, parse_float=float):
    """The lines of every rank, in the order of ranks."""
    paths = sorted((pathlib.Path(folder) / "metrics").glob("rank-*.jsonl"))
    if not paths:
        raise Unreadable(f"{folder}: no metrics")
    return [read_rank(path, parse_float) for path in paths]


def close(options):
    first, second = (read_run(run)[0] for run in (options.first, options.second))
    if len(first) != len(second):
        return False, f"{len(first)} steps against {len(second)}"
    worst, worst_step = 0.0, 0
    for one, other in zip(first, second):
        a, b = float(one["loss"]), float(other["loss"])  # a non-finite loss is a string
        difference = abs(a - b) / max(1.0, abs(a))
        if not math.isfinite(difference):
            return False, f"step {one['step']}: losses {a} and {b}"
        if difference > worst:
            worst, worst_step = difference, one["step"]
    begin, end = float(first[0]["loss"]), float(first[-1]["loss"])
    learned = end < begin  # a curve that never falls compares nothing
    text = (f"{len(first)} steps, largest difference {worst:.2e} at step {worst_step} "
            f"(allowed {options.tolerance:g}), loss {begin:.4f} -> {end:.4f}")
    return worst <= options.tolerance and learned, text if learned else text + ", which did not fall"


def equal(options):
    # Numbers are compared as they are written: they read back exactly.
    runs = [read_run(folder, parse_float=str) for folder in options.runs]
    reference = runs[0][0]
    for folder, ranks in zip(options.runs, runs):
        for rank, lines in enumerate(ranks):
            if len(lines) != len(reference):
                return False, f"{folder} rank {rank}: {len(lines)} steps, not {len(reference)}"
            for wanted, found in zip(reference, lines):
                for field in ("step", "loss", "grad_norm", "loss_scale", "skipped"):
                    if wanted[field] != found[field]:
                        return False, (f"{folder} rank {rank} step {wanted['step']}: {field} "
                                       f"{found[field]}, not {wanted[field]}")
    text = f"{len(runs)} runs, {len(reference)} steps, last loss {reference[-1]['loss']}"
    return len(runs) > 1, text if len(runs) > 1 else "only one run: nothing to compare"


def plan(options):
    ranks_seen, peak = 0, 0
    for folder in options.runs:
        for rank, lines in enumerate(read_run(folder)):
            ranks_seen += 1
            for line in lines:
                where = f"{folder} rank {rank} step {line['step']}"
                planned, measured = line["planned"], line["measured"]
                if planned["traffic"] != measured["traffic"]:
                    return False, (f"{where}: traffic planned {json.dumps(planned['traffic'])} "
                                   f"measured {json.dumps(measured['traffic'])}")
                if planned["memory"]["peak"] != measured["memory"].get("peak"):
                    return False, (f"{where}: arena planned {planned['memory']['peak']} "
                                   f"measured {measured['memory'].get('peak')}")
                peak = max(peak, planned["memory"]["peak"])
    return True, f"{len(options.runs)} runs, {ranks_seen} ranks, largest arena {peak / 2**20:.1f} MiB"


def measure_speed(folder, after):
    lines = [line for line in read_run(folder)[0] if line["step"] > after]
    if not lines:
        raise Unreadable(f"{folder}: no step after {after}")
    return {
        "steps": len(lines),
        "tokens_per_second": statistics.median(line["tokens_per_second"] for line in lines),
        "ms_per_step": 1e3 * statistics.median(line["step_seconds"] for line in lines),
        "fraction": statistics.median(line["model_flops_utilisation"] for line in lines),
        "peak_flops": lines[-1].get("peak_flops", math.nan),
        "arena_bytes": lines[-1]["planned"]["memory"]["peak"],
    }


def describe(figures):
    return (f"{figures['tokens_per_second']:.0f} tokens/s, {figures['ms_per_step']:.1f} ms a step, "
            f"{100 * figures['fraction']:.1f} % of {figures['peak_flops'] / 1e12:.4g} TFLOP/s, "
            f"arena {figures['arena_bytes'] / 2**30:.2f} GiB")


def speed(options):
    return True, describe(measure_speed(options.run, options.after))


def bus(options):
    """Bytes that a rank sends by the seconds in which its GPU waits for collectives: with
    parallel.prefetch_depth 0 these are the collectives' own, and the figure is nccl-tests' bus
    bandwidth (doc/PERFORMANCE.md): payload * (n - 1) / n by time."""
    figures = []
    for line in read_run(options.run)[0]:
        if line["step"] <= options.after:
            continue
        traffic, seconds = line["measured"]["traffic"], line["measured"]["seconds"]
        sent = sum(traffic[kind]["wire_bytes"] for kind in ("all_gather", "reduce_scatter"))
        waited = seconds["exposed_communication"] + seconds["wait"]
        if sent > 0 and waited > 0:
            figures.append((sent / waited, sent, waited))
    if not figures:
        raise Unreadable(f"{options.run}: no collective after step {options.after}")
    rate = statistics.median(figure[0] for figure in figures)
    _, sent, waited = figures[-1]
    return True, f"{rate / 1e9:.2f} GB/s: {sent / 2**20:.1f} MiB sent in {1e3 * waited:.2f} ms a step"


def read_torch(path):
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
        return json.loads([line for line in lines if line.startswith("{")][-1])
    except (OSError, ValueError, IndexError) as error:
        raise Unreadable(f"{path}: {error}") from error


def torch(options):
    figures = read_torch(options.torch)
    return True, (f"{figures['tokens_per_second']:.0f} tokens/s, {figures['ms_per_step']:.1f} ms a step, "
                  f"{100 * figures['fraction']:.1f} % of {figures['peak_flops'] / 1e12:.4g} TFLOP/s, "
                  f"allocated {figures['memory_bytes'] / 2**30:.2f} GiB, "
                  f"warm-up {figures['warm_up_seconds']:.0f} s, PyTorch {figures['torch']}")


def versus(options):
    ours, theirs = measure_speed(options.run, options.after), read_torch(options.torch)
    if theirs["tokens_per_step"] != round(ours["tokens_per_second"] * ours["ms_per_step"] / 1e3):
        return False, "the two sides had different numbers of tokens a step"
    fraction = (ours["tokens_per_second"] * theirs["flops_per_token"] / theirs["peak_flops"]
                if theirs["peak_flops"] else math.nan)
    return True, (f"ratio {ours['tokens_per_second'] / theirs['tokens_per_second']:.3f}: "
                  f"Memwall {ours['tokens_per_second']:.0f} tokens/s ({100 * fraction:.1f} %), "
                  f"PyTorch {theirs['tokens_per_second']:.0f} ({100 * theirs['fraction']:.1f} % of "
                  f"{theirs['peak_flops'] / 1e12:.4g} TFLOP/s)")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("close")
    verb.add_argument("first")
    verb.add_argument("second")
    verb.add_argument("--tolerance", type=float, required=True, help="of the loss, relative above 1")
    verb.set_defaults(run_verb=close)
    for name, function in (("equal", equal), ("plan", plan)):
        verb = verbs.add_parser(name)
        verb.add_argument("runs", nargs="+")
        verb.set_defaults(run_verb=function)
    for name, function in (("speed", speed), ("versus", versus), ("bus", bus)):
        verb = verbs.add_parser(name)
        verb.add_argument("run")
        if name == "versus":
            verb.add_argument("torch", help="a file whose last object is torch_gpt2.py's")
        verb.add_argument("--after", type=int, default=5, help="steps left out")
        verb.set_defaults(run_verb=function)
    verb = verbs.add_parser("torch")
    verb.add_argument("torch", help="a file whose last object is torch_gpt2.py's")
    verb.set_defaults(run_verb=torch)
    options = parser.parse_args()
    try:
        good, text = options.run_verb(options)
    except Unreadable as error:
        print(error)
        sys.exit(2)
    print(text)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
