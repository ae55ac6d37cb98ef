"The cells of the notebooks, each run once: they pass and print what is stored. Once more, they pass as on other processors."
import os, subprocess, sys
from pathlib import Path

import pytest
from outputs import NBS, check, longest_first, real_data

NOTEBOOKS = longest_first(sorted(NBS.glob('*.ipynb')))
chapters = pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)

# What PyTorch, MKL and oneDNN do on a processor that has only SSE4.1, and on one without AVX-512.
OLD = dict(ATEN_CPU_CAPABILITY='default', MKL_CBWR='COMPATIBLE', ONEDNN_MAX_CPU_ISA='SSE41')
AVX2 = dict(ATEN_CPU_CAPABILITY='avx2', MKL_CBWR='AVX2', ONEDNN_MAX_CPU_ISA='AVX2')


@pytest.fixture(scope='module')
def real():
    "Is real MNIST here? On the stand-in the cells must pass, and print other numbers."
    found = real_data()
    if not found: print('Real MNIST is not here: the cells run on the stand-in, and their outputs are not compared.')
    return found


@chapters
def test_stored_outputs_are_true(path, real, with_slow):
    problems = check(path, compare=real, slow=with_slow)
    assert not problems, '\n'.join(problems)


@pytest.mark.slow
@pytest.mark.elsewhere
@chapters
def test_as_on_an_old_processor(path):
    problems = check(path, compare=False, slow=False, env=OLD)
    assert not problems, '\n'.join(problems)


@pytest.mark.slow
@pytest.mark.elsewhere
@chapters
def test_nbdev_test_as_without_avx512(path):
    "And by the command that nbdev's users know."
    done = subprocess.run([str(Path(sys.executable).with_name('nbdev_test')), '--path', path], cwd=NBS.parent, env={**os.environ, **AVX2},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
