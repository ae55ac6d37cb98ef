"""Are the stored outputs what the notebooks print today?

    python tests/outputs.py [NOTEBOOK ...]           compare a fresh run of each notebook with what is stored in it
    python tests/outputs.py --write [NOTEBOOK ...]   store the fresh run instead

Every notebook runs from the top in a Jupyter kernel of its own, its cells marked slow too. (tests/test_notebooks.py does the same
under pytest, and can leave those out or take the place of another processor.) Texts must be equal but for their numbers, and those must
agree to a relative 1e-6, which every printed digit up to the sixth shows; tables are compared cell by cell, pictures by
presence and size (a pixel or two may depend on fonts), errors by type and message. A cell with a comment `# may vary: reason`
keeps its words but not its numbers, and must assert the band that they lie in (unless they are `times`); one with `# may vary: words …` keeps
neither, such as what a model writes. A cell that is meant to fail carries `#| eval: false`, so that nbdev_test passes over it.
"""
from __future__ import annotations
import argparse, base64, math, os, re, struct, sys, tempfile, warnings
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbdev.clean import nbdev_clean

NBS = Path(__file__).resolve().parent.parent/'nbs'
NUMBER = re.compile(r'(?<![\w.])[-+−]?(?:\d[\d,]*\.?\d*(?:e[-+]?\d+)?|\.\d+|inf\b|nan\b)', re.IGNORECASE)
ADDRESS = re.compile(r' at 0x[0-9a-fA-F]+|/tmp/ipykernel_\S+')
PIXELS = 3 # how much a picture's sides may differ


def is_slow(cell) -> bool: return cell.cell_type == 'code' and bool(re.search(r'^#\s*\|\s*slow\b', cell.source, re.M))


def execute(path:Path, slow:bool=True, env:dict|None=None) -> nbformat.NotebookNode:
    """Run the notebook `path` from the top in a fresh kernel; a cell that fails keeps its error as an output.

    Without `slow`, the cells marked so are not run and keep what is stored. `env` is added to the kernel's environment."""
    nb = nbformat.read(path, as_version=4)
    kept = {i: (cell.source, cell.outputs) for i, cell in enumerate(nb.cells) if is_slow(cell) and not slow}
    for i, cell in enumerate(nb.cells):
        if cell.cell_type == 'code': cell.outputs = []
        if i in kept: cell.source = '' # nbclient passes over an empty cell
    NotebookClient(nb, timeout=900, allow_errors=True, coalesce_streams=True, resources={'metadata': {'path': str(path.parent)}},
                   extra_arguments=['--log-level=ERROR']).execute(env={**os.environ, 'PYTHONHASHSEED': '0', **(env or {})})
    for i, (source, outputs) in kept.items(): nb.cells[i].source, nb.cells[i].outputs = source, outputs
    return nb


class _Cells(HTMLParser):
    "The texts of a table's cells."
    def __init__(self, html):
        super().__init__()
        self.cells = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag in ('td', 'th'): self.cells.append('')

    def handle_data(self, data):
        if self.cells: self.cells[-1] += data.strip()


def parts(outputs:list) -> list[tuple]: # (kind, content) of each thing that a reader sees
    "What a cell shows: neighbouring streams joined, then texts, tables as lists of cells, pictures as sizes, errors as lines."
    seen = []
    for out in outputs:
        if out.output_type == 'stream':
            if seen and seen[-1][0] == out.name: seen[-1] = (out.name, seen[-1][1] + out.text)
            else: seen.append((out.name, out.text))
        elif out.output_type == 'error': seen.append(('error', f'{out.ename}: {out.evalue}'))
        else:
            data = out.data
            if 'image/png' in data: seen.append(('picture', struct.unpack('>2I', base64.b64decode(data['image/png'])[16:24])))
            elif '<table' in data.get('text/html', ''): seen.append(('table', _Cells(data['text/html']).cells))
            else: seen.append(('text', data.get('text/markdown') or data.get('text/plain') or str(sorted(data))))
    return seen


def same_text(old:str, new:str, numbers:bool=True) -> bool:
    "Equal words, and numbers that agree to a relative 1e-6 (any numbers, if not `numbers`)?"
    old, new = ADDRESS.sub('', old), ADDRESS.sub('', new)
    def words(s): return re.sub(r'\s', '', NUMBER.sub('#', s)) # without spaces: a longer number moves them
    def values(s): return [float(n.replace(',', '').replace('−', '-')) for n in NUMBER.findall(s)]
    pairs = zip(values(old), values(new))
    if words(old) != words(new): return False
    return not numbers or all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12) or a != a and b != b for a, b in pairs)


def same(old:tuple, new:tuple, numbers:bool=True) -> bool:
    "Are these two of `parts` the same to a reader?"
    (kind, a), (other, b) = old, new
    if kind != other: return False
    if kind == 'picture': return all(abs(p - q) <= PIXELS for p, q in zip(a, b))
    if kind == 'table': return len(a) == len(b) and all(same_text(p, q, numbers) for p, q in zip(a, b))
    return same_text(a, b, numbers)


def differences(stored, fresh, compare:bool=True) -> list[str]: # One text per cell that differs
    "Compare two runs of a notebook, cell by cell; without `compare`, look only for errors that were not there."
    found = []
    for i, (old, new) in enumerate(zip(stored.cells, fresh.cells), 1):
        if old.cell_type != 'code': continue
        may_vary = re.search(r'^\s*# may vary: \S', old.source, re.M)
        measures = re.search(r'^\s*# may vary: times', old.source, re.M)  # of which nothing is asserted
        words = re.search(r'^\s*# may vary: words', old.source, re.M)
        def alike(p, q): return p[0] == q[0] if words else same(p, q, not may_vary)
        a, b = parts(old.outputs), parts(new.outputs)
        if may_vary and not measures and not re.search(r'^\s*(assert\b|test_\w+\()|: assert\b', old.source, re.M):
            problem = 'may vary, but asserts nothing'
        elif any(kind == 'error' for kind, _ in b) and not re.search(r'^#\s*\|\s*eval: *false', old.source, re.M):
            problem = f'fails: {dict(b)["error"]}'
        elif not compare or len(a) == len(b) and all(alike(p, q) for p, q in zip(a, b)): continue
        else:
            p, q = next(((p, q) for p, q in zip(a, b) if not alike(p, q)), (a[len(b):][:1], b[len(a):][:1]))
            problem = f'differs\n  stored: {p or "nothing"}\n  fresh:  {q or "nothing"}'
        first = next((l for l in old.source.splitlines() if l.strip() and not l.startswith('#')), '')
        found.append(f'cell {i} ({first.strip()[:60]}) {problem}')
    return found


def real_data() -> bool:
    "Do the notebooks find real MNIST on this machine?"
    from minibatch.data import load_mnist
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return load_mnist().source == 'mnist'


def check(path:Path, compare:bool=True, slow:bool=True, env:dict|None=None) -> list[str]:
    "Run a notebook and say what differs from what is stored in it; without `compare`, only what fails."
    return differences(nbformat.read(path, as_version=4), execute(path, slow, env), compare)


def write(path:Path) -> list[str]:
    "Run a notebook and store its outputs, cleaned; if a cell fails, say so and store nothing."
    nb = execute(path)
    problems = differences(nb, nb, compare=False)
    if problems: return problems
    with tempfile.TemporaryDirectory(dir=path.parent, prefix='.run-') as tmp:
        new = Path(tmp)/path.name
        nbformat.write(nb, new)
        nbdev_clean(str(new))
        os.replace(new, path)
    return []


def longest_first(paths:list[Path]) -> list[Path]:
    "The notebooks, those that probably run longest first, so that two processes end at the same time."
    def length(path): return sum(n * path.read_text(encoding='utf-8').count(word) for word, n in (('train(', 1), ('#| slow', 9)))
    return sorted(paths, key=length, reverse=True)


def run_all(paths:list[Path], job) -> dict[Path, list[str]]:
    "`job` for each notebook, two at a time."
    paths = longest_first(paths)
    with ThreadPoolExecutor(2) as pool: return dict(zip(paths, pool.map(job, paths)))


def main():
    parser = argparse.ArgumentParser(description='Compare the stored outputs of the notebooks with a fresh run.')
    parser.add_argument('notebooks', nargs='*', type=Path, help='which ones (default: all in nbs/)')
    parser.add_argument('--write', action='store_true', help='store the fresh run')
    args = parser.parse_args()
    paths = args.notebooks or sorted(NBS.glob('*.ipynb'))
    for path in paths:
        if not path.is_file(): parser.error(f'{path} is not a notebook')
    real = real_data()
    if args.write and not real: parser.error('stored outputs come from real MNIST, which is not here: set MINIBATCH_DATA')
    if not real: print('Real MNIST is not here: the cells run on the stand-in, and their outputs are not compared.')
    results = run_all([p.resolve() for p in paths], write if args.write else lambda path: check(path, real))
    for path, problems in results.items():
        for problem in problems: print(f'{path.name}, {problem}')
    if any(results.values()): sys.exit(1)


if __name__ == '__main__': main()
