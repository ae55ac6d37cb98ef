"`load_mnist` and the bad days: damaged files, hostile files, servers that fail, folders that cannot be written."
import errno, gzip, hashlib, http.server, io, json, multiprocessing, os, pickle, resource, struct, subprocess, sys
import threading, time, tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from minibatch import files
from minibatch import mnist as data
from minibatch.mnist import FILES, load_mnist

LABELS, IMAGES = 't10k-labels-idx1-ubyte', 't10k-images-idx3-ubyte'


@pytest.fixture(scope='session')
def arrays():
    "Pictures and labels of 300 rows to train on and 50 to test on."
    rng = np.random.default_rng(1)
    def some(n): return (rng.integers(0, 256, (n, 784)) * (rng.random((n, 784)) < 0.2)).astype(np.uint8), rng.integers(0, 10, n).astype(np.uint8)
    return *some(300), *some(50)


@pytest.fixture(scope='session')
def digits(arrays):
    "Four IDX contents, small, so that these tests are quick and need no real MNIST."
    return {name: data._idx(a) for name, a in zip(FILES, arrays)}


@pytest.fixture(scope='session')
def hashes(digits): return {name: (len(c), hashlib.sha256(c).hexdigest()) for name, c in digits.items()}


@pytest.fixture(scope='session')
def zipped(digits): return {f'{name}.gz': gzip.compress(c) for name, c in digits.items()}


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
    (lambda whole: gzip.compress(bytes(39_216)), 'its SHA-256 differs'),
    (lambda whole: gzip.compress(b'seven'), '5 bytes where 39,216 were expected'),
    (lambda whole: BOMB, 'more than the 39,216 bytes expected'),
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
    tracemalloc.start()
    with pytest.raises(ValueError): data._read(io.BytesIO(BOMB), 10_008, 'bomb.gz')
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_damaged_data_folder_is_passed_over(folder, arrays, no_data, monkeypatch):
    monkeypatch.setattr(data, '_make_embedded', lambda: arrays)
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


@pytest.fixture(scope='session')
def course(arrays):
    "The content of a `mnist.pkl.gz`, as the course has it."
    x, y, x_test, y_test = (a / np.float32(256) if a.ndim == 2 else a.astype(np.int64) for a in arrays)
    return (x[:200], y[:200]), (x[200:], y[200:]), (x_test, y_test)


@pytest.mark.parametrize('how', ['python 2', 1, 2, 3, 4, 5])
def test_course_pickle(course, digits, how, tmp_path, known, no_data):
    file = tmp_path/'mnist.pkl.gz'
    with gzip.open(file, 'wb', 1) as f:
        if how == 'python 2': Python2Pickler(f, 2).dump(course)
        else: pickle.dump(course, f, protocol=how)
    check_right(load_mnist(file), digits)
    check_right(load_mnist(tmp_path), digits)  # the folder that holds it


@pytest.mark.slow
def test_course_pickle_of_full_size(tmp_path, monkeypatch, no_data):
    "70,000 rows fit into what is read at most, also where protocol 1 writes bytes as text."
    arrays = data._make_embedded()
    x, y, x_test, y_test = (a / np.float32(256) if a.ndim == 2 else a.astype(np.int64) for a in arrays)
    monkeypatch.setattr(data, 'FILES', {name: (len(c), hashlib.sha256(c).hexdigest()) for name, c in zip(FILES, map(data._idx, arrays))})
    file = tmp_path/'mnist.pkl'
    with open(file, 'wb') as f:
        content = (x[:50000], y[:50000]), (x[50000:], y[50000:]), (x_test, y_test)
        pickle.dump(content, f, protocol=1)
    assert (load_mnist(file).y_test.numpy() == y_test).all()


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
def test_foreign_pickle(course, known, no_data, tmp_path, change, says):
    file = tmp_path/'mnist.pkl.gz'
    file.write_bytes(gzip.compress(pickle.dumps(change(course)), 1))
    with pytest.raises(ValueError) as e: load_mnist(file)
    check_one_line(e, str(file), "not the course's mnist.pkl.gz", says)


def reduce(*steps): return b'\x80\x02' + b''.join(steps) + b'.'


GREEDY = {  # what asks for gigabytes without bringing them
    'memo': reduce(b'}r' + struct.pack('<I', 2**31 - 1)),
    'memo in text': b'}p4294967290\n.',
    'byte array': b'\x80\x05\x96' + struct.pack('<Q', 2**33) + b'.',
    'bytes': b'\x80\x04\x8e' + struct.pack('<Q', 2**33) + b'.',
    'frame': b'\x80\x04\x95' + struct.pack('<Q', 2**33) + b'.',
    'shape': reduce(b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x8a\x05', bytes([0, 0, 0, 0, 2]), b'\x85U\x01b\x87R'),
    'shape without bytes': reduce(b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01\x8a\x05', bytes([0, 0, 0, 0, 2]),
                                  b'\x85cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R\x89U\x01atb'),
    'array': reduce(b'cnumpy\nndarray\n\x8a\x05', bytes([0, 0, 0, 0, 2]), b'\x85\x85R'),
    'wide type': reduce(b'cnumpy\ndtype\nX\x0b\x00\x00\x00V2000000000K\x00K\x01\x87R'),
    'many lists': b']' * (200 * 2**20),
}


def limited(file, seconds=60):
    "In a process of its own: what loading `file` says, and how many bytes it took."
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resource.setrlimit(resource.RLIMIT_AS, (10 * 2**30, 10 * 2**30))
    try: load_mnist(file)
    except Exception as e: said = f'{type(e).__name__}: {e}'
    return said, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


@pytest.mark.skipif(sys.platform != 'linux', reason='memory is counted in other units elsewhere')
@pytest.mark.parametrize('name', GREEDY)
def test_greedy_pickle(name, tmp_path):
    file = tmp_path/'mnist.pkl.gz'
    file.write_bytes(gzip.compress(GREEDY[name], 1))
    with multiprocessing.get_context('fork').Pool(1) as pool: said, size = pool.apply_async(limited, (file,)).get(60)
    assert said.startswith('ValueError: ') and str(file) in said and size < 2**30, (said, size)


def test_damaged_pickles(course, tmp_path, no_data):
    "A hundred with bytes changed at random: each is refused in a line, or still a pickle of other arrays."
    whole, rng = pickle.dumps(course, protocol=2)[:4000], np.random.default_rng(1)
    file = tmp_path/'mnist.pkl'
    for _ in range(100):
        content = bytearray(whole)
        for at in rng.integers(0, 300, 2): content[at] = rng.integers(256)
        file.write_bytes(content)
        with pytest.raises(ValueError) as e: load_mnist(file)
        check_one_line(e, str(file))


# Servers

class Server(http.server.ThreadingHTTPServer):
    "Serves the four files on 127.0.0.1, each mirror in its own way: /right/, /missing/, /drops/, /page/, /endless/, /slow/."
    daemon_threads = True

    def __init__(self, zipped):
        super().__init__(('127.0.0.1', 0), Handler)
        self.zipped, self.asked = zipped, []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

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
            for byte in content if way == 'slow' else ():
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.1)
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


@pytest.mark.parametrize('first', ['missing', 'drops', 'page', 'endless', 'slow'])
def test_second_mirror(server, digits, hashes, no_data, monkeypatch, first):
    "`slow` sends ten bytes a second."
    monkeypatch.setattr(data, 'PATIENCE', 0.5)
    monkeypatch.setattr(data, 'MIRRORS', server.mirrors(first, 'right'))
    check_right(load_mnist(source='mnist'), digits)
    check_cache(no_data, hashes)
    assert {way for way, _ in server.asked} == {first, 'right'}


def test_no_mirror_serves(server, arrays, no_data, monkeypatch):
    monkeypatch.setattr(data, '_make_embedded', lambda: arrays)
    monkeypatch.setattr(data, 'MIRRORS', server.mirrors('drops', 'missing') + ['http://127.0.0.1:9/'])
    with pytest.raises(FileNotFoundError) as e: load_mnist(source='mnist')
    check_one_line(e, 'neither in ./data nor in the cache', '/drops/', '404', '127.0.0.1:9')
    assert not (no_data/'cache').exists()
    with pytest.warns(UserWarning, match='embedded stand-in') as caught: mnist = load_mnist()
    assert mnist.source == 'embedded' and [w.category for w in caught].count(UserWarning) == 1


def test_damaged_cache_is_mended(server, digits, hashes, no_data, monkeypatch):
    monkeypatch.setattr(data, 'MIRRORS', server.mirrors('right'))
    load_mnist()
    (no_data/'cache'/f'{LABELS}.gz').write_bytes(b'damaged')
    check_right(load_mnist(source='mnist'), digits)
    check_cache(no_data, hashes)
    assert len(server.asked) == 5


def full(folder): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_cache_that_cannot_be_written(server, digits, arrays, no_data, monkeypatch):
    (no_data/'file').write_text('not a folder')
    monkeypatch.setenv('MINIBATCH_CACHE', str(no_data/'file/cache'))
    monkeypatch.setattr(data, 'MIRRORS', server.mirrors('right'))
    with pytest.warns(UserWarning, match='for this run only'): check_right(load_mnist(), digits)
    monkeypatch.setattr(data, '_make_embedded', lambda: arrays)
    assert load_mnist(source='embedded').source == 'embedded'
    assert (no_data/'file').read_text() == 'not a folder'


def test_full_disk_and_a_cache_that_has_all(server, digits, monkeypatch):
    monkeypatch.setattr(data, 'MIRRORS', server.mirrors('right'))
    load_mnist()
    monkeypatch.setattr(files, '_new_file', full)
    monkeypatch.setattr('tempfile.tempdir', '/nowhere')
    check_right(load_mnist(), digits)
    assert len(server.asked) == 4


def test_full_disk(server, digits, arrays, no_data, monkeypatch):
    monkeypatch.setattr(data, 'MIRRORS', server.mirrors('right'))
    monkeypatch.setattr(files, '_new_file', full)
    with pytest.warns(UserWarning, match='for this run only.*No space left on device') as caught: check_right(load_mnist(), digits)
    assert len(caught) == 1 and not list((no_data/'cache').iterdir())
    monkeypatch.setattr(data, '_make_embedded', lambda: arrays)
    assert load_mnist(source='embedded').source == 'embedded'


def test_no_home(server, digits, no_data, monkeypatch):
    "Neither $HOME nor an entry among the users: no folder named ~ appears."
    monkeypatch.setattr(data, 'MIRRORS', server.mirrors('right'))
    for name in 'HOME', 'MINIBATCH_CACHE', 'XDG_CACHE_HOME': monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, 'expanduser', lambda path: path)
    monkeypatch.setattr(data.pooch, 'os_cache', lambda project: Path('~/.cache')/project)
    with pytest.warns(UserWarning, match='for this run only.*MINIBATCH_CACHE'): check_right(load_mnist(), digits)
    assert not os.listdir('.')


def test_two_processes_at_once(server, hashes, digits, no_data, monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    code = ('import json, sys; import numpy as np; from minibatch import mnist as data; data.FILES, data.MIRRORS = json.loads(sys.argv[1]);'
            'x, y = np.zeros((300, 784), np.uint8), np.zeros(300, np.uint8); data._make_embedded = lambda: (x, y, x, y);'
            'm = data.load_mnist(source="mnist"); print(m.source, int(m.y_test.sum()), data._load_embedded().source)')
    argv = [sys.executable, '-c', code, json.dumps([hashes, server.mirrors('right')])]
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    expected = f'mnist {sum(digits[LABELS][8:])} embedded\n'
    assert [p.communicate()[0] for p in both] == [expected, expected]
    assert sorted(p.name for p in (no_data/'cache').iterdir()) == sorted([f'{name}.gz' for name in hashes] + ['embedded-1.npz'])


# The stand-in

def test_embedded_is_kept_and_mended(no_data, arrays, monkeypatch):
    monkeypatch.setattr(data, '_make_embedded', lambda: arrays)
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
