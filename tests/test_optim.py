"SGD and AdamW step as PyTorch's for-loop does, to the bit, with what PyTorch offers around an optimizer."
import copy, itertools, math, pickle

import pytest
import torch
import torch.nn.functional as F
from minibatch.model import Model
from minibatch.optim import SGD, AdamW

OPTIONS = [(SGD, torch.optim.SGD, dict(lr=lr, momentum=m, dampening=d, weight_decay=w, nesterov=n, maximize=x))
           for lr, m, d, w, n, x in itertools.product([0.1, 1e-3], [0, 0.9], [0, 0.1], [0, 1e-2], [False, True], [False, True])
           if not n or m and not d] + [
          (AdamW, torch.optim.AdamW, dict(lr=lr, betas=b, eps=e, weight_decay=w, amsgrad=a, maximize=x))
           for lr, b, e, w, a, x in itertools.product([1e-2, 0], [(0.9, 0.999), (0., 0.5)], [1e-8, 1e-2], [0, 0.1], [False, True], [False, True])]
PAIRS = [(SGD, torch.optim.SGD, dict(lr=0.1, momentum=0.9)), (AdamW, torch.optim.AdamW, dict(lr=1e-2, amsgrad=True))]


def groups(model, lr):
    "Weights and biases apart, the second with options of their own."
    tables, biases = ([p for p in model.parameters() if p.ndim == n] for n in (2, 1))
    return [dict(params=tables), dict(params=iter(biases), lr=lr, weight_decay=0.3)]


def steps(make, n=30, dtype=torch.float32, start=0, model=None, opt=None, **options):
    torch.manual_seed(1)
    model = model or Model(20, 16, 3).to(dtype)
    opt = opt or make(groups(model, 0.02), **options)
    data = torch.Generator().manual_seed(2)
    x, y = torch.randn(60, 8, 20, generator=data).to(dtype), torch.randint(3, (60, 8), generator=data)
    for i in range(start, start + n):
        opt.zero_grad(set_to_none=i % 2 == 0)
        loss = F.cross_entropy(model(x[i]), y[i])
        if i % 7 == 3: loss = F.cross_entropy(model.layers[2](torch.ones(8, 16, dtype=dtype)), y[i])  # the first layer has no gradient
        loss.backward()
        opt.step()
    return model, opt


def same(a, b): return all(map(torch.equal, a.parameters(), b.parameters()))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize('ours, theirs', [(SGD, torch.optim.SGD), (AdamW, torch.optim.AdamW)])
def test_same_bits(ours, theirs, dtype):
    for make, other, options in OPTIONS:
        if make is ours:
            assert same(steps(ours, dtype=dtype, **options)[0], steps(theirs, dtype=dtype, **options, foreach=False, fused=False)[0]), options


@pytest.mark.parametrize('ours, theirs, options', PAIRS)
def test_each_goes_on_from_the_other(ours, theirs, options):
    whole, _ = steps(ours, 60, **options)
    for first, second in itertools.product([ours, theirs], repeat=2):
        model, opt = steps(first, 30, **options)
        resumed = second(groups(model, 0.5))
        resumed.load_state_dict(copy.deepcopy(opt.state_dict()))
        assert same(steps(None, 30, start=30, model=model, opt=resumed)[0], whole)


@pytest.mark.parametrize('ours, theirs, options', PAIRS)
def test_is_an_optimizer_of_pytorch(ours, theirs, options):
    "Schedulers, scalers, hooks, closures, add_param_group and pickling."
    found = []
    for make in ours, theirs:
        model, opt = steps(make, 3, **options)
        called = []
        opt.register_step_post_hook(lambda *args: called.append('hook'))
        scheduler = torch.optim.lr_scheduler.OneCycleLR(opt, 0.1, total_steps=10, cycle_momentum=False)
        scaler = torch.amp.GradScaler('cpu')
        for _ in range(5):
            opt.zero_grad()
            scaler.scale(model(torch.ones(4, 20)).pow(2).mean()).backward()
            scaler.unscale_(opt)
            scaler.step(opt)
            scaler.update()
            scheduler.step()
        extra = torch.nn.Parameter(torch.ones(3))
        opt.add_param_group(dict(params=extra))
        def closure():
            opt.zero_grad()
            loss = extra.pow(2).sum()
            loss.backward()
            return loss
        assert opt.step(closure).item() == 3 and called == ['hook'] * 6
        found.append([*(p.detach() for p in model.parameters()), extra.detach()])
        assert len(pickle.loads(pickle.dumps(opt)).param_groups) == 3
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize('make', [SGD, AdamW])
@pytest.mark.parametrize('options', [dict(lr=math.nan), dict(lr='0.1'), dict(lr=-1), dict(weight_decay=math.inf), dict(foreach=True), dict(fused=True),
                                     dict(differentiable=True), dict(lr=None), dict(lr=torch.tensor([1., 2.]))])
def test_refuses_in_one_line(make, options):
    with pytest.raises(ValueError) as e: make(Model(3, 3, 3).parameters(), **options)
    assert next(iter(options)) in str(e.value) and '\n' not in str(e.value)
    opt = make(Model(3, 3, 3).parameters())
    with pytest.raises(ValueError): opt.add_param_group(dict(params=[torch.zeros(1)], **options))
    assert len(opt.param_groups) == 1
