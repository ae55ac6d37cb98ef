"The commands as a shell sees them: exit status, standard error, signals, terminals, files; and 300 command lines that nobody would type."
import fcntl, os, pty, random, re, signal, struct, subprocess, sys, termios, time, traceback
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import HERE, redirect
import minibatch.cli
from minibatch.cli import _one_line, minibatch_bench, minibatch_train
from minibatch.mnist import MNIST

COMMAND = str(Path(sys.executable).with_name('minibatch-train'))
ENV = {**os.environ, 'OMP_NUM_THREADS': '1'}
FEW = '--source', 'embedded', '--limit', '500'
linux = pytest.mark.skipif(sys.platform != 'linux', reason='looks into /proc')


def run(*argv, **kwargs):
    "The command, started as a shell does: two seconds, for the modules."
    kwargs = {'env': ENV, **kwargs}
    return subprocess.run([COMMAND, *map(str, argv)], capture_output=True, text=True, timeout=120, **kwargs)


def shell(line): return subprocess.run(line, shell=True, capture_output=True, text=True, timeout=120, env=ENV)


def _in_child(argv, folder, out, command, small):
    redirect(out)
    os.chdir(folder)
    torch.set_num_threads(1)
    if small:
        load = minibatch.cli.load_mnist
        x, y = torch.rand(60, 784), torch.arange(60) % 10
        def few(data, source): return MNIST(x, y, x, y, x, y, 'embedded') if data is None and source != 'mnist' else load(data, source=source)
        minibatch.cli.load_mnist = few
    try: command(argv)
    except SystemExit: raise
    except BaseException:
        traceback.print_exc()
        os._exit(99)


def start(*argv, folder, command=minibatch_train, small=False):
    "The command in a process that has the modules already; returns it, and the file with what it prints."
    out = Path(folder).with_name(f'{Path(folder).name}-{random.random()}.txt')
    process = HERE.Process(target=_in_child, args=([str(a) for a in argv], folder, out, command, small))
    process.start()
    return process, out


def call(*argv, folder, seconds=60, **kwargs):
    "Exit status, and what is printed on either stream."
    process, out = start(*argv, folder=folder, **kwargs)
    process.join(seconds)
    if process.is_alive(): process.kill()
    return process.exitcode, out.read_text() if out.exists() else ''


def table(text):
    "The rows of what the command prints: epoch, last minibatch, accuracy."
    rows = text.split('epoch   last minibatch')[1].splitlines()[1:]
    return [re.match(r' *(start|\d+) +(\d\.\d\d), (\d\.\d\d) .*?(0\.\d{4})(?: +[\d.]+ +\d+\.\d)?$', row).groups() for row in rows]


def test_three_epochs(tmp_path):
    "The run that plain `make` shows."
    done = run('--no-shuffle', '--plot', tmp_path/'loss.png')
    assert done.returncode == 0 and (tmp_path/'loss.png').read_bytes().startswith(b'\x89PNG')
    assert os.listdir(tmp_path) == ['loss.png']
    rows = table(done.stdout)
    assert [row[0] for row in rows] == ['start', '1', '2', '3']
    assert 2.2 < float(rows[0][1]) < 2.4 and float(rows[0][3]) < 0.2
    loss, valid = float(rows[-1][1]), float(rows[-1][3])
    if done.stdout.startswith('data: MNIST'): assert loss < 0.3 and valid >= 0.94
    else: assert done.stdout.startswith('data: the embedded') and loss < 0.3 and valid >= 0.9
    assert '\r' not in done.stdout + done.stderr  # no progress bar in a pipe


@pytest.mark.slow
def test_shuffled_with_schedule(tmp_path):
    "97 % on MNIST: the median of three seeds, as each run hangs on every rounding."
    runs = [call('--shuffle', '--schedule', 'linear', '--seed', seed, folder=tmp_path)[1] for seed in (1, 2, 3)]
    middle = sorted(float(table(said)[-1][3]) for said in runs)[1]
    assert middle >= (0.97 if runs[0].startswith('data: MNIST') else 0.9)


def test_stopped_and_gone_on(tmp_path):
    "Two epochs and two more are four, in the table, in the file and in the picture."
    args = *FEW, '--momentum', '0.5', '--lr', '0.1'
    whole = call(*args, '--epochs', 4, '--history', 'whole.csv', folder=tmp_path)
    saving = *args, '--checkpoint', 'run.pt', '--resume', '--history', 'run.csv'
    first = call(*saving, '--epochs', 2, folder=tmp_path)
    then = call(*saving, '--epochs', 4, '--plot', 'run.svg', folder=tmp_path)
    assert [status for status, _ in (whole, first, then)] == [0, 0, 0] and 'going on from run.pt after epoch 2' in then[1]
    assert table(first[1]) + table(then[1]) == table(whole[1])
    old, new = (pd.read_csv(tmp_path/f'{name}.csv').drop(columns='seconds') for name in ('whole', 'run'))
    assert old.equals(new) and len(new) == 4
    assert sorted(os.listdir(tmp_path)) == ['run.csv', 'run.pt', 'run.svg', 'whole.csv']


def test_no_epoch(tmp_path):
    status, said = call('--epochs', '0', '--plot', 'loss.svg', '--history', 'run.csv', folder=tmp_path, small=True)
    assert status == 0 and len(table(said)) == 1
    assert (tmp_path/'run.csv').read_text() == 'epoch,train_loss,valid_loss,accuracy,lr,seconds\n' and (tmp_path/'loss.svg').exists()


def test_says_which_data(no_data):
    status, said = call('--source', 'embedded', '--epochs', '0', folder=no_data/'work', small=True)
    assert status == 0 and said.startswith('data: the embedded stand-in, not MNIST')


def test_help_and_version(tmp_path):
    _, said = call('--help', folder=tmp_path)
    assert all(f'--{name} ' in said for name in 'epochs bs lr momentum schedule shuffle no-shuffle nh seed threads data source checkpoint resume history plot'.split())
    assert re.fullmatch(r'minibatch \d+\.\d+\.\d+\n', call('--version', folder=tmp_path)[1])


# What it refuses. The chapter tries more of them.

@pytest.mark.parametrize('argv, says', [
    (('--bs', 'many'), "invalid int value: 'many'"), (('--lr', 'nan'), 'lr is nan'), (('--data', 'nowhere'), 'nowhere does not exist'),
    (('--bs', 10**20), f'bs is {10**20}: expected 1 to 1000000'), (('--seed', 2**63), 'seed is 9223372036854775808'), (('--nh', 10**12), 'nh is'),
    (('--threads', 10**6), 'threads is'), (('--lr', '1e39'), 'lr is 1e+39'), (('--momentum', '2'), 'momentum is 2.0'),
    (('--plot', ''), "plot is '': expected the name of a file"), (('--checkpoint', ''), "checkpoint is ''"), (('--data', ''), "path is ''"),
    (('again',), 'unrecognized arguments: again'), (('--plot', 'a\nb.xyz'), r"plot is 'a\nb.xyz'"), (('--plot', 'loss.pgf'), 'ends in .png, .svg or .pdf')],
    ids=lambda a: ' '.join(map(str, a))[:30].replace('\n', ' ') if isinstance(a, tuple) else '')
def test_wrong_argument(argv, says, tmp_path):
    (tmp_path/'work').mkdir()
    status, said = call(*argv, folder=tmp_path/'work', small=True)
    assert status == 2 and said.startswith('minibatch-train: ') and said.count('\n') == 1 and says in said
    assert not os.listdir(tmp_path/'work')


OUTPUTS = [('--plot', 'loss.png'), ('--history', 'run.csv'), ('--checkpoint', 'run.pt')]


@pytest.mark.parametrize('option, name', OUTPUTS, ids=lambda a: a)
@pytest.mark.parametrize('how', ['folder', 'pipe', 'no folder', 'file as folder', 'long', 'loop'])
def test_output_that_cannot_be_written(option, name, how, tmp_path):
    "Noticed before anything is printed, let alone trained."
    folder = tmp_path/'work'
    folder.mkdir()
    if how == 'folder': (folder/name).mkdir()
    if how == 'pipe': os.mkfifo(folder/name)
    if how == 'loop': (folder/name).symlink_to(name)
    if how == 'file as folder': (folder/'file').write_text('')
    path = {'no folder': f'no/{name}', 'file as folder': f'file/{name}', 'long': f'{"x" * 300}{name}'}.get(how, name)
    before = sorted(os.listdir(folder))
    status, said = call(option, path, folder=folder, small=True, seconds=20)
    assert status == 2 and said.count('\n') == 1 and f'{option[2:]} is {path!r}: it cannot be written' in said, said
    assert sorted(os.listdir(folder)) == before


@linux
@pytest.mark.parametrize('option, name', OUTPUTS, ids=lambda a: a)
def test_output_on_a_disk_that_takes_none(option, name, tmp_path):
    status, said = call(option, f'/sys/{name}', folder=tmp_path, small=True)
    assert status == 2 and said.count('\n') == 1 and f'{option[2:]} is' in said and 'cannot be written' in said, said


def test_two_outputs_on_one_file(tmp_path):
    (tmp_path/'link.csv').symlink_to('run.csv')
    for other in 'run.csv', './run.csv', 'link.csv':
        status, said = call('--checkpoint', 'run.csv', '--history', other, folder=tmp_path, small=True)
        assert status == 2 and said.count('\n') == 1 and 'checkpoint and history are both' in said
    assert os.listdir(tmp_path) == ['link.csv']


def test_outputs_of_the_benchmark(tmp_path):
    (tmp_path/'bench.png').mkdir()
    for argv in ('--quick',), ('--quick', '--sweep'), ('--out', ''), ('--rounds', '0'):
        status, said = call(*argv, folder=tmp_path, command=minibatch_bench, small=True)
        assert status == 2 and said.count('\n') == 1 and said.startswith('minibatch-bench: ')


def test_failing_run(tmp_path):
    status, said = call(*FEW, '--lr', '1e30', '--plot', 'loss.png', folder=tmp_path)
    assert status == 1 and 'try a smaller lr' in said.splitlines()[-1]
    assert not os.listdir(tmp_path)


def test_message_keeps_its_reason():
    assert _one_line(RuntimeError('first\n  the reason\n')) == 'first the reason' and _one_line(MemoryError()) == 'MemoryError'


# Streams

def test_reader_that_leaves():
    done = shell(f'{COMMAND} --source embedded --epochs 1 | head -n 1')
    assert done.stdout.startswith('data: ') and done.stderr == ''


def test_ascii(tmp_path):
    "As cron, or a container without a locale, has it; the name of the file is not ASCII either."
    env = {**ENV, 'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}
    done = run(*FEW, '--epochs', 1, '--checkpoint', tmp_path/'é.pt', '--resume', env=env)
    assert done.returncode == 0 and done.stderr == '' and done.stdout.isascii() and len(table(done.stdout)) == 2
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize('closed', ['2>&-', *(pytest.param(c, marks=pytest.mark.slow) for c in ('<&- 2>&-', '<&- >&- 2>&-'))])
def test_closed_streams(closed, tmp_path):
    done = shell(f'{COMMAND} {" ".join(FEW)} --epochs 1 --history {tmp_path}/run.csv --checkpoint {tmp_path}/run.pt {closed}')
    assert done.returncode == 0 and done.stderr == '' and ('>&- 2' in closed and closed.startswith('<&- >') or len(table(done.stdout)) == 2)
    assert sorted(os.listdir(tmp_path)) == ['run.csv', 'run.pt'] and (tmp_path/'run.csv').read_text().startswith('epoch,')


@linux
def test_full_output():
    done = shell(f'{COMMAND} {" ".join(FEW)} > /dev/full')
    assert done.returncode == 1 and done.stderr == 'minibatch-train: standard output cannot be written: No space left on device\n'
    assert shell(f'{COMMAND} --bs 0 2> /dev/full').returncode == 2


def test_no_home_and_no_cache(tmp_path):
    "What needs no cache needs no place for one."
    env = {**ENV, 'HOME': '/proc/nowhere', 'XDG_CACHE_HOME': '/proc/nowhere'}
    env.pop('MINIBATCH_CACHE', None)
    done = run(*FEW, '--epochs', 1, '--history', tmp_path/'run.csv', env=env)
    assert done.returncode == 0 and os.listdir(tmp_path) == ['run.csv']


# Signals

def start_in_terminal(*argv):
    "Start the command with its output in a terminal; returns the process and a function that reads what it has printed."
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('4H', 24, 80, 0, 0))
    # A shell starts background jobs with SIGINT ignored, and that is inherited.
    process = subprocess.Popen([COMMAND, *map(str, argv)], stdout=theirs, stderr=theirs, env=ENV,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    os.close(theirs)
    def read():
        try: return os.read(ours, 65536).decode()
        except OSError: return ''  # the other end is closed
    return process, read


def test_progress_bar_and_interrupt(tmp_path):
    process, read = start_in_terminal('--source', 'embedded', '--epochs', 100, '--plot', tmp_path/'loss.png')
    seen = ''
    while 'epoch 2:' not in seen and '  3   ' not in seen and (more := read()): seen += more
    assert re.search(r'epoch 1: +\d+%\|', seen)
    process.send_signal(signal.SIGINT)
    while more := read(): seen += more
    assert process.wait() == 130
    assert 'minibatch-train: interrupted; nothing was written' in seen and 'Traceback' not in seen
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize('number, status, word', [(signal.SIGINT, 130, 'interrupted'), (signal.SIGTERM, 143, 'terminated')])
def test_interrupted_with_checkpoint(number, status, word, tmp_path):
    process, out = start(*FEW, '--epochs', 100_000, '--checkpoint', 'run.pt', '--history', 'run.csv', folder=tmp_path)
    while not (tmp_path/'run.pt').exists(): time.sleep(0.01)
    os.kill(process.pid, number)
    process.join(20)
    process.kill()  # or it would train on for an hour
    assert process.exitcode == status and out.read_text().endswith(f'minibatch-train: {word}; --resume goes on from the checkpoint\n')
    assert os.listdir(tmp_path) == ['run.pt']
    done = call(*FEW, '--epochs', 1, '--checkpoint', 'run.pt', '--resume', folder=tmp_path)
    assert done[0] == 0 and 'going on from run.pt after epoch ' in done[1] and os.listdir(tmp_path) == ['run.pt']


def catches_sigterm(pid):
    "Python does not, by itself: this is how we see that the command has seen to its signals."
    mask = re.search(r'SigCgt:\s*([0-9a-f]+)', Path(f'/proc/{pid}/status').read_text())[1]
    return int(mask, 16) >> (signal.SIGTERM - 1) & 1


@linux
@pytest.mark.parametrize('number, status, word', [(signal.SIGINT, 130, 'interrupted'), (signal.SIGTERM, 143, 'terminated')])
@pytest.mark.parametrize('wait', [0, pytest.param(0.4, marks=pytest.mark.slow)])
def test_interrupted_while_modules_load(number, status, word, wait, tmp_path):
    process = subprocess.Popen([COMMAND, '--plot', tmp_path/'loss.png'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    while not catches_sigterm(process.pid): time.sleep(0.001)
    time.sleep(wait)
    process.send_signal(number)
    assert process.communicate(timeout=20)[1] == f'minibatch-train: {word}; nothing was written\n'
    assert process.returncode == status and not os.listdir(tmp_path)


# 300 command lines

VALUES = {
    '--epochs': ['0', '1', '2', '-1', '1.5', '', '9' * 25, 'x', '١', ' 1', '1_0'], '--bs': ['1', '7', '50', '0', '-3', '10000000', '1e3', '', 'nan'],
    '--lr': ['0.1', '1', '1e-300', '1e30', '1e400', '-1', '0', 'nan', 'inf', 'fast', ''], '--momentum': ['0', '0.9', '1', '2', '-0.0', 'nan', 'x'],
    '--schedule': ['constant', 'linear', 'cosine', '', 'None', 'LINEAR'], '--nh': ['1', '50', '0', '-1', '99999999999', 'wide'],
    '--seed': ['0', '1', str(2**63 - 1), str(2**63), '-1', ''], '--limit': ['1', '50', '60', '50000', '0', '-5', '99999', ''],
    '--dtype': ['float32', 'float64', 'float16', 'int8', ''], '--threads': ['1', '2', '0', '-1', '99999999', str(2**64)],
    '--data': ['nowhere', '', '/dev/null', '/dev/zero', '.', '~nobody/x', 'file.csv', 'pipe', 'x' * 5000, 'mnist.pkl.gz'],
    '--source': ['auto', 'mnist', 'embedded', 'web', ''],
    '--checkpoint': ['run.pt', 'run.csv', '', 'no/run.pt', '.', '/dev/null', '/dev/full', 'pipe', 'x' * 300, 'link', '-', 'é\udcff.pt', 'file.csv', '~'],
    '--history': ['run.csv', 'run.txt', '', 'no/run.csv', '.csv', '/dev/full', 'pipe.csv', 'a b\n.csv', '\udcff.csv'],
    '--plot': ['a.png', 'a.svg', 'a.pdf', 'a.PNG', 'a.xyz', 'a', '', 'no/a.png', '.', 'run.csv', '/sys/a.png', 'folder.png']}
SWITCHES = ['--resume', '--shuffle', '--no-shuffle', '--help', '--version', '--', '-', '-x', '--epo', '--=', '--lr=', '--lr=0.5', '--check=run.pt', 'x', '']


@pytest.mark.slow
def test_no_traceback(tmp_path):
    "Whatever is typed: exit 0, 1 or 2 and soon; at most one line of complaint, and it says something."
    dice, statuses = random.Random(1), []
    for n in range(300):
        folder = tmp_path/str(n)
        folder.mkdir()
        for name in 'pipe', 'pipe.csv': os.mkfifo(folder/name)
        for name in 'file.csv', 'mnist.pkl.gz': (folder/name).write_text('1,2\n')
        (folder/'link').symlink_to('nowhere/else')
        (folder/'folder.png').mkdir()
        argv = []
        for option in dice.sample(list(VALUES), dice.randint(0, 4)): argv += [option, dice.choice(VALUES[option][:3] if dice.random() < 0.5 else VALUES[option])]
        for option in dice.sample(SWITCHES, dice.choice([0, 0, 1, 2])): argv.insert(dice.randint(0, len(argv)), option)
        if '--limit' not in argv: argv[:0] = ['--epochs', '1']
        status, said = call(*argv, folder=folder, small=True, seconds=30)
        complaints = [line for line in said.splitlines() if line.startswith('minibatch-train: ')]
        assert status in (0, 1, 2) and 'Traceback' not in said, (argv, status, said)
        assert len(complaints) == (status != 0) or status == 0, (argv, said)
        if status == 2: assert said == complaints[0] + '\n' and len(complaints[0]) > 30, (argv, said)
        left = [f.name for f in folder.iterdir() if f.name.startswith('.minibatch-')]
        assert not left, (argv, left)
        statuses.append(status)
    assert {0, 2} <= set(statuses) and 30 < statuses.count(0) < 270, statuses
