"A training that is killed at any moment goes on as if it had not been; a checkpoint that is damaged or does not fit changes nothing."
import copy, io, multiprocessing, os, random, re, resource, signal, subprocess, sys, time, zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import free_port
from lightning_fabric import Fabric
from minibatch import fit as module
from minibatch.dataloader import DataLoader, Dataset, get_dls
from minibatch.exact import cross_entropy
from minibatch.fit import (Callback, Checkpoint, correct, evaluate, finished_epochs, fit, load_checkpoint, random_state,
                           save_checkpoint)
from minibatch.files import atomic_write
from minibatch.large_vocab import linear_cross_entropy
from minibatch.model import Model
from minibatch.optim import SGD, AdamW
from minibatch.schedule import EachEpoch, KeepBest, linear
from torch import nn
from torch.utils import data

EPOCHS = 15
HERE = multiprocessing.get_context('forkserver')
HERE.set_forkserver_preload(['torch', 'minibatch.fit'])


class Noisy(data.Dataset):
    "Rows to which three makers of random numbers add noise."
    def __init__(self, x, y): self.x, self.y = x, y
    def __len__(self): return len(self.x)
    def __getitem__(self, i):
        noise = random.gauss(0, 0.1) + np.random.normal(0, 0.1) + torch.randn(1).item() / 10
        return self.x[i] + noise, self.y[i]


def rows(n=300):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(n, 20, generator=generator), torch.randint(3, (n,), generator=generator)


def job(nh=16):
    "A small training, with all that a checkpoint must keep: momentum, dropout, a schedule, shuffling, noise."
    torch.set_num_threads(1)
    for seed in random.seed, np.random.seed, torch.manual_seed: seed(1)
    model = nn.Sequential(nn.Dropout(0.1), Model(20, nh, 3))
    opt = SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)
    return model, cross_entropy, opt, *get_dls(Noisy(*rows()), Dataset(*rows()), 32, generator=torch.Generator().manual_seed(2))


def train(checkpoint, started=None, every=4):
    "Train, saving often; called in a process of its own that is going to be killed."
    run = job()
    if started is not None: started.send('now')
    return fit(EPOCHS, *run, metrics={'accuracy': correct}, schedule=linear, progress=False,
               callbacks=[Checkpoint(checkpoint, resume=True, every=every)])


def weights(path):
    model = job()[0]
    history = load_checkpoint(path, model)
    return history.drop(columns='seconds', errors='ignore'), [p.detach() for p in model.parameters()]


def test_killed_at_random_moments(tmp_path):
    "SIGKILL, dozens of times, also while it saves: the file is whole each time, and the end is the same to the last bit."
    train(tmp_path/'unbroken.pt', every=None)
    expected, unbroken = weights(tmp_path/'unbroken.pt')
    file, clock, kills, epochs = tmp_path/'killed.pt', random.Random(1), 0, []
    while not epochs or epochs[-1] < EPOCHS:
        started, child = HERE.Pipe(duplex=False)
        process = HERE.Process(target=train, args=(file, child))
        process.start()
        assert started.poll(60)
        process.join(clock.uniform(0, 0.05 + kills/25))  # later and later, so that a slow machine gets to the end
        if process.is_alive(): os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        kills += process.exitcode != 0
        if file.exists(): epochs.append(finished_epochs(file))  # loads whatever the kill has left
    print(f"{kills} kills, epochs {epochs}")
    assert kills >= 3 and epochs == sorted(epochs)
    history, killed = weights(file)
    assert history.equals(expected) and all(map(torch.equal, killed, unbroken))
    with atomic_write(file) as f: f.write(b'')
    assert {p.name for p in tmp_path.iterdir()} == {'unbroken.pt', 'killed.pt'}  # the last has swept


class Stop(Exception): pass


class StopAt(Callback):
    def __init__(self, step): self.step = step
    def after_step(self, run):
        if run.step == self.step: raise Stop


def interrupted(tmp_path, make, step=17, every=5, epochs=4):
    "A run with all of `make`'s parts, stopped in the middle and gone on with, and the same one unbroken: equal?"
    found = []
    for at in None, step:
        path = tmp_path/f'{at}.pt'
        def start(resume=False, stop=()):
            model, loss, opt, loaders, options, callbacks = make()
            history = fit(epochs, model, loss, opt, *loaders, **options, progress=False,
                          callbacks=[*callbacks, *stop, Checkpoint(path, resume=resume, every=every)])
            return history.drop(columns='seconds'), [p.detach().clone() for p in model.parameters()], torch.rand(1), np.random.rand(), random.random()
        if at is None: found.append(start())
        else:
            with pytest.raises(Stop): start(stop=[StopAt(at)])
            [random.random() for _ in range(7)], np.random.rand(3), torch.rand(3)
            found.append(start(resume=True))
    (history, params, *numbers), (history2, params2, *numbers2) = found
    assert history.equals(history2) and all(map(torch.equal, params, params2)) and numbers == numbers2


def with_everything(workers=0, autocast=None, make_opt=torch.optim.AdamW, loader=data.DataLoader):
    for seed in random.seed, np.random.seed, torch.manual_seed: seed(1)
    model = nn.Sequential(nn.Linear(20, 30), nn.BatchNorm1d(30), nn.ReLU(), nn.Dropout(0.2), nn.Linear(30, 3))
    opt = make_opt(model.parameters(), lr=1e-2)
    more = dict(num_workers=workers, multiprocessing_context='fork') if workers else {}
    loaders = loader(Noisy(*rows(150)), 16, shuffle=True, **more), loader(Dataset(*rows()), 50)
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, 0.05, total_steps=4 * 10 + 1)
    return model, F.cross_entropy, opt, loaders, dict(schedule=schedule, clip=1., autocast=autocast, metrics={'right': correct}), [KeepBest()]


@pytest.mark.parametrize('step', [1, 4, 5, 10, 11, 17, 29, 30, 39])
def test_resumed_in_the_middle(tmp_path, step): interrupted(tmp_path, with_everything, step)


@pytest.mark.parametrize('options', [dict(workers=2), dict(autocast=torch.bfloat16), dict(autocast=torch.float16), dict(make_opt=AdamW, loader=DataLoader),
                                     dict(make_opt=AdamW)], ids=str)
def test_resumed_with(tmp_path, options): interrupted(tmp_path, lambda: with_everything(**options))


def test_resumed_with_accumulation_and_a_scheduler_each_epoch(tmp_path):
    def make():
        model, loss, opt, loaders, options, _ = with_everything()
        del options['schedule']
        each = EachEpoch(torch.optim.lr_scheduler.ReduceLROnPlateau(opt, patience=0), 'valid_loss')
        return model, loss, opt, loaders, dict(options, accumulate=3), [each]
    interrupted(tmp_path, make, 6, 1)


def test_early_stop_stays_stopped(tmp_path):
    def run(resume=False):
        model, loss, _, *loaders = job()
        return model, fit(30, model, loss, SGD(model.parameters(), 0.5), DataLoader(Dataset(*rows()), 32), loaders[1], progress=False,
                          callbacks=[KeepBest(patience=2), Checkpoint(tmp_path/'run.pt', resume=resume)])
    (model, first), (again, second) = run(), run(resume=True)
    assert len(first) < 30 and first.equals(second)
    assert all(map(torch.equal, model.parameters(), again.parameters()))
    best = evaluate(model, DataLoader(Dataset(*rows()), 50), cross_entropy)['loss']
    assert abs(best - first.valid_loss.min()) < 1e-6


# Damaged, forged, too large.

@pytest.fixture
def kept(tmp_path):
    fit(2, *job(), progress=False, callbacks=[Checkpoint(tmp_path/'run.pt', every=7)], schedule=linear)
    return tmp_path/'run.pt'


def state_of(model, opt, loaders):
    return copy.deepcopy([model.state_dict(), opt.state_dict(), random_state(loaders)])


def equal(a, b):
    if isinstance(a, torch.Tensor): return torch.equal(a, b)
    if isinstance(a, dict): return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def refused(path, error=(ValueError,), says='', **options):
    "All ways to load a file refuse it in one line, and change nothing."
    model, loss, opt, *loaders = job()
    for p in model.parameters(): p.grad = torch.ones_like(p)
    opt.step()
    before, content = state_of(model, opt, loaders), path.read_bytes()
    for load in (lambda: load_checkpoint(path, model), lambda: load_checkpoint(path, model, opt, scaler=torch.amp.GradScaler('cpu', enabled=False), loaders=loaders),
                 lambda: fit(2, model, loss, opt, *loaders, schedule=linear, progress=False, callbacks=[Checkpoint(path, resume=True, every=7)])):
        with pytest.raises(error, match=re.escape(says) if says else None) as e: load()
        assert '\n' not in str(e.value) and equal(state_of(model, opt, loaders), before) and path.read_bytes() == content


def test_every_flipped_bit_is_refused(kept):
    whole, places = kept.read_bytes(), random.Random(1)
    for i in [0, len(whole) - 1, *(places.randrange(len(whole)) for _ in range(60))]:
        kept.write_bytes(whole[:i] + bytes([whole[i] ^ 1 << places.randrange(8)]) + whole[i + 1:])
        with pytest.raises(ValueError, match='damaged'): finished_epochs(kept)
    refused(kept, says='is not a checkpoint, or a damaged one')


def test_every_length_is_refused(kept):
    whole = kept.read_bytes()
    for n in [0, 1, 100, *range(200, len(whole), len(whole) // 30), len(whole) - 1]:
        kept.write_bytes(whole[:n])
        with pytest.raises(ValueError, match='damaged'): finished_epochs(kept)
    kept.write_bytes(whole + b' ')
    refused(kept, says='damaged')


def sealed(path, body):
    size = len(body)
    path.write_bytes(body + module.SEAL + module._sha256(io.BytesIO(body), size))


def forged(path, change):
    content = module._read_checkpoint(path)
    content = change(content) or content
    written = io.BytesIO()
    torch.save(content, written)
    sealed(path, written.getvalue())


CHANGES = {
    'unknown key': lambda c: c.update(more=1), 'missing key': lambda c: c.pop('history') and None, 'a list': lambda c: [c],
    'format': lambda c: c.update(format='minibatch checkpoint 1'), 'model': lambda c: c.update(model='no'),
    'random': lambda c: c.update(random='no'), 'torch': lambda c: c['random'].update(torch=torch.zeros(3, dtype=torch.uint8)),
    'python': lambda c: c['random'].update(python=(3, (1, 2), None)), 'numpy': lambda c: c['random'].update(numpy=['MT19937', torch.zeros(3), 0, 0, 0.]),
    'generators': lambda c: c['random'].update(generators=['no']), 'cuda': lambda c: c['random'].update(cuda=3),
    'epochs 2, 3': lambda c: [row.update(epoch=row['epoch'] + 1) for row in c['history']] and None,
    'epochs 1, 1': lambda c: c['history'][1].update(epoch=1), 'a row': lambda c: c['history'].append('no'), 'a cell': lambda c: c['history'][0].update(lr='no'),
    'run': lambda c: c.update(run=dict(epoch=1)), 'run type': lambda c: c['run'].update(batch='no'), 'start': lambda c: c['run'].update(start={}),
    'opt': lambda c: c.update(opt=dict(state='no', param_groups='no')), 'opt lr': lambda c: c['opt']['param_groups'][0].update(lr='no'),
    'opt shape': lambda c: c['opt']['state'][0].update(momentum_buffer=torch.zeros(1)), 'opt buffer': lambda c: c['opt']['state'][0].update(momentum_buffer='no'),
    'opt groups': lambda c: c['opt'].update(param_groups=[]), 'opt key': lambda c: c['opt']['state'].update({99: {}}),
    'scaler': lambda c: c.update(scaler=dict(scale=1)), 'opt type': lambda c: c.update(opt_type='Adam'),
}


@pytest.mark.parametrize('name', CHANGES)
def test_forged_file_is_refused(kept, name):
    forged(kept, CHANGES[name])
    model, loss, opt, *loaders = job()
    if name.startswith(('opt', 'scaler')):  # fit for using the model, not for going on
        before = state_of(model, opt, loaders)
        with pytest.raises(ValueError) as e: load_checkpoint(kept, model, opt, scaler=torch.amp.GradScaler('cpu', enabled=False), loaders=loaders)
        assert '\n' not in str(e.value)
        with pytest.raises(ValueError) as e:
            fit(2, model, loss, opt, *loaders, schedule=linear, progress=False, callbacks=[Checkpoint(kept, resume=True, every=7)])
        assert '\n' not in str(e.value) and equal(state_of(model, opt, loaders), before)
    else: refused(kept)


def test_forged_for_nothing_is_accepted(kept):
    forged(kept, lambda c: None)
    assert len(fit(2, *job(), progress=False, callbacks=[Checkpoint(kept, resume=True, every=7)], schedule=linear)) == 2


def test_compressed_file_is_refused_before_it_is_unpacked(tmp_path):
    packed, file = io.BytesIO(), tmp_path/'bomb.pt'
    whole = io.BytesIO()
    torch.save(dict(format=module.FORMAT, zeros=torch.zeros(2**24)), whole)  # 64 MB
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(packed, 'w', zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist(): new.writestr(name, old.read(name))
    assert len(packed.getvalue()) < 2**20
    sealed(file, packed.getvalue())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(file, says='was not made by save_checkpoint')
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**15


def test_weights_of_others_are_refused(tmp_path):
    torch.save(job()[0].state_dict(), tmp_path/'weights.pt')
    refused(tmp_path/'weights.pt', says='is not a checkpoint')


def test_too_large_is_not_called_damaged(tmp_path):
    code = '''if True:
        import re, resource, sys, torch
        from pathlib import Path
        from minibatch.fit import load_checkpoint, save_checkpoint
        model = torch.nn.Linear(3000, 3000)
        save_checkpoint(sys.argv[1], model, torch.optim.SGD(model.parameters(), 0.1))
        used = int(re.search(r'VmData:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (used + (12 << 20),) * 2)
        try: load_checkpoint(sys.argv[1], model)
        except MemoryError as e: print(e)'''
    done = subprocess.run([sys.executable, '-c', code, tmp_path/'large.pt'], capture_output=True, text=True)
    assert 'large.pt is whole, but there is too little memory' in done.stdout, done.stderr


# What the name leads to.

@pytest.mark.parametrize('make', [os.mkfifo, os.mkdir, lambda p: os.symlink('/dev/zero', p)])
def test_not_a_file(tmp_path, make):
    make(tmp_path/'run.pt')
    for resume in False, True:
        with pytest.raises((ValueError, OSError)):
            fit(1, *job(), progress=False, callbacks=[Checkpoint(tmp_path/'run.pt', resume=resume)])


def test_cannot_be_written_is_said_before_the_first_step(tmp_path):
    stepped = StopAt(1)
    with pytest.raises(FileNotFoundError, match='does not exist'): fit(1, *job(), callbacks=[stepped, Checkpoint(tmp_path/'no/run.pt')])
    (tmp_path/'locked').mkdir(mode=0o500)
    if os.access(tmp_path/'locked', os.W_OK): return  # root may write anywhere
    with pytest.raises(OSError, match='cannot be written'): fit(1, *job(), callbacks=[stepped, Checkpoint(tmp_path/'locked/run.pt')])


def test_a_printed_line_says_that_the_epoch_is_kept(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr('builtins.print', lambda *args, **kwargs: seen.append(finished_epochs(tmp_path/'run.pt')))
    fit(3, *job(), callbacks=[Checkpoint(tmp_path/'run.pt')])
    assert seen == [1, 2, 3]


def test_going_on_is_said_and_other_metrics_are_refused(tmp_path, capsys):
    model, loss, opt, *loaders = job()
    def run(epochs, metric='right', **options):
        fit(epochs, model, loss, opt, *loaders, metrics={metric: correct}, callbacks=[Checkpoint(tmp_path/'run.pt', resume=True)], **options)
    run(1)
    run(2)
    assert 'going on from run.pt after epoch 1\n' in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"is of a run with metrics \['right'\], and now it is \['other'\]"): run(3, 'other')
    with pytest.raises(ValueError, match="column is 'rihgt': expected 'epoch', 'train_loss', 'valid_loss', 'lr' or 'seconds'"):
        fit(1, model, loss, opt, *loaders, callbacks=[StopAt(1), KeepBest('rihgt')])


def test_norm_is_that_before_clipping():
    model, loss, opt, *loaders = job()
    class Norms(Callback):
        norms = []
        def after_step(self, run): self.norms.append((run.norm, sum(p.grad.square().sum() for p in run.model.parameters()).sqrt().item()))
    fit(1, model, loss, opt, *loaders, clip=1e-3, callbacks=[Norms()], progress=False)
    assert all(norm > 1e-3 and abs(clipped / 1e-3 - 1) < 1e-3 for norm, clipped in Norms.norms)


def test_disk_full(tmp_path, monkeypatch):
    "An error while saving ends the run, and leaves the last checkpoint and nothing else."
    file = tmp_path/'run.pt'
    fit(1, *job(), callbacks=[Checkpoint(file)], progress=False)
    before = file.read_bytes()
    def full(content, f):
        f.write(b'half')
        raise OSError('No space left on device')
    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(OSError, match='No space left'): fit(2, *job(), callbacks=[Checkpoint(file, resume=True)], progress=False)
    assert file.read_bytes() == before and os.listdir(tmp_path) == ['run.pt']


# What can be kept.

@pytest.mark.parametrize('make', [SGD, torch.optim.SGD, AdamW, torch.optim.AdamW])
def test_numpy_numbers_and_paths_are_kept_plain(tmp_path, make):
    for lr in np.logspace(-3, -1, 3):
        (tmp_path/'run.pt').unlink(missing_ok=True)
        for epochs in 1, 2:
            model, loss, _, *loaders = job()
            kept = Checkpoint(tmp_path/'run.pt', resume=True, settings=dict(data=tmp_path, seed=np.int64(1), sizes=np.arange(3).tolist(), dtype=torch.float32))
            assert len(fit(epochs, model, loss, make(model.parameters(), lr), *loaders, progress=False, callbacks=[kept])) == epochs


def test_what_cannot_be_kept_is_refused_by_name_before_the_first_step(tmp_path):
    with pytest.raises(TypeError, match=r"settings\['net'\] is Model: expected a number"):
        fit(1, *job(), callbacks=[StopAt(1), Checkpoint(tmp_path/'run.pt', settings=dict(net=Model(2, 2, 2)))])
    model, loss, opt, *loaders = job()
    opt.param_groups[0]['note'] = print
    with pytest.raises(TypeError, match='note'): fit(1, model, loss, opt, *loaders, callbacks=[StopAt(1), Checkpoint(tmp_path/'run.pt')])
    assert os.listdir(tmp_path) == []


def test_loading_for_use_touches_no_random_numbers(kept):
    model, _, opt, *loaders = job()
    before = random_state(loaders)
    load_checkpoint(kept, model)
    assert equal(random_state(loaders), before)


def test_another_model_is_named(kept):
    model, loss, opt, *loaders = job(17)
    with pytest.raises(ValueError, match='another model'): fit(2, model, loss, opt, *loaders, schedule=linear, callbacks=[Checkpoint(kept, resume=True)])


# Whose learning rate, loop, loader and targets.

def plain_loop(epochs, model, opt, dl, scheduler=None, clip=None):
    for _ in range(epochs):
        model.train()
        for xb, yb in dl:
            opt.zero_grad()
            F.cross_entropy(model(xb), yb).backward()
            if clip: nn.utils.clip_grad_norm_(model.parameters(), clip)
            opt.step()
            if scheduler: scheduler.step()


def parts(Loader, Opt):
    torch.manual_seed(1)
    model = Model(20, 16, 3)
    opt = Opt(model.parameters(), lr=1e-2)
    dl = Loader(Dataset(*rows()), 32, shuffle=True, generator=torch.Generator().manual_seed(2))
    return model, opt, dl, torch.optim.lr_scheduler.OneCycleLR(opt, 0.05, total_steps=3 * len(dl), cycle_momentum=False)


@pytest.mark.parametrize('clip', [None, 0.1])
def test_same_in_fit_and_in_pytorchs_loop(clip):
    "PyTorch's loader, optimizer and scheduler through our fit, and ours through PyTorch's loop: the same bits."
    def theirs(*args, **kwargs): return torch.optim.AdamW(*args, **kwargs, foreach=False)
    found = []
    for Loader, Opt in (data.DataLoader, theirs), (DataLoader, AdamW):
        model, opt, dl, scheduler = parts(Loader, Opt)
        fit(3, model, F.cross_entropy, opt, dl, schedule=scheduler, clip=clip, progress=False)
        found.append([*model.parameters(), torch.tensor(opt.param_groups[0]['lr'])])
        model, opt, dl, scheduler = parts(Loader, Opt)
        plain_loop(3, model, opt, dl, scheduler, clip)
        found.append([*model.parameters(), torch.tensor(opt.param_groups[0]['lr'])])
    for other in found[1:]: assert all(map(torch.equal, found[0], other))


def test_in_lightnings_loop():
    fabric, (model, opt, dl, scheduler) = Fabric(accelerator='cpu', devices=1), parts(DataLoader, AdamW)
    net, opt2 = fabric.setup(model, opt)
    for _ in range(3):
        for xb, yb in map(fabric.to_device, dl):  # setup_dataloaders takes only PyTorch's loader
            opt2.zero_grad()
            fabric.backward(F.cross_entropy(net(xb), yb))
            opt2.step()
            scheduler.step()
    other, opt, dl, scheduler = parts(DataLoader, AdamW)
    fit(3, other, F.cross_entropy, opt, dl, schedule=scheduler, progress=False)
    assert all(map(torch.equal, model.parameters(), other.parameters()))


def test_rates_are_left_to_whoever_sets_them():
    model, opt, dl, scheduler = parts(DataLoader, SGD)
    class Each(Callback):
        def after_step(self, run): scheduler.step()
    fit(3, model, F.cross_entropy, opt, dl, callbacks=[Each()], progress=False)
    other, opt2, dl, scheduler2 = parts(DataLoader, SGD)
    plain_loop(3, other, opt2, dl, scheduler2)
    assert opt.param_groups[0]['lr'] == opt2.param_groups[0]['lr'] and all(map(torch.equal, model.parameters(), other.parameters()))


def test_sequences_and_other_shapes():
    "Classes at each of T places, several inputs in a dictionary, targets in a tuple; the metric counts every place."
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.out = nn.Embedding(10, 16), nn.Linear(16 + 1, 4)
        def forward(self, batch): return self.out(torch.cat([self.words(batch['words']), batch['more'][..., None]], -1)).mT
    torch.manual_seed(1)
    words = torch.randint(10, (200, 7))
    ds = [(dict(words=w, more=torch.ones(7)), w % 4) for w in words]
    model = Tagger()
    history = fit(8, model, F.cross_entropy, AdamW(model.parameters(), 0.05), DataLoader(ds, 20, shuffle=True), DataLoader(ds, 33),
                  metrics={'accuracy': lambda preds, yb: preds.argmax(1) == yb}, progress=False)
    assert history.accuracy[8] == 1 and history.valid_loss[8] < 0.1


def test_regression_in_another_type():
    torch.manual_seed(1)
    x = torch.randn(200, 3, dtype=torch.float64)
    ds, model = Dataset(x, x.sum(1, keepdim=True)), nn.Linear(3, 1).double()
    assert fit(20, model, F.mse_loss, SGD(model.parameters(), 0.1), *get_dls(ds, ds, 20), progress=False).valid_loss[20] < 1e-6


def test_a_stream_without_length_trains():
    class Stream(data.IterableDataset):
        def __iter__(self): yield from zip(*rows(90))
    model = Model(20, 16, 3)
    history = fit(2, model, F.cross_entropy, SGD(model.parameters(), 0.1), data.DataLoader(Stream(), 20), progress=False)
    assert list(history) == ['train_loss', 'lr', 'seconds'] and len(history) == 2
    with pytest.raises(TypeError, match='with a length'):
        fit(2, model, F.cross_entropy, SGD(model.parameters(), 0.1), data.DataLoader(Stream(), 20), schedule=linear)


@pytest.mark.parametrize('change, says', [(lambda x, y: (x.double(), y), 'the inputs are torch.float64 and the model is torch.float32'),
                                          (lambda x, y: ((x * 9).long(), y), 'the inputs are torch.int64'), (lambda x, y: (x, y.numpy()), 'holds ndarray'),
                                          (lambda x, y: (x, y, y), 'expected a pair'), (lambda x, y: dict(x=x, y=y), 'a batch is dict: expected a pair')])
def test_batches_of_another_kind_are_said_before_the_first_step(change, says):
    x, y = rows(40)
    model = Model(20, 16, 3)
    batches = [change(x, y)]
    with pytest.raises(TypeError, match=says) as e: fit(1, model, F.cross_entropy, SGD(model.parameters(), 0.1), batches, batches, callbacks=[StopAt(1)])
    assert '\n' not in str(e.value)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_mixed_precision_learns(dtype):
    torch.manual_seed(1)
    x, _ = rows(400)
    ds, model = Dataset(x, (x[:, 0] > 0).long()), Model(20, 16, 2)
    history = fit(5, model, F.cross_entropy, SGD(model.parameters(), 0.2), *get_dls(ds, ds, 20), autocast=dtype, clip=1., metrics={'right': correct}, progress=False)
    assert history.right[5] > 0.95


# Several processes, with nothing of ours but fit; and the loss of a large vocabulary.

def distributed(rank, size, folder, autocast, epochs, resume, port=0):
    "Train on half of each batch with PyTorch's DistributedDataParallel, DistributedSampler, AdamW and OneCycleLR."
    torch.set_num_threads(1)
    torch.manual_seed(1)
    x, y = rows()
    ds, model = Dataset(x.double(), y), Model(20, 16, 3).double()
    if size > 1:
        torch.distributed.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=size)
        model = nn.parallel.DistributedDataParallel(model)
    sampler = data.DistributedSampler(ds, size, rank, seed=1)
    opt = torch.optim.AdamW(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, 0.05, total_steps=4 * 10)
    kept = [Checkpoint(folder/f'{size}.pt', resume=resume, every=3, settings=dict(total=40))]
    table = fit(epochs, model, F.cross_entropy, opt, data.DataLoader(ds, 32 // size, sampler=sampler), data.DataLoader(ds, 50),
                metrics={'right': correct}, schedule=schedule, clip=0.5, autocast=autocast, callbacks=[StopAt(13), *kept] if epochs == 4 and not resume else kept, progress=False)
    torch.save([[p.detach() for p in model.parameters()], table.drop(columns='seconds').to_numpy().tolist()], folder/f'{size}-{rank}.value')
    if size > 1:
        torch.distributed.barrier()  # nobody leaves while another is still at work
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize('autocast', [None, torch.bfloat16])
def test_pytorchs_data_parallel_training(tmp_path, autocast):
    "Stopped in the middle, gone on with; two processes agree to the bit, and with one to ten decimals."
    with pytest.raises(Stop): distributed(0, 1, tmp_path, autocast, 4, False)
    distributed(0, 1, tmp_path, autocast, 4, True)
    for resume in False, True:
        port = free_port()
        workers = [HERE.Process(target=distributed, args=(rank, 2, tmp_path, autocast, 4, resume, port)) for rank in range(2)]
        for w in workers: w.start()
        for w in workers: w.join(120)
        for w in workers: w.kill()
        assert [w.exitcode for w in workers] == ([0, 0] if resume else [1, 1])
    (one, table), (two, table2), (other, table3) = (torch.load(tmp_path/f'{name}.value') for name in ('1-0', '2-0', '2-1'))
    assert all(map(torch.equal, two, other)) and table2 == table3
    if autocast is None:
        assert max((a - b).abs().max() for a, b in zip(one, two)) < 1e-10 and np.abs(np.array(table) - table2).max() < 1e-10


def test_accumulating_with_several_workers_is_refused(tmp_path):
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        model, loss, _, *loaders = job()
        model = nn.parallel.DistributedDataParallel(model)
        with pytest.raises(ValueError, match='several workers: expected 1'): fit(1, model, loss, SGD(model.parameters()), *loaders, accumulate=2)
    finally: torch.distributed.destroy_process_group()


class Body(nn.Module):
    "A model that gives features, and holds the head that its loss uses."
    def __init__(self, body, head):
        super().__init__()
        self.body, self.head = body, head
    def forward(self, x): return self.body(x)


def test_loss_of_a_large_vocabulary():
    def trained(large):
        torch.manual_seed(1)
        body, head = nn.Linear(20, 8), nn.Linear(8, 3, bias=False)
        model = Body(body, head) if large else nn.Sequential(body, head)
        loss = (lambda h, y: linear_cross_entropy(h, head.weight, y)) if large else F.cross_entropy
        ds = Dataset(*rows())
        fit(2, model, loss, SGD(model.parameters(), 0.1), *get_dls(ds, ds, 32, generator=torch.Generator().manual_seed(1)), progress=False)
        return [body.weight.detach(), head.weight.detach()]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(trained(False), trained(True)))
