#!/usr/bin/env python3
"""Golden values of a tiny GPT-2, computed in FP64 by PyTorch and Hugging Face transformers.

    pip install torch transformers safetensors
    python3 tests/golden/make_gpt2_golden.py [FOLDER]     (default: gpt2_tiny beside this script)

The committed files were made with Python 3.11.7, torch 2.15.0+cu132 (on CPU), transformers 5.23.0,
safetensors 0.8.0. Nothing here is Memwall's own code: the model is GPT2LMHeadModel with eager
attention, the optimizer torch.optim.AdamW, the clipping torch.nn.utils.clip_grad_norm_.

FOLDER/config.json, model.safetensors: a Hugging Face folder written by save_pretrained, F32. All
weights are F32 numbers, so that FP32 and FP64 runs start equal. They are GPT-2's initialisation
with a standard deviation of 0.15 instead of 0.02 (at width 32, 0.02 leaves every softmax flat and
a wrong attention unnoticed); biases and layer-norm parameters are random instead of 0 and 1.

FOLDER/golden.safetensors; names below are without the prefix "transformer.":
    tokens, targets        F32 (10, 3, 16)   batch of each step; targets are the tokens' successors
    logits                 F64 (3, 16, 61)   of batch 0 at the initial weights
    token_loss             F64 (3, 16)       of batch 0 at the initial weights, in nats
    loss                   F64 (1)           their mean
    grad.NAME              F64               gradients of `loss`; the tied wte.weight has both parts
    step_loss              F64 (10)          mean loss of each step's batch, before its update
    step_grad_norm         F64 (10)          global norm before clipping
    update.NAME            F32               weights after ten steps minus initial weights; F32 of an
                                             FP64 difference: the weights are good to 1e-9
Ten steps of AdamW: rate 1e-3, betas 0.9 and 0.95, eps 1e-8, decay 0.1 on two-dimensional tensors
(wte and wpe included), gradients clipped to global norm 1 (PyTorch divides by norm + 1e-6).
The middle third of each c_attn.bias (key biases) has a gradient that is zero but for rounding,
which AdamW blows up to whole steps: leave it out of comparisons of `update`.
"""
import math
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

LAYERS, WIDTH, HEADS, CONTEXT, VOCAB = 2, 32, 2, 16, 61
STEPS, BATCH = 10, 3
STD = 0.15


def make_model(generator):
    config = GPT2Config(
        n_layer=LAYERS, n_embd=WIDTH, n_head=HEADS, n_positions=CONTEXT, vocab_size=VOCAB,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
        attn_implementation="eager")
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.dim() == 2:
                std = STD / math.sqrt(2 * LAYERS) if "c_proj" in name else STD
                value = std * noise
            elif ".ln_" in name and name.endswith("weight"):
                value = 1.0 + 0.2 * noise
            else:
                value = 0.1 * noise
            parameter.copy_(value.to(torch.float32))
    return model


def make_batches(generator):
    """Noisy walks over the vocabulary: learnable, and no token is certain."""
    step = torch.randint(1, 5, (STEPS, BATCH, CONTEXT + 1), generator=generator)
    start = torch.randint(0, VOCAB, (STEPS, BATCH, 1), generator=generator)
    walk = (start + step.cumsum(-1)) % VOCAB
    return walk[..., :-1].contiguous(), walk[..., 1:].contiguous()


def token_losses(model, tokens, targets):
    logits = model(tokens).logits
    loss = torch.nn.functional.cross_entropy(
        logits.view(-1, VOCAB), targets.reshape(-1), reduction="none").view(targets.shape)
    return logits, loss


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else
                          pathlib.Path(__file__).parent / "gpt2_tiny")
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(20240607)
    model = make_model(generator)
    tokens, targets = make_batches(generator)
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink(missing_ok=True)

    model = model.double().train()
    parameters = {name.removeprefix("transformer."): p for name, p in model.named_parameters()}
    initial = {name: p.detach().clone() for name, p in parameters.items()}
    golden = {"tokens": tokens.float(), "targets": targets.float()}

    logits, losses = token_losses(model, tokens[0], targets[0])
    losses.mean().backward()
    golden |= {"logits": logits.detach(), "token_loss": losses.detach(),
               "loss": losses.mean().detach().reshape(1)}
    golden |= {f"grad.{name}": p.grad.clone() for name, p in parameters.items()}

    optimizer = torch.optim.AdamW(
        [{"params": [p for p in parameters.values() if p.dim() == 2], "weight_decay": 0.1},
         {"params": [p for p in parameters.values() if p.dim() != 2], "weight_decay": 0.0}],
        lr=1e-3, betas=(0.9, 0.95), eps=1e-8, foreach=False)
    step_loss, step_norm = [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = token_losses(model, tokens[step], targets[step])[1].mean()
        loss.backward()
        step_norm.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=False))
        step_loss.append(loss.detach())
        optimizer.step()
    golden["step_loss"] = torch.stack(step_loss)
    golden["step_grad_norm"] = torch.stack(step_norm)
    golden |= {f"update.{name}": (p.detach() - initial[name]).float()
               for name, p in parameters.items()}

    save_file({name: value.contiguous() for name, value in golden.items()},
              folder / "golden.safetensors", metadata={"format": "pt"})
    print("loss", golden["loss"].item(), "steps", golden["step_loss"].tolist(),
          "norms", golden["step_grad_norm"].tolist())


if __name__ == "__main__":
    main()
