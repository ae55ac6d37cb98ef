"""The exact functions against PyTorch, over all their options; against mpmath, on numbers that hypothesis picks and on rows of
twenty kinds; under everything that PyTorch does to functions; and in PyTorch's own test cases."""
import math
import warnings

import mpmath
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from minibatch import exact
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


def kinds(dtype, n=12):
    "Rows of scores, from ordinary to nasty."
    torch.manual_seed(1)
    def r(n=n): return torch.randn(n, dtype=torch.float64)
    def top(height): return torch.cat([r(1) + height, r(n - 1)])
    rows = [r()*.1, r(), r()*3, r()*10, r()*30, r()*100, r() - 30, r() + 30, r()*5 + 100, r()*10 + 1e4, r()*4 - 1e7, top(20), top(45), top(80),
            torch.cat([torch.full((2,), 7.3, dtype=torch.float64), r(n - 2)]), torch.cat([torch.tensor([7.3, 7.3 + 1e-6]).double(), r(n - 2)]),
            r(1).expand(n), r(2)*8, r(1), r(300), r()*1e-20, r()*1e4]
    return [row.to(dtype) for row in rows if row.to(dtype).isfinite().all()]


def truth(row, i):
    "Softmax, its logarithm, logsumexp, loss and its gradient, by mpmath."
    x = [mpmath.mpf(v) for v in row.tolist()]
    k = x.index(max(x))
    log = mpmath.log1p(mpmath.fsum(mpmath.exp(v - x[k]) for j, v in enumerate(x) if j != k))
    logp = [v - x[k] - log for v in x]
    p = [mpmath.exp(v) for v in logp]
    slope = [-mpmath.fsum(p[:i] + p[i+1:]) if j == i else v for j, v in enumerate(p)]
    smooth = -mpmath.mpf(.9) * logp[i] - (1 - mpmath.mpf(.9)) / len(x) * mpmath.fsum(logp)
    return dict(softmax=p, log_softmax=logp, logsumexp=[x[k] + log], loss=[-logp[i]], slope=slope, smooth=[smooth])


def worst(found, true):
    "Error in ulps of the normal numbers."
    least = torch.finfo(found.dtype).tiny
    return max((ulps(v, t) for v, t in zip(found.flatten(), true) if abs(t) > least), default=0)


@pytest.mark.parametrize('small', [True, False], ids=['small', 'large'])
@pytest.mark.parametrize('dtype', list(CLOSE), ids=str)
def test_ulps(dtype, small, monkeypatch):
    "What the chapter's table says, with the way for small tables and without."
    if not small: monkeypatch.setattr(exact, '_small_loss', lambda *args, **kwargs: None)
    most = {torch.float32: dict(values=.51, loss=2, slope=3, smooth=4), torch.float64: dict(values=4, loss=4, slope=4, smooth=4)}.get(
        dtype, dict(values=.52, loss=.52, slope=1, smooth=1))
    with mpmath.workprec(200):
        for row in kinds(dtype):
            for i in {int(row.argmax()), int(row.argmin())}:
                true, label = truth(row, i), torch.tensor([i])
                for f in softmax, log_softmax: assert worst(f(row), true[f.__name__]) <= most['values'], (f, row)
                x = row.clone().requires_grad_()
                y = logsumexp(x)
                if abs(true['logsumexp'][0]) > 1e-3: assert worst(y.detach(), true['logsumexp']) <= most['values']
                assert worst(torch.autograd.grad(y, x)[0], true['softmax']) <= most['values']
                loss = cross_entropy(x[None], label)
                assert worst(loss.detach(), true['loss']) <= most['loss'], row
                assert worst(torch.autograd.grad(loss, x)[0], true['slope']) <= most['slope'], row
                assert worst(cross_entropy(row[None], label, label_smoothing=.1), true['smooth']) <= most['smooth'], row


def test_without_float64(monkeypatch):
    "On a device that has no float64 the carried errors keep float32 within four ulps."
    monkeypatch.setattr(exact, 'NO_FLOAT64', ('cpu',))
    monkeypatch.setattr(exact, '_visible', lambda *tensors: False)
    monkeypatch.setattr(exact, '_small_loss', lambda *args, **kwargs: None)
    with mpmath.workprec(200):
        for row in kinds(torch.float32):
            i = int(row.argmax())
            true, x = truth(row, i), row.clone().requires_grad_()
            for f in softmax, log_softmax: assert worst(f(row), true[f.__name__]) <= 4
            loss = cross_entropy(x[None], torch.tensor([i]))
            assert loss.dtype == torch.float32 and worst(loss.detach(), true['loss']) <= 4
            assert worst(torch.autograd.grad(loss, x)[0], true['slope']) <= 5


TARGET, WEIGHT = torch.tensor([1, -100, 3, 0]), torch.tensor([.5, 1, 2, .1, 1], dtype=torch.float64)
PROBABILITIES = torch.softmax(torch.linspace(-2, 2, 20, dtype=torch.float64).sin().reshape(4, 5), 1)
FUNCTIONS = {
    'softmax': softmax, 'log_softmax': log_softmax, 'logsumexp': logsumexp,
    'nll': lambda x: nll(x, TARGET, WEIGHT.to(x.dtype)),
    'classes': lambda x: cross_entropy(x, TARGET),
    'weights': lambda x: cross_entropy(x, TARGET, WEIGHT.to(x.dtype), reduction='none'),
    'smoothed': lambda x: cross_entropy(x, TARGET, WEIGHT.to(x.dtype), label_smoothing=.1),
    'probabilities': lambda x: cross_entropy(x, PROBABILITIES.to(x.dtype), WEIGHT.to(x.dtype), reduction='none')}
every = pytest.mark.parametrize('f', FUNCTIONS.values(), ids=FUNCTIONS)


@every
def test_derivatives(f):
    "First and second, forward and reverse and one over the other, batched."
    x = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(f, x, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)
    assert torch.autograd.gradgradcheck(f, x, check_fwd_over_rev=True, check_batched_grad=True)
    by_hand = torch.autograd.functional.hessian(lambda x: f(x).pow(2).sum(), x)
    torch.testing.assert_close(torch.func.hessian(lambda x: f(x).pow(2).sum())(x), by_hand)
    torch.testing.assert_close(torch.func.jacfwd(f)(x), torch.func.jacrev(f)(x))


def test_derivative_by_probabilities():
    x, q = torch.randn(4, 5, dtype=torch.float64), PROBABILITIES.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda q: cross_entropy(x, q, label_smoothing=.1), q, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda x, q: cross_entropy(x, q), (x.requires_grad_(), q))


@every
@pytest.mark.parametrize('size', [1, 30])
def test_compiled_and_fake(f, size):
    "One graph, with rows of infinities among the others; and shapes alone."
    from torch._subclasses.fake_tensor import FakeTensorMode
    x = torch.randn(4, 5) * size
    x[1, 2], x[2] = inf, -inf
    results = []
    for g in f, torch.compile(f, fullgraph=True, backend='aot_eager'):
        leaf = x.clone().requires_grad_()
        y = g(leaf)
        results.append((y.detach(), *torch.autograd.grad(y.nan_to_num(0, 0, 0).sum(), leaf)))
    for plain, compiled in zip(*results): torch.testing.assert_close(compiled, plain, equal_nan=True)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = mode.from_tensor(torch.randn(4, 5, requires_grad=True))
        f(fake).sum().backward()
        assert fake.grad.shape == (4, 5)


@pytest.mark.parametrize('size', [1, 30])
def test_per_sample_gradients(size):
    x, t = torch.randn(6, 3, 4) * size, torch.randint(4, (6, 3))
    for y, options in (t, {}), (t, dict(label_smoothing=.1)), (x.softmax(-1), {}), (t, dict(ignore_index=1, weight=torch.rand(4))):
        ours, theirs = ([torch.autograd.functional.jacobian(lambda a: f(a, b, **options), a) for a, b in zip(x, y)]
                        if f is F.cross_entropy else torch.func.vmap(torch.func.grad(lambda a, b: f(a, b, **options)))(x, y)
                        for f in (cross_entropy, F.cross_entropy))
        torch.testing.assert_close(ours, torch.stack(theirs).nan_to_num(0), rtol=1e-4, atol=1e-5)
        values = torch.func.vmap(lambda b: cross_entropy(x[0], b, **options))(y)  # only the targets are batched
        torch.testing.assert_close(values, torch.stack([cross_entropy(x[0], b, **options) for b in y]))


def test_empty_inputs_twice():
    for f, shape in (softmax, (0, 10)), (log_softmax, (3, 0)), (logsumexp, (0, 4)), (lambda x: cross_entropy(x, torch.zeros(0, dtype=torch.long)), (0, 3)):
        x = torch.zeros(shape, requires_grad=True)
        [g] = torch.autograd.grad(f(x).sum(), x, create_graph=True)
        assert g.shape == shape
        if g.requires_grad: torch.autograd.grad(g.sum(), x, allow_unused=True)


@pytest.mark.parametrize('dtype', list(CLOSE), ids=str)
@pytest.mark.parametrize('options', [{}, dict(weight=True), dict(label_smoothing=.1)], ids=str)
def test_rows_that_do_not_count(dtype, options):
    "nan among padding, one ignored row among many, weights of 0 at infinite losses."
    x, t = torch.randn(3, 5).to(dtype), torch.tensor([1, -100, 3])
    options = options | (dict(weight=torch.tensor([1, 2, 0, 3, 1.]).to(dtype)) if 'weight' in options else {})
    expected = cross_entropy(x, t, **options)
    x[1] = math.nan
    x.requires_grad_()
    loss = cross_entropy(x, t, **options)
    loss.backward()
    assert torch.equal(loss, expected) and x.grad.isfinite().all() and not x.grad[1].any()
    logp = x.detach().log_softmax(1)
    assert nll(logp, t).isfinite()
    if 'weight' in options:
        masked = torch.tensor([[0., 1, -inf, 0, 0]], dtype=dtype, requires_grad=True)
        assert cross_entropy(masked, torch.tensor([2]), options['weight'], reduction='sum') == 0  # 0 times infinity


def test_one_ignored_row_among_many():
    "https://github.com/pytorch/pytorch/issues/85791 and its kind: sums of a short type over many rows."
    logp = torch.full((80_000, 2), -.5, dtype=torch.float16)
    target = torch.zeros(80_000, dtype=torch.uint8)
    assert nll(logp, target.long().index_fill(0, torch.tensor([5]), -100)) == .5
    assert nll(logp, target, torch.ones(2).half()) == .5
    assert cross_entropy(torch.zeros(80_000, 2).half(), target, torch.ones(2).half()).item() == pytest.approx(math.log(2), rel=1e-3)


def test_integers_are_compared_as_long():
    "-100 is 156 in uint8, a class."
    x = torch.randn(3, 256)
    t = torch.tensor([156, 0, 255], dtype=torch.uint8)
    for f in (cross_entropy, lambda *args: nll(args[0].log_softmax(1), args[1])):
        assert torch.equal(f(x, t), f(x, t.long()))


def test_autocast():
    x, t = torch.randn(4, 5).bfloat16(), torch.tensor([0, 1, 2, 3])
    with torch.autocast('cpu', torch.bfloat16):
        for loss in cross_entropy(x, t), cross_entropy(x, x.softmax(1)), nll(x.log_softmax(1), t): assert loss.dtype == torch.float32
    assert cross_entropy(x, t).dtype == torch.bfloat16


# PyTorch's own cases, and where we differ, each with its reason:

def test_where_we_differ():
    x, t = torch.randn(3, 4), torch.tensor([0, 1, 2])
    # Integers as scores: no integer can be the result, and PyTorch's promotion hides a mistake.
    for f in softmax, logsumexp:
        with pytest.raises(TypeError, match='expected a floating-point tensor'): f(torch.arange(3))
    # Nothing counts: PyTorch divides 0 by 0; a batch of padding must not spoil the mean of an epoch.
    assert F.cross_entropy(x, torch.full_like(t, -100)).isnan() and cross_entropy(x, torch.full_like(t, -100)) == 0
    # The fourth position is PyTorch's `size_average`, given up years ago: by name only, so that it cannot mean something else.
    for f in cross_entropy, nll:
        with pytest.raises(TypeError, match='positional'): f(x, t, None, 0)
        with pytest.raises(TypeError, match='size_average'): f(x, t, size_average=False)
    # A masked row has the log-softmax -inf and the softmax 0, where PyTorch has nan.
    assert F.softmax(torch.full((3,), -inf), 0).isnan().all() and not softmax(torch.full((3,), -inf)).any()
    # Short types are added up in a wider one, where PyTorch's nll adds in theirs: it overflows here.
    assert nll(torch.full((80_000, 2), -1.).half(), torch.zeros(80_000, dtype=torch.long), torch.ones(2).half()) == 1
    # Our errors are ValueError, TypeError or IndexError, in one line, where PyTorch's are RuntimeError.
    with pytest.raises(ValueError, match='^target has shape'): cross_entropy(x, torch.rand(2, 4))


def cases():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        from torch.testing._internal.common_methods_invocations import op_db
    ops = {'softmax': softmax, 'log_softmax': log_softmax, 'logsumexp': logsumexp, 'nn.functional.cross_entropy': cross_entropy,
           'nn.functional.nll_loss': nll}
    return [(op, ops[op.name]) for op in op_db if op.name in ops]


@pytest.mark.slow
@pytest.mark.parametrize('dtype', list(CLOSE), ids=str)
def test_pytorchs_own_cases(dtype):
    "Every OpInfo sample, values and gradients, against PyTorch's result in float64."
    pytest.importorskip('torch.testing._internal.common_methods_invocations')
    count = 0
    for op, f in cases():
        for sample in op.sample_inputs('cpu', dtype, requires_grad=True):
            def wide(v): return v.detach().double().requires_grad_(v.requires_grad) if isinstance(v, torch.Tensor) and v.is_floating_point() else v
            kwargs = {k: wide(v) for k, v in sample.kwargs.items() if k != 'dtype'}
            ours = f(sample.input, *sample.args, **sample.kwargs)
            theirs = op(wide(sample.input), *map(wide, sample.args), **kwargs)
            assert ours.shape == theirs.shape and ours.dtype == sample.kwargs.get('dtype', dtype)
            if theirs.numel() == 1 and theirs.isnan():
                assert ours == 0
                continue
            torch.testing.assert_close(ours.double(), theirs, rtol=CLOSE[dtype], atol=CLOSE[dtype])
            count += 1
    assert count > 100


@pytest.mark.slow
def test_pytorchs_own_modules():
    "nn.CrossEntropyLoss and nn.NLLLoss as PyTorch builds and calls them in its tests."
    pytest.importorskip('torch.testing._internal.common_modules')
    from torch.testing._internal.common_modules import module_db
    count = 0
    for info in module_db:
        if info.name not in ('nn.CrossEntropyLoss', 'nn.NLLLoss'): continue
        for sample in info.module_inputs_func(info, 'cpu', torch.float64, True, True):
            module = info.module_cls(*sample.constructor_input.args, **sample.constructor_input.kwargs)
            options = dict(weight=module.weight, ignore_index=module.ignore_index, reduction=module.reduction)
            if info.name == 'nn.CrossEntropyLoss': options['label_smoothing'] = module.label_smoothing
            args = sample.forward_input.args
            ours, theirs = (cross_entropy if info.name == 'nn.CrossEntropyLoss' else nll)(*args, **options), module(*args)
            torch.testing.assert_close(ours, theirs.nan_to_num(0) if theirs.numel() == 1 else theirs)
            count += 1
    assert count > 20
