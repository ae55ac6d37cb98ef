"""The watch on the corpus: what it must find, what it must leave alone, and that it changes nothing."""
import copy, io, subprocess, sys
from pathlib import Path
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parent/'watch_corpus'))
from minibatch.watch import watch
from run import plain, watched
from right import RIGHT
from wrong import WRONG


@pytest.fixture(autouse=True)
def one_thread():
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


def same(a, b): return a == b or a != a and b != b


def test_the_corpus_is_large_enough():
    assert sum(bool(loop.report) for loop in WRONG.values()) >= 40 and len(RIGHT) >= 30


@pytest.mark.slow
@pytest.mark.parametrize('name', WRONG)
def test_wrong_loops_are_noticed_and_unchanged(name):
    seen, result = watched(WRONG[name], True)
    assert seen.findings and not seen.trouble
    assert same(result, plain(WRONG[name], True))


@pytest.mark.slow
@pytest.mark.parametrize('name', WRONG)
def test_right_twins_are_left_alone(name):
    seen, result = watched(WRONG[name], False)
    assert not [f for f in seen.findings if f.severity == 'wrong'] and len(seen.findings) <= 1 and not seen.trouble


@pytest.mark.slow
@pytest.mark.parametrize('name', RIGHT)
def test_right_loops_are_left_alone_and_unchanged(name):
    seen, result = watched(RIGHT[name])
    assert not [f for f in seen.findings if f.severity == 'wrong'] and not seen.trouble
    assert same(result, plain(RIGHT[name]))


def train(steps=60, fail=False):
    torch.manual_seed(5)
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(.2), nn.Linear(16, 3))
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(steps):
        x = torch.randn(32, 12)
        loss = F.cross_entropy(net(x), x[:, :3].argmax(1))
        opt.zero_grad(); loss.backward(); opt.step()
        if fail and step == 20: raise KeyError('stop')
    return net, opt


def hooks():
    m = nn.modules.module
    return [len(h) for h in (m._global_forward_hooks, m._global_forward_pre_hooks)], DataLoader.__iter__


def test_parameters_state_and_random_numbers_are_the_same_to_the_bit():
    (a, oa), after = train(), torch.get_rng_state()
    with watch(): b, ob = train()
    assert torch.equal(after, torch.get_rng_state())
    for p, q in zip(a.parameters(), b.parameters()): assert torch.equal(p, q)
    for s, t in zip(oa.state.values(), ob.state.values()): assert all(torch.equal(s[k], t[k]) for k in s)


@pytest.mark.parametrize('fail', [False, True])
def test_hooks_are_gone_and_an_exception_carries_the_findings(fail):
    before = hooks()
    seen = watch()
    try:
        with seen: net, _ = train(fail=fail)
    except KeyError as e: assert e.findings is seen.findings
    assert hooks() == before
    n = len(seen.history)
    train()
    assert len(seen.history) == n


class Count(TorchFunctionMode):
    n = 0
    def __torch_function__(self, func, types, args=(), kwargs=None):
        Count.n += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('context', [lambda: torch.device('cpu'), Count])
def test_other_modes_inside_the_watch_around_it_and_nested(context):
    with watch() as seen:
        for steps in (5, 30, 7, 40):
            with context():
                with context(): train(steps)
            train(10)
    assert not seen.findings and not seen.trouble and seen.history
    with context():
        with watch() as seen: train(60)
    assert not seen.findings and not seen.trouble and len(seen.history) > 20
    n = Count.n
    torch.ones(2) + 1
    assert Count.n == n # no mode is left behind


def test_between_looked_at_steps_hooks_and_mode_are_absent():
    absent = []
    class Net(nn.Linear):
        def forward(self, x):
            m = nn.modules.module
            absent.append(not m._global_forward_hooks and not m._global_forward_pre_hooks and not torch.overrides._get_current_function_mode_stack())
            return super().forward(x)
    with watch():
        net = Net(12, 3)
        opt = torch.optim.SGD(net.parameters(), .1)
        for _ in range(300):
            x = torch.randn(32, 12)
            loss = F.cross_entropy(net(x), x[:, :3].argmax(1))
            opt.zero_grad(); loss.backward(); opt.step()
    assert sum(absent) > 270


def test_models_are_saved_and_copied_without_the_watch():
    with watch() as seen:
        net, _ = train(20)
        file = io.BytesIO()
        torch.save(net, file)
        clone = copy.deepcopy(net)
        assert torch.equal(clone[0].weight, net[0].weight)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    with torch.no_grad(): assert torch.equal(again.eval()(torch.ones(2, 12)), net.eval()(torch.ones(2, 12)))
    assert not seen.trouble


def test_a_probe_whose_backbone_keeps_its_gradients_is_not_wrong():
    seen, _ = watched(RIGHT['linear_probe_with_gradients_on'])
    assert [f.severity for f in seen.findings] == ['suspicious']


def test_the_report_says_what_was_found_well():
    with watch() as seen: train()
    assert 'found well' in str(seen) and 'clearing' in seen.well() and 'axis of time' not in seen.well()


def test_what_is_not_a_model_is_refused():
    with pytest.raises(TypeError, match='watch got a str: expected'): watch('model')


@pytest.mark.parametrize('bug, code', [(True, 1), (False, 0)])
def test_the_command(tmp_path, bug, code):
    script = tmp_path/'script.py'
    script.write_text('import torch, torch.nn.functional as F\n'
                      'net = torch.nn.Linear(6, 3)\nopt = torch.optim.SGD(net.parameters(), .1)\n'
                      'for _ in range(30):\n    x = torch.randn(20, 6)\n    out = net(x)' + ('.softmax(1)' if bug else '') +
                      '\n    loss = F.cross_entropy(out, x[:, :3].argmax(1))\n    opt.zero_grad(); loss.backward(); opt.step()\n')
    run = subprocess.run([sys.executable, '-c', 'from minibatch.watch import minibatch_watch; minibatch_watch()', str(script)], capture_output=True, text=True)
    assert run.returncode == code, run.stderr
    assert ('script.py:7' in run.stderr) == bug
