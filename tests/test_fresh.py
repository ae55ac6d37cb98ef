"What is committed is fresh, and what is installed works: modules, clean notebooks, the staircase of imports, the wheel."
import ast, configparser, os, re, shutil, subprocess, sys, zipfile
from pathlib import Path

import nbformat, pytest
from conftest import ROOT
from nbdev.config import get_config
from nbdev.test import test_nb as run_as_test  # a name that pytest does not take for a test
from nbformat.v4 import new_code_cell, new_notebook

NOTEBOOKS = sorted((ROOT/'nbs').glob('*.ipynb'))
PYTHON = {'kernelspec': {'name': 'python3', 'display_name': 'python3', 'language': 'python'}}
CHAPTERS = [nb for nb in NOTEBOOKS if nb.name[:2].isdigit()]
CELLAR, ROOF = ['files', 'mnist', 'checks'], ['bench', 'cli']  # any chapter may stand on the first; none on the second


@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    "A copy of what the modules are made from."
    copy = tmp_path_factory.mktemp('copy')/'minibatch'
    copy.mkdir()
    shutil.copy(ROOT/'settings.ini', copy)
    shutil.copytree(ROOT/'nbs', copy/'nbs', ignore=shutil.ignore_patterns('.*', '__pycache__'))
    return copy


def run_in(folder, *argv): subprocess.run([str(Path(sys.executable).with_name(argv[0])), *argv[1:]], cwd=folder, check=True)


def test_modules_are_exported(copy):
    run_in(copy, 'nbdev_export')
    made, kept = ({p.name: p.read_text() for p in (d/'minibatch').glob('*.py')} for d in (copy, ROOT))
    stale = [name for name in made | kept if made.get(name) != kept.get(name)]
    assert not stale, f'not what the notebooks export: {stale}. Run make export.'


def test_notebooks_are_clean(copy):
    run_in(copy, 'nbdev_clean')
    unclean = [nb.name for nb in NOTEBOOKS if nb.read_text() != (copy/'nbs'/nb.name).read_text()]
    assert not unclean, f'not clean: {unclean}. Run nbdev_clean.'


def test_chapters_are_listed():
    listed = (ROOT/'_quarto.yml').read_text()
    index = (ROOT/'nbs/index.ipynb').read_text()
    for nb in CHAPTERS: assert nb.name in listed and nb.name in index
    assert (ROOT/'nbs/_quarto.yml').resolve() == ROOT/'_quarto.yml'


def imports(module):
    "The chapters that a module imports."
    tree = ast.parse((ROOT/'minibatch'/f'{module}.py').read_text())
    return {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module}


def test_staircase():
    chapters = [nb.stem[3:] for nb in CHAPTERS if nb.stem[3:] in {p.stem for p in (ROOT/'minibatch').glob('*.py')}]
    order = CELLAR + [name for name in chapters if name not in CELLAR]
    assert order[-2:] == ROOF
    for module in CELLAR: assert imports(module) <= set(CELLAR), f'{module} is in the cellar and imports a chapter'
    for step, module in enumerate(order): assert imports(module) <= set(order[:step]), f'{module} imports a later chapter'
    for module in order[:-2]: assert not imports(module) & set(ROOF), f'{module} imports what may use everything'
    assert {p.stem for p in (ROOT/'minibatch').glob('*.py')} == {'__init__', '_modidx', *order}


def test_no_private_name_of_another_chapter():
    for nb in NOTEBOOKS:
        for cell in nbformat.read(nb, 4).cells:
            if cell.cell_type != 'code': continue
            private = re.findall(r'from (?:minibatch)?\.?\w+ import [^\n]*?\b_[a-z]\w*', cell.source)
            assert not [p for p in private if 'minibatch' in p or 'from .' in p], f'{nb.name}: {private}'


@pytest.mark.slow
def test_wheel_needs_no_notebook_tools(tmp_path, copy):
    for name in 'setup.py', 'README.md', 'LICENSE', 'settings.ini': shutil.copy(ROOT/name, copy)
    shutil.copytree(ROOT/'minibatch', copy/'minibatch', dirs_exist_ok=True)
    run_in(copy, 'pip', 'wheel', '--quiet', '--no-deps', '--wheel-dir', str(tmp_path), '.')
    [wheel] = tmp_path.glob('*.whl')
    with zipfile.ZipFile(wheel) as z:
        z.extractall(tmp_path/'site')
        [metadata] = [z.read(n).decode() for n in z.namelist() if n.endswith('METADATA')]
    needs = [line for line in metadata.splitlines() if line.startswith('Requires-Dist') and 'extra ==' not in line]
    assert needs and not any(tool in line for line in needs for tool in ('nbdev', 'jupyter', 'execnb', 'pytest'))
    code = ('import sys; sys.modules.update(dict.fromkeys(["nbdev", "IPython", "jupyter", "execnb", "pytest"]))\n'
            'import minibatch; assert minibatch.__file__.startswith(sys.argv[1]), minibatch.__file__\n'
            'from minibatch.cli import minibatch_train; minibatch_train(["--epochs", "1", "--source", "embedded"])')
    env = {**os.environ, 'PYTHONPATH': str(tmp_path/'site'), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run([sys.executable, '-c', code, str(tmp_path/'site')], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0 and '\n    1 ' in done.stdout, done.stderr


def test_readme_is_fresh(): run_in(ROOT, 'python', 'site/convert.py', '--check')


def test_slow_cells_are_left_out(tmp_path):
    "nbdev_test, as settings.ini tells it to, passes over a cell marked slow, and over no other."
    flags = get_config().tst_flags.split()
    for mark, passes in ('#| slow\n', True), ('', False):
        path = tmp_path/'sample.ipynb'
        nbformat.write(new_notebook(cells=[new_code_cell(f'{mark}1/0')], metadata=PYTHON), path)
        assert run_as_test(path, skip_flags=flags, showerr=False)[0] == passes


def test_version_is_said_once():
    config = configparser.ConfigParser(delimiters=['='])
    config.read(ROOT/'settings.ini')
    assert f'__version__ = "{config["DEFAULT"]["version"]}"' in (ROOT/'minibatch/__init__.py').read_text()
    assert config['DEFAULT']['version'] in (ROOT/'CHANGELOG.md').read_text()
