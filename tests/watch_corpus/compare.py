"""The corpus through four other tools, each as its own README says to use it: python tests/watch_corpus/compare.py [watch|torch-audit|…] [wrong|twins|right]

    pip install torch-audit==0.3.0 torchtest2==0.1.0 torcheck==1.0.1 neural-net-checklist==1.1.0

A tool that watches a loop is put in place when the loop first calls its model. A tool that tests a model before training gets that model,
its first batch and the loss function of the loop; where a loop shows none of these, the tool does not apply. To be caught, a wrong loop must draw
a complaint that its right twin does not draw. A false alarm is a complaint about a right loop. Warnings count as complaints, notes do not,
and neither does torch-audit's TA200, a hint about the speed of tensor cores. Times are processor times over the right loops, each with and without the tool.
"""
import contextlib, copy, functools, io, sys, time, warnings
from types import SimpleNamespace
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from right import RIGHT
from wrong import WRONG

LOSSES = {F.cross_entropy, F.nll_loss, F.mse_loss, F.smooth_l1_loss, F.binary_cross_entropy, F.binary_cross_entropy_with_logits, F.kl_div}


class Stop(BaseException): "The loop has shown what was wanted."


class FirstLoss(TorchFunctionMode):
    "Stops a loop at its first loss, and keeps what it got."
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in LOSSES and len(args) > 1:
            self.out, self.target, self.fn = args[0], args[1], functools.partial(func, **kwargs)
            raise Stop
        return func(*args, **kwargs)


@contextlib.contextmanager
def optimizers():
    "The optimizers that are made meanwhile."
    made, init = [], torch.optim.Optimizer.__init__
    def __init__(self, *args, **kwargs):
        init(self, *args, **kwargs)
        made.append(self)
    torch.optim.Optimizer.__init__ = __init__
    try: yield made
    finally: torch.optim.Optimizer.__init__ = init


@contextlib.contextmanager
def first_call(then):
    "Calls `then(model, args)` before the first call of a model with parameters."
    done = []
    def hook(m, args):
        if not done and any(True for _ in m.parameters()):
            done.append(m)
            then(m, args)
    handle = register_module_forward_pre_hook(hook)
    try: yield
    finally: handle.remove()


def shown(loop, args):
    "The model that a loop calls first, the optimizer, the first batch, its target and the loss, before any step."
    found = SimpleNamespace(model=None)
    def keep(m, a): found.model, found.x = m, a[0]
    mode = FirstLoss()
    with contextlib.suppress(Stop), optimizers() as made, first_call(keep), mode: loop(*args)
    if found.model is None or not hasattr(mode, 'fn') or not isinstance(found.x, torch.Tensor): return None
    found.target, found.fn, found.out, found.opt = mode.target.detach(), mode.fn, mode.out, made[-1] if made else None
    return found


def ours(loop, args):
    from minibatch.watch import watch
    with watch() as seen: loop(*args)
    return {f.kind for f in seen.findings}


def torch_audit(loop, args):
    from torch_audit import autopatch
    auditors = []
    with optimizers() as made:
        def place(m, _):
            if made: auditors.append(autopatch(m, optimizer=made[-1], every_n_steps=1, reporters=[], ignore_rules={'TA200'}, suppress_internal_errors=True))
        with first_call(place): loop(*args)
    found = [f for a in auditors for f in a.finish().findings]
    return {f.rule_id for f in found if f.severity.value != 'INFO'} if auditors else None


def torcheck(loop, args):
    import torcheck
    from torcheck.registry import Registry
    registry, placed = Registry(), []
    with optimizers() as made:
        def place(m, _):
            if not made: return
            placed.append(m)
            registry.register(made[-1])
            registry.add_module(m, changing=True, check_nan=True, check_inf=True)
        try:
            with first_call(place): loop(*args)
        except RuntimeError as e: return {str(e).splitlines()[0][:80]}
    return set() if placed else None


def torchtest2(loop, args):
    import torchtest2
    s = shown(loop, args)
    if s is None: return None
    report = torchtest2.check_model(s.model, s.x, s.target, loss_fn=s.fn, optimizer=s.opt)
    return {r.name for r in report if r.status.name in ('FAIL', 'WARN')}


def neural_net_checklist(loop, args):
    from neural_net_checklist import torch_diagnostics as d
    s = shown(loop, args)
    if s is None or s.fn.func is not F.cross_entropy or s.out.dim() != 2 or s.target.dim() != 1: return None
    batch, k = (s.x, s.target), s.out.shape[1]
    make = lambda: copy.deepcopy(s.model)
    tests = dict(level=lambda: d.assert_balanced_classification_cross_entropy_loss_at_init(make(), batch, num_classes=k),
                 calibrated=lambda: d.assert_balanced_classification_cross_entropy_init_calibrated(make(), batch, num_classes=k),
                 independent=lambda: d.assert_forward_batch_independence(make, batch), gradients=lambda: d.assert_non_zero_gradients(make(), batch),
                 backward=lambda: d.assert_backward_batch_independence(make, batch), baseline=lambda: d.assert_input_independent_baseline_worse(make, batch),
                 overfit=lambda: d.assert_overfit_to_batch(make(), batch))
    found = set()
    for name, test in tests.items():
        try: test()
        except Exception: found.add(name)
    return found


# how each is used, and the lines that a user adds, imports aside
TOOLS = {'watch': (ours, 'with watch() as seen: …; print(seen)', 2), 'torch-audit': (torch_audit, 'autopatch(model, optimizer=opt); finish()', 2),
         'torchtest2': (torchtest2, 'check_model(model, x, y, loss_fn, opt)', 1), 'torcheck': (torcheck, 'register(opt); add_module(model)', 2),
         'neural-net-checklist': (neural_net_checklist, 'assert_all_for_classification…(factory, batch, num_classes)', 3)}


def run(tool, loop, *args):
    torch.manual_seed(1)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter('ignore')
        try: return tool(loop, args)
        except Exception as e: return {f'fails: {type(e).__name__}'}


def plain(loop, *args):
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        loop(*args)


def parts(name, which):
    "What one tool says of the wrong loops, of their twins and of the right loops, and processor times of the right ones without and with it."
    tool, said, times = TOOLS[name][0], {'wrong': {}, 'twins': {}, 'right': {}}, [0, 0]
    if 'wrong' in which: said['wrong'] = {n: run(tool, l, True) for n, l in WRONG.items()}
    if 'twins' in which: said['twins'] = {n: run(tool, l, False) for n, l in WRONG.items()}
    for n, l in RIGHT.items() if 'right' in which else ():
        t0 = time.process_time(); plain(l)
        t1 = time.process_time(); said['right'][n] = run(tool, l)
        times = [times[0] + t1 - t0, times[1] + time.process_time() - t1]
    return said, times


def report(name, said, times, every=False):
    wrong, twins, right = said.values()
    caught = sum(bool((wrong[n] or set()) - (twins[n] or set())) for n in wrong) if wrong and twins else '?'
    alarms = [f'{sum(map(bool, s.values()))} of {len(s)}' for s in (right, twins)]
    cost = f'{times[1] / times[0]:.1f}' if times[0] else '?'
    print(f'{name:22}{caught:>6} of {len(WRONG)}{sum(s is None for s in wrong.values()):>16}{alarms[0]:>27}{alarms[1]:>10}{TOOLS[name][2]:>7}{cost:>8}', flush=True)
    for part, loops in said.items() if every else (): print(*(f'  {part} {n} {sorted(s) if s is not None else "-"}' for n, s in loops.items()), sep='\n')


if __name__ == '__main__':
    torch.set_num_threads(1)
    names = [n for n in sys.argv[1:] if n in TOOLS] or list(TOOLS)
    which = [n for n in sys.argv[1:] if n in ('wrong', 'twins', 'right')] or ['wrong', 'twins', 'right']
    print(f'{"":22}{"caught":>12}{"does not apply":>16}{"false alarms: right loops":>27}{"twins":>10}{"lines":>7}{"× time":>8}')
    for name in names: report(name, *parts(name, which), every=len(names) == 1)
