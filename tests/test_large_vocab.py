"linear_cross_entropy against the plain loss: every option with every other, every type, every way to differentiate it."
import itertools
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from minibatch import large_vocab
from minibatch.large_vocab import LinearCrossEntropyLoss, linear_cross_entropy
from torch.testing import assert_close

torch.set_num_threads(1)


def plain(x, w, y, linear_bias=None, weight=None, reduction='mean', ignore_index=-100, label_smoothing=0., shift=False,
          softcap=None, z_loss=0.):
    "The same loss, with all its scores."
    s = F.linear(x, w, linear_bias)
    if softcap: s = softcap * torch.tanh(s / softcap)
    if shift: s, y = s[..., :-1, :], y[..., 1:]
    rows, shape, s, y = None, y.shape, s.reshape(-1, s.shape[-1]), y.reshape(-1).long()
    counts = y != ignore_index
    rows = counts.to(s.dtype) if weight is None else torch.where(counts, weight[torch.where(counts, y, 0)], 0)
    loss = F.cross_entropy(s, y, weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction='none')
    loss = loss + z_loss * rows * s.logsumexp(1)**2
    if reduction == 'none': return loss.reshape(shape)
    return loss.sum() if reduction == 'sum' else loss.sum() / rows.sum().where(rows.sum() != 0, 1)


@st.composite
def calls(draw):
    "Inputs in float64 and options."
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**30)))
    def randn(*shape): return torch.randn(shape, generator=generator, dtype=torch.float64)
    classes, n, d = draw(st.integers(1, 40)), draw(st.integers(2, 8)), draw(st.integers(1, 5))
    shape = draw(st.sampled_from([(n,), (2, n)]))
    x, w = randn(*shape, d) * draw(st.sampled_from([.1, 1, 20, 300])), randn(classes, d)
    y = torch.randint(classes, shape, generator=generator)
    if draw(st.booleans()): y = y.where(randn(*shape) < .7, -100)
    return x, w, y, dict(
        linear_bias=randn(classes) if draw(st.booleans()) else None,
        weight=randn(classes).abs() * (randn(classes) > -1) if draw(st.booleans()) else None,
        reduction=draw(st.sampled_from(['mean', 'sum', 'none'])), label_smoothing=draw(st.sampled_from([0., .1, 1.])),
        shift=draw(st.booleans()), softcap=draw(st.sampled_from([None, 5., 100.])), z_loss=draw(st.sampled_from([0., .01]))
    ), draw(st.sampled_from([None, 1, 3]))


@settings(deadline=None, max_examples=500)
@given(calls())
def test_every_option(call):
    x, w, y, options, chunk = call
    leaves = [t.requires_grad_() for t in (x, w, options['linear_bias']) if t is not None]
    ours, theirs = linear_cross_entropy(x, w, y, chunk=chunk, **options), plain(x, w, y, **options)
    assert_close(ours, theirs)
    above = torch.randn_like(ours)
    for a, b in zip(torch.autograd.grad(ours, leaves, above), torch.autograd.grad(theirs, leaves, above)):
        assert_close(a, b, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('short_products', [False, True])
@pytest.mark.parametrize('types', list(itertools.product([torch.float32, torch.bfloat16, torch.float16], repeat=2)), ids=str)
def test_types_under_autocast(types, short_products, monkeypatch):
    "Features and weights of any types; the error is that of rounding the results, whichever type the products have."
    monkeypatch.setattr(large_vocab, '_short_products', lambda dtype: short_products)
    torch.manual_seed(1)
    for size in 1, 20:  # with and without subtracting the maximum
        x, w = (torch.randn(200, 32) * size).to(types[0]), (torch.randn(1500, 32) * .3).to(types[1])
        b, y = torch.randn(1500), torch.randint(1500, (200,))
        leaves, wide = [t.requires_grad_() for t in (x, w)], [t.detach().double().requires_grad_() for t in (x, w)]
        with torch.autocast('cpu', torch.bfloat16): loss = linear_cross_entropy(x, w, y, linear_bias=b)
        loss.backward()
        true = F.cross_entropy(F.linear(*wide, b.double()), y)
        true.backward()
        assert loss.dtype == torch.float32
        exact = types[0] != types[1] or types[0] == torch.float32 or not short_products
        assert_close(loss.double(), true, rtol=1e-5 if exact else 1e-3, atol=1e-6)
        for a, t in zip(leaves, wide):
            assert a.grad.dtype == a.dtype
            assert (a.grad.double() - t.grad).norm() < (.005 if exact else .05) * t.grad.norm()


def test_sure_row():
    "The loss of a sure row is not 0, nor is its gradient."
    x, w = torch.tensor([[1.]], requires_grad=True), torch.tensor([[20.], [0.], [-1.]], requires_grad=True)
    loss = linear_cross_entropy(x, w, torch.tensor([0]))
    loss.backward()
    assert_close(loss.item(), 2.8194086e-9, rtol=1e-6, atol=0)
    assert_close(w.grad.flatten().tolist(), [-2.8194086e-9, 2.0611537e-9, 7.5825604e-10], rtol=1e-6, atol=0)


def inputs():
    torch.manual_seed(1)
    y = torch.randint(30, (3, 5))
    y[0, 1] = -100
    return torch.randn(3, 5, 6), torch.randn(30, 6), torch.randn(30), y


def reference(x, w, b, y, **options): return plain(x, w, y, linear_bias=b, **options)
def loss(x, w, b, y, **options): return linear_cross_entropy(x, w, y, linear_bias=b, **options)


@pytest.mark.parametrize('options', [{}, dict(reduction='none', softcap=3., label_smoothing=.1), dict(z_loss=.1)], ids=str)
def test_compiled_without_a_graph_break(options):
    x, w, b, y = inputs()
    results = []
    for f in loss, torch.compile(loss, fullgraph=True, backend='aot_eager'):
        leaves = [t.clone().requires_grad_() for t in (x, w, b)]
        value = f(*leaves, y, **options)
        results.append((value, *torch.autograd.grad(value.sum(), leaves)))
    for a, b in zip(*results): assert_close(a, b)


def test_func():
    "torch.func.grad, vmap, both, and jacobians; forward mode and second derivatives are refused in a line."
    x, w, b, y = inputs()
    many = torch.randn(4, 3, 5, 6)
    for f in (lambda x, w: loss(x, w, b, y)), (lambda x, w: loss(x, w, b, y, reduction='none').sum()):
        g = (lambda x, w: reference(x, w, b, y)) if f(x, w) < 20 else (lambda x, w: reference(x, w, b, y, reduction='sum'))
        assert_close(torch.func.grad(f, (0, 1))(x, w), torch.func.grad(g, (0, 1))(x, w))
        assert_close(torch.func.vmap(f, (0, None))(many, w), torch.func.vmap(g, (0, None))(many, w))
        assert_close(torch.func.vmap(torch.func.grad(f, (0, 1)), (0, None))(many, w),
                     torch.func.vmap(torch.func.grad(g, (0, 1)), (0, None))(many, w))
        with pytest.raises(RuntimeError, match='^linear_cross_entropy has no second derivative'):
            torch.func.grad(lambda x: torch.func.grad(f)(x, w).sum())(x)
        with pytest.raises(NotImplementedError, match='jvp'): torch.func.jvp(lambda x: f(x, w), (x,), (x,))


def test_second_backward_is_recomputed():
    x, w, b, y = inputs()
    x.requires_grad_()
    value = loss(x, w, b, y)
    value.backward(retain_graph=True)
    first = x.grad.clone()
    value.backward()
    assert_close(x.grad, 2 * first)
    [grad] = torch.autograd.grad(loss(x, w, b, y), x, create_graph=True)
    assert_close(grad, first)
    with pytest.raises(RuntimeError, match='no second derivative'): grad.sum().backward()


def test_details():
    x, w, b, y = inputs()
    scores, counts = F.linear(x, w, b), y != -100
    value, more = loss(x, w, b, y, details=True)
    assert_close(value, loss(x, w, b, y))
    assert_close(more.logsumexp[counts], scores.logsumexp(-1)[counts])
    right = scores.argmax(-1) == y
    assert torch.equal(more.correct[counts], right[counts]) and not more.correct[~counts].any()
    assert_close(more.accuracy, right[counts].float().mean())


def test_rows_that_do_not_count():
    x, w, b, y = inputs()
    expected = loss(x, w, b, y)
    x[0, 1] = float('nan')
    x.requires_grad_()
    value = loss(x, w, b, y)
    value.backward()
    assert_close(value, expected)
    assert x.grad.isfinite().all()
    assert loss(x, w, b, torch.full_like(y, -100)) == 0 and loss(x[:0], w, b, y[:0]) == 0
    assert loss(torch.ones(1, 6), torch.ones(256, 6), None, torch.tensor([156], dtype=torch.uint8)) > 5  # not -100


def test_module_and_tied_weights():
    "The module has PyTorch's parameters; weights tied to an embedding get both gradients."
    torch.manual_seed(1)
    embedding, module = torch.nn.Embedding(30, 6), LinearCrossEntropyLoss(6, 30, bias=True, shift=True, label_smoothing=.1)
    assert [*module.state_dict()] == ['linear.weight', 'linear.bias']
    module.linear.weight = embedding.weight
    tokens = torch.randint(30, (2, 9))
    module(embedding(tokens), tokens).backward()
    table = embedding.weight.detach().clone().requires_grad_()
    plain(F.embedding(tokens, table), table, tokens, module.linear.bias, shift=True, label_smoothing=.1).backward()
    assert_close(embedding.weight.grad, table.grad)


@pytest.mark.slow
@pytest.mark.parametrize('workers', [2, 3])
def test_vocabulary_split_over_workers(workers, tmp_path):
    (tmp_path/'split.py').write_text('''
import torch, torch.distributed as dist
from test_large_vocab import plain
from minibatch.large_vocab import linear_cross_entropy
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
dist.init_process_group('gloo')
for k, options in enumerate([{}, dict(label_smoothing=.1), dict(softcap=5., label_smoothing=.1, z_loss=.1), dict(reduction='none')]):
    torch.manual_seed(k)
    x, w, b, y = torch.randn(40, 8) * (1 + 20*k), torch.randn(101, 8), torch.randn(101), torch.randint(101, (40,))
    y[3] = -100
    weight = torch.rand(101)
    def mine(t): return t.tensor_split(dist.get_world_size())[dist.get_rank()].clone()
    x.requires_grad_()
    part, bias = mine(w).requires_grad_(), mine(b).requires_grad_()
    loss, more = linear_cross_entropy(x, part, y, linear_bias=bias, weight=mine(weight), group=dist.group.WORLD, chunk=7, details=True, **options)
    found = loss, *torch.autograd.grad(loss.sum(), (x, part, bias))
    w.requires_grad_(), b.requires_grad_()
    true = plain(x, w, y, linear_bias=b, weight=weight, **options)
    gx, gw, gb = torch.autograd.grad(true.sum(), (x, w, b))
    for a, t in zip(found, (true, gx, mine(gw), mine(gb))): torch.testing.assert_close(a, t)
    whole = linear_cross_entropy(x, w, y, linear_bias=b, details=True, **options)[1]
    assert torch.equal(more.correct, whole.correct)
dist.destroy_process_group()
''')
    here = os.path.dirname(__file__)
    path = os.pathsep.join([here, os.path.dirname(here), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={workers}', str(tmp_path/'split.py')],
                          capture_output=True, text=True, env=os.environ | dict(PYTHONPATH=path, OMP_NUM_THREADS='1'), timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_pytorchs_own_cases():
    """Every OpInfo sample in float64. Not for ours: probabilities as targets and weights of more than two dimensions (scores by
    another name; use F.cross_entropy(F.linear(…))), and `options` (PyTorch's chunks; ours is `chunk`)."""
    pytest.importorskip('torch.testing._internal.common_methods_invocations')
    from torch.testing._internal.common_methods_invocations import op_db
    ops = [op for op in op_db if op.name == 'nn.functional.linear_cross_entropy' and not op.variant_test_name]
    if not ops: pytest.skip('this PyTorch has no linear_cross_entropy')
    count = 0
    for sample in ops[0].sample_inputs('cpu', torch.float64, requires_grad=True):
        args, kwargs = (sample.input, *sample.args), sample.kwargs
        if args[2].is_floating_point() or args[1].ndim != 2:
            with pytest.raises((TypeError, ValueError), match='expected class numbers|expected .classes, d.'): linear_cross_entropy(*args, **kwargs)
        else:
            assert_close(linear_cross_entropy(*args, **kwargs), ops[0](*args, **kwargs).nan_to_num(0))
            count += 1
    assert count > 20
    for error in ops[0].error_inputs('cpu'):
        with pytest.raises((TypeError, ValueError)): linear_cross_entropy(error.sample_input.input, *error.sample_input.args, **error.sample_input.kwargs)
