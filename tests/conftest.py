"What several tests need."
from pathlib import Path
import os
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    "A machine on which nobody has put any data: an empty cache and an empty working folder."
    monkeypatch.delenv('MINIBATCH_DATA', raising=False)
    monkeypatch.setenv('MINIBATCH_CACHE', str(tmp_path/'cache'))
    (tmp_path/'work').mkdir()
    monkeypatch.chdir(tmp_path/'work')
    return tmp_path


def pytest_configure(config):
    config.addinivalue_line('markers', 'slow: left out of `make test`; `make check` runs everything')
