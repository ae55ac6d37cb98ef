"""What the pages need done to a notebook beyond what nbdev does, for both sites: settings.ini lists these under `procs`.

nbdev runs them on each notebook, in this order, after its own, and writes the result to _proc/, from which Quarto makes one site and
`convert.py` and Sphinx the other. `nbdev_docs` finds this file only with PYTHONPATH=site; `make quarto` sees to that.
"""
from __future__ import annotations
import ast, re, shutil
from pathlib import Path

from execnb.nbio import mk_cell
from markdown_it import MarkdownIt
from nbdev.config import get_config
from nbdev.process import Processor

from links import Names, definitions, ours

PRIVATE = 'hide', 'default_exp', 'export', 'exporti' # nbdev's directives for cells that a page does not show
DIRECTIVE = re.compile(r'^[ \t]*#[ \t]*\|[ \t]*(\S.*?)[ \t]*$\n?', re.M)
ANSWER = re.compile(r'<summary>\s*Answer\b[^<]*</summary>')
FIGURE = re.compile(r'^(</?mb-[a-z][^>]*>)[ \t]*$', re.M)
LONG = 4 # lines of imports that a page shows unfolded


def markdown(text): return mk_cell(text, 'markdown')


def raw(html): return f'```{{=html}}\n{html}\n```' # for Pandoc, which would put an element that it does not know into a paragraph


def lines(cell): return [line for line in cell.source.splitlines() if line.strip()]


def names_of(cell) -> list[str]:
    "What an exported cell defines."
    return definitions(ast.parse(cell.source)) if 'exports' in cell.get('directives_', {}) else []


def imports_only(body) -> bool:
    "Nothing but imports, and what to do without one: `try: import x` and `except ImportError: x = None`."
    def fine(node):
        if isinstance(node, ast.Try): return imports_only(node.body) and all(isinstance(n, (ast.Assign, ast.Pass)) for h in node.handlers for n in h.body)
        return isinstance(node, (ast.Import, ast.ImportFrom))
    return bool(body) and all(map(fine, body))


def only_imports(cell) -> bool:
    try: return imports_only(ast.parse(cell.source).body)
    except SyntaxError: return False


def module_of(nb) -> str|None:
    "The module that a notebook exports."
    found = [c.directives_['default_exp'][0] for c in nb.cells if 'default_exp' in (c.get('directives_') or {})]
    return f'{get_config().lib_path.name}.{found[0]}' if found else None


def tidy(cell):
    "Quarto's directives first, nbdev's gone, wherever they stood; what runs long says so in its tags."
    if cell.cell_type != 'code': return
    directives = DIRECTIVE.findall(cell.source)
    code = DIRECTIVE.sub('', cell.source).strip('\n')
    for d in directives:
        if ':' not in d.split()[0]: cell.directives_[d.split()[0]] = d.split()[1:]
    kept = [f'#| {d}' for d in directives if ':' in d.split()[0]]
    cell.source = '\n'.join(kept + [code])
    tags = [name for name in ('slow', 'notest') if name in cell.directives_]
    if tags: cell.metadata['tags'] = tags


def language(code:str) -> str:
    "What a block of code in prose is: Python if it can be read as such."
    try: ast.parse(code)
    except SyntaxError: return 'text'
    return 'python'


def fence(cell):
    "A fence with a language in the place of indented code, which each site would colour as it likes."
    if cell.cell_type != 'markdown': return
    text = cell.source.split('\n')
    for token in reversed(MarkdownIt().parse(cell.source)):
        if token.type != 'code_block' or token.level: continue # in a list the indentation is the list's
        start, end = token.map
        while end > start and not text[end-1].strip(): end -= 1
        text[start:end] = [f'```{language(token.content)}', *token.content.rstrip('\n').split('\n'), '```']
    cell.source = '\n'.join(text)


class LinkNames(Processor):
    "Link the names in the prose, by what the page imports and exports."
    def begin(self):
        self.nb.module_ = module_of(self.nb)
        self.names = Names(self.nb.module_)
        for cell in self.nb.cells:
            if cell.cell_type == 'code': self.names.read(cell.source)
        page = self.nb.frontmatter_.get('output-file', '')
        for cell in self.nb.cells:
            if cell.cell_type == 'markdown': cell.source = self.names.link(cell.source, page)


class Hide(Processor):
    "Leave out what a page does not show. Imports it does show, exported or not."
    def cell(self, cell):
        if cell.cell_type != 'code': return
        d = cell.directives_.keys()
        shown = not d & set(PRIVATE) or 'hide' not in d and only_imports(cell)
        if not shown or cell.directives_.get('include:') == ['false'] or cell.source.startswith('show_doc('): del cell['source']


class FoldAnswers(Processor):
    "Put the code cells that follow an answer, and what they print, into the answer's fold."
    def begin(self):
        out, closing = [], None
        for cell in self.nb.cells:
            if cell.cell_type != 'code' and closing:
                out.append(closing)
                closing = None
            if cell.cell_type == 'markdown':
                *_, last = ['', *re.split(r'(?=<details)', cell.source)]
                if ANSWER.search(last) and last.rstrip().endswith('</details>'):
                    cell.source = cell.source.rstrip().removesuffix('</details>').rstrip()
                    closing = markdown('</details>')
            out.append(cell)
        self.nb.cells = out + [closing] * (closing is not None)


class FoldImports(Processor):
    "Fold imports that stand together, if they are long."
    def begin(self):
        out, group, inside = [], [], False
        for cell in [*self.nb.cells, None]: # None: the end
            if cell and cell.cell_type == 'code' and not inside and only_imports(cell):
                group.append(cell)
                continue
            if sum(len(lines(c)) for c in group) > LONG:
                group = [markdown('<details><summary>Imports, to run first</summary>'), *group, markdown('</details>')]
            out, group = out + group, []
            if cell is None: break
            if cell.cell_type == 'markdown': inside = cell.source.rfind('<details') > cell.source.rfind('</details')
            out.append(cell)
        self.nb.cells = out


class Anchors(Processor):
    "Before a cell that is exported, a place for links to what it defines."
    def begin(self):
        out = []
        for cell in self.nb.cells:
            if cell.cell_type == 'code' and self.nb.module_:
                places = [ours(f'{self.nb.module_}.{name}') for name in names_of(cell)]
                anchors = [f'<div id="{place.split("#")[1]}" class="place"></div>' for place in places if place]
                if anchors: out.append(markdown('\n'.join(anchors)))
            out.append(cell)
        self.nb.cells = out


class Figures(Processor):
    "See that figures reach the page, with the script that brings them to life."
    def begin(self):
        found = False
        for cell in self.nb.cells:
            if cell.cell_type != 'markdown' or '<mb-' not in cell.source: continue
            alone = FIGURE.findall(cell.source)
            if len(re.findall(r'</?mb-', cell.source)) != len(alone) or len(alone) % 2:
                raise ValueError(f'the tags of a figure stand alone on their lines, <mb-…> and </mb-…>:\n{cell.source}')
            cell.source = FIGURE.sub(lambda m: f'\n{raw(m[1])}\n', cell.source)
            found = True
        if found: self.nb.cells.append(markdown(raw('<script type="module" src="figures/load.js"></script>')))


class Download(Processor):
    "The notebook itself, beside its page."
    def begin(self):
        path = Path(self.nb.path_)
        if not path.name[0].isdigit(): return # not a chapter
        folder = get_config().config_path/'_proc/notebooks'
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder/path.name)
        [warning] = [i for i, c in enumerate(self.nb.cells) if 'AUTOGENERATED' in c.source and c.cell_type == 'markdown']
        link = f'<a href="notebooks/{path.name}" download>Download this notebook</a>'
        self.nb.cells.insert(warning + 1, markdown(link))
