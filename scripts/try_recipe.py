"""Which parts of the recipe help?  One run: a JSON line."""
import argparse, json, math, time, sys
from dataclasses import replace
import numpy as np, torch
import torch.nn.functional as F
from torch import nn
from charnn.config import ModelConfig, TextConfig
from charnn.model.network import CharNetwork, layer_weights
from charnn.model.evaluate import evaluate
from charnn.text.batches import Batches, Position
from charnn.text.corpus import open_corpus
from charnn.training.allocator import keep_freed_memory

p = argparse.ArgumentParser()
a = p.add_argument
a("--name", default=""); a("--text", default="/tmp/w/ts.txt")
a("--part", type=float, default=1.0); a("--mchars", type=float, default=4.0)
a("--cell", default="lstm"); a("-H", type=int, default=384); a("-L", type=int, default=1); a("-E", type=int, default=0)
a("--skip", default="none"); a("--ln", type=int, default=0); a("--tie", type=int, default=0)
a("--de", type=float, default=.1); a("--dh", type=float, default=None); a("--do", type=float, default=None); a("--dw", type=float, default=0)
a("--statedrop", type=float, default=0); a("--ema", type=float, default=0)
a("--opt", default="adamw"); a("--lr", type=float, default=3e-3); a("--mlr", type=float, default=.02)
a("--beta1", type=float, default=.9); a("--beta2", type=float, default=.99); a("--wd", type=float, default=.01)
a("--clip", type=float, default=1.0); a("--warmup", type=float, default=.03); a("--final", type=float, default=.02)
a("--sched", default="cosine"); a("--decay", type=float, default=.3)
a("--lanes", default="16"); a("--windows", default="64"); a("--seed", type=int, default=1)
a("--smooth", type=float, default=0); a("--evals", type=int, default=4); a("--save", default="")
a("--wnoise", type=float, default=0); a("--gates", type=int, default=0); a("--window-eval", type=int, default=0)
a("--forget", type=float, default=1.0); a("--initscale", type=float, default=0)
a("--ns", type=int, default=5); a("--mom", type=float, default=.95); a("--ndtype", default="bf16"); a("--mwd", type=float, default=.01); a("--mhead", type=int, default=0); a("--only", default="")
o = p.parse_args()
if o.dh is None: o.dh = o.de
if o.do is None: o.do = o.de
keep_freed_memory()
corpus = open_corpus([o.text], TextConfig())
train = corpus.train[: int(len(corpus.train) * o.part)]
val = corpus.validation[: len(corpus.validation) - len(corpus.validation) // 5]
V = corpus.tokenizer.vocabulary_size
E = o.E or min(o.H, 512)
torch.manual_seed(o.seed)

def locked(x, rate, lanes_too=True):
    if rate == 0: return x
    return x * F.dropout(torch.ones_like(x[:1]), rate)

class OMuon(torch.optim.Optimizer):
    def __init__(self, params, lr): super().__init__(params, dict(lr=lr))
    @torch.no_grad()
    def step(self):
        for g in self.param_groups:
            for q in g["params"]:
                st = self.state[q]
                if not st: st["m"] = torch.zeros_like(q)
                st["m"].lerp_(q.grad, 1 - o.mom)
                u = q.grad.lerp(st["m"], o.mom)
                if o.gates: u = u.view(4, -1, u.shape[1])
                else: u = u[None]
                X = u.bfloat16() if o.ndtype == "bf16" else u
                tr = X.shape[1] > X.shape[2]
                if tr: X = X.mT
                X = X / (X.norm(dim=(1, 2), keepdim=True) + 1e-7)
                for _ in range(o.ns):
                    A = X @ X.mT
                    B = torch.baddbmm(A, A, A, beta=-4.775, alpha=2.0315)
                    X = torch.baddbmm(X, B, X, beta=3.4445)
                if tr: X = X.mT
                X = X.float().reshape(q.shape)
                q.mul_(1 - g["lr"] * o.mwd)
                q.add_(X, alpha=-g["lr"] * .2 * max(u.shape[1:]) ** .5)

class Net(CharNetwork):
    def __init__(self, config):
        super().__init__(config)
        self.norms = nn.ModuleList(nn.LayerNorm(config.hidden_size) for _ in self.layers) if o.ln else None
        if o.forget != 1.0:
            for l in self.layers:
                _, _, b, _ = layer_weights(l); H = config.hidden_size
                with torch.no_grad(): b[H:2*H] = o.forget
    def forward(self, idx, state):
        c = self.config; new = []; tr = self.training
        emb = self.embedding.weight
        if tr: emb = locked(emb, o.de)
        x = None
        total = None
        run = {"lstm": torch.lstm, "gru": torch.gru, "rnn": torch.rnn_tanh}[c.cell]
        for n, layer in enumerate(self.layers):
            before = tuple(s[None, :, n].contiguous() for s in state)
            w_ih, w_hh, b_ih, b_hh = layer_weights(layer)
            if tr and o.dw: w_hh = F.dropout(w_hh, o.dw)
            if tr and o.wnoise: w_hh = w_hh + o.wnoise * torch.randn_like(w_hh) * w_hh.detach().std()
            if n == 0 and V <= E:
                x_in = F.one_hot(idx, V).float(); w_ih = w_ih @ emb.t()
            elif n == 0:
                x_in = F.embedding(idx, emb)
            else:
                x_in = x
                if o.ln: x_in = self.norms[n-1](x_in)
                if tr: x_in = locked(x_in, o.dh)
            first = before if c.cell == "lstm" else before[0]
            y, *after = run(x_in, first, (w_ih, w_hh, b_ih, b_hh), True, 1, 0.0, self.training, False, False)
            new.append(torch.cat(tuple(after)))
            if o.skip == "residual": x = y if x is None else x + y
            else: x = y
            total = y if total is None else total + y
        out = total if o.skip == "sum" else x
        if o.ln: out = self.norms[-1](out)
        if tr: out = locked(out, o.do)
        if o.tie: logits = F.linear(out, self.embedding.weight, self.head.bias)
        else: logits = self.head(out)
        return logits, torch.stack(new, 2)

cfg = ModelConfig(V, o.H, o.L, E, o.cell, 0.0)
net = Net(cfg)
if o.tie: nn.init.uniform_(net.embedding.weight, -o.H**-.5, o.H**-.5); net.head.weight.requires_grad_(False)
if o.initscale:
    for l in net.layers:
        for w in layer_weights(l)[:2]:
            with torch.no_grad(): w.mul_(o.initscale)
params = [q for q in net.parameters() if q.requires_grad]
adam, muon = params, []
if o.opt in ("muon", "omuon"):
    muon = [q for n, q in net.named_parameters() if q.ndim == 2 and (n.startswith("layers.") or (o.mhead and n == "head.weight")) and o.only in n]
    ids = {id(q) for q in muon}; adam = [q for q in params if id(q) not in ids]
optimizers = [(torch.optim.AdamW(adam, lr=o.lr, betas=(o.beta1, o.beta2), weight_decay=o.wd, fused=True), o.lr)]
if o.opt == "nadam": optimizers = [(torch.optim.NAdam(adam, lr=o.lr, betas=(o.beta1, o.beta2), weight_decay=o.wd, decoupled_weight_decay=True), o.lr)]
if o.opt == "lion": pass
if muon and o.opt == "omuon": optimizers.append((OMuon(muon, o.mlr), o.mlr))
elif muon: optimizers.append((torch.optim.Muon(muon, lr=o.mlr, weight_decay=o.wd, momentum=.95, adjust_lr_fn="match_rms_adamw" if o.mlr < .01 else "original"), o.mlr))

budget = o.mchars * 1e6
phases = list(zip([int(x) for x in o.lanes.split(",")], [int(x) for x in o.windows.split(",")] if "," in o.windows else [int(o.windows)] * len(o.lanes.split(","))))
if len(o.lanes.split(",")) == 1 and "," in o.windows: phases = [(int(o.lanes), int(w)) for w in o.windows.split(",")]
def factor(done):
    if done < o.warmup: return max(1e-3, done / o.warmup)
    if o.sched == "cosine":
        d = (done - o.warmup) / (1 - o.warmup)
        return o.final + (1 - o.final) * .5 * (1 + math.cos(math.pi * min(1, d)))
    if o.sched == "linear":
        return o.final + (1 - o.final) * (1 - (done - o.warmup) / (1 - o.warmup))
    d = max(0, (done - (1 - o.decay)) / o.decay)
    return 1 - (1 - o.final) * d
ema = [q.detach().clone() for q in params] if o.ema else None
def scores(protocols=("stream",)):
    net.eval(); r = {k: round(evaluate(net, val, k).nats_per_char, 4) for k in protocols}; net.train(); return r
def swapped():
    keep = [q.detach().clone() for q in params]
    with torch.no_grad():
        for q, e in zip(params, ema): q.copy_(e)
    return keep
net.train()
done = 0.0; steps = 0; spent = 0.0; t0 = time.perf_counter(); curve = []; nexteval = 1
tl = 0.0; tn = 0
for k, (B, T) in enumerate(phases):
    batches = Batches(train, B, T, o.seed); pos = Position(epoch=k * 1000); B = batches.batch_size
    state = net.zero_state(B)
    end = budget * (k + 1) / len(phases)
    while done < end:
        x, y, after = batches.at(pos)
        f = factor(done / budget)
        logits, new = net(x, state)
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten(), label_smoothing=o.smooth)
        for q in params: q.grad = None
        loss.backward()
        nn.utils.clip_grad_norm_(params, o.clip, foreach=True)
        for opt, base in optimizers:
            for g in opt.param_groups: g["lr"] = base * f
            opt.step()
        steps += 1; done += B * T
        tl += loss.item(); tn += 1
        if ema:
            d = min(o.ema, (1 + steps) / (10 + steps)) if o.ema > .5 else 1 - 1 / (o.ema * steps + 1)
            torch._foreach_lerp_(ema, [q.detach() for q in params], 1 - d)
        state = new.detach()
        if after.epoch != pos.epoch: state = torch.zeros_like(state)
        elif o.statedrop: state = state * (torch.rand(B) > o.statedrop).float()[None, :, None, None]
        pos = after
        if done >= budget * nexteval / o.evals and nexteval < o.evals:
            nexteval += 1
            ts = time.perf_counter()
            if ema: keep = swapped()
            curve.append((round(done / 1e6, 2), round(tl / tn, 4), scores(("lanes",))["lanes"])); tl = tn = 0
            if ema:
                with torch.no_grad():
                    for q, e in zip(params, keep): q.copy_(e)
            spent += time.perf_counter() - ts
secs = time.perf_counter() - t0 - spent
res = {"raw": scores()}
if ema: swapped(); res["ema"] = scores()
prot = ("stream", "window") if o.window_eval else ()
if prot: res["win"] = scores(prot)
if o.save: torch.save(net.state_dict(), o.save)
args = {k: v for k, v in vars(o).items() if v != p.get_default(k) and k not in ("name",)}
print(json.dumps({"name": o.name, **res, "train": round(tl / max(1, tn), 4), "curve": curve, "cps": int(done / secs), "secs": int(secs), "params": net.parameter_count(), "args": args}))
