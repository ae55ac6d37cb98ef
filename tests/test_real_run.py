"A language model of Python code: nothing is lost in its tokens, held-out files stay unseen, and kills and workers change no weight."
import math, os, random, signal, subprocess, sys, time, tokenize

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from minibatch.dataloader import Dataset
from minibatch.fit import Callback, finished_epochs
from minibatch.real_run import (TokenModel, Vocabulary, bigram, corpus, minibatch_lm, perplexity, python_files, source, spread, tokens,
                                unigram)

ENV = {**os.environ, 'OMP_NUM_THREADS': '1'}


# Tokens

CODE = ["", "\n", "# nothing but a comment", "x=1", "x = 1;y = 2\n", "if x: pass\nelse: pass\n", "def f(*a, b:int=3, **k)->int: return -a[0]\n",
        "@a.b(1)\nclass A(B, metaclass=C):\n\t'doc'\n\tx: int = 3\n\n\tdef f(self): ...\n", "from . import a\nfrom .. import b\nfrom ... import c\nfrom ..d import e\n",
        "1 .real, 1..real, 1.5.real, 0x1f, 1_000, 1e-5, 3j\n", "x[1:2, ::3, ...], x[a:=1], {**a, 'b': 1}, (*c,)\n", "lambda *a: (yield)\n",
        "a = b'x' rb'y' 'it''s' \"q\" '''two\nlines''' u'u'\n", "x = 1 + \\\n    2\n", "x = [1, # one\n     2]\n", "async def f():\n  await g()\n  async for x in y: pass\n",
        "match x:\n  case [1, *rest] if rest: pass\n", "x = a if b else not c\nassert a is not b, a @ b // c ** d\n", "print >>f, x\n", "é = 'ü'\n", "\x0c\nx = 1\n",
        "if a:\n  if b:\n    x\nelse:\n    y", "x = f'a{b}c'\n", "x = f'{a!r:>{width}} {{}} {b[0]}' f\"{c}\"\n", "x = rf'''{a}\n  {b:%Y}'''\n", "global x; del x\n",
        "a<b>c<=d!=e<<f>>g&h|i^~j\n", "x+=1;x//=2;x**=3;x>>=4;x@=5\n", "(a)(b)[c](d).e\n", "return(1)\nprint (2)\nnot(x)\n"]
NESTED = ["x = f'{a[f'{b}']}'\n", "x = f'{'\\n'.join(a)}'\n"]  # since Python 3.12


@pytest.mark.parametrize('code', CODE + NESTED * (sys.version_info >= (3, 12)))
def test_tokens_of_source_are_the_same(code): assert tokens(source(tokens(code))) == tokens(code)


def test_tokens_of_the_library():
    for path in python_files(limit=25):
        with tokenize.open(path) as f: found = tokens(f.read())
        assert tokens(source(found)) == found, path


def test_f_string_is_one_token():
    for text in "f'a{b}c'", "rf'''{a}\n  {b:%Y}'''", "f'{a!r:>{width}} {{}}'": assert tokens(f'x = {text}\n')[2] == text


def test_comments_and_blank_lines_are_no_tokens():
    assert tokens('# a\n\nx = [1, # b\n\n 2]\n\n# c\n') == tokens('x = [1, 2]\n')


@settings(deadline=None)
@given(st.lists(st.sampled_from(['<newline>', '<indent>', '<dedent>', '<end>', 'x', 'if', '1', '.', '(', ')', "'s'", '=', ':']), max_size=40))
def test_any_tokens_can_be_written(found):
    "A model writes what it likes; nothing is added, and nothing but marks and spaces is lost."
    words = [t for t in found if t not in ('<newline>', '<indent>', '<dedent>', '<end>')]
    assert ''.join(source(found).split()) == ''.join(words)


@pytest.mark.parametrize('code', ['x = (1', "'''open", '  x\n y\n'])
def test_what_is_not_python_is_refused(code):
    with pytest.raises((SyntaxError, tokenize.TokenError)): tokens(code)


# Vocabulary and corpus

@settings(deadline=None)
@given(st.lists(st.sampled_from('abcdefgh')), st.lists(st.sampled_from('abcdefghij')), st.integers(1, 3))
def test_vocabulary(seen, asked, min_count):
    known = {t for t in seen if seen.count(t) >= min_count}
    if not known:
        with pytest.raises(ValueError, match='expected at least one'): Vocabulary(seen, min_count)
        return
    words = Vocabulary(seen, min_count)
    assert set(words.words) == {'<unknown>', *known} and len(words) == len(known) + 1
    assert words.decode(words.encode(asked)) == [t if t in known else '<unknown>' for t in asked]
    counts = [seen.count(t) for t in words.words[1:]]
    assert counts == sorted(counts, reverse=True)


def folder_of(path, n, code='def name_{i}(x):\n    return common + name_{i}\n'):
    path.mkdir(exist_ok=True)
    for i in range(n): (path/f'f{i:03}.py').write_text(code.format(i=i))
    return path


def test_held_out_files_stay_unseen(tmp_path):
    text = corpus(python_files(folder_of(tmp_path/'a', 40)), context=3)
    assert [p.name for p in text.files] == ['f000.py', 'f010.py', 'f020.py', 'f030.py']
    assert not any(f'name_{i}' in text.words.ids for i in (0, 10, 20, 30))
    own = [i for i in range(40) if i % 10 and f'name_{i}' not in text.words.ids]  # every tenth of the training files
    assert len(own) == 4
    for rows in text.train, text.valid:
        x, y = rows.tensors
        assert x.shape == (len(y), 3) and (y > 0).all() and (x == 0).any()  # unknown names are read, never asked for
        assert {'common', 'return'} <= set(text.words.decode(y.tolist()))


def test_rows_are_what_stands_in_the_files(tmp_path):
    text = corpus(python_files(folder_of(tmp_path/'a', 20)), context=4)
    x, y = text.valid[0]
    assert text.words.decode(x.tolist()) == ['def', '<unknown>', '(', 'x'] and text.words.words[y] == ')'


def test_a_file_that_is_not_python_is_left_out(tmp_path):
    folder = folder_of(tmp_path/'a', 20)
    before = corpus(python_files(folder))
    (folder/'z1.py').write_text('(')
    (folder/'z2.py').write_bytes(b'\xff\xfe\x00')
    (folder/'z3.py').write_text('# coding: nowhere\n')
    (folder/'z4.py').write_text('')  # empty, but Python, and held back
    after = corpus(python_files(folder))
    assert after.files == [*before.files, folder/'z4.py'] and after.words.words == before.words.words and len(after.train) == len(before.train)


@pytest.mark.parametrize('code, n, expected', [('', 30, 'to measure on: expected'), ('x\n', 19, '19 files are Python'), ('(', 30, '0 files are Python')])
def test_too_little_is_refused(tmp_path, code, n, expected):
    with pytest.raises(ValueError, match=expected): corpus(python_files(folder_of(tmp_path/'a', n, code)))


def test_python_files(tmp_path):
    folder_of(tmp_path, 3)
    for part in 'test', 'site-packages', 'sub': folder_of(tmp_path/part, 2)
    names = [str(p.relative_to(tmp_path)) for p in python_files(tmp_path)]
    assert names == ['f000.py', 'f001.py', 'f002.py', os.path.join('sub', 'f000.py'), os.path.join('sub', 'f001.py')]
    assert len(python_files(tmp_path, 2)) == 2 and len(python_files(tmp_path, 100)) == 5
    assert folder_of(tmp_path/'test'/'mine', 2) and len(python_files(tmp_path/'test'/'mine')) == 2  # what lies above does not matter


def test_the_library_is_a_real_problem():
    files = python_files()
    assert len(files) > 300 and not any('site-packages' in p.parts for p in files)


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 50))
def test_spread(rows, n):
    found = spread(Dataset(torch.arange(rows)), n).tensors[0]
    assert len(found) == rows if rows < 2 * n else n <= len(found) <= 2 * n
    assert found[0] == 0 and len(found.diff().unique()) <= 1


# Models that count

@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_bigram_by_hand(seed):
    torch.manual_seed(seed)
    train = Dataset(torch.randint(6, (30, 2)), torch.randint(6, (30,)))
    (x, y), pairs = train.tensors, torch.cartesian_prod(torch.arange(6), torch.arange(6))
    p = bigram(train, Dataset(pairs[:, :1], pairs[:, 1]), 6).reshape(6, 6)
    torch.testing.assert_close(p.sum(1), torch.ones(6, dtype=torch.float64))
    for a in range(6):
        follow = y[x[:, 1] == a].tolist()
        for b in range(6):
            one = ((y == b).sum().item() + 1) / (30 + 6)
            kinds = len(set(follow))
            expected = (follow.count(b) + kinds * one) / (len(follow) + kinds) if follow else one
            assert math.isclose(p[a, b].item(), expected)


def test_perplexity(): assert math.isclose(perplexity(torch.tensor([0.5, 0.125])), 4)


# The model

def small_model(dtype=torch.float64):
    torch.manual_seed(1)
    return TokenModel(torch.tensor([.1, .2, .3, .4]), context=3, d=5, nh=7).to(dtype)


def test_untrained_model_is_the_unigram():
    model, x, y = small_model(), torch.randint(4, (9, 3)), torch.randint(4, (9,))
    expected = -torch.tensor([.1, .2, .3, .4], dtype=torch.float64)[y].log()
    torch.testing.assert_close(model.loss(model(x), y, reduction='none'), expected, rtol=1e-6, atol=1e-6)


def test_tied_weights_have_both_gradients():
    model, x, y = small_model(), torch.randint(4, (9, 3)), torch.randint(4, (9,))
    torch.nn.init.normal_(model.layers[-1].weight)
    def plain(): return F.cross_entropy(F.linear(model(x), model.embedding.weight, model.bias), y)
    ours, theirs = (torch.autograd.grad(loss, list(model.parameters())) for loss in (model.loss(model(x), y), plain()))
    for a, b in zip(ours, theirs): torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


# The command

@pytest.mark.parametrize('argv, expected', [
    (['--folder', '/nowhere'], "folder is '/nowhere': expected a folder with Python files."),
    (['--folder', __file__], 'expected a folder'), (['--folder', 'EMPTY'], '0 files are Python: expected 20 or more'),
    (['--folder', 'FEW'], '19 files are Python'), (['--folder', 'BLANK'], 'to measure on: expected'), (['--rows', '0'], 'rows is 0: expected'), (['--lr', 'nan'], 'lr is nan'),
    (['--dtype', 'int8'], "dtype is 'int8': expected"), (['--resume'], 'resume needs a checkpoint'), (['--checkpoint', '/nowhere/run.pt'], 'does not exist'),
    (['--files', '0'], 'files is 0')])
def test_wrong_argument_gets_one_line(argv, expected, tmp_path, capsys):
    (tmp_path/'EMPTY').mkdir()
    folder_of(tmp_path/'FEW', 19)
    folder_of(tmp_path/'BLANK', 30, '')
    with pytest.raises(SystemExit) as e: minibatch_lm([str(tmp_path/a) if a.isupper() else a for a in argv])
    out, err = capsys.readouterr()
    assert e.value.code == 2 and err.count('\n') == 1 and err.startswith('minibatch-lm: ') and expected in err and not out


FEW = '--nh 16 --features 8 --measure 300'.split()


def test_trains(tmp_path, capsys):
    folder = folder_of(tmp_path/'code', 40)
    minibatch_lm(['--folder', str(folder), '--rows', '100', '--bs', '30', '--epochs', '2', '--losses', str(tmp_path/'a.csv'), *FEW])
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3 and 'workers: 1' in said[0] and said[2].startswith('epoch 2: train_loss')
    losses = pd.read_csv(tmp_path/'a.csv').loss
    assert len(losses) == 8 and losses.iloc[-1] < losses.iloc[0]


@pytest.fixture
def script(tmp_path):
    (tmp_path/'lm.py').write_text('from minibatch.real_run import minibatch_lm\nminibatch_lm()\n')
    return str(tmp_path/'lm.py')


def command(script, workers, *argv):
    torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(workers)] if workers > 1 else []
    return [sys.executable, *torchrun, script, *FEW, *map(str, argv)]


def weights(path): return torch.load(path, weights_only=True)['model']


@pytest.mark.slow
def test_killed_and_resumed_is_the_same_to_the_bit(script, tmp_path):
    "Killed at random moments, also while a checkpoint is being written."
    argv = '--files 30 --rows 3000 --bs 25 --epochs 2 --every 1'.split()
    def ends(name): return ['--checkpoint', tmp_path/f'{name}.pt', '--losses', tmp_path/f'{name}.csv']
    subprocess.run(command(script, 1, *argv, *ends('whole')), env=ENV, check=True, capture_output=True)
    kills = 0
    while True:
        process = subprocess.Popen(command(script, 1, *argv, *ends('cut'), '--resume'), env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        before = (tmp_path/'cut.pt').stat().st_mtime_ns if (tmp_path/'cut.pt').exists() else 0
        until = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < until:  # it has saved at least once more
            if (tmp_path/'cut.pt').exists() and (tmp_path/'cut.pt').stat().st_mtime_ns > before: break
            time.sleep(0.01)
        time.sleep(random.random() / 5)
        if kills == 2: break
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        if process.returncode == 0: break
    assert process.wait(300) == 0 and kills, process.stderr.read()
    process.communicate()
    a, b = weights(tmp_path/'whole.pt'), weights(tmp_path/'cut.pt')
    assert all(torch.equal(a[name], b[name]) for name in a) and finished_epochs(tmp_path/'cut.pt') == 2
    assert (tmp_path/'whole.csv').read_text() == (tmp_path/'cut.csv').read_text()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='where workers meet by their names takes long elsewhere')
@pytest.mark.parametrize('workers, rows', [(2, 1000), (3, 1001)])  # 1001: two of three workers have no row of the last batch
def test_workers_end_with_the_weights_of_one(script, tmp_path, workers, rows):
    "The loss uses parameters itself, the last layer's: their gradients must be weighed like all others."
    argv = ['--files', 30, '--rows', rows, '--bs', 50, '--epochs', 2, '--dtype', 'float64']
    for n in 1, workers:
        done = subprocess.run(command(script, n, *argv, '--checkpoint', tmp_path/f'{n}.pt'), env=ENV, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0 and f'workers: {n}' in done.stdout, done.stderr
    one, several = weights(tmp_path/'1.pt'), weights(tmp_path/f'{workers}.pt')
    for name in one: assert (one[name] - several[name]).abs().max() < 1e-10, name


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='where workers meet by their names takes long elsewhere')
def test_two_workers_go_on_from_what_one_has_left(script, tmp_path):
    argv = '--files 30 --rows 500 --bs 50 --dtype float64 --epochs 4 --every 15'.split()
    subprocess.run(command(script, 1, *argv, '--checkpoint', tmp_path/'whole.pt'), env=ENV, check=True, capture_output=True)
    with subprocess.Popen(command(script, 1, *argv, '--checkpoint', tmp_path/'cut.pt'), env=ENV, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith('epoch 1:'): process.kill()
    subprocess.run(command(script, 2, *argv, '--checkpoint', tmp_path/'cut.pt', '--resume'), env=ENV, check=True, capture_output=True, timeout=300)
    a, b = weights(tmp_path/'whole.pt'), weights(tmp_path/'cut.pt')
    for name in a: assert (a[name] - b[name]).abs().max() < 1e-10, name
