#!/usr/bin/env python3
"""An event file as TensorBoard's own writer writes it (pip install tensorboard), which
tests/report/event_file_test.cc compares with Memwall's, byte by byte:

    make_tensorboard_golden.py             writes tests/golden/tensorboard/events.bin
    make_tensorboard_golden.py --check RUN reads RUN/tensorboard with TensorBoard's EventAccumulator
                                           and compares it with RUN's metrics and validation lines
"""
import json
import pathlib
import struct
import sys

# Wall times are powers of two and sums of them, so that they need no rounding.
EVENTS = [(1700000000.5, 1, {"train/loss": 5.5, "train/learning_rate": 0.0}),
          (1700000001.25, 2, {"train/loss": 0.1, "traffic/wire_bytes": 123456789.0}),
          (1700000002.0, 3, {"train/loss": float("inf")}),
          (1700000003.0, 3, {"validation/loss": 2.75})]


def write(path):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        version = Event(wall_time=1700000000.0, file_version="brain.Event:2")
        writer.write(version.SerializeToString(deterministic=True))
        for wall_time, step, scalars in EVENTS:
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
            event = Event(wall_time=wall_time, step=step, summary=Summary(value=values))
            writer.write(event.SerializeToString(deterministic=True))


# As the file stores it, a float's bytes; all that is not a number is alike.
def single(value):
    number = float(value)  # of metrics also "nan", "inf" and "-inf"
    return "nan" if number != number else struct.pack("<f", number)


def lines_of(path):
    return [json.loads(line) for line in open(path)] if path.exists() else []


def wanted_curves(run):
    lines = lines_of(run / "metrics" / "rank-00000.jsonl")
    assert lines, f"{run} has no metrics"
    measured = lambda line: line["measured"]
    curves = {
        "train/loss": lambda l: l["loss"],
        "train/learning_rate": lambda l: l["lr"],
        "train/grad_norm": lambda l: l["grad_norm"],
        "train/loss_scale": lambda l: l["loss_scale"],
        "train/hessian_trace": lambda l: l.get("hessian", {}).get("trace"),
        "speed/tokens_per_second": lambda l: l["tokens_per_second"],
        "speed/model_flops_utilisation":  # not shown where the peak is not known
            lambda l: None if l["model_flops_utilisation"] == "nan" else l["model_flops_utilisation"],
        "memory/peak_bytes": lambda l: measured(l)["memory"]["peak"],
        "traffic/wire_bytes": lambda l: sum(t["wire_bytes"] for t in measured(l)["traffic"].values())}
    for name in lines[-1]["measured"]["seconds"]:
        curves["seconds/" + name] = lambda l, name=name: measured(l)["seconds"][name]
    out = {tag: [(l["step"], of(l)) for l in lines if of(l) is not None] for tag, of in curves.items()}
    out["validation/loss"] = [(l["step"], l["loss"]) for l in lines_of(run / "validation.jsonl")]
    return len(lines), {tag: values for tag, values in out.items() if values}


def check(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    steps, wanted = wanted_curves(run)
    assert sorted(events.Tags()["scalars"]) == sorted(wanted), (events.Tags()["scalars"], list(wanted))
    for tag, values in wanted.items():
        found = [(e.step, single(e.value)) for e in events.Scalars(tag)]
        assert found == [(step, single(value)) for step, value in values], (tag, found, values)
    print(f"{run}: {len(wanted)} curves of {steps} steps as in the metrics and validation lines")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--check":
        check(pathlib.Path(sys.argv[2]))
    else:
        write(pathlib.Path(__file__).parent / "tensorboard" / "events.bin")
