"""Make what the figures that a reader can touch need: a trained network, some digits, recorded trainings, and the pictures that stand in for
the figures.

    python site/figures.py            writes nbs/figures/network.json, digits.bin, watch.json and the pictures; needs real MNIST
    python site/figures.py --pictures writes the pictures only

The digits are MNIST's (Yann LeCun, Corinna Cortes and Christopher J. C. Burges), which is offered under the terms of the Creative
Commons Attribution-ShareAlike 3.0 licence.
"""
from __future__ import annotations
import base64, gzip, json, math, re, sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from minibatch.data import load_mnist
from minibatch.gradient import cross_entropy_grad
from minibatch.logsumexp import log_softmax
from minibatch.model import Model
from minibatch.nll import cross_entropy
from minibatch.softmax import softmax
from minibatch.training import accuracy, train
from minibatch.watch import watch

OUT = Path(__file__).resolve().parent.parent/'nbs'/'figures'
TRAIN, KEPT_BACK = 500, 200 # the first rows of the training set and of the validation set
CREDIT = 'MNIST: Yann LeCun, Corinna Cortes and Christopher J. C. Burges; CC BY-SA 3.0'


def quantise(w:torch.Tensor) -> tuple[torch.Tensor, float]: # int8, and what one of it is worth: a float32
    "The nearest multiples of a 127th of the largest weight."
    scale = w.abs().max() / 127
    return (w / scale).round().to(torch.int8), scale.item()


def train_network(mnist) -> Model:
    "The network of chapter 05, with its weights rounded to 8 bits."
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = Model(784, 50, 10)
    train(model, mnist.x_train, mnist.y_train, after_epoch=lambda *_: None)
    with torch.no_grad():
        for layer in model.layers[0], model.layers[2]:
            q, scale = quantise(layer.weight)
            layer.weight.copy_(q * torch.tensor(scale))
    return model


def write_network(model:Model, mnist, path:Path):
    "The weights as base64 of their int8s, and what a reader should know of them."
    first, _, last = model.layers
    with torch.no_grad(): correct = accuracy(model(mnist.x_valid), mnist.y_valid).item()
    kept = {'made by': 'site/figures.py: minibatch.training.train, seed 1, 3 epochs, bs 50, lr 0.5; weights rounded to 8 bits',
            'trained on': CREDIT, 'validation accuracy': round(correct, 4)}
    for name, layer in ('first', first), ('last', last):
        q, scale = quantise(layer.weight.detach())
        kept[name] = {'shape': list(q.shape), 'scale': scale, 'weight': base64.b64encode(q.numpy().tobytes()).decode(),
                      'bias': layer.bias.tolist()}
    path.write_text(json.dumps(kept, indent=1) + '\n', encoding='utf-8')


def digits(mnist) -> bytes: # Compressed: the labels, a byte each, then the pictures, 784 bytes each
    "The first rows of the training set, and after them those of the validation set."
    x = torch.cat([mnist.x_train[:TRAIN], mnist.x_valid[:KEPT_BACK]]) * 256
    y = torch.cat([mnist.y_train[:TRAIN], mnist.y_valid[:KEPT_BACK]])
    return gzip.compress(y.numpy().astype(np.uint8).tobytes() + x.numpy().astype(np.uint8).tobytes(), 9, mtime=0)


def stored() -> tuple[Model, torch.Tensor, torch.Tensor]: # The network, and the 700 digits and their labels
    "What the page loads."
    kept, model = json.loads((OUT/'network.json').read_text(encoding='utf-8')), Model(784, 50, 10)
    with torch.no_grad():
        for layer, k in (model.layers[0], kept['first']), (model.layers[2], kept['last']):
            q = np.frombuffer(base64.b64decode(k['weight']), np.int8).reshape(k['shape'])
            layer.weight.copy_(torch.tensor(q) * torch.tensor(k['scale']))
            layer.bias.copy_(torch.tensor(k['bias']))
    content = np.frombuffer(gzip.decompress((OUT/'digits.bin').read_bytes()), np.uint8)
    n = TRAIN + KEPT_BACK
    return model, torch.tensor(content[n:].reshape(n, 784) / np.float32(256)), torch.tensor(content[:n]).long()


# Chapter 13: a loop, and six mistakes in it that run. A mistake is marked by its name.
MISTAKES = 'frozen biases', 'measured with dropout', 'validation rows in training', 'never back to train', 'cleared every second step', 'sorted by label'


def recorded(mnist, mistake:str='', seed:int=1) -> tuple[nn.Module, list[float], float]: # The model, the loss of each step, the accuracy that the loop reports
    "Train on 5,000 digits for ten epochs of a hundred steps; measure on 1,000 others after each."
    torch.manual_seed(seed)
    x, y, xv, yv = mnist.x_train[:5000], mnist.y_train[:5000], mnist.x_valid[:1000], mnist.y_valid[:1000]
    if mistake == 'validation rows in training': x, y = torch.cat([x[:4000], xv]), torch.cat([y[:4000], yv])
    if mistake == 'sorted by label': x, y = x[y.argsort(stable=True)], y.sort().values
    model = nn.Sequential(nn.Linear(784, 50), nn.ReLU(), nn.Dropout(.2), nn.Linear(50, 10))
    params = [p for p in model.parameters() if p.dim() > 1 or mistake != 'frozen biases']
    opt, losses = torch.optim.SGD(params, lr=.2), []
    for epoch in range(10):
        if mistake != 'never back to train': model.train()
        order = torch.arange(5000) if mistake == 'sorted by label' else torch.randperm(5000)
        for rows in order.split(50):
            if mistake != 'cleared every second step' or len(losses) % 2 == 0: opt.zero_grad()
            loss = F.cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            opt.step()
            losses.append(loss.item())
        if mistake != 'measured with dropout': model.eval()
        with torch.no_grad(): reported = accuracy(model(xv), yv).item()
    return model, losses, reported


@torch.no_grad()
def truth(model:nn.Module, mnist) -> float:
    "The accuracy on 9,000 digits that no loop has seen."
    return accuracy(model.eval()(mnist.x_valid[1000:]), mnist.y_valid[1000:]).item()


def runs(mnist, mistake:str, seeds=(1, 2, 3)) -> dict:
    "What a loop's loss was, what it reported and what was true, and what `watch` saw with the first seed. Watching changes no number."
    torch.set_num_threads(1)
    with watch() as seen: first = recorded(mnist, mistake, seeds[0])
    models, losses, reported = zip(first, *(recorded(mnist, mistake, seed) for seed in seeds[1:]))
    return {'loss': [round(1000 * v) for v in losses[0]], 'reported': [round(v, 4) for v in reported], 'true': [round(truth(m, mnist), 4) for m in models],
            'kinds': [f'{f.severity}: {f.kind}' for f in seen.findings], 'prints': re.sub(r', \w+\.py:\d+', '', str(seen))}


def write_runs(mnist, path:Path):
    made = {'made by': 'site/figures.py: Linear(784, 50), ReLU, Dropout(.2), Linear(50, 10); 5,000 rows, bs 50, SGD with lr 0.2, 10 epochs, one thread, seeds 1 to 3; losses of seed 1, in thousandths',
            'trained on': CREDIT, 'right': runs(mnist, ''), 'wrong': {mistake: runs(mnist, mistake) for mistake in MISTAKES}}
    text = json.dumps(made, indent=1)
    path.write_text(re.sub(r'\[\s+([\d.,\s]+?)\s+\]', lambda m: '[' + ' '.join(m[1].split()) + ']', text) + '\n', encoding='utf-8')


@torch.no_grad()
def digit():
    "A digit that the network finds hard, and its ten probabilities."
    model, x, y = stored()
    x, y = x[TRAIN:], y[TRAIN:]
    losses = torch.stack([cross_entropy(model(a[None]), b[None]) for a, b in zip(x, y)])
    i = int(((losses > .5) & (losses < .7)).nonzero()[0])
    fig, (left, right) = plt.subplots(1, 2, width_ratios=[1, 2.4], figsize=(7, 2.5))
    left.imshow(x[i].reshape(28, 28), vmin=0, vmax=1)
    left.set_axis_off()
    bars = right.bar(range(10), softmax(model(x[i])))
    bars[int(y[i])].set_color('C1')
    right.set(xticks=range(10), xlabel=f'class (its label, {int(y[i])}, in orange: a loss of {losses[i]:.2f})', ylabel='probability', ylim=(0, 1))
    return fig


@torch.no_grad()
def unit():
    "A unit's weights, and what it makes of ten digits."
    model, x, y = stored()
    w, rows = model.layers[0].weight[4], [TRAIN + int((y[TRAIN:] == d).nonzero()[0]) for d in range(10)]
    fig, (left, right) = plt.subplots(1, 2, width_ratios=[1, 1.8], figsize=(7, 2.6))
    shown = left.imshow(w.reshape(28, 28), cmap='RdBu_r', vmin=-w.abs().max(), vmax=w.abs().max())
    left.set_axis_off()
    fig.colorbar(shown, ax=left, label='weight')
    out = model.layers[0](x[rows])[:, 4]
    right.bar(range(10), out, color=['C1' if v > 0 else '#999999' for v in out])
    right.axhline(0, color='black', lw=.8)
    right.set(xticks=range(10), xlabel='a digit of each class', ylabel='what the unit returns')
    return fig


def five_scores():
    "Scores, exponentials and probabilities, before and after 1 is added to all scores."
    names, x = ['cat', 'dog', 'plane', 'fish', 'building'], torch.tensor([-4.89, 2.6, .59, -2.07, -4.57])
    fig, axes = plt.subplots(1, 3, figsize=(7, 2.5))
    for k, (z, label) in enumerate([(x, 'as they are'), (x + 1, '1 added to all')]):
        for ax, v, title in zip(axes, (z, z.exp(), softmax(z)), ('score', 'exp(score)', 'softmax')):
            ax.bar(torch.arange(5) + .4*k, v, .4, label=label)
            ax.set_title(title)
            ax.set_xticks(torch.arange(5) + .2, names, rotation=45)
    axes[0].axhline(0, color='black', lw=.8)
    axes[2].legend(fontsize=8)
    return fig


def precision():
    "For each type and version: the scores c, c + 1, c + 2 for which the log-softmax is right."
    def as_said(x): return (x.exp() / x.exp().sum(-1, keepdim=True)).log()
    def quotient(x): return x - x.exp().sum(-1, keepdim=True).log()
    def by_logsumexp(x): return x - x.logsumexp(-1, keepdim=True)
    versions = {'1 as the words say': as_said, '2 log of a quotient': quotient, '3 maximum out': log_softmax, '4 x − logsumexp(x)': by_logsumexp}
    c = torch.arange(-130, 129, .5)
    fig, axes = plt.subplots(1, 3, sharey=True, figsize=(7, 2.3))
    for ax, dtype in zip(axes, (torch.float16, torch.bfloat16, torch.float32)):
        x = (c[:, None] + torch.arange(3)).to(dtype)
        truth, unit = x.double().log_softmax(-1), 2*torch.finfo(dtype).eps
        for k, f in enumerate(versions.values()):
            right = ((f(x).double() - truth).abs().amax(1) <= (unit * truth.abs().amax(1)).clamp(min=6e-4))
            ax.plot(c[right], [3 - k] * int(right.sum()), '|', color=f'C{k}', ms=12, mew=1.2)
        ax.set(title=str(dtype).removeprefix('torch.'), xlabel='c', xlim=(-135, 135), ylim=(-.7, 3.7))
    axes[0].set_yticks([3, 2, 1, 0], list(versions))
    return fig


def nll():
    "Minus the logarithm of p: each halving costs the same."
    fig, ax = plt.subplots(figsize=(7, 2.6))
    p = torch.linspace(.006, 1, 300)
    ax.plot(p, -p.log(), color='#777777')
    for a in .8, .4, .2, .1, .05:
        ax.plot([a, a, 0], [0, -math.log(a), -math.log(a)], ':', color='C1', lw=1)
        ax.plot(a, -math.log(a), 'o', color='C1')
        ax.annotate(f'{-math.log(a):.2f}', (a, -math.log(a)), xytext=(6, 3), textcoords='offset points')
    ax.set(xlabel='probability p given to the right class', ylabel='−log p', xlim=(0, 1.02), ylim=(0, 4.2))
    return fig


def training():
    "Losses of sixty steps on 500 digits, with three learning rates."
    _, x, y = stored()
    fig, axes = plt.subplots(1, 3, sharey=True, figsize=(7, 2.3))
    for ax, lr in zip(axes, (.05, .5, 5.)):
        torch.manual_seed(1)
        model = Model(784, 50, 10)
        losses = train(model, x[:TRAIN], y[:TRAIN], epochs=6, lr=lr, after_epoch=lambda *_: None)
        with torch.no_grad(): right = accuracy(model(x[TRAIN:]), y[TRAIN:])
        ax.semilogy(range(1, 61), losses, '.', ms=4)
        ax.axhline(math.log(10), ls='--', lw=.8, color='#777777')
        ax.set(title=f'lr {lr:g}: {100*right:.0f} % right', xlabel='step', ylim=(.05, 400))
    axes[0].set_ylabel('loss')
    return fig


def gradient():
    "softmax, one-hot and their difference for four scores."
    x, target = torch.tensor([[1., 2.5, .5, -1.]]), torch.tensor([0])
    p, g = softmax(x)[0], cross_entropy_grad(x, target)[0]
    fig, axes = plt.subplots(1, 3, sharey=True, figsize=(7, 2.2))
    for ax, v, title in zip(axes, (p, p - g, g), ('softmax', 'one-hot', 'softmax − one-hot')):
        ax.bar(range(4), v, color=['C0' if n < 0 else 'C1' for n in v] if title[-1] == 't' and '−' in title else '#999999')
        for i, n in enumerate(v): ax.annotate(f'{n:.3f}'.replace('-', '−'), (i, max(n, 0)), xytext=(0, 2), textcoords='offset points', ha='center', size=8)
        ax.axhline(0, color='black', lw=.8)
        ax.set(title=title, xlabel='class', xticks=range(4), ylim=(-1, 1.2))
    return fig


def descend(lr:float, momentum:float=0., noise=None) -> torch.Tensor: # 61 places, (61, 2)
    "The path of sixty steps down the valley (x² + 50 y²) / 2."
    p, v = torch.tensor([-9., 1.3]), 0
    path = [p]
    for i in range(60):
        v = momentum * v + p * torch.tensor([1., 50.]) + (0 if noise is None else noise[i])
        p = p - lr * v
        path.append(p)
    return torch.stack(path)


def contours(ax):
    x, y = torch.meshgrid(torch.linspace(-10.5, 9.5, 201), torch.linspace(-1.6, 1.6, 81), indexing='xy')
    ax.contour(x, y, (x**2 + 50*y**2)/2, levels=[1, 4, 10, 20, 40, 65], colors='#bbbbbb', linewidths=.8)
    ax.plot(0, 0, '+', color='black', ms=10, mew=2)
    ax.set(xlabel='first parameter')


def valley():
    "Sixty steps with three momenta."
    fig, axes = plt.subplots(1, 3, sharey=True, figsize=(7, 2.2))
    for ax, mu in zip(axes, (0, .8, .98)):
        contours(ax)
        ax.plot(*descend(.035, mu).T, '.-', lw=.8, ms=3, color='C1' if mu else 'C0')
        ax.set(title=f'momentum {mu:g}', xlim=(-10.5, 9.5), ylim=(-1.6, 1.6))
    axes[0].set_ylabel('second parameter')
    return fig


def valley_noise():
    "Where a hundred runs of sixty steps end, with batches of three sizes."
    torch.manual_seed(1)
    noise = torch.randn(100, 60, 2)
    fig, axes = plt.subplots(1, 3, sharey=True, figsize=(7, 2.2))
    for ax, bs in zip(axes, (5, 20, 80)):
        contours(ax)
        runs = [descend(.035, noise=30 * n / bs**.5) for n in noise]
        ax.plot(*torch.stack([run[-1] for run in runs]).T, '.', ms=3, color='C1')
        ax.set(title=f'batch size {bs}', xlim=(-10.5, 2.5), ylim=(-1.6, 1.6))
    axes[0].set_ylabel('second parameter')
    return fig


def workers():
    "How many times as fast W workers are, with the network of 2,048 units, on three wires."
    W, n = 2 ** torch.linspace(0, 10, 101), 4 * (784 * 2048 + 2048 + 20480 + 10)
    own = 4e-4 + 3 * n / 1e10 + 512 / W * 6 * 794 * 2048 / 1.2e11
    fig, ax = plt.subplots(figsize=(7, 2.8))
    ax.loglog(W[:61], W[:61], ':', color='black', label='ideal')
    for latency, bandwidth in (121e-6, .7e9), (20e-6, 10e9), (5e-6, 100e9):
        ax.loglog(W, own[0] / (own + 2 * (W - 1) * (latency + n / W / bandwidth)), label=f'{latency*1e6:.0f} µs, {bandwidth/1e9:g} GB/s')
    ax.set(xlabel='workers', ylabel='times as fast as one', xticks=[1, 4, 16, 64, 256, 1024], xticklabels=[1, 4, 16, 64, 256, 1024], yticks=[.1, 1, 10], yticklabels=['0.1', '1', '10'])
    ax.legend()
    return fig


def watched():
    "The losses of a right loop beside those of six wrong ones, each the mean of a hundred steps."
    kept = json.loads((OUT/'watch.json').read_text(encoding='utf-8'))
    def mean(run): return torch.tensor(run['loss']).double().unfold(0, 100, 1).mean(1) / 1000
    def said(run): return f'reports {100*run["reported"][0]:.0f} %, is {100*run["true"][0]:.0f} %'
    fig, axes = plt.subplots(2, 3, sharex=True, sharey=True, figsize=(7, 4.2))
    for ax, (mistake, run) in zip(axes.flat, kept['wrong'].items()):
        for r, style in (kept['right'], '-'), (run, '--'): ax.semilogy(range(100, 1001), mean(r), style, lw=1.4)
        ax.set_title(f'{mistake}\n{said(run)}', size=9)
    axes[0, 0].legend(['right', 'wrong'], loc='upper right', fontsize=9)
    axes[0, 0].set(yticks=[.1, .2, .5, 1], yticklabels=['0.1', '0.2', '0.5', '1'], ylim=(.08, 2))
    for ax in axes[1]: ax.set_xlabel('step')
    for ax in axes[:, 0]: ax.set_ylabel('loss, mean of 100 steps')
    return fig


PICTURES = {'digit': digit, 'unit': unit, 'softmax': five_scores, 'precision': precision, 'nll': nll, 'training': training,
            'gradient': gradient, 'valley': valley, 'valley-noise': valley_noise, 'workers': workers, 'watch': watched}


def write_pictures():
    torch.set_num_threads(1)
    plt.switch_backend('agg')
    with plt.rc_context(fname=OUT.parent/'matplotlibrc'):
        for name, draw in PICTURES.items():
            fig = draw()
            fig.savefig(OUT/f'{name}.png', metadata={'Software': None})
            plt.close(fig)


def main():
    if sys.argv[1:] not in ([], ['--pictures']): sys.exit(f'figures.py: {" ".join(sys.argv[1:])}: expected --pictures or nothing')
    OUT.mkdir(exist_ok=True)
    if not sys.argv[1:]:
        mnist = load_mnist(source='mnist')
        write_network(train_network(mnist), mnist, OUT/'network.json')
        (OUT/'digits.bin').write_bytes(digits(mnist))
        write_runs(mnist, OUT/'watch.json')
    write_pictures()


if __name__ == '__main__': main()
