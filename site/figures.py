"""Make what the figures that a reader can touch need: a trained network, some digits, and the pictures that stand in for the figures.

    python site/figures.py            writes nbs/figures/network.json, digits.bin and the pictures; needs real MNIST
    python site/figures.py --pictures writes the pictures only

The digits are MNIST's (Yann LeCun, Corinna Cortes and Christopher J. C. Burges), which is offered under the terms of the Creative
Commons Attribution-ShareAlike 3.0 licence.
"""
from __future__ import annotations
import base64, gzip, json, sys
from pathlib import Path

import numpy as np
import torch

from minibatch.data import load_mnist
from minibatch.model import Model
from minibatch.training import accuracy, train

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


def main():
    OUT.mkdir(exist_ok=True)
    mnist = load_mnist(source='mnist')
    write_network(train_network(mnist), mnist, OUT/'network.json')
    (OUT/'digits.bin').write_bytes(digits(mnist))


if __name__ == '__main__': main()
