"The command as a shell sees it: exit status, standard error, signals, terminals, files."
import fcntl, os, pty, re, signal, struct, subprocess, sys, termios
from pathlib import Path

import pandas as pd
import pytest

COMMAND = str(Path(sys.executable).with_name('minibatch-train'))
ENV = {**os.environ, 'OMP_NUM_THREADS': '1'}


def run(*argv, **kwargs):
    return subprocess.run([COMMAND, *map(str, argv)], capture_output=True, text=True, timeout=120, env=ENV, **kwargs)


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
def test_shuffled_with_schedule():
    "97 % on MNIST: the median of three seeds, as each run hangs on every rounding."
    runs = [run('--shuffle', '--schedule', 'linear', '--seed', seed) for seed in (1, 2, 3)]
    middle = sorted(float(table(done.stdout)[-1][3]) for done in runs)[1]
    assert middle >= (0.97 if runs[0].stdout.startswith('data: MNIST') else 0.9)


def test_stopped_and_gone_on(tmp_path):
    "Two epochs and two more are four, in the table, in the file and in the picture."
    args = '--source', 'embedded', '--limit', 10_000, '--momentum', '0.5', '--lr', '0.1'
    whole = run(*args, '--epochs', 4, '--history', tmp_path/'whole.csv')
    saving = *args, '--checkpoint', tmp_path/'run.pt', '--resume', '--history', tmp_path/'run.csv'
    first = run(*saving, '--epochs', 2)
    then = run(*saving, '--epochs', 4, '--plot', tmp_path/'run.svg')
    assert [r.returncode for r in (whole, first, then)] == [0, 0, 0] and f'going on from {tmp_path}/run.pt after epoch 2' in then.stdout
    assert table(first.stdout) + table(then.stdout) == table(whole.stdout)
    old, new = (pd.read_csv(tmp_path/f'{name}.csv').drop(columns='seconds') for name in ('whole', 'run'))
    assert old.equals(new) and len(new) == 4
    assert sorted(os.listdir(tmp_path)) == ['run.csv', 'run.pt', 'run.svg', 'whole.csv']


# The chapter tries more of them, without a shell.
@pytest.mark.parametrize('argv', [('--bs', 'many'), ('--lr', 'nan'), ('--data', 'nowhere'), ('--plot', 'no/loss.png'), ('again',)])
def test_wrong_argument(argv, tmp_path):
    done = run(*argv, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ''
    assert done.stderr.startswith('minibatch-train: ') and done.stderr.count('\n') == 1
    assert not os.listdir(tmp_path)


def test_failing_run(tmp_path):
    done = run('--source', 'embedded', '--lr', '1e30', '--plot', tmp_path/'loss.png')
    assert done.returncode == 1 and done.stderr.count('\n') == 1 and 'try a smaller lr' in done.stderr
    assert not os.listdir(tmp_path)


def test_says_which_data(no_data):
    done = run('--source', 'embedded', '--epochs', '0')
    assert done.returncode == 0 and done.stdout.startswith('data: the embedded stand-in, not MNIST')


def test_help_and_version():
    said = run('--help').stdout
    assert all(f'--{name} ' in said for name in 'epochs bs lr momentum schedule shuffle no-shuffle nh seed threads data source checkpoint resume history plot'.split())
    assert re.fullmatch(r'minibatch \d+\.\d+\.\d+\n', run('--version').stdout)


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
    while 'epoch 2:' not in seen and (more := read()): seen += more
    assert re.search(r'epoch 1: +\d+%\|', seen)
    process.send_signal(signal.SIGINT)
    while more := read(): seen += more
    assert process.wait() == 130
    assert 'minibatch-train: interrupted; nothing was written' in seen and 'Traceback' not in seen
    assert not os.listdir(tmp_path)


def test_reader_that_leaves():
    done = subprocess.run(f'{COMMAND} --source embedded --epochs 1 | head -n 1', shell=True, capture_output=True, text=True, env=ENV)
    assert done.stdout.startswith('data: ') and done.stderr == ''


def test_interrupted_with_checkpoint(tmp_path):
    process, read = start_in_terminal('--source', 'embedded', '--epochs', 100, '--checkpoint', tmp_path/'run.pt')
    seen = ''
    while 'epoch 2:' not in seen and (more := read()): seen += more
    process.send_signal(signal.SIGINT)
    while more := read(): seen += more
    assert process.wait() == 130 and 'minibatch-train: interrupted; --resume goes on from the checkpoint' in seen
    done = run('--source', 'embedded', '--epochs', 2, '--checkpoint', tmp_path/'run.pt', '--resume')
    assert done.returncode == 0 and 'after epoch 1' in done.stdout and os.listdir(tmp_path) == ['run.pt']
