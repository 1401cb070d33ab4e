#!/usr/bin/env python3
"""Golden values of curvature and of ADAHESSIAN: a tiny GPT-2 in FP64 by PyTorch's double backward.

    pip install torch numpy
    python3 tests/golden/make_adahessian_golden.py [FOLDER]   (default: adahessian beside this script)

The committed files were made with Python 3.11.7, torch 2.15.0+cu132 (on CPU), numpy 2.4.6. Nothing
here is Memwall's own code: derivatives are torch.autograd's, the update rule is Yao et al. 2020
(arXiv 2006.00719, and its reference code), the random bits are Philox4x32-10 written from Salmon et
al. 2011 and held against Random123's known answers. The model is written out below in plain torch
and held against tests/golden/gpt2_tiny, which Hugging Face transformers computed.

FOLDER/config.json, model.safetensors: a Hugging Face folder, F32, standard deviation 0.3 instead of
0.02, random biases and layer-norm parameters. 49 tokens of width 16, so that blocks of 32 elements do
not divide the embedding. Names below are Memwall's, without the prefix "transformer.".

FOLDER/curvature.safetensors, at the initial weights on the batch of step 1:
    tokens, targets   F32 (10, 2, 16)  batch of each step, cut from one stream: sequence i (all steps
                                       counted on) is tokens [16 i, 16 i + 16] of it, so a data file of
                                       the 321 tokens gives the same batches in SEQUENTIAL order
    z.NAME            F32              the signs of draw 1
    gradient.NAME     F64              of the mean loss
    product.NAME      F64              H z, H the Hessian of the mean loss
    diagonal.NAME     F64              of H, all its rows having been computed

FOLDER/trajectories.safetensors: RUN.NAME F64, the weights after the last step of each run.

FOLDER/golden.json:
    seed              of the signs. z of element e (row-major) of tensor p (in the order of `tensors`)
                      in draw d is -1 where bit (e % 32) of word (e % 128) / 32 of Philox4x32-10 with
                      key {seed low, seed high}, counter {e / 128 low, e / 128 high, p, d} is set, else
                      +1; d = 1 + (step - 1) * probes + probe
    tensors           names, p counting from 0
    signs             test vectors: seed, tensor, draw, first_element, and 16 signs as text
    loss              mean, nats a token, at the initial weights on the batch of step 1
    hessian           of that loss: trace, and for each tensor its part (trace_per_tensor); the standard
                      deviations of z . H z (deviation, deviation_per_tensor) over random signs; the
                      three largest and smallest eigenvalues, outermost first, and for each the squared
                      norm of the eigenvector's part in each tensor (shares)
    runs              settings and, a step, loss (before its update), grad_norm (before clipping) and
                      trace (sum of z * H z, mean over probes; null without curvature) of each run
Runs: rate constant, decay on matrices only, blocks or rows (-1) of matrices averaged, vectors not;
curvature at steps 1, 1 + update_every, ...; s is held between and corrected by its own count. Clipping
acts on g alone. The middle third of each c_attn.bias (key biases) has zero gradient and curvature but
for rounding; eps keeps its update at rounding too.
"""
import json
import math
import pathlib
import sys

import numpy
import torch

FOLDER = pathlib.Path(__file__).parent
LAYERS, WIDTH, HEADS, CONTEXT, VOCAB = 2, 16, 2, 16, 49
STEPS, BATCH = 10, 2
STD = 0.3
SEED = (7 << 32) + 20260131  # both halves of the key count
DEFAULTS = {"learning_rate": 0.05, "beta1": 0.9, "beta2": 0.98, "eps": 1e-4, "weight_decay": 0.05,
            "grad_clip": 0.0, "hessian_power": 1.0, "block_size": 32, "update_every": 1, "probes": 1,
            "steps": 3}
RUNS = {"block": {"steps": STEPS},
        "rows": {"steps": STEPS, "block_size": -1},
        "power": {"hessian_power": 0.7},
        "probes": {"probes": 2},
        "every_second": {"update_every": 2, "steps": 4},
        "clipped": {"grad_clip": 0.5}}


def philox(counter, key):
    """Philox4x32-10: a (n, 4) array of counters and two key words to (n, 4) random words."""
    c = numpy.array(counter, dtype=numpy.uint64)
    k0, k1 = key
    low = numpy.uint64(0xFFFFFFFF)
    for _ in range(10):
        a = c[:, 0] * numpy.uint64(0xD2511F53)
        b = c[:, 2] * numpy.uint64(0xCD9E8D57)
        high_a, high_b = a >> numpy.uint64(32), b >> numpy.uint64(32)
        c = numpy.stack([high_b ^ c[:, 1] ^ numpy.uint64(k0), b & low,
                         high_a ^ c[:, 3] ^ numpy.uint64(k1), a & low], axis=1)
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c.astype(numpy.uint32)


def check_philox():
    """The known answers of Random123's kat_vectors."""
    known = [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0],
         [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1])]
    for counter, key, answer in known:
        assert philox([counter], key)[0].tolist() == answer, "Philox4x32-10 is wrong"


def signs(seed, tensor, draw, first, count):
    """z of elements [first, first + count) as +1 and -1."""
    elements = numpy.arange(first, first + count, dtype=numpy.uint64)
    block = elements // numpy.uint64(128)
    counter = numpy.stack([block & numpy.uint64(0xFFFFFFFF), block >> numpy.uint64(32),
                           numpy.full_like(block, tensor), numpy.full_like(block, draw)], axis=1)
    words = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))
    lane = (elements % numpy.uint64(128)) // numpy.uint64(32)
    word = words[numpy.arange(count), lane.astype(numpy.int64)]
    bit = (word >> (elements % numpy.uint64(32)).astype(numpy.uint32)) & numpy.uint32(1)
    return numpy.where(bit == 1, -1.0, 1.0)


def draw_signs(parameters, draw):
    return [torch.from_numpy(signs(SEED, p, draw, 0, x.numel())).view(x.shape)
            for p, x in enumerate(parameters.values())]


def read_safetensors(path):
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    kinds = {"F32": numpy.float32, "F64": numpy.float64}
    return {name: torch.from_numpy(numpy.frombuffer(
        data[start + entry["data_offsets"][0]:start + entry["data_offsets"][1]],
        dtype=kinds[entry["dtype"]]).reshape(entry["shape"]).copy())
        for name, entry in header.items() if name != "__metadata__"}


def write_safetensors(path, tensors):
    kinds = {torch.float32: "F32", torch.float64: "F64"}
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, x in tensors.items():
        raw = x.detach().contiguous().numpy().tobytes()
        header[name] = {"dtype": kinds[x.dtype], "shape": list(x.shape),
                        "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def gpt2_loss(w, tokens, targets, layers, heads):
    """Mean cross-entropy of GPT-2: pre-norm, tanh GELU, causal attention, tied head, no dropout."""
    functional = torch.nn.functional
    time, width = tokens.shape[1], w["wte.weight"].shape[1]

    def norm(x, name):
        return functional.layer_norm(x, (width,), w[name + ".weight"], w[name + ".bias"], 1e-5)

    def linear(x, name):
        return x @ w[name + ".weight"] + w[name + ".bias"]

    def split(x):  # (batch, heads, time, size)
        return x.view(x.shape[0], time, heads, width // heads).transpose(1, 2)

    hidden = torch.ones(time, time).tril() == 0
    x = w["wte.weight"][tokens] + w["wpe.weight"][:time]
    for i in range(layers):
        q, k, v = map(split, linear(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn").chunk(3, dim=-1))
        scores = (q @ k.transpose(-1, -2)) / math.sqrt(width // heads)
        mix = scores.masked_fill(hidden, -math.inf).softmax(-1) @ v
        mix = mix.transpose(1, 2).reshape(x.shape)
        x = x + linear(mix, f"h.{i}.attn.c_proj")
        wide = functional.gelu(linear(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc"), approximate="tanh")
        x = x + linear(wide, f"h.{i}.mlp.c_proj")
    logits = norm(x, "ln_f") @ w["wte.weight"].T
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def check_model():
    """Loss and gradients of gpt2_tiny, which transformers' GPT2LMHeadModel computed."""
    folder = FOLDER / "gpt2_tiny"
    golden = read_safetensors(folder / "golden.safetensors")
    w = {name.removeprefix("transformer."): x.double().requires_grad_()
         for name, x in read_safetensors(folder / "model.safetensors").items()}
    loss = gpt2_loss(w, golden["tokens"][0].long(), golden["targets"][0].long(), 2, 2)
    assert abs(loss.item() - golden["loss"].item()) < 1e-12, "this is not GPT-2"
    for name, g in zip(w, torch.autograd.grad(loss, list(w.values()))):
        assert (g - golden[f"grad.{name}"]).abs().max() < 1e-12, f"the gradient of {name} is wrong"


def make_weights(generator):
    d = WIDTH
    shapes = {"wte.weight": (VOCAB, d), "wpe.weight": (CONTEXT, d)}
    for i in range(LAYERS):
        h = f"h.{i}."
        shapes |= {h + "ln_1.weight": (d,), h + "ln_1.bias": (d,),
                   h + "attn.c_attn.weight": (d, 3 * d), h + "attn.c_attn.bias": (3 * d,),
                   h + "attn.c_proj.weight": (d, d), h + "attn.c_proj.bias": (d,),
                   h + "ln_2.weight": (d,), h + "ln_2.bias": (d,),
                   h + "mlp.c_fc.weight": (d, 4 * d), h + "mlp.c_fc.bias": (4 * d,),
                   h + "mlp.c_proj.weight": (4 * d, d), h + "mlp.c_proj.bias": (d,)}
    shapes |= {"ln_f.weight": (d,), "ln_f.bias": (d,)}
    weights = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        if len(shape) == 2:
            noise *= STD / math.sqrt(2 * LAYERS) if "c_proj" in name else STD
        elif "ln_" in name and name.endswith("weight"):
            noise = 1.0 + 0.2 * noise
        else:
            noise *= 0.1
        weights[name] = noise.float()
    return weights


def make_batches(generator):
    """A noisy walk over the vocabulary: learnable, and no token is certain."""
    count = STEPS * BATCH * CONTEXT
    steps = torch.randint(1, 5, (count + 1,), generator=generator)
    stream = steps.cumsum(0) % VOCAB
    shape = (STEPS, BATCH, CONTEXT)
    return stream[:-1].view(shape), stream[1:].view(shape)


def gradient(w, tokens, targets, create_graph=False):
    loss = gpt2_loss(w, tokens, targets, LAYERS, HEADS)
    return loss, torch.autograd.grad(loss, list(w.values()), create_graph=create_graph)


def product(w, g, vector):
    """H v, by differentiating g . v; leaves the graph alive."""
    return torch.autograd.grad(g, list(w.values()), grad_outputs=vector, retain_graph=True)


def average(x, block):
    """The mean over rows or blocks of a matrix, at every element; the last block may be short."""
    if x.dim() != 2:
        return x
    if block == -1:
        return x.mean(1, keepdim=True).expand(x.shape)
    means = [part.mean().expand(part.shape) for part in x.flatten().split(block)]
    return torch.cat(means).view(x.shape)


def train(initial, tokens, targets, settings):
    """ADAHESSIAN, one line of the update rule a line: returns weights and what each step saw."""
    lr, beta1, beta2, k = (settings[x] for x in ("learning_rate", "beta1", "beta2", "hessian_power"))
    w = {name: x.double().requires_grad_() for name, x in initial.items()}
    m = {name: torch.zeros_like(x) for name, x in w.items()}
    s = {name: torch.zeros_like(x) for name, x in w.items()}
    seen = {"loss": [], "grad_norm": [], "trace": []}
    hessian_updates = 0
    for step in range(1, settings["steps"] + 1):
        has_hessian = (step - 1) % settings["update_every"] == 0
        loss, g = gradient(w, tokens[step - 1], targets[step - 1], create_graph=has_hessian)
        trace = None
        if has_hessian:
            hessian_updates += 1
            d = [torch.zeros_like(x) for x in g]
            for probe in range(settings["probes"]):
                z = draw_signs(w, 1 + (step - 1) * settings["probes"] + probe)
                for sum_, z_, hz in zip(d, z, product(w, g, z)):
                    sum_ += z_ * hz / settings["probes"]
            trace = sum(x.sum().item() for x in d)
            for name, x in zip(w, d):
                h = average(x.abs(), settings["block_size"])
                s[name] = beta2 * s[name] + (1 - beta2) * h * h
        g = [x.detach() for x in g]
        norm = math.sqrt(sum((x * x).sum().item() for x in g))
        clip = settings["grad_clip"]
        factor = min(1.0, clip / (norm + 1e-6)) if clip > 0 else 1.0
        bc1, bc2 = 1 - beta1**step, 1 - beta2**hessian_updates
        with torch.no_grad():
            for (name, p), g_ in zip(w.items(), g):
                m[name] = beta1 * m[name] + (1 - beta1) * factor * g_
                denominator = s[name].sqrt()**k / math.sqrt(bc2)**k + settings["eps"]
                decay = settings["weight_decay"] if p.dim() == 2 else 0.0
                p -= lr * ((m[name] / bc1) / denominator + decay * p)
        for key, value in zip(seen, (loss.item(), norm, trace)):
            seen[key].append(value)
    return {name: x.detach() for name, x in w.items()}, seen


def check_derivatives(w, g, z, hz, tokens, targets):
    """Gradient and H z against differences, so that autograd is not believed either."""
    def shifted(e):
        return {name: (x.detach() + e * z_).requires_grad_() for (name, x), z_ in zip(w.items(), z)}

    def norm(xs):
        return math.sqrt(sum((x * x).sum().item() for x in xs))

    def stencil(f, e):  # of fourth order
        return (8 * (f(e) - f(-e)) - (f(2 * e) - f(-2 * e))) / (12 * e)

    slope = stencil(lambda e: gpt2_loss(shifted(e), tokens, targets, LAYERS, HEADS).item(), 1e-4)
    assert abs(slope - sum((a * b).sum().item() for a, b in zip(g, z))) < 1e-7 * abs(slope)
    for i, exact in enumerate(hz):
        difference = stencil(lambda e: gradient(shifted(e), tokens, targets)[1][i], 1e-4)
        assert norm([difference - exact]) < 1e-7 * norm(hz), f"H z of tensor {i} is wrong"


def full_hessian(w, g):
    flat = torch.cat([x.flatten() for x in g])
    rows = torch.empty(flat.numel(), flat.numel(), dtype=torch.float64)
    for i in range(flat.numel()):
        row = torch.autograd.grad(flat[i], list(w.values()), retain_graph=True)
        rows[i] = torch.cat([x.flatten() for x in row])
    assert (rows - rows.T).abs().max() < 1e-12 * rows.abs().max(), "H is not symmetric"
    return (rows + rows.T) / 2


def describe_hessian(hessian, names, counts):
    values, vectors = torch.linalg.eigh(hessian)
    squares = hessian.square()
    squares.fill_diagonal_(0.0)
    traces, deviations, start = {}, {}, 0
    spans = {}
    for name, count in zip(names, counts):
        spans[name] = slice(start, start + count)
        start += count
    for name, span in spans.items():
        traces[name] = hessian.diagonal()[span].sum().item()
        # z_t . (H z)_t: pairs inside the tensor count twice, pairs across its border once.
        variance = squares[span].sum() + squares[span, span].sum()
        deviations[name] = variance.sqrt().item()

    def end(columns):
        return [{"value": values[i].item(),
                 "shares": {name: vectors[span, i].square().sum().item()
                            for name, span in spans.items()}} for i in columns]

    return {"trace": hessian.diagonal().sum().item(), "trace_per_tensor": traces,
            "deviation": (2 * squares.sum()).sqrt().item(), "deviation_per_tensor": deviations,
            "largest": end([-1, -2, -3]), "smallest": end([0, 1, 2])}


def sign_vectors():
    cases = [(1, 0, 1, 0), (SEED, 4, 3, 120), (SEED, 27, 4294967295, (1 << 39) + 56)]
    return [{"seed": seed, "tensor": p, "draw": d, "first_element": e,
             "signs": "".join("+" if s > 0 else "-" for s in signs(seed, p, d, e, 16))}
            for seed, p, d, e in cases]


def config():
    return {"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"],
            "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "layer_norm_epsilon": 1e-5,
            "model_type": "gpt2", "n_embd": WIDTH, "n_head": HEADS, "n_inner": None,
            "n_layer": LAYERS, "n_positions": CONTEXT, "scale_attn_weights": True,
            "tie_word_embeddings": True, "vocab_size": VOCAB}


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "adahessian"
    out.mkdir(exist_ok=True)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    check_philox()
    check_model()
    generator = torch.Generator().manual_seed(20260131)
    initial = make_weights(generator)
    tokens, targets = make_batches(generator)

    w = {name: x.double().requires_grad_() for name, x in initial.items()}
    loss, g = gradient(w, tokens[0], targets[0], create_graph=True)
    z = draw_signs(w, 1)
    hz = product(w, g, z)
    check_derivatives(w, g, z, hz, tokens[0], targets[0])
    hessian = full_hessian(w, g)
    flat_z, flat_hz = (torch.cat([x.flatten() for x in xs]) for xs in (z, hz))
    assert (hessian @ flat_z - flat_hz).norm() < 1e-12 * flat_hz.norm()
    diagonal = hessian.diagonal().split([x.numel() for x in w.values()])

    curvature = {"tokens": tokens.float(), "targets": targets.float()}
    for i, name in enumerate(w):
        curvature |= {f"z.{name}": z[i].float(), f"gradient.{name}": g[i].detach(),
                      f"product.{name}": hz[i], f"diagonal.{name}": diagonal[i].view(g[i].shape)}
    golden = {"seed": SEED, "tensors": list(w), "signs": sign_vectors(), "loss": loss.item(),
              "hessian": describe_hessian(hessian, list(w), [x.numel() for x in w.values()]),
              "runs": {}}
    trajectories = {}
    for name, changes in RUNS.items():
        settings = DEFAULTS | changes
        weights, seen = train(initial, tokens, targets, settings)
        golden["runs"][name] = settings | seen
        trajectories |= {f"{name}.{tensor}": x for tensor, x in weights.items()}
        print(name, seen)

    write_safetensors(out / "model.safetensors",
                      {f"transformer.{name}": x for name, x in initial.items()})
    (out / "config.json").write_text(json.dumps(config(), indent=2) + "\n")
    write_safetensors(out / "curvature.safetensors", curvature)
    write_safetensors(out / "trajectories.safetensors", trajectories)
    (out / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
    print("loss", golden["loss"], "trace", golden["hessian"]["trace"], "eigenvalues",
          [[x["value"] for x in golden["hessian"][end]] for end in ("largest", "smallest")])


if __name__ == "__main__":
    main()
