"""A training step of GPT-2 in PyTorch, timed: the other side of `memwall train` on a GPU.

    python3 tests/gpu/torch_gpt2.py --layers 12 --hidden 768 --heads 12 --batch 16 --precision bf16

The model is Memwall's: learned positions, pre-LayerNorm, tanh GELU, biases everywhere, tied head, no
dropout. The step: forward with F.scaled_dot_product_attention (causal), cross-entropy, backward,
clipping of the global norm at 1, fused AdamW with decay of matrices only. bf16 and fp16 are PyTorch's
usual mixed precision: parameters, gradients and optimizer state are FP32 and autocast converts the
weights of each product as it is reached; fp16 adds GradScaler. (Memwall holds half weights and
gradients beside FP32 masters: the same arithmetic type in the products, other bytes in memory.) fp32
computes products in full FP32, tf32 on the tensor cores.

One JSON object on the last line: the median over --steps of whole steps with the copy of their
tokens, by CUDA events between them; the host waits for the last alone. `fraction` is model FLOPs over
the rate of a matrix product in the same type, measured in the same run (--peak); model FLOPs a token
are 6 (GEMM weights) + 12 layers context hidden.
Written for PyTorch 2.4 or later.
"""

import argparse
import contextlib
import json
import math
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

TYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16,
         "bf16": torch.bfloat16}


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, length, width = x.shape
        split = (batch, length, self.heads, width // self.heads)
        q, k, v = (part.view(split).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, -1))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self, options):
        super().__init__()
        self.checkpointed = options.checkpoint
        self.tokens = nn.Embedding(options.vocab, options.hidden)
        self.positions = nn.Embedding(options.context, options.hidden)
        self.blocks = nn.ModuleList(Block(options.hidden, options.heads)
                                    for _ in range(options.layers))
        self.norm = nn.LayerNorm(options.hidden)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            for linear in (block.proj, block.fc2):
                nn.init.normal_(linear.weight, std=0.02 / math.sqrt(2 * options.layers))

    def forward(self, tokens, targets):
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointed else block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Training:
    def __init__(self, options):
        self.options = options
        self.device = torch.device(options.device)
        self.on_gpu = self.device.type == "cuda"
        torch.manual_seed(1)
        with self.device:
            self.model = Gpt2(options)
        matrices = [p for p in self.model.parameters() if p.dim() > 1]
        others = [p for p in self.model.parameters() if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
            lr=options.learning_rate, betas=(0.9, 0.95), eps=1e-8, fused=True)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.precision == "fp16")
        self.loss_of = torch.compile(self.model) if options.compile else self.model
        self.bytes = None
        if options.text:
            with open(options.text, "rb") as file:
                self.bytes = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)

    def parameters(self):
        return sum(p.numel() for p in self.model.parameters())

    def next_batch(self):
        """Tokens [batch, context + 1] on the device: bytes of the text, or any."""
        batch, length = self.options.batch, self.options.context + 1
        if self.bytes is None:
            sample = torch.randint(self.options.vocab, (batch, length))
        else:
            starts = torch.randint(len(self.bytes) - length, (batch, 1))
            sample = self.bytes[starts + torch.arange(length)].long()
        if self.on_gpu:
            sample = sample.pin_memory()
        return sample.to(self.device, non_blocking=True)

    def autocast(self):
        kind = TYPES[self.options.precision]
        if kind == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=kind)

    def step(self):
        sample = self.next_batch()
        with self.autocast():
            loss = self.loss_of(sample[:, :-1].contiguous(), sample[:, 1:].contiguous())
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()


def milliseconds_of(device, rounds, work):
    """What each of `rounds` calls takes; on a GPU without waiting between them."""
    if device.type != "cuda":
        marks = [time.perf_counter()]
        for _ in range(rounds):
            work()
            marks.append(time.perf_counter())
        return [1e3 * (end - start) for start, end in zip(marks, marks[1:])]
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(rounds + 1)]
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in zip(marks, marks[1:])]


def measure_peak(options, device):
    """FLOP/s of one large product in the type the model computes in, on random values."""
    size = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(size, size, device=device).to(TYPES[options.precision]) for _ in range(2))
    for _ in range(3):
        a @ b
    rounds = 10 if options.precision != "fp32" else 5
    median = statistics.median(milliseconds_of(device, rounds, lambda: a @ b))
    return 2 * size**3 / (1e-3 * median)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("layers", 12), ("hidden", 768), ("heads", 12), ("context", 1024),
                        ("vocab", 50257), ("batch", 4), ("steps", 15), ("warmup", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--precision", choices=TYPES, default="bf16")
    parser.add_argument("--learning-rate", type=float, default=6e-6, help="of every step")
    parser.add_argument("--text", help="a file whose bytes are the tokens; else any tokens")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    parser.add_argument("--checkpoint", action="store_true", help="recompute each block in backward")
    parser.add_argument("--peak", action="store_true", help="measure a matrix product too")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()

    # Of torch.backends.cuda: full FP32 unless tf32 is asked for.
    torch.set_float32_matmul_precision("high" if options.precision == "tf32" else "highest")
    training = Training(options)
    device = training.device
    peak = measure_peak(options, device) if options.peak else 0.0
    start = time.perf_counter()
    for _ in range(options.warmup):
        training.step()
    if training.on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    warm_up_seconds = time.perf_counter() - start
    milliseconds = milliseconds_of(device, options.steps, training.step)
    loss = training.step().item()
    if not math.isfinite(loss):
        raise SystemExit(f"the loss is {loss}")

    median = statistics.median(milliseconds)
    tokens = options.batch * options.context
    gemm_weights = 12 * options.layers * options.hidden**2 + options.vocab * options.hidden
    flops = 6 * gemm_weights + 12 * options.layers * options.context * options.hidden
    print(json.dumps({
        "tokens_per_second": 1e3 * tokens / median,
        "ms_per_step": median,
        "ms_per_step_min": min(milliseconds),
        "ms_per_step_max": max(milliseconds),
        "tokens_per_step": tokens,
        "flops_per_token": flops,
        "peak_flops": peak,
        "fraction": 1e3 * tokens * flops / median / peak if peak else 0.0,
        "memory_bytes": torch.cuda.max_memory_allocated() if training.on_gpu else 0,
        "parameters": training.parameters(),
        "precision": options.precision,
        "compile": options.compile,
        "checkpoint": options.checkpoint,
        "batch": options.batch,
        "loss": loss,
        "warm_up_seconds": warm_up_seconds,
        "card": torch.cuda.get_device_name() if training.on_gpu else "CPU",
        "torch": torch.__version__,
    }))


if __name__ == "__main__":
    main()
