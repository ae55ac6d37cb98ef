"What a reader sees is what a reader could type: the code on each built page, from the top, in a fresh kernel and an empty folder."
import functools, re

import pytest
from bs4 import BeautifulSoup
from conftest import ROOT
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

SITE = ROOT/'_site'
PAGES = [re.sub(r'^\d+_', '', p.stem) for p in sorted((ROOT/'nbs').glob('*.ipynb'))]
OTHER = {'sh', 'bash', 'shell', 'console', 'text', 'none', 'output', 'html', 'yaml', 'json', 'make', 'toml', 'ini', 'diff'} # not Python, and says so


@functools.cache
def page(name): return BeautifulSoup((SITE/f'{name}.html').read_text(encoding='utf-8'), 'html.parser')


def answer_to(pre):
    "The fold with the answer to an exercise whose check this block in its prose is."
    for element in pre.find_all_next(True):
        if element.name == 'details': return element if element.summary.get_text().startswith('Answer') else None
        if element.name in ('h2', 'h3') or 'cell' in element.get('class', []): return None


def visible_code(name:str) -> list: # One cell per block of code
    "The Python code of a page, folded or not, without what runs long. A check of the reader's own code comes after the answer, which must pass it."
    cells, checks = [], []
    for pre in page(name).select('article pre'):
        [language] = [c.removeprefix('highlight-') for box in pre.parents for c in box.get('class', []) if c.startswith('highlight-')][:1]
        cell = pre.find_parent(class_='cell')
        if language in OTHER or pre.find_parent(class_='cell_output') or cell and 'tag_slow' in cell['class']: continue
        if checks and checks[0][0] not in pre.parents:
            cells += [check for _, check in checks]
            checks = []
        fails = cell and cell.select('.traceback') # the page shows the error
        code = new_code_cell(pre.get_text(), metadata={'tags': ['raises-exception'] if fails else []})
        answer = None if cell else answer_to(pre)
        if answer: checks.append((answer, code))
        else: cells.append(code)
    return cells + [check for _, check in checks]


@pytest.mark.slow
@pytest.mark.elsewhere  # it needs the site
@pytest.mark.parametrize('name', PAGES)
def test_visible_code_runs(name, tmp_path):
    cells = visible_code(name)
    assert cells
    NotebookClient(new_notebook(cells=cells), timeout=600, kernel_name='python3', resources={'metadata': {'path': str(tmp_path)}}).execute()
