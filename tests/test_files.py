"A file appears whole, or not at all, whoever else writes it or kills its writer."
import contextlib, multiprocessing, os, resource, signal, time
from pathlib import Path

import pytest
import torch
from minibatch.files import atomic_write, check_outputs


def check_one_line(error, *parts):
    message = str(error.value)
    assert '\n' not in message
    for part in parts: assert part in message


@contextlib.contextmanager
def file_size(most):
    "A disk, as it were, on which no file may be larger."
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, old[1]))
    try: yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize('save', [lambda f: torch.save(torch.zeros(10_000), f), lambda f: f.write(bytes(40_000))], ids=['torch', 'bytes'])
def test_full_disk_names_the_file(save, tmp_path):
    (tmp_path/'run.pt').write_bytes(b'before')
    with file_size(10_000), pytest.raises(OSError) as e:
        with atomic_write(tmp_path/'run.pt') as f: save(f)
    check_one_line(e, 'File too large', str(tmp_path/'run.pt'))
    assert os.listdir(tmp_path) == ['run.pt'] and (tmp_path/'run.pt').read_bytes() == b'before'


def test_link_is_followed_and_rights_are_usual(tmp_path):
    (tmp_path/'there').mkdir()
    (tmp_path/'run.pt').symlink_to('there/run.pt')
    with atomic_write(tmp_path/'run.pt') as f: f.write(b'new')
    (tmp_path/'plain').write_bytes(b'')
    assert (tmp_path/'run.pt').is_symlink() and (tmp_path/'there/run.pt').read_bytes() == b'new'
    assert (tmp_path/'there/run.pt').stat().st_mode == (tmp_path/'plain').stat().st_mode


def write_and_wait(path):
    with atomic_write(path) as f:
        f.write(b'half')
        f.flush()
        time.sleep(60)


def test_left_overs_are_swept(tmp_path):
    "Those of a killed process, not those of one that writes, and nothing that is not ours."
    fork = multiprocessing.get_context('fork')
    def begin():
        known = set(os.listdir(tmp_path))
        process = fork.Process(target=write_and_wait, args=(tmp_path/'run.pt',))
        process.start()
        while not (new := set(os.listdir(tmp_path)) - known): time.sleep(0.01)
        return process, new.pop()
    killed, left = begin()
    killed.kill()
    killed.join()
    assert (tmp_path/left).exists()
    alive, in_use = begin()  # sweeps
    assert sorted(os.listdir(tmp_path)) == [in_use]
    os.mkfifo(tmp_path/f'.minibatch-{"0" * 16}')
    (tmp_path/f'.minibatch-{"1" * 16}').symlink_to('mine')
    for name in 'mine', '.minibatch-notes', 'run.pt.partial': (tmp_path/name).write_bytes(b'mine')
    with atomic_write(tmp_path/'run.pt') as f: f.write(b'whole')
    assert (tmp_path/in_use).exists() and (tmp_path/'run.pt').read_bytes() == b'whole' and len(os.listdir(tmp_path)) == 7
    alive.kill()
    alive.join()


def write_often(path, byte, until):
    while time.monotonic() < until:
        with atomic_write(path) as f:
            for _ in range(100): f.write(byte * 1000)


def test_two_writers(tmp_path):
    "Readers see one file or the other, whole."
    fork, file, until = multiprocessing.get_context('fork'), tmp_path/'run.pt', time.monotonic() + 2
    writers = [fork.Process(target=write_often, args=(file, byte, until)) for byte in (b'a', b'b')]
    for w in writers: w.start()
    looks = set()
    while time.monotonic() < until:
        if file.exists(): looks.add(file.read_bytes())
    for w in writers: w.join()
    assert [w.exitcode for w in writers] == [0, 0] and looks <= {b'a' * 100_000, b'b' * 100_000} and looks
    assert os.listdir(tmp_path) == ['run.pt']


@pytest.mark.parametrize('path, says', [('', 'expected the name of a file'), ('no/x.csv', 'its folder does not exist'), ('folder', 'it is a folder'),
                                        ('pipe', 'it is not a regular file'), ('x' * 300, 'too long'), ('file/x.csv', 'its folder does not exist'),
                                        ('other', "other and history are both")])
def test_outputs_that_cannot_be_written(path, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'folder').mkdir()
    (tmp_path/'file').write_text('')
    (tmp_path/'other').symlink_to('run.csv')
    os.mkfifo(tmp_path/'pipe')
    before = sorted(os.listdir())
    with pytest.raises((OSError, ValueError)) as e: check_outputs(other='run.csv', nothing=None, history=path)
    check_one_line(e, 'history', repr(path), says)
    assert sorted(os.listdir()) == before


def test_nothing_of_others_is_touched(tmp_path):
    "A user's files, links and pipes with names like ours, and a file that is being written."
    mine, hex16 = tmp_path/'precious', '0123456789abcdef'
    mine.write_text('mine')
    for name in 'run.pt.partial', '.run.pt.partial', '.run.pt.old.partial', f'.minibatch-{hex16}.pt': (tmp_path/name).write_text('mine')
    (tmp_path/f'.minibatch-{hex16}').symlink_to(mine)
    os.mkfifo(tmp_path/f'.minibatch-{hex16[::-1]}')
    (tmp_path/f'.minibatch-{hex16[8:]*2}').mkdir()
    left = tmp_path/f'.minibatch-{hex16[:8]*2}'
    left.write_text('what a killed run has left')
    before = {p.name for p in tmp_path.iterdir()}
    with atomic_write(tmp_path/'run.pt') as f:
        [writing] = [p for p in tmp_path.iterdir() if p.name not in before]
        with atomic_write(tmp_path/'run.pt') as g: g.write(b'inner')
        assert writing.exists()
        f.write(b'outer')
    assert (tmp_path/'run.pt').read_bytes() == b'outer' and mine.read_text() == 'mine'
    assert {p.name for p in tmp_path.iterdir()} == before - {left.name} | {'run.pt'}
