"""Training steps of a configuration's model in PyTorch, timed: the other side of versus_torch.py.

    python3 tests/benchmarks/torch_step.py tests/benchmarks/gpt2-124m.textproto --variant eager

The step is that of `memwall bench step`: GPT-2 with a tied head, forward, backward, clipping of the
global norm, AdamW with decay of matrices only, FP32, synthetic tokens. One JSON object on stdout.
Needs PyTorch 2.4 or later (AdamW's fused kernel on the CPU) and a C++ compiler for the compiled
variants; tried with 2.15.
"""

import argparse
import json
import re
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

# What torch.compile is asked for; None: eager.
VARIANTS = {"eager": None, "compile": "default", "max-autotune": "max-autotune"}


def read_config(path):
    """The scalars of a configuration by their field's name (no name is used twice there)."""
    with open(path, encoding="utf-8") as file:
        text = re.sub(r"#[^\n]*", "", file.read())
    return {name: float(value) for name, value in re.findall(r"(\w+):\s*([-+.\deE]+)", text)}


class Block(nn.Module):
    def __init__(self, width, heads, layers):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        for linear in (self.qkv, self.proj, self.fc1, self.fc2):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        for linear in (self.proj, self.fc2):
            nn.init.normal_(linear.weight, std=0.02 / (2 * layers) ** 0.5)

    def forward(self, x):
        batch, time_, width = x.shape
        split = (batch, time_, self.heads, width // self.heads)
        q, k, v = (part.view(split).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, -1))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(attended.transpose(1, 2).reshape(batch, time_, width))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self, layers, width, heads, context, vocabulary):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(width, heads, layers) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens, targets):
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Training:
    def __init__(self, config, variant):
        integer = {name: int(value) for name, value in config.items()}
        self.batch, self.time = integer["micro_batch_size"], integer["context_length"]
        self.vocabulary, self.clip = integer["vocab_size"], config["grad_clip"]
        torch.manual_seed(1)
        self.model = Gpt2(integer["num_layers"], integer["hidden_size"], integer["num_heads"],
                          self.time, self.vocabulary)
        matrices = [p for p in self.model.parameters() if p.dim() > 1]
        others = [p for p in self.model.parameters() if p.dim() <= 1]
        groups = [{"params": matrices, "weight_decay": config["weight_decay"]},
                  {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config["learning_rate"], fused=True,
                                           betas=(0.9, config["beta2"]))
        mode = VARIANTS[variant]
        self.loss_of = self.model if mode is None else torch.compile(self.model, mode=mode)

    def parameters(self):
        return sum(p.numel() for p in self.model.parameters())

    def step(self):
        tokens = torch.randint(self.vocabulary, (self.batch, self.time + 1))
        start = time.perf_counter()
        loss = self.loss_of(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        return time.perf_counter() - start, value


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--variant", choices=VARIANTS, default="eager")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="measured, after --warm-up")
    parser.add_argument("--warm-up", type=int, default=3)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    training = Training(read_config(options.config), options.variant)
    for _ in range(options.warm_up):
        training.step()
    steps = [training.step() for _ in range(options.steps)]
    seconds = [taken for taken, _ in steps]
    tokens = training.batch * training.time
    print(json.dumps({
        "torch": torch.__version__,
        "variant": options.variant,
        "threads": torch.get_num_threads(),
        "parameters": training.parameters(),
        "step_seconds": statistics.median(seconds),
        "step_seconds_min": min(seconds),
        "tokens_per_second": tokens / statistics.median(seconds),
        "loss": steps[-1][1],
    }))


if __name__ == "__main__":
    main()
