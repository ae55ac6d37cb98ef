"The rungs of chapter 14 on data of every kind, and train_fast where Numba is missing, its cache cannot be kept, or a key is pressed."
import math, os, signal, subprocess, sys, threading

import pytest, torch
import torch.nn.functional as F
from conftest import ROOT
from minibatch.model import Model
from minibatch.speed import train_analytic, train_dense, train_fast

RUNGS = train_analytic, train_dense, train_fast


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fresh(n_in, nh, n_out, dtype=torch.float64):
    torch.manual_seed(2)
    return Model(n_in, nh, n_out).to(dtype)


def by_hand(model, x, y, epochs, bs, lr, shuffle, schedule, generator):
    "Minibatch gradient descent with autograd; the loss of each step."
    batches, losses = -(-len(x) // bs), []
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=generator) if shuffle else torch.arange(len(x))
        for i, rows in enumerate(order.split(bs)):
            loss = F.cross_entropy(model(x[rows]), y[rows].long())
            loss.backward()
            losses.append(loss.item())
            with torch.no_grad():
                for p in model.parameters():
                    p -= lr * schedule((epoch + i/batches) / epochs) * p.grad
                    p.grad = None
    return losses


torch.manual_seed(1)
numbers, classes = torch.randn(501, 20, dtype=torch.float64), torch.randint(3, (501,))
pixels = torch.randint(256, (501, 20)).double() / 256
sparse = numbers * (torch.rand(501, 20) < 0.05)
KINDS = dict(
    bytes_ragged=(pixels * (torch.rand(501, 20) < torch.linspace(0, 1, 20)), classes, 17, 50),
    no_zeros=(numbers, classes, 1, 7),
    few_numbers=(sparse, classes, 64, 50),
    all_zeros=(numbers * 0, classes, 9, 13),
    one_row=(numbers[:1], classes[:1], 5, 1),
    one_batch=(numbers[:77], classes[:77], 130, 100),
    one_hot=(F.one_hot(torch.randint(20, (501,)), 20).double(), classes.int(), 5, 50),
    counts=(torch.randint(9, (501, 20)).double(), classes.to(torch.uint8), 5, 50),
    beyond_bytes=((sparse * 1000).round() / 256, classes, 5, 50),
    half_a_byte=(pixels / 2, classes, 5, 50),
    negative_bytes=(-pixels, classes, 5, 50),
    one_feature=(numbers[:, :1], classes, 5, 50),
    a_view=(torch.randn(40, 501, dtype=torch.float64).T[:, ::2], classes, 66, 50),
)


@pytest.mark.parametrize('shuffle', [False, True])
@pytest.mark.parametrize('kind', KINDS)
def test_agree_with_autograd(kind, shuffle):
    x, y, nh, bs = KINDS[kind]
    settings = dict(epochs=2, bs=bs, lr=0.01 if kind in ('counts', 'beyond_bytes') else 0.3, shuffle=shuffle, schedule=lambda share: 1 - share)
    reference = fresh(x.shape[1], nh, 3)
    losses = by_hand(reference, x, y, generator=torch.Generator().manual_seed(3), **settings)
    for f in RUNGS:
        model, generator = fresh(x.shape[1], nh, 3), torch.Generator().manual_seed(3)
        found = f(model, x, y, generator=generator, **settings)
        assert found == pytest.approx(losses, abs=1e-11), f.__name__
        for p, q in zip(model.parameters(), reference.parameters()):
            torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12, msg=f.__name__)


def test_float32_and_threads():
    "200 steps in float32 stay together, on two threads as well."
    x, y = torch.randint(256, (2000, 100)) / 256, torch.randint(5, (2000,))
    models = [fresh(100, 70, 5, torch.float32) for _ in range(4)]
    for model, f in zip(models, (*RUNGS, train_fast)):
        if model is models[-1]: torch.set_num_threads(2)
        f(model, x, y, epochs=1, bs=10, lr=0.1)
    for model in models[1:]:
        for p, q in zip(model.parameters(), models[0].parameters()): torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('column', [0, 19])
@pytest.mark.parametrize('f', RUNGS)
def test_a_number_that_is_none(f, column, value):
    "In a column for the table or for the lists, an epoch with it is undone, and the message says where."
    x = numbers.clone()
    x[:, 10:] *= torch.rand(501, 10) < 0.02
    x[120, column] = value
    model, same = fresh(20, 5, 3), fresh(20, 5, 3)
    with pytest.raises(FloatingPointError, match=r'the loss is \S+ in epoch 1, batch [345]\b'): f(model, x, classes)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), same.parameters()))


def test_the_caller_keeps_what_is_theirs():
    "Inputs, gradients, the number of threads and the random state of PyTorch."
    for f in RUNGS:
        x, y, model = pixels.clone(), classes.clone(), fresh(20, 5, 3)
        state = torch.get_rng_state()
        f(model, x, y, shuffle=True, generator=torch.Generator())
        assert torch.equal(x, pixels) and torch.equal(y, classes) and torch.get_num_threads() == 1
        assert torch.equal(state, torch.get_rng_state()) and all(p.requires_grad and p.grad is None for p in model.parameters())


def run_python(code, **env):
    env = {**os.environ, 'PYTHONPATH': str(ROOT), **env}
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env)


TRAIN = ('import torch; from minibatch.speed import Model, train_dense, train_fast; torch.manual_seed(1)\n'
         'x, y, m = torch.rand(50, 9), torch.arange(50) % 3, Model(9, 5, 3)\n')


def test_without_numba_one_line_says_how_to_get_it():
    code = f'import sys; sys.modules["numba"] = None\n{TRAIN}train_dense(m, x, y)\ntrain_fast(m, x, y)'
    done = run_python(code)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('ImportError: train_fast needs Numba') and "pip install 'minibatch[fast]', or use train_dense" in last


@pytest.mark.slow
def test_where_nothing_can_be_written(tmp_path):
    "Without any folder for what was compiled, training works all the same; with one, files appear in it."
    (tmp_path/'file').write_text('')
    code = f'import numba.core.caching as c\nc.CacheImpl._locator_classes = []\n{TRAIN}print(len(train_fast(m, x, y)))'
    done = run_python(code)
    assert done.stdout == '3\n', done.stderr
    cache = tmp_path/'cache'
    for _ in range(2): assert run_python(f'{TRAIN}print(len(train_fast(m, x, y)))', NUMBA_CACHE_DIR=str(cache)).stdout == '3\n'
    assert list(cache.rglob('*.nbi'))


@pytest.mark.slow
@pytest.mark.parametrize('f', RUNGS)
@pytest.mark.parametrize('delay', [0.1, 0.17, 0.31, 0.53])
def test_an_interrupt_undoes_the_epoch(f, delay):
    "Ctrl-C at any moment leaves the parameters as they were before or after an epoch."
    x, y, calls = pixels.repeat(50, 1), classes.repeat(50), 0  # an epoch has 501 steps
    def schedule(share): # is asked for all steps of an epoch before its first
        nonlocal calls
        calls += 1
        return 1
    def started():
        model = fresh(20, 5, 3)
        f(model, x, y, epochs=1)
        return model
    def ends(epochs):
        other = started()
        f(other, x, y, epochs=epochs, lr=0.01)
        return all(map(torch.equal, model.parameters(), other.parameters()))
    model, timer = started(), threading.Timer(delay, os.kill, [os.getpid(), signal.SIGINT])
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        f(model, x, y, epochs=100_000, schedule=schedule, lr=0.01)
    begun = -(-calls // 501)
    assert ends(begun) or ends(max(0, begun - 1))
