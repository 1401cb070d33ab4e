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


def single(value):
    return struct.unpack("f", struct.pack("f", float(value)))[0]


def check(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    lines = [json.loads(line) for line in open(run / "metrics" / "rank-00000.jsonl")]
    validation = [json.loads(line) for line in open(run / "validation.jsonl")]
    wanted = {
        "train/loss": [(l["step"], l["loss"]) for l in lines],
        "train/learning_rate": [(l["step"], l["lr"]) for l in lines],
        "train/grad_norm": [(l["step"], l["grad_norm"]) for l in lines],
        "train/loss_scale": [(l["step"], l["loss_scale"]) for l in lines],
        "speed/tokens_per_second": [(l["step"], l["tokens_per_second"]) for l in lines],
        "memory/peak_bytes": [(l["step"], l["measured"]["memory"]["peak"]) for l in lines],
        "traffic/wire_bytes": [(l["step"], sum(t["wire_bytes"] for t in
                                               l["measured"]["traffic"].values())) for l in lines],
        "validation/loss": [(l["step"], l["loss"]) for l in validation]}
    for name in lines[-1]["measured"]["seconds"]:
        wanted["seconds/" + name] = [(l["step"], l["measured"]["seconds"][name]) for l in lines]
    for tag, values in wanted.items():
        if not values:
            continue
        found = [(e.step, e.value) for e in events.Scalars(tag)]
        assert found == [(step, single(value)) for step, value in values], (tag, found, values)
    print(f"{run}: {len(wanted)} curves of {len(lines)} steps as in the metrics lines")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--check":
        check(pathlib.Path(sys.argv[2]))
    else:
        write(pathlib.Path(__file__).parent / "tensorboard" / "events.bin")
