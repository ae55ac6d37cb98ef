"A training that is killed at any moment goes on as if it had not been; a checkpoint that does not fit changes nothing."
import multiprocessing, os, random, signal

import pytest
import torch
from minibatch.dataloader import Dataset, get_dls
from minibatch.fit import fit, linear, load_checkpoint
from minibatch.model import Model
from minibatch.exact import cross_entropy
from minibatch.optim import SGD

EPOCHS = 40
HERE = multiprocessing.get_context('forkserver')
HERE.set_forkserver_preload(['torch', 'minibatch.fit'])


def job(nh=16):
    "A small training, with all that a checkpoint must keep: momentum, dropout, a schedule, shuffling."
    torch.set_num_threads(1)
    torch.manual_seed(1)
    rows = Dataset(torch.randn(300, 20), torch.randint(3, (300,)))
    model = torch.nn.Sequential(torch.nn.Dropout(0.1), Model(20, nh, 3))
    opt = SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)
    return model, cross_entropy, opt, *get_dls(rows, rows, 32, generator=torch.Generator().manual_seed(2))


def train(checkpoint, started=None):
    "Train, saving often; called in a process of its own that is going to be killed."
    if started is not None: started.send('now')
    return fit(EPOCHS, *job(), schedule=linear, checkpoint=checkpoint, resume=True, progress=False)


def weights(path):
    model = job()[0]
    history = load_checkpoint(path, model)
    return history.drop(columns='seconds'), [p.detach() for p in model.parameters()]


def test_killed_at_random_moments(tmp_path):
    "SIGKILL, dozens of times, also while it saves: the file is whole each time, and the end is the same to the last bit."
    train(tmp_path/'unbroken.pt')
    expected, unbroken = weights(tmp_path/'unbroken.pt')
    file, clock, kills, epochs = tmp_path/'killed.pt', random.Random(1), 0, []
    while not epochs or epochs[-1] < EPOCHS:
        started, child = HERE.Pipe(duplex=False)
        process = HERE.Process(target=train, args=(file, child))
        process.start()
        assert started.poll(60)
        process.join(clock.uniform(0, 0.05 + kills/1000))  # later and later, so that a slow machine gets to the end
        if process.is_alive(): os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        kills += process.exitcode != 0
        if file.exists(): epochs.append(len(weights(file)[0]))  # loads whatever the kill has left
    print(f"{kills} kills, epochs {epochs}")
    assert kills >= 5 and epochs == sorted(epochs)
    history, killed = weights(file)
    assert history.equals(expected) and all(map(torch.equal, killed, unbroken))
    assert {p.name for p in tmp_path.iterdir()} <= {'unbroken.pt', 'killed.pt', 'killed.pt.partial'}


def test_file_that_does_not_fit_is_left_alone(tmp_path):
    "Cut at every length, or of another network: an error, and neither the file nor the model is touched."
    file = tmp_path/'run.pt'
    fit(1, *job(), checkpoint=file, progress=False)
    whole = file.read_bytes()
    lengths = [0, 1, 100, *range(200, len(whole), len(whole) // 50), len(whole) - 1]
    for bad, nh in [*((whole[:n], 16) for n in lengths), (whole, 17)]:
        file.write_bytes(bad)
        run = job(nh)
        before = [p.clone() for p in run[0].parameters()]
        with pytest.raises(ValueError, match='is not a checkpoint' if nh == 16 else 'another model') as e:
            fit(2, *run, checkpoint=file, resume=True, progress=False)
        assert str(e.value).count('\n') == 0 and file.read_bytes() == bad
        assert all(map(torch.equal, before, run[0].parameters()))


def test_disk_full(tmp_path, monkeypatch):
    "An error while saving ends the run, and leaves the last checkpoint and nothing else."
    file = tmp_path/'run.pt'
    fit(1, *job(), checkpoint=file, progress=False)
    before = file.read_bytes()
    def full(content, f):
        f.write(b'half')
        raise OSError('No space left on device')
    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(OSError, match='No space left'): fit(2, *job(), checkpoint=file, resume=True, progress=False)
    assert file.read_bytes() == before and os.listdir(tmp_path) == ['run.pt']
