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

EXPORTED = 'export', 'exporti' # nbdev's directives for code of the package that is not part of the story
DIRECTIVE = re.compile(r'^[ \t]*#[ \t]*\|[ \t]*(\S.*?)[ \t]*$\n?', re.M)
ANSWER = re.compile(r'<summary>\s*Answer\b[^<]*</summary>')
FIGURE = re.compile(r'^(</?mb-[a-z][^>]*>)[ \t]*$', re.M)
LONG = 4 # lines of imports that a page shows unfolded


def markdown(text): return mk_cell(text, 'markdown')


def raw(html): return f'```{{=html}}\n{html}\n```' # for Pandoc, which would put an element that it does not know into a paragraph


def lines(cell): return [line for line in cell.source.splitlines() if line.strip()]


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
    "Leave out what a page does not show."
    def cell(self, cell):
        if cell.cell_type != 'code': return
        hidden = cell.directives_.keys() & {'hide', 'default_exp'} or cell.directives_.get('include:') == ['false']
        if hidden or re.match(r'show_doc\(|_all_ *=|__all__ *=', cell.source): del cell['source']


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


class FoldCode(Processor):
    "Fold what is not part of the story but is needed to run it: imports that are long, and helpers. Give what is exported a place for links."
    def begin(self):
        out, group, kind, inside = [], [], None, False
        for cell in [*self.nb.cells, None]: # None: the end
            before, kind = kind, None if cell is None or inside else self.kind(cell)
            if kind != before and group: out, group = out + self.fold(before, group), []
            if cell is None: break
            if cell.cell_type == 'markdown': inside = cell.source.rfind('<details') > cell.source.rfind('</details')
            if kind: group.append(cell)
            else: out += [*self.places([cell]), cell]
        self.nb.cells = out

    def kind(self, cell):
        if cell.cell_type != 'code': return None
        return 'imports' if only_imports(cell) else 'helpers' if cell.directives_.keys() & set(EXPORTED) else None

    def fold(self, kind, cells):
        if kind == 'imports' and sum(len(lines(c)) for c in cells) <= LONG: return cells
        names = [name for cell in cells for name in definitions(ast.parse(cell.source), private=True)]
        title = 'Imports, to run first' if kind == 'imports' else f'Behind the scenes: <code>{", ".join(names)}</code>'
        return [*self.places(cells), markdown(f'<details><summary>{title}</summary>'), *cells, markdown('</details>')]

    def places(self, cells):
        names = [name for cell in cells if cell.cell_type == 'code' and self.nb.module_ and cell.directives_.keys() & {*EXPORTED, 'exports'}
                 for name in definitions(ast.parse(cell.source))]
        found = [place.split('#')[1] for place in (ours(f'{self.nb.module_}.{name}') for name in names) if place]
        return [markdown('\n'.join(f'<div id="{place}" class="place"></div>' for place in found))] if found else []


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
