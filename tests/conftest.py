"What several tests need."
import multiprocessing, os, signal, socket, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HERE = multiprocessing.get_context('forkserver')  # a process starts in milliseconds: torch is there already
HERE.set_forkserver_preload(['torch._dynamo', 'minibatch.cli'])  # DistributedDataParallel imports _dynamo: 3 s


# A shell starts background jobs with SIGINT ignored, and what is tested here would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN: signal.signal(signal.SIGINT, signal.default_int_handler)


def redirect(file):
    "In a process of `HERE`: standard output and error go into a file."
    out = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for fd in 1, 2: os.dup2(out, fd)
    sys.stdout, sys.stderr = (os.fdopen(fd, 'w', buffering=1, closefd=False) for fd in (1, 2))


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    "A machine on which nobody has put any data: an empty cache and an empty working folder."
    monkeypatch.delenv('MINIBATCH_DATA', raising=False)
    monkeypatch.setenv('MINIBATCH_CACHE', str(tmp_path/'cache'))
    (tmp_path/'work').mkdir()
    monkeypatch.chdir(tmp_path/'work')
    return tmp_path


@pytest.fixture
def with_slow(request):
    "Are the cells marked slow to be run, as slow tests are? Not in `make test`."
    return 'not slow' not in request.config.option.markexpr


def pytest_configure(config):
    config.addinivalue_line('markers', 'slow: left out of `make test`; `make check` runs everything')
    config.addinivalue_line('markers', 'elsewhere: the site in a browser, and the notebooks as on other processors')


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    "With two processes (`-n 2 --dist loadgroup`) a file stays in one, for what its tests share; notebooks go where there is time."
    for item in items:
        if item.path.name != 'test_notebooks.py': item.add_marker(pytest.mark.xdist_group(item.path.stem))
