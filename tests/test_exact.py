"The exact functions against PyTorch, over all their options, and against mpmath, on numbers that hypothesis picks."
import math

import mpmath
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from minibatch.exact import cross_entropy, log_softmax, logsumexp, nll, softmax, ulps
from torch import inf

torch.set_num_threads(1)
# How close, relative and absolute, a result of each type must be to PyTorch's in float64.
CLOSE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 3e-3, torch.bfloat16: 2e-2}
slow_start = settings(deadline=None)


@st.composite
def calls(draw):
    "Arguments of cross_entropy: any shape, type, target and combination of options."
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**30)))
    def randn(*shape): return torch.randn(shape, generator=generator, dtype=torch.float64)
    classes, n = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    shape = draw(st.sampled_from([(classes,), (n, classes, *draw(st.lists(st.integers(1, 3), max_size=2)))]))
    rows = shape[:1][:len(shape) - 1] + shape[2:]
    dtype = draw(st.sampled_from(list(CLOSE)))
    x = (randn(*shape) * draw(st.sampled_from([.1, 1, 10]))).to(dtype)
    ignored = draw(st.sampled_from([-100, 0, classes - 1, 255]))
    if draw(st.booleans()): target, ignore = randn(*shape).softmax(int(len(shape) > 1)).to(dtype), {}
    else:
        target, ignore = torch.randint(classes, rows, generator=generator), dict(ignore_index=ignored)
        if draw(st.booleans()): target = target.where(randn(*rows) < .7, ignored)
    return x, target, dict(weight=randn(classes).abs().to(dtype) if draw(st.booleans()) else None, **ignore,
                           reduction=draw(st.sampled_from(['mean', 'sum', 'none'])),
                           label_smoothing=draw(st.sampled_from([0., .1, 1.])))


@settings(slow_start, max_examples=1000)
@given(calls())
def test_cross_entropy_is_pytorchs(call):
    x, target, options = call
    ours, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    loss = cross_entropy(ours, target, **options)
    wide = options | dict(weight=None if options['weight'] is None else options['weight'].double())
    expected = F.cross_entropy(theirs, target.double() if target.is_floating_point() else target, **wide)
    assert loss.dtype == x.dtype and loss.shape == expected.shape
    for total in loss, expected: total.sum().backward()
    if options['reduction'] == 'mean' and 'ignore_index' in options and (target == options['ignore_index']).all():
        assert loss == 0 and not ours.grad.any()  # where PyTorch says nan
        return
    close = dict(rtol=CLOSE[x.dtype], atol=CLOSE[x.dtype])
    torch.testing.assert_close(loss.double(), expected, **close)
    torch.testing.assert_close(ours.grad.double(), theirs.grad, **close)


@settings(slow_start, max_examples=200)
@given(calls())
def test_nll_is_pytorchs(call):
    x, target, options = call
    if target.is_floating_point(): return
    del options['label_smoothing']
    if options['weight'] is not None: options['weight'] = options['weight'].float()
    expected = F.nll_loss(x.float(), target, **options).nan_to_num(0)
    torch.testing.assert_close(nll(x.float(), target, **options), expected, rtol=2e-6, atol=2e-6)


@settings(slow_start, max_examples=400)
@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=12), st.sampled_from([0, 1e3, 1e5, -1e7]))
def test_within_one_ulp(row, offset):
    "Float32 to one unit in the last place; float64 to a few, and near 0 to an absolute error of its rounding."
    x = torch.tensor(row) + offset
    with mpmath.workprec(200):
        def truth(row): return mpmath.log(mpmath.fsum(mpmath.exp(mpmath.mpf(v)) for v in row.tolist()))
        true = truth(x)
        result = logsumexp(x)
        assert ulps(result, true) <= 1 or abs(result.item() - true) < 1e-14
        assert abs(logsumexp(x.double()).item() - true) <= 2**-51 * max(1, x.abs().max().item())
        for v, p in zip(x, log_softmax(x)): assert ulps(p, v.item() - true) <= 1
        for v, p in zip(x, softmax(x)): assert ulps(p, mpmath.exp(v.item() - true)) <= 1


@settings(slow_start, max_examples=200)
@given(st.integers(0, 2**30), st.integers(1, 300), st.floats(-1e30, 1e30))
def test_gradients_add_up(seed, classes, offset):
    x = (torch.randn(4, classes, generator=torch.Generator().manual_seed(seed)) + offset).requires_grad_()
    [grad] = torch.autograd.grad(logsumexp(x).sum(), x)
    assert (grad.double().sum(1) - 1).abs().max() < 1e-6
    [grad] = torch.autograd.grad(cross_entropy(x, torch.zeros(4, dtype=torch.int64), reduction='sum'), x)
    assert grad.double().sum(1).abs().max() < 1e-6


@settings(slow_start, max_examples=300)
@given(st.lists(st.sampled_from([-inf, inf, 0., 1., -3e38, 3.4e38, 100.]), min_size=1, max_size=5), st.data(),
       st.sampled_from([torch.float32, torch.float64]))
def test_never_nan(row, data, dtype):
    "No value and no gradient is nan unless a score is."
    x = torch.tensor(row, dtype=dtype, requires_grad=True)
    label = torch.tensor(data.draw(st.integers(0, len(row) - 1)))
    onehot = F.one_hot(label, len(row)).to(dtype)
    losses = (lambda x: cross_entropy(x, label)), (lambda x: cross_entropy(x, label, label_smoothing=.1)), \
             (lambda x: cross_entropy(x, onehot))
    for f in softmax, logsumexp, log_softmax, *losses:
        y = f(x)
        [grad] = torch.autograd.grad(y.sum(), x)
        assert not y.isnan().any() and not grad.isnan().any()
    torch.testing.assert_close(losses[0](x), losses[2](x))


@pytest.mark.parametrize('f', [softmax, logsumexp, log_softmax, lambda x: cross_entropy(x, torch.arange(len(x)))],
                         ids=['softmax', 'logsumexp', 'log_softmax', 'cross_entropy'])
def test_compiled(f):
    "One graph, compiled by PyTorch's own compiler, with rows of infinities among the others."
    x = torch.randn(4, 5)
    x[1, 2], x[2] = inf, -inf
    results = []
    for g in f, torch.compile(f, fullgraph=True):
        leaf = x.clone().requires_grad_()
        y = g(leaf)
        results.append((y.detach(), *torch.autograd.grad(y.nan_to_num(0, 0, 0).sum(), leaf)))
    for plain, compiled in zip(*results): torch.testing.assert_close(compiled, plain, equal_nan=True)


def test_sum_in_half_precision():
    assert math.isclose(logsumexp(torch.zeros(128_256)).item(), math.log(128_256), rel_tol=1e-7)
    assert logsumexp(torch.zeros(128_256, dtype=torch.float16)).item() == 11.765625  # the nearest float16
