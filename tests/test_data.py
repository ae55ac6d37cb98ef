"`load_mnist` and the bad days: damaged files, hostile files, servers that fail, folders that cannot be written."
import gzip, hashlib, http.server, json, pickle, struct, subprocess, sys, threading, tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from minibatch import mnist as data
from minibatch.mnist import FILES, load_mnist

LABELS, IMAGES = 't10k-labels-idx1-ubyte', 't10k-images-idx3-ubyte'


@pytest.fixture(scope='session')
def digits():
    "Four IDX contents with MNIST's sizes, made from the stand-in, so that these tests need no real MNIST."
    return {name: data._idx(a) for name, a in zip(FILES, data._make_embedded())}


@pytest.fixture(scope='session')
def hashes(digits): return {name: (len(c), hashlib.sha256(c).hexdigest()) for name, c in digits.items()}


@pytest.fixture(scope='session')
def zipped(digits): return {f'{name}.gz': gzip.compress(c, 1) for name, c in digits.items()}


@pytest.fixture
def known(monkeypatch, hashes): monkeypatch.setattr(data, 'FILES', hashes)


@pytest.fixture
def folder(tmp_path, zipped, known, no_data):
    "A folder with the four files."
    folder = tmp_path/'mnist'
    folder.mkdir()
    for name, content in zipped.items(): (folder/name).write_bytes(content)
    return folder


def check_right(mnist, digits):
    assert mnist.source == 'mnist'
    assert data._idx((torch.cat([mnist.x_train, mnist.x_valid]) * 256).numpy()) == digits['train-images-idx3-ubyte']
    assert data._idx(mnist.y_test.numpy()) == digits[LABELS]


def check_one_line(error, *parts):
    message = str(error.value)
    assert '\n' not in message
    for part in parts: assert part in message


# Places

def test_folder(folder, digits): check_right(load_mnist(folder), digits)


def test_files_without_gz(folder, digits):
    for name, content in digits.items():
        (folder/f'{name}.gz').unlink()
        (folder/name).write_bytes(content)
    check_right(load_mnist(str(folder)), digits)


def test_environment(folder, digits, monkeypatch):
    monkeypatch.setenv('MINIBATCH_DATA', str(folder))
    check_right(load_mnist(), digits)


def test_data_folder(folder, digits, no_data):
    folder.rename(no_data/'work/data')
    check_right(load_mnist(), digits)


def test_path_goes_before_environment(folder, digits, monkeypatch):
    monkeypatch.setenv('MINIBATCH_DATA', '/nowhere')
    check_right(load_mnist(folder), digits)


def test_missing_file_is_named(folder):
    (folder/f'{LABELS}.gz').unlink()
    with pytest.raises(FileNotFoundError) as e: load_mnist(folder)
    check_one_line(e, str(folder), f'has no {LABELS} ')


# Damaged and hostile files

BOMB = gzip.compress(bytes(2**24), 9) * 256  # 4 GiB of zeros in 4 MB

@pytest.mark.parametrize('content, says', [
    (lambda whole: whole[:len(whole)//2], 'not a whole gzip file'),
    (lambda whole: b'<!DOCTYPE html><html><title>Not found</title></html>', 'not a whole gzip file'),
    (lambda whole: whole[:100] + bytes([whole[100] ^ 255]) + whole[101:], 'not'),
    (lambda whole: b'', 'expected'),
    (lambda whole: gzip.compress(bytes(7_840_016)), 'its SHA-256 differs'),
    (lambda whole: gzip.compress(b'seven'), '5 bytes where 7,840,016 were expected'),
    (lambda whole: BOMB, 'more than the 7,840,016 bytes expected'),
], ids=['truncated', 'web page', 'one byte changed', 'empty', 'other content', 'other size', 'bomb'])
@pytest.mark.parametrize('how', ['path', 'environment'])
def test_damaged_file(folder, zipped, monkeypatch, content, says, how):
    (folder/f'{IMAGES}.gz').write_bytes(content(zipped[f'{IMAGES}.gz']))
    if how == 'environment': monkeypatch.setenv('MINIBATCH_DATA', str(folder))
    monkeypatch.setattr(data, 'MIRRORS', [])
    with pytest.raises(ValueError) as e: load_mnist(folder if how == 'path' else None)
    check_one_line(e, f'{IMAGES}.gz', says, 'Delete it and download it again')
    if how == 'environment': check_one_line(e, '$MINIBATCH_DATA')


def test_bomb_is_not_unpacked(tmp_path):
    (tmp_path/'bomb.gz').write_bytes(BOMB)
    tracemalloc.start()
    with pytest.raises(ValueError): data._read(tmp_path/'bomb.gz', 10_008)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_damaged_data_folder_is_passed_over(folder, no_data, monkeypatch):
    folder.rename(no_data/'work/data')
    (no_data/'work/data'/f'{LABELS}.gz').write_bytes(b'damaged')
    monkeypatch.setattr(data, 'MIRRORS', [])
    with pytest.warns(UserWarning) as caught: assert load_mnist().source == 'embedded'
    said = [str(w.message) for w in caught]
    assert len(said) == 2 and said[0].startswith('Passed over ./data') and 'embedded stand-in' in said[1]


# The course's pickle

class Python2Pickler(pickle._Pickler):
    "Writes bytes as Python 2 did, whose strings were bytes; the course's file was made with it."
    dispatch = dict(pickle._Pickler.dispatch)
    def save_bytes(self, obj): self.write(pickle.BINSTRING + struct.pack('<i', len(obj)) + obj)
    dispatch[bytes] = save_bytes


def course_pickle(mnist):
    "The content of a `mnist.pkl.gz`, as the course has it."
    return tuple((getattr(mnist, f'x_{s}').numpy(), getattr(mnist, f'y_{s}').numpy()) for s in ('train', 'valid', 'test'))


@pytest.mark.parametrize('how', ['python 2', 5])
def test_course_pickle(folder, digits, how, tmp_path):
    content = course_pickle(load_mnist(folder))
    file = tmp_path/'mnist.pkl.gz'
    with gzip.open(file, 'wb', 1) as f:
        if how == 'python 2': Python2Pickler(f, 2).dump(content)
        else: pickle.dump(content, f, protocol=how)
    check_right(load_mnist(file), digits)
    check_right(load_mnist(tmp_path), digits)  # the folder that holds it


def test_pickle_runs_nothing(tmp_path, no_data):
    class Evil:
        def __reduce__(self): return __import__('os').system, (f'touch {tmp_path}/ran',)
    file = tmp_path/'mnist.pkl.gz'
    file.write_bytes(gzip.compress(pickle.dumps(Evil())))
    with pytest.raises(ValueError) as e: load_mnist(file)
    check_one_line(e, str(file), 'system, which no array needs')
    assert not (tmp_path/'ran').exists()


@pytest.mark.parametrize('change, says', [
    (lambda c: c[:2], 'not enough values'),
    (lambda c: ((c[0][0] + np.float32(1/512), c[0][1]), *c[1:]), 'not whole and from 0 to 255'),
    (lambda c: (c[1], c[0], c[2]), 'its SHA-256 differs'),
    (lambda c: 'seven', 'unpack'),
], ids=['no test set', 'other pixels', 'sets exchanged', 'a string'])
def test_foreign_pickle(folder, tmp_path, change, says):
    file = tmp_path/'mnist.pkl.gz'
    file.write_bytes(gzip.compress(pickle.dumps(change(course_pickle(load_mnist(folder)))), 1))
    with pytest.raises(ValueError) as e: load_mnist(file)
    check_one_line(e, str(file), "not the course's mnist.pkl.gz", says)


# Servers

class Server(http.server.ThreadingHTTPServer):
    "Serves the four files on 127.0.0.1, each mirror in its own way: /right/, /missing/, /drops/, /page/, /endless/."
    daemon_threads = True

    def __init__(self, zipped):
        super().__init__(('127.0.0.1', 0), Handler)
        self.zipped, self.asked = zipped, []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def mirrors(self, *ways): return [f'http://127.0.0.1:{self.server_port}/{way}/' for way in ways]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        _, way, name = self.path.split('/')
        self.server.asked.append((way, name))
        if way == 'missing': return self.send_error(404)
        content = b'<!DOCTYPE html><title>Please log in</title>' if way == 'page' else self.server.zipped[name]
        self.send_response(200)
        if way != 'endless': self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        if way == 'drops': content = content[:len(content)//2]
        try:
            self.wfile.write(content)
            for _ in range(1024 if way == 'endless' else 0): self.wfile.write(bytes(2**20))
        except OSError: pass  # whoever asked has heard enough

    def log_message(self, *args): pass


@pytest.fixture
def server(zipped, known, no_data):
    server = Server(zipped)
    yield server
    server.shutdown()
    server.server_close()


def check_cache(no_data, hashes):
    "The cache holds the four files, whole, and nothing else."
    assert sorted(p.name for p in (no_data/'cache').iterdir()) == sorted(f'{name}.gz' for name in hashes)


def test_download_then_cache(server, digits, hashes, no_data, monkeypatch):
    monkeypatch.setattr(data, 'MIRRORS', server.mirrors('right'))
    check_right(load_mnist(source='mnist'), digits)
    check_cache(no_data, hashes)
    check_right(load_mnist(), digits)
    assert len(server.asked) == 4


@pytest.mark.parametrize('first', ['missing', 'drops', 'page', 'endless'])
def test_second_mirror(server, digits, hashes, no_data, monkeypatch, first):
    monkeypatch.setattr(data, 'MIRRORS', server.mirrors(first, 'right'))
    check_right(load_mnist(source='mnist'), digits)
    check_cache(no_data, hashes)
    assert {way for way, _ in server.asked} == {first, 'right'}


def test_no_mirror_serves(server, no_data, monkeypatch):
    monkeypatch.setattr(data, 'MIRRORS', server.mirrors('drops', 'missing') + ['http://127.0.0.1:9/'])
    with pytest.raises(FileNotFoundError) as e: load_mnist(source='mnist')
    check_one_line(e, 'neither in ./data nor in the cache', '/drops/', '404', '127.0.0.1:9')
    assert not list((no_data/'cache').iterdir())
    with pytest.warns(UserWarning, match='embedded stand-in') as caught: mnist = load_mnist()
    assert mnist.source == 'embedded' and len(caught) == 1


def test_damaged_cache_is_mended(server, digits, hashes, no_data, monkeypatch):
    monkeypatch.setattr(data, 'MIRRORS', server.mirrors('right'))
    load_mnist()
    (no_data/'cache'/f'{LABELS}.gz').write_bytes(b'damaged')
    check_right(load_mnist(source='mnist'), digits)
    check_cache(no_data, hashes)
    assert len(server.asked) == 5


def test_cache_that_cannot_be_written(server, digits, no_data, monkeypatch):
    (no_data/'file').write_text('not a folder')
    monkeypatch.setenv('MINIBATCH_CACHE', str(no_data/'file/cache'))
    monkeypatch.setattr(data, 'MIRRORS', server.mirrors('right'))
    with pytest.warns(UserWarning, match='for this run only'): check_right(load_mnist(), digits)
    assert load_mnist(source='embedded').source == 'embedded'
    assert (no_data/'file').read_text() == 'not a folder'


def test_two_processes_at_once(server, hashes, digits, no_data, monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    code = ('import json, sys; from minibatch import mnist as data; data.FILES, data.MIRRORS = json.loads(sys.argv[1]);'
            'm = data.load_mnist(source="mnist"); print(m.source, int(m.y_test.sum()), data._load_embedded().source)')
    argv = [sys.executable, '-c', code, json.dumps([hashes, server.mirrors('right')])]
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    expected = f'mnist {sum(digits[LABELS][8:])} embedded\n'
    assert [p.communicate()[0] for p in both] == [expected, expected]
    assert sorted(p.name for p in (no_data/'cache').iterdir()) == sorted([f'{name}.gz' for name in hashes] + ['embedded-1.npz'])


# The stand-in

def test_embedded_is_kept_and_mended(no_data):
    first = load_mnist(source='embedded')
    kept = no_data/'cache/embedded-1.npz'
    whole = kept.read_bytes()
    kept.write_bytes(whole[:len(whole)//2])
    again = load_mnist(source='embedded')
    assert kept.stat().st_size == len(whole)
    assert all(torch.equal(a, b) for a, b in zip(first[:6], again[:6]))


def test_embedded_sets_come_from_different_originals():
    x, _, x_test, _ = data._make_embedded()
    train, valid, test = ({row.tobytes() for row in a} for a in (x[:50000], x[50000:], x_test))
    assert not train & valid and not train & test and not valid & test
