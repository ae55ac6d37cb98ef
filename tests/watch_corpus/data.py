"""Small tasks for the corpus: digits of 8 × 8 pixels, a noisy curve, a language of twelve letters."""
from functools import lru_cache
import torch
from sklearn.datasets import load_digits


@lru_cache
def digits():
    "1,297 and 500 rows: x_train, y_train, x_valid, y_valid, pixels 0 to 1."
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    return x[:1297], y[:1297], x[1297:], y[1297:]


@lru_cache
def curve():
    "A number to predict from eight: x_train, y_train (800,), x_valid, y_valid (400,)."
    g = torch.Generator().manual_seed(1)
    x = torch.randn(1200, 8, generator=g)
    y = x[:, 0] * 2 + (x[:, 1] * 2).sin() + x[:, 2] * x[:, 3] + .1 * torch.randn(1200, generator=g)
    return x[:800], y[:800], x[800:], y[800:]


@lru_cache
def letters():
    "Sequences of 17 letters, each mostly decided by the two before it: train (600, 17), valid (200, 17)."
    g = torch.Generator().manual_seed(2)
    table = torch.randint(0, 12, (12, 12), generator=g)
    rows = torch.randint(0, 12, (800, 17), generator=g)
    for t in range(2, 17):
        known = table[rows[:, t - 2], rows[:, t - 1]]
        rows[:, t] = torch.where(torch.rand(800, generator=g) < .85, known, rows[:, t])
    return rows[:600], rows[600:]


@lru_cache
def signals():
    "Waves of 12 steps and 4 channels in five classes: x_train (600, 12, 4), y_train, x_valid, y_valid."
    g = torch.Generator().manual_seed(3)
    y = torch.randint(0, 5, (900,), generator=g)
    t = torch.arange(12.)
    x = torch.stack([(t * (.3 + .25 * k)).sin() for k in range(5)])[y][:, :, None] * torch.randn(900, 1, 4, generator=g)
    x = x + .3 * torch.randn(900, 12, 4, generator=g)
    return x[:600], y[:600], x[600:], y[600:]
