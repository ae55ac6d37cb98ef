"What becomes of a notebook on its way to a page, without a browser: site/processors.py, site/links.py, site/reference.py."
import ast, inspect, re, sys
from importlib import import_module

import nbformat, pytest, yaml
from conftest import ROOT
from execnb.nbio import dict2nb
from markdown_it import MarkdownIt
from nbdev.processors import FilterDefaults
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

sys.path.insert(0, str(ROOT/'site'))
import links, reference
from links import Module, Names

NOTEBOOKS = sorted((ROOT/'nbs').glob('*.ipynb'))
PYTHON = {'kernelspec': {'name': 'python3', 'display_name': 'python3', 'language': 'python'}}
PICTURE = {'output_type': 'display_data', 'data': {'image/png': ''}, 'metadata': {}}


def cells(path, kind): return [(i, c) for i, c in enumerate(nbformat.read(path, as_version=4).cells) if c.cell_type == kind]


# The notebooks, as the pages need them

@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_directives_come_first(path):
    "Quarto and nbdev read directives only above the code, and Quarto an alt text only in the first line."
    for i, cell in cells(path, 'code'):
        found = [n for n, line in enumerate(cell.source.splitlines()) if re.match(r'\s*#\s*\|', line)]
        assert found == list(range(len(found))), f'{path.name}, cell {i}: a directive below something else'
        alt = [n for n in found if re.match(r'#\|\s*fig-alt:', cell.source.splitlines()[n])]
        assert alt in ([], [0]), f'{path.name}, cell {i}: fig-alt is not the first line'
        picture = any('image/png' in out.get('data', {}) for out in cell.outputs)
        assert alt or not picture or re.search(r'^#\| hide\b', cell.source, re.M), f'{path.name}, cell {i}: a picture without fig-alt'


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_code_in_prose_says_what_it_is(path):
    "A language after each fence. (Indented code is Python, or text.)"
    for i, cell in cells(path, 'markdown'):
        for token in MarkdownIt().parse(cell.source):
            assert token.type != 'fence' or token.info.strip(), f'{path.name}, cell {i}: a fence without a language'


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_answers_are_written_as_agreed(path):
    "An answer that cells follow ends its own cell, so that they can be folded with it; nothing is left open."
    notebook = nbformat.read(path, as_version=4).cells
    for i, cell in enumerate(notebook):
        if cell.cell_type != 'markdown': continue
        assert cell.source.count('<details') == cell.source.count('</details>'), f'{path.name}, cell {i}: a fold left open'
        code_follows = i + 1 < len(notebook) and notebook[i+1].cell_type == 'code'
        if re.search(r'<summary>\s*Answer', cell.source) and code_follows:
            assert cell.source.rstrip().endswith('</details>'), f'{path.name}, cell {i}: words after the answer, before its code'


# A sample notebook

def processed(*made, name='sample.ipynb'):
    "What settings.ini's processors make of these cells."
    nb = dict2nb(new_notebook(cells=[new_markdown_cell('# Sample\n\n> A line.'), *made], metadata=PYTHON))
    nb.path_ = str(ROOT/'nbs'/name)
    FilterDefaults()(nb)
    return [c for c in nb.cells[2:]]


def texts(made): return [c.source for c in made]


def test_an_answer_is_one_fold():
    out = [new_output('stream', text='7')]
    made = processed(new_markdown_cell('**1.** Why?\n\n<details><summary>Answer</summary>\n\nBecause.\n\n</details>'),
                     new_code_cell('x = 3', outputs=out), new_code_cell('#| hide\nassert x'), new_code_cell('x + 4'),
                     new_markdown_cell('**2.** And?'), new_code_cell('x'))
    assert texts(made) == ['**1.** Why?\n\n<details><summary>Answer</summary>\n\nBecause.', 'x = 3', 'x + 4', '</details>', '**2.** And?', 'x']
    assert made[1].outputs[0].text


def test_a_fold_that_is_no_answer_is_left_alone():
    hint = '<details><summary>Hint</summary>\n\nThink.\n\n</details>'
    assert texts(processed(new_markdown_cell(hint), new_code_cell('x'))) == [hint, 'x']


def test_an_answer_at_the_end():
    *_, code, close = processed(new_markdown_cell('<details><summary>Answer</summary>\n\nYes.\n\n</details>'), new_code_cell('x'))
    assert (code.source, close.source) == ('x', '</details>')


def test_imports_are_shown():
    few = processed(new_code_cell('#| export\nimport os\nimport sys'), new_code_cell('#| hide\nimport json'), new_code_cell('os'))
    assert texts(few) == ['import os\nimport sys', 'os']
    perhaps = 'import os\ntry: import fcntl\nexcept ImportError: fcntl = None'
    assert texts(processed(new_code_cell(f'#| export\n{perhaps}'))) == [perhaps]
    many = processed(new_code_cell('#| export\nimport os\nimport sys'), new_code_cell('import a\nimport b\nfrom c import d'), new_code_cell('os'))
    assert texts(many) == ['<details><summary>Imports, to run first</summary>', 'import os\nimport sys', 'import a\nimport b\nfrom c import d', '</details>', 'os']
    answer = new_markdown_cell('<details><summary>Answer</summary>\n\nYes.\n\n</details>')
    inside = processed(answer, new_code_cell('import a, b, c\nimport d\nimport e\nimport f\nimport g'), new_code_cell('a'))
    assert sum(text.count('<details') for text in texts(inside)) == 1 # no fold in a fold


def test_what_is_hidden_stays_hidden():
    assert texts(processed(new_code_cell('#| export\n#| hide\nx = 1'), new_code_cell('#| hide\nx'), new_code_cell("#| export\n_all_ = ['x']"), new_code_cell('show_doc(x)'),
                           new_code_cell('#| include: false\ny'), new_code_cell('x'))) == ['x']


def test_helpers_are_folded():
    made = processed(new_code_cell('#| export\ndef _f(): pass'), new_code_cell('#| exporti\ng = 1'), new_code_cell('#| exports\ndef h(): pass'), new_code_cell('h'))
    assert texts(made) == ['<details><summary>Behind the scenes: <code>_f, g</code></summary>', 'def _f(): pass', 'g = 1', '</details>', 'def h(): pass', 'h']


def test_directives_are_not_printed():
    made = processed(new_code_cell('#| slow\n# may vary: it does\n#| fig-alt: "A line"\nplot()'), new_code_cell('#| notest\nx'))
    assert texts(made) == ['#| fig-alt: "A line"\n# may vary: it does\nplot()', 'x']
    assert made[0].metadata['tags'] == ['slow']


def test_indented_code_is_fenced():
    made = texts(processed(new_markdown_cell('So:\n\n    x = 1\n\n    y = x\n\nOr:\n\n    make docs\n\n- one\n\n      kept\n\nEnd.')))
    assert made == ['So:\n\n```python\nx = 1\n\ny = x\n```\n\nOr:\n\n```text\nmake docs\n```\n\n- one\n\n      kept\n\nEnd.']


def test_figures_reach_the_page():
    made = texts(processed(new_markdown_cell('Look:\n\n<mb-demo data-x="1">\n\nA *picture*.\n\n</mb-demo>\n\nSo.')))
    assert '```{=html}\n<mb-demo data-x="1">\n```' in made[0] and '```{=html}\n</mb-demo>\n```' in made[0]
    assert '\n\nA *picture*.\n\n' in made[0] and 'figures/load.js' in made[-1]
    assert not any('load.js' in text for text in texts(processed(new_markdown_cell('None.'))))
    with pytest.raises(ValueError, match='alone'): processed(new_markdown_cell('In <mb-demo>a line</mb-demo>.'))


# Which name leads where

@pytest.fixture
def two_softmaxes(monkeypatch):
    "A package with a name in two modules, and one that passes it on."
    package = {f'minibatch.{name}': Module(f'{name}.html', notebook, public) for name, notebook, public in [
        ('softmax', '02_softmax.ipynb', {'softmax': 'minibatch.softmax.softmax'}),
        ('exact', '11_exact.ipynb', {'softmax': 'minibatch.exact.softmax', 'SGD': 'minibatch.exact.SGD'}),
        ('data', '00_data.ipynb', {'load': 'minibatch.mnist.load'}),
        ('mnist', '90_mnist.ipynb', {'load': 'minibatch.mnist.load'})]}
    monkeypatch.setattr(links, 'modules', lambda: package)


def names(*imports, module=None):
    found = Names(module)
    for line in imports: found.read(line)
    return found


def test_the_import_decides(two_softmaxes):
    assert names('from minibatch.exact import softmax').find('softmax') == 'exact.html#minibatch.exact.softmax'
    assert names('from minibatch.softmax import softmax').find('softmax') == 'softmax.html#minibatch.softmax.softmax'
    assert names().find('softmax') is None
    assert names(module='minibatch.exact').find('softmax') == 'exact.html#minibatch.exact.softmax'
    assert names('from minibatch.softmax import softmax', module='minibatch.exact').find('softmax') == 'exact.html#minibatch.exact.softmax'
    assert names().find('exact.softmax') == 'exact.html#minibatch.exact.softmax'
    assert names('from minibatch.data import load').find('load') == 'mnist.html#minibatch.mnist.load'
    assert names('from minibatch.exact import SGD').find('SGD.step') == 'exact.html#minibatch.exact.SGD'


def test_pytorch_is_pytorch(two_softmaxes):
    functional = names().lookup.doc('torch.nn.functional.softmax')
    assert 'pytorch.org' in functional
    for found in names(), names('import torch.nn.functional as F', 'from minibatch.exact import softmax'): assert found.find('F.softmax') == functional
    assert names('from torch.optim import SGD').find('SGD') == names().find('torch.optim.SGD') != None
    assert names('from minibatch.exact import softmax').find('softmax', theirs=True) == functional
    assert names('import numpy as np').find('np.exp') is None


def test_links_in_prose(two_softmaxes):
    found = names('from minibatch.exact import softmax', 'from minibatch.exact import _shift')
    def link(text): return found.link(text, 'exact.html')
    ours = '[`softmax`](#minibatch.exact.softmax)'
    assert link('Here `softmax`, there `softmax`.') == f'Here {ours}, there `softmax`.' # once
    assert link('`softmax()`') == ours.replace('`softmax`', '`softmax()`')
    assert 'pytorch.org' in link("PyTorch's own `softmax`") and 'minibatch' not in link('PyTorch’s `softmax`')
    for alone in '## The `softmax`', '[`softmax`](x.html)', '```python\n`softmax`\n```', '`_shift`', '`x.softmax`', '`DataLoader`', '``a `softmax` b``': assert link(alone) == alone
    row = '| [02](02_softmax.ipynb) | `softmax` |\n| [11](11_exact.ipynb) | `SGD` |'
    assert names().link(row) == row.replace('`softmax`', '[`softmax`](softmax.html#minibatch.softmax.softmax)').replace('`SGD`', '[`SGD`](exact.html#minibatch.exact.SGD)')


# The reference

PUBLIC = [(module, name) for module, m in links.modules().items() for name, definition in m.public.items() if definition == f'{module}.{name}']


@pytest.fixture(scope='module')
def entries():
    "The entry of each name."
    parts = re.split(r'<div id="([\w.]+)" class="place"></div>', reference.page())
    return dict(zip(parts[1::2], parts[2::2]))


@pytest.mark.parametrize('module, name', PUBLIC, ids=lambda x: x.removeprefix('minibatch.'))
def test_reference_has_everything(entries, module, name):
    "Signature, parameters, docstring, methods, chapter."
    text, o = entries[f'{module}.{name}'], getattr(import_module(module), name)
    assert links.ours(f'{module}.{name}') in text
    for ugly in 'ForwardRef', '<function', '<class', ' object at 0x', "'Tensor'": assert ugly not in text
    if not callable(o): return
    assert inspect.getdoc(o) in text.replace('\n\n', '\n\n') and len(inspect.getdoc(o)) > 15
    if isinstance(o, type) and issubclass(o, BaseException): return # raised, not called
    methods = {m: f for m, f in vars(o).items() if inspect.isfunction(f) and not m.startswith('_')} if isinstance(o, type) else {}
    methods = {m: f for m, f in methods.items() if f.__doc__ or not any(hasattr(base, m) for base in o.__bases__)} # else the base class tells
    for f in [o, *methods.values()]:
        for p in inspect.signature(f).parameters.values():
            if p.name == 'self': continue
            assert re.search(rf'^- `\**{p.name}`', text, re.M), f'{p.name} is not explained'
            assert f'{p.name}: {p.annotation}' in text or not isinstance(p.annotation, str) or 'ForwardRef' in str(p.annotation)
        kinds = [p.kind for p in inspect.signature(f).parameters.values()]
        if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds: assert re.search(r'\(\*, |, \*, |\n    \*,', text)
    for m, f in methods.items(): assert f'`{name}.{m}`' in text and f.__doc__, f'{name}.{m} says not what it does'


def test_reference_signatures_are_python(entries):
    for text in entries.values():
        for code in re.findall(r'```python\n(.*?)\n```', text, re.S):
            assert ast.parse(f'{code}: ...' if code.startswith('class ') else f'def {code}: ...' if '(' in code.split(' = ')[0] else code)


def test_parameters_have_comments(entries):
    "Every parameter of a public function or class says what it is."
    own = {full: re.findall(r'^- `(\w+)`(.*)$', text.partition('\n#### ')[0], re.M) for full, text in entries.items()}
    bare = [f'{full}: {name}' for full, found in own.items() for name, rest in found if '): ' not in rest and not rest.startswith(': ')]
    assert not bare


def test_quarto_knows_every_page():
    config = yaml.safe_load((ROOT/'_quarto.yml').read_text(encoding='utf-8'))
    listed = [e['href'] for part in config['website']['sidebar']['contents'] if 'section' in part for e in part['contents']]
    assert sorted(n for n in listed if n.endswith('.ipynb')) == [p.name for p in NOTEBOOKS if p.name != 'index.ipynb'] and 'reference.qmd' in listed
    assert (ROOT/'nbs'/config['format']['html']['css']).is_file()
