"Several workers end with the weights of one; whatever goes wrong with one of them, all end, and soon, and say why."
import contextlib, os, random, re, resource, shutil, signal, socket, subprocess, sys, threading, time, traceback
from pathlib import Path

import numpy as np
import pytest
import torch
import minibatch
from minibatch.cli import minibatch_train
from minibatch import __version__
from minibatch.dataloader import BatchSampler, DataLoader, Dataset, RandomSampler
from minibatch.distributed import DataParallel, ShardedBatchSampler, join, leave, loss_of_shard, lost, shard
from minibatch.fit import Checkpoint, correct, fit, load_checkpoint
from minibatch.model import Model
from minibatch.exact import cross_entropy
from minibatch.optim import SGD, AdamW
from minibatch.schedule import cosine, linear, warmup
from conftest import HERE, free_port, redirect
from two_hosts import two_hosts

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='finds processes in /proc, and its network device is called lo')
COMMAND = str(Path(sys.executable).with_name('minibatch-train'))
ENV = {**os.environ, 'OMP_NUM_THREADS': '1'}


# Workers without torchrun: what it does for them is an address and a number for each.

def _worker(function, args, folder, rank, size, port):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port),
                      GLOO_SOCKET_IFNAME='lo')
    redirect(folder/f'{rank}.txt')
    torch.set_num_threads(1)
    try: torch.save(function(*args), folder/f'{rank}.value')
    except SystemExit: raise
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def start(size, function, *args, folder, port=None):
    "Start workers that each call a function."
    port = port or free_port()
    workers = [HERE.Process(target=_worker, args=(function, args, folder, rank, size, port)) for rank in range(size)]
    for worker in workers: worker.start()
    return workers


def end(workers, folder, seconds=60):
    "Wait until all have ended, but not long; returns exit codes and what each has printed."
    until = time.monotonic() + seconds
    for worker in workers: worker.join(max(0, until - time.monotonic()))
    alive = [rank for rank, worker in enumerate(workers) if worker.is_alive()]
    for worker in workers: worker.kill()
    said = [(folder/f'{rank}.txt').read_text() if (folder/f'{rank}.txt').exists() else '' for rank in range(len(workers))]
    assert not alive, f'workers {alive} did not end in {seconds} s: {said}'
    return [worker.exitcode for worker in workers], said


def values(folder, size): return [torch.load(folder/f'{rank}.value', weights_only=False) for rank in range(size)]


# The same weights.

CASES = [  # rows, batch, epochs, dtype
    (300, 60, 2, torch.float64), (301, 50, 2, torch.float64), (103, 10, 2, torch.float64),  # 103: the last batch has 3 rows
    (41, 4, 1, torch.float64), (20, 3, 1, torch.float64), (7, 7, 2, torch.float64), (2, 50, 2, torch.float64),  # empty shards
    (2000, 50, 5, torch.float32)]  # 200 steps


def job(n, bs, dtype, workers, seed=1, adamw=False):
    "A small training with momentum, weight decay and a shuffled order, for one worker of several."
    torch.manual_seed(seed)
    x, y = torch.rand(n, 20, dtype=dtype), torch.randint(3, (n,))
    x_valid, y_valid = torch.rand(61, 20, dtype=dtype), torch.randint(3, (61,))
    model = Model(20, 16, 3).to(dtype)
    opt = AdamW(model.parameters(), 0.01) if adamw else SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-3)
    order = BatchSampler(RandomSampler(range(n), generator=torch.Generator().manual_seed(2)), bs)
    cut = ShardedBatchSampler(order, workers.rank, workers.size)
    valid = Dataset(*(shard(t, workers.rank, workers.size) for t in (x_valid, y_valid)))
    if workers.size > 1: model = DataParallel(model, cut)
    return model, loss_of_shard(cross_entropy), opt, DataLoader(Dataset(x, y), batch_sampler=cut), DataLoader(valid, 16)


def train(n, bs, epochs, dtype, workers, schedule=None, checkpoint=None, **more):
    model, *rest = job(n, bs, dtype, workers, **more)
    kept = [] if checkpoint is None else [Checkpoint(checkpoint, resume=True)]
    table = fit(epochs, model, *rest, metrics={'accuracy': correct}, schedule=schedule, callbacks=kept, progress=False)
    return [p.detach() for p in model.parameters()], table.drop(columns='seconds')


def all_cases():
    workers = join(60)
    results = [train(*case, workers, linear) for case in CASES]
    results.append(train(*CASES[1], workers, warmup(cosine), adamw=True))
    leave()
    return results


def apart(some, others): return max((a - b).abs().max().item() for a, b in zip(some, others, strict=True))


@pytest.fixture(scope='module')
def alone():
    for name in 'RANK', 'WORLD_SIZE': assert name not in os.environ
    return all_cases()


@pytest.mark.parametrize('size', [1, 2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4))])
def test_same_weights_as_one(size, alone, tmp_path):
    codes, said = end(start(size, all_cases, folder=tmp_path), tmp_path)
    assert codes == [0] * size, said
    found = values(tmp_path, size)
    for i, (case, (weights, table)) in enumerate(zip([*CASES, CASES[1]], alone)):
        for theirs, theirs_table in (worker[i] for worker in found):
            assert apart(theirs, weights) <= (1e-10 if case[3] == torch.float64 else 1e-5), case
            assert np.abs(theirs_table - table).to_numpy().max() <= (1e-10 if case[3] == torch.float64 else 1e-5), case
            assert apart(theirs, found[0][i][0]) == 0, 'workers differ'


@pytest.mark.parametrize('size', [1, 2, 3, 4, 7])
def test_every_row_once(size):
    for n, bs in (100, 10), (103, 10), (20, 3), (2, 50), (1, 1):
        def order(): return BatchSampler(RandomSampler(range(n), generator=torch.Generator().manual_seed(3)), bs)
        parts = [list(ShardedBatchSampler(order(), rank, size)) for rank in range(size)]
        for batch, *shards in zip(order(), *parts, strict=True):
            assert torch.equal(torch.cat(shards), torch.tensor(batch))
            assert max(map(len, shards)) - min(map(len, shards)) <= 1


def go_on(file, epochs):
    workers = join(60)
    result = train(203, 10, epochs, torch.float64, workers, checkpoint=file)
    leave()
    return result


@pytest.mark.slow
def test_resume_with_other_numbers(tmp_path):
    "Two epochs alone, two with four workers, two with three, are six alone; what all report, too."
    def epochs(n, size):
        if size == 1: return go_on(tmp_path/'run.pt', n)
        assert end(start(size, go_on, tmp_path/'run.pt', n, folder=tmp_path), tmp_path)[0] == [0] * size
        return values(tmp_path, size)[0]
    whole = train(203, 10, 6, torch.float64, join())
    for n, size in (2, 1), (4, 4), (6, 3): weights, table = epochs(n, size)
    assert len(table) == 6 and apart(weights, whole[0]) <= 1e-10 and np.abs(table - whole[1]).to_numpy().max() <= 1e-10
    model = Model(20, 16, 3).double()  # the file holds the bare model
    assert len(load_checkpoint(tmp_path/'run.pt', model)) == 6 and apart(model.parameters(), weights) == 0
    assert not [name for name in os.listdir(tmp_path) if 'partial' in name or name.startswith('.')]


# A worker that ends, or is silent.

def long_job(file, epochs):
    workers = join(60)
    print('started', flush=True)
    try: result = train(53, 10, epochs, torch.float64, workers, checkpoint=file)
    except RuntimeError as e:
        if not lost(e): raise
        print(minibatch.cli.LOST)
        sys.exit(1)
    leave()
    return result


@pytest.mark.slow
def test_killed_many_times(tmp_path):
    "SIGKILL to one of three, at random moments: the others end within seconds. Started again, all end with the same weights."
    epochs, clock, slowest, saved = 60, random.Random(1), 0, []
    whole = train(53, 10, epochs, torch.float64, join())
    for victim in [0, 1, 2] * 3:
        for old in tmp_path.glob('?.txt'): old.unlink()
        file, before = tmp_path/'run.pt', (tmp_path/'run.pt').stat().st_mtime_ns if (tmp_path/'run.pt').exists() else 0
        workers = start(3, long_job, file, epochs, folder=tmp_path)
        while all(w.is_alive() for w in workers) and (not file.exists() or file.stat().st_mtime_ns == before): time.sleep(0.005)
        time.sleep(clock.uniform(0, 0.3))  # from the first epoch that it saves
        workers[victim].kill()
        killed = time.monotonic()
        codes, said = end(workers, tmp_path, seconds=10)
        slowest = max(slowest, time.monotonic() - killed)
        if codes[victim] == 0: break  # it was too late
        for rank in {0, 1, 2} - {victim}: assert codes[rank] == 1 and 'another worker has ended' in said[rank], said
        if (tmp_path/'run.pt').exists(): saved.append(len(load_checkpoint(tmp_path/'run.pt', Model(20, 16, 3).double())))
    print(f'epochs saved at each kill: {saved}; the others ended at the latest after {slowest:.2f} s')
    assert len(saved) >= 3
    end(start(3, long_job, tmp_path/'run.pt', epochs, folder=tmp_path), tmp_path)
    for weights, table in values(tmp_path, 3): assert apart(weights, whole[0]) <= 1e-10 and len(table) == epochs


def silent():
    workers = join(3)
    if workers.rank == 1: os.kill(os.getpid(), signal.SIGSTOP)
    try: workers.sum([1.])
    except RuntimeError as e: sys.exit(5 if lost(e) else str(e))


def test_silent_worker(tmp_path):
    "A worker that hangs, or whose host is cut off: the others wait as long as join says, then end."
    workers = start(2, silent, folder=tmp_path)
    workers[0].join(30)
    workers[1].kill()
    assert end(workers, tmp_path)[0] == [5, -signal.SIGKILL]


def one_missing(seconds):
    if os.environ['RANK'] == '1': sys.exit(0)
    try: join(seconds)
    except ConnectionError as e: sys.exit(str(e))


def test_worker_that_never_comes(tmp_path):
    codes, said = end(start(2, one_missing, 2, folder=tmp_path), tmp_path)
    assert codes == [1, 0] and re.match(r'the 2 workers could not meet at 127.0.0.1:\d+: .*[Tt]imed out', said[0]), said


def patient(seconds):
    try: join(seconds)
    except ConnectionError as e: sys.exit(str(e))


@pytest.mark.parametrize('answers', [False, True], ids=['silent', 'listens only'])
@pytest.mark.parametrize('rank', [0, 1])
def test_port_that_never_answers(answers, rank, tmp_path):
    "Something else has the port, takes the connection, and says nothing."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        s.listen()
        accepted = []  # kept, so that it stays open
        accepting = threading.Thread(target=lambda: accepted.append(s.accept()), daemon=True)
        if answers: accepting.start()
        worker = HERE.Process(target=_worker, args=(patient, (2,), tmp_path, rank, 2, s.getsockname()[1]))
        worker.start()
        start = time.monotonic()
        codes, said = end([worker], tmp_path, seconds=20)
        assert codes == [1] and time.monotonic() - start < 15
    said = (tmp_path/f'{rank}.txt').read_text()
    assert said.count('\n') == 1 and 'the 2 workers could not meet at 127.0.0.1' in said, said


# The command: what each worker is told, and what it says.

def command(own, *argv):
    "`minibatch-train`, with a change for some workers."
    rank = int(os.environ['RANK'])
    if 'version' in own.get(rank, {}): minibatch.distributed.__version__ = own[rank]['version']
    minibatch_train([*argv, *own.get(rank, {}).get('argv', [])])


ARGV = '--source', 'embedded', '--limit', '1003', '--bs', '20', '--epochs', '2'
WRONG = {
    'data': ({1: {'argv': ['--source', 'auto', '--data', '/nowhere']}}, (), {1: '/nowhere does not exist'}),
    'version': ({1: {'version': '9.9'}}, (), {0: f'worker 1 has minibatch 9.9 and worker 0 has {__version__}', 1: 'expected the same in all'}),
    'settings': ({1: {'argv': ['--bs', '10']}}, (), {0: 'worker 1 has bs 10 and worker 0 has 20', 1: 'expected the same in all'}),
    'nan': ({}, ('--lr', '1e30'), {}),
    'argument': ({}, ('--limit', '0'), {0: 'limit is 0', 1: 'limit is 0'}),
}


@pytest.mark.parametrize('name', WRONG)
def test_command_that_cannot_run(name, tmp_path):
    "One line from each worker, one of them the cause, and no waiting."
    own, argv, expected = WRONG[name]
    codes, said = end(start(2, command, own, *ARGV, *argv, '--plot', str(tmp_path/'loss.png'), folder=tmp_path), tmp_path, seconds=30)
    assert 0 not in codes and not (tmp_path/'loss.png').exists()
    for rank in 0, 1:
        lines = [line for line in said[rank].splitlines() if line.startswith(f'minibatch-train: worker {rank}: ')]
        assert len(lines) == 1 and 'Traceback' not in said[rank], said
        assert expected.get(rank, '') in lines[0]
    if name == 'nan': assert 'try a smaller lr' in ''.join(said)


def test_port_in_use(tmp_path):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        s.listen()
        codes, said = end(start(1, command, {}, *ARGV, folder=tmp_path, port=s.getsockname()[1]), tmp_path)
    assert codes == [2] and said[0].count('\n') == 1 and 'could not meet' in said[0] and 'EADDRINUSE' in said[0], said


# torchrun itself.

def weights(path, nh=50):
    model = Model(784, nh, 10).double()
    table = load_checkpoint(path, model)
    return [p.detach() for p in model.parameters()], table.drop(columns='seconds')


def children(pid):
    "The processes that a process has started, by /proc."
    stats = [p.read_text().rsplit(')', 1)[1].split() for p in Path('/proc').glob('[0-9]*/stat') if p.exists()]
    names = [int(p.parent.name) for p in Path('/proc').glob('[0-9]*/stat') if p.exists()]
    return [n for n, s in zip(names, stats) if int(s[1]) == pid]


def read_until(process, start):
    "What a process prints up to a line that starts so."
    said = ''
    for line in process.stdout:
        said += line
        if re.match(start, line): break
    return said


@contextlib.contextmanager
def running(*argv, before=(), env=ENV):
    "`torchrun`, and no process of it left afterwards."
    argv = [*before, sys.executable, '-m', 'torch.distributed.run', *map(str, argv)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as process:
        try: yield process
        finally:
            for pid in children(process.pid):
                with contextlib.suppress(ProcessLookupError): os.kill(pid, signal.SIGKILL)
            process.kill()


@pytest.mark.slow
def test_torchrun_killed_and_restarted(tmp_path):
    "As a user runs it. Rank 0 alone prints and writes; killed, the job ends like one that was not, and like one alone."
    argv = *ARGV[:-1], '12', '--dtype', 'float64', '--momentum', '0.5', '--lr', '0.1'
    alone = subprocess.run([COMMAND, *argv, '--checkpoint', tmp_path/'alone.pt'], env=ENV, capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr
    saving = *argv, '--checkpoint', tmp_path/'run.pt', '--resume', '--history', tmp_path/'run.csv', '--plot', tmp_path/'loss.svg'
    with running('--standalone', '--max-restarts', '3', '--nproc-per-node', '2', COMMAND, *saving) as process:
        said = read_until(process, r' +[1-9] ')
        time.sleep(random.uniform(0, 0.2))
        os.kill(random.choice(children(process.pid)), signal.SIGKILL)
        said += process.stdout.read()
        assert process.wait() == 0, said
    assert said.count('going on from') == 1 and said.count('workers: 2') == 2
    (ours, table), (theirs, their_table) = weights(tmp_path/'run.pt'), weights(tmp_path/'alone.pt')
    assert apart(ours, theirs) <= 1e-10 and np.abs(table - their_table).to_numpy().max() <= 1e-10
    last = [text.splitlines()[-1] for text in (said, alone.stdout)]
    assert last[0].split()[:-1] == last[1].split()[:-1]  # but for the seconds
    assert sorted(os.listdir(tmp_path)) == ['alone.pt', 'loss.svg', 'run.csv', 'run.pt']


@pytest.mark.slow
def test_torchrun_killed():
    "Without restarts: all end within seconds, and no process is left."
    with running('--standalone', '--nproc-per-node', '2', COMMAND, *ARGV[:-1], '10000') as process:
        said = read_until(process, r' +2 ')
        workers = children(process.pid)
        os.kill(workers[1], signal.SIGKILL)
        killed = time.monotonic()
        said += process.stdout.read()
        assert process.wait() != 0 and time.monotonic() - killed < 10, said
    assert len(workers) == 2 and not any(Path(f'/proc/{pid}').exists() for pid in workers)
    assert 'SIGKILL' in said and 'minibatch-train: worker 0: another worker has ended' in said, said


@pytest.mark.slow
def test_torchrun_that_cannot_tell():
    "Killed itself: its workers notice, and would not write beside its successor."
    with running('--standalone', '--nproc-per-node', '2', COMMAND, *ARGV[:-1], '10000') as process:
        read_until(process, r' +1 ')
        workers = children(process.pid)
        process.kill()
        until = time.monotonic() + 10
        while any(Path(f'/proc/{pid}').exists() for pid in workers) and time.monotonic() < until: time.sleep(0.05)
        left = [pid for pid in workers if Path(f'/proc/{pid}').exists()]
        for pid in left: os.kill(pid, signal.SIGKILL)
    assert len(workers) == 2 and not left


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists('/dev/net/tun') or not shutil.which('ip'),
                    reason='only root can make network namespaces')
def test_two_hosts(tmp_path):
    "Two hosts with addresses of their own, and 5 ms between them: the weights of one; one worker killed, both end."
    argv = '--source', 'embedded', '--limit', '253', '--bs', '25', '--dtype', 'float64'
    alone = subprocess.run([COMMAND, *argv, '--epochs', '2', '--checkpoint', tmp_path/'alone.pt'], env=ENV, capture_output=True)
    with two_hosts(0.005) as hosts, contextlib.ExitStack() as stack:
        agents = [stack.enter_context(running(
            '--nnodes', 2, '--nproc-per-node', 1, '--rdzv-backend', 'c10d', '--rdzv-endpoint', '10.77.0.1:29400', '--rdzv-id', 'book',
            '--rdzv-conf', f'is_host={i == 0}', '--local-addr', f'10.77.0.{i + 1}', COMMAND, *argv, '--epochs', 1000,
            '--checkpoint', tmp_path/'run.pt', before=('ip', 'netns', 'exec', host), env={**ENV, 'GLOO_SOCKET_IFNAME': f'mb{i}'}))
            for i, host in enumerate(hosts)]
        said = read_until(agents[0], r' +2 ')
        shutil.copy(tmp_path/'run.pt', tmp_path/'two.pt')
        os.kill(children(agents[1].pid)[0], signal.SIGKILL)
        killed = time.monotonic()
        assert all(a.wait(20) != 0 for a in agents), said
        print(f'both hosts ended {time.monotonic() - killed:.1f} s after the kill')
    two, one = weights(tmp_path/'two.pt'), weights(tmp_path/'alone.pt')
    assert apart(two[0], one[0]) <= 1e-10 and len(two[1]) == 2 and np.abs(two[1] - one[1]).to_numpy().max() <= 1e-10


# Data larger than memory.

def from_memory_map(file):
    "Train an epoch on a file that is larger than all the memory this process may have."
    import torch._dynamo  # noqa: F401 (PyTorch imports it with the first optimizer: not within the limit)
    used = int(re.search(r'VmData:\s+(\d+)', Path('/proc/self/status').read_text())[1]) * 1024
    limit = used + (64 << 20)
    n = (limit + (16 << 20)) // (784 * 4)
    x = np.lib.format.open_memmap(file, 'w+', np.float32, (n, 784))  # almost all of it a hole
    x[::1000, :10] = 1
    x.flush()
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with pytest.raises(MemoryError): np.load(file)
    x, y = np.load(file, mmap_mode='r'), torch.arange(n) % 10
    train_dl = DataLoader(Dataset(x, y), 1000, shuffle=True, generator=torch.Generator().manual_seed(1))
    model = Model(784, 8, 10)
    table = fit(1, model, cross_entropy, SGD(model.parameters(), 0.1), train_dl, [train_dl.dataset[:100]], progress=False)
    return len(table), file.stat().st_size, limit


def test_data_larger_than_memory(tmp_path):
    worker = HERE.Process(target=_worker, args=(from_memory_map, (tmp_path/'x.npy',), tmp_path, 0, 1, 0))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 0, (tmp_path/'0.txt').read_text()
    epochs, size, limit = values(tmp_path, 1)[0]
    assert epochs == 1 and size > limit
