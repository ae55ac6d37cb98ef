"""Run the corpus: python tests/watch_corpus/run.py [wrong|right|twins|damage] [NAME ...]"""
import sys, time, warnings
from pathlib import Path
import torch
sys.path.insert(0, str(Path(__file__).parent))
from minibatch.watch import watch
from wrong import WRONG
from right import RIGHT


def watched(loop, *args, seed=1):
    "What the watch finds in a loop, and what the loop returns."
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with watch() as seen: result = loop(*args)
    return seen, result


def plain(loop, *args, seed=1):
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return loop(*args)


if __name__ == '__main__':
    torch.set_num_threads(1)
    what, names = sys.argv[1], sys.argv[2:]
    table = RIGHT if what == 'right' else WRONG
    for name, loop in table.items():
        if names and not any(n in name for n in names): continue
        if what == 'damage':
            pairs = [(plain(loop, False, seed=s), plain(loop, True, seed=s)) for s in (1, 2, 3)]
            print(f'{name:45}', ' '.join(f'{a:.3f}→{b:.3f}' for a, b in pairs))
            continue
        args = () if what == 'right' else (what == 'wrong',)
        t = time.perf_counter()
        before = plain(loop, *args)
        t1 = time.perf_counter()
        seen, after = watched(loop, *args)
        t2 = time.perf_counter()
        same = before == after or before != before and after != after
        print(f'{name:45} {"" if same else "CHANGED!"} {t1 - t:.2f} ×{(t2 - t1) / (t1 - t):.2f}',
              '; '.join(f'{f.severity} {f.kind} [{f.step}]' for f in seen.findings) or '-', *[repr(e)[:90] for e in seen.trouble[:1]])
        if len(names): print(seen)
