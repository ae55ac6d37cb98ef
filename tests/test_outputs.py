"The comparison of what a notebook prints with what is stored in it notices what it must."
import copy, re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from outputs import check, differences, execute, same_text, write


CELLS = dict(
    number='import pandas as pd\nimport matplotlib.pyplot as plt\n2/3',
    stream='for i in range(3): print(i, i/7)',
    table="pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})",
    picture='plt.plot([1, 2]);',
    error='#| eval: false\n1/0',
    chaotic="# may vary: it is the time\nimport time\nassert time.time() > 0\nprint('time', time.time())",
)


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp('notebooks')/'sample.ipynb'
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in CELLS.values()]), path)
    nbformat.write(execute(path), path)
    return path


@pytest.fixture
def stored(path): return nbformat.read(path, as_version=4)


@pytest.fixture(scope='module')
def fresh(path): return execute(path)


def outputs(nb, name): return nb.cells[list(CELLS).index(name)].outputs


def test_equal_run_is_accepted(stored, fresh):
    assert outputs(stored, 'chaotic') != outputs(fresh, 'chaotic')  # the clock has moved on
    assert differences(stored, fresh) == []


def change_digit(nb): outputs(nb, 'number')[0].data['text/plain'] = '0.6666766666666666'
def change_stream(nb): outputs(nb, 'stream')[0].text = outputs(nb, 'stream')[0].text.replace('0.28', '0.29')
def change_word(nb): outputs(nb, 'chaotic')[0].text = outputs(nb, 'chaotic')[0].text.replace('time', 'clock')
def drop_output(nb): outputs(nb, 'number').clear()
def drop_picture(nb): outputs(nb, 'picture')[-1].data.pop('image/png')
def drop_all_of_picture(nb): outputs(nb, 'picture').clear()
def change_error(nb): outputs(nb, 'error')[0].evalue = 'modulo by zero'
def change_error_type(nb): outputs(nb, 'error')[0].ename = 'ValueError'
def change_table(nb):
    data = outputs(nb, 'table')[0].data
    data['text/html'] = data['text/html'].replace('<td>y</td>', '<td>z</td>')


@pytest.mark.parametrize('change, cell', [(change_digit, 1), (change_stream, 2), (change_table, 3), (drop_picture, 4), (drop_all_of_picture, 4),
                                          (change_error, 5), (change_error_type, 5), (change_word, 6), (drop_output, 1)],
                         ids=lambda c: getattr(c, '__name__', c))
@pytest.mark.parametrize('way', ['stored', 'fresh'])
def test_change_is_noticed(stored, fresh, change, cell, way):
    fresh = copy.deepcopy(fresh)
    change(stored if way == 'stored' else fresh)
    [found] = differences(stored, fresh)
    assert re.match(rf'cell {cell} \(.+\) differs\n  stored: .+\n  fresh:  .+', found)


def test_picture_of_another_size_is_noticed(stored, fresh):
    import base64
    png = bytearray(base64.b64decode(outputs(stored, 'picture')[-1].data['image/png']))
    png[18] += 1  # 256 pixels wider
    outputs(stored, 'picture')[-1].data['image/png'] = base64.b64encode(png).decode()
    assert len(differences(stored, fresh)) == 1


def test_new_error_is_noticed_without_comparing(stored, fresh):
    for nb in stored, fresh: nb.cells[4].source = '1/0'
    assert differences(stored, fresh, compare=False) == ['cell 5 (1/0) fails: ZeroDivisionError: division by zero']


def test_cell_that_may_vary_must_assert(stored, fresh):
    for nb in stored, fresh: nb.cells[5].source = "# may vary: it is the time\nprint('time', time.time())"
    [found] = differences(stored, fresh)
    assert found.endswith('may vary, but asserts nothing')
    for nb in stored, fresh: nb.cells[5].source = "# may vary: times\nprint('time', time.time())"
    assert not differences(stored, fresh)


def test_words_may_vary_where_a_cell_says_so(stored, fresh):
    "But it must still assert something, and show something of the same kind."
    change_word(fresh)
    assert len(differences(stored, fresh)) == 1
    source = "# may vary: words too\nassert time.time() > 0\nprint('time', time.time())"
    for nb in stored, fresh: nb.cells[5].source = source
    assert not differences(stored, fresh)
    for nb in stored, fresh: nb.cells[5].source = source.replace('assert ', '')
    assert len(differences(stored, fresh)) == 1
    for nb in stored, fresh: nb.cells[5].source = source
    outputs(fresh, 'chaotic').clear()
    assert len(differences(stored, fresh)) == 1


@pytest.mark.parametrize('old, new, equal', [
    ('2.4076', '2.4077', False), ('2.4076', '2.40760001', True), ('float32', 'float64', False), ('nan', '1.0', False), ('nan', 'nan', True),
    ('tensor([-0.50,  1.00])', 'tensor([-0.50, 1.00])', True), ('1,000 rows', '1,001 rows', False), ('-1', '1', False), ('1e-9', '2e-9', False),
    ('<object at 0x7f01>', '<object at 0x7f02>', True), ('inf', '-inf', False)])
def test_same_text(old, new, equal): assert same_text(old, new) == equal


def test_slow_cells_are_left_out(tmp_path):
    "They keep what is stored, and the cells after them run."
    path = tmp_path/'slow.ipynb'
    nb = new_notebook(cells=[new_code_cell(source) for source in ('a = 1', '#| slow\na = 2', 'print(a)')])
    nbformat.write(nb, path)
    nbformat.write(execute(path), path)
    assert check(path) == []
    [found] = check(path, slow=False)
    assert re.match(r'cell 3 \(print\(a\)\) differs\n  stored: .*2.*\n  fresh:  .*1', found)
    nb.cells[1].source = '#| slow\n1/0'
    nbformat.write(nb, path)
    assert 'ZeroDivisionError' in check(path, compare=False)[0] and check(path, compare=False, slow=False) == []


def test_environment_of_the_kernel(tmp_path):
    path = tmp_path/'env.ipynb'
    nbformat.write(new_notebook(cells=[new_code_cell("import os\nassert os.environ['WHO'] == 'me'")]), path)
    assert check(path, compare=False, env={'WHO': 'me'}) == [] and 'KeyError' in check(path, compare=False)[0]


def test_write_stores_nothing_if_a_cell_fails(tmp_path):
    path = tmp_path/'fails.ipynb'
    nbformat.write(new_notebook(cells=[new_code_cell('1/0')]), path)
    before = path.read_bytes()
    assert write(path) == ['cell 1 (1/0) fails: ZeroDivisionError: division by zero']
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]
