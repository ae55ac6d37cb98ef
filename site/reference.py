"""The reference: every public name with its signature, its parameters and its docstring, from the package itself.

`nbs/reference.qmd.py` prints it when nbdev processes the notebooks; both sites show that.
"""
from __future__ import annotations
import ast, inspect, re, textwrap
from dataclasses import is_dataclass
from importlib import import_module
from typing import ForwardRef

from fastcore.docments import docments

from links import modules, ours

SPECIAL = '__call__', '__len__', '__iter__', '__getitem__', '__enter__', '__exit__' # what one calls without naming it
WIDE = 88 # columns of a signature on one line


def text_of(annotation) -> str:
    "A type as the source writes it."
    if annotation is inspect.Parameter.empty: return ''
    if isinstance(annotation, ForwardRef): return annotation.__forward_arg__ # what a named tuple makes of a string
    return annotation if isinstance(annotation, str) else getattr(annotation, '__name__', None) or str(annotation)


def value_of(default) -> str:
    "A default as one would type it."
    name = getattr(default, '__qualname__', None)
    if callable(default) and name: return name
    return '...' if repr(default).startswith('<') else repr(default) # an object that cannot be typed


def parameter(p:inspect.Parameter) -> str:
    "A parameter as a signature has it."
    stars = {p.VAR_POSITIONAL: '*', p.VAR_KEYWORD: '**'}.get(p.kind, '')
    kind, default = text_of(p.annotation), '' if p.default is p.empty else value_of(p.default)
    text = f'{stars}{p.name}' + (f': {kind}' if kind else '')
    return text + (f' = {default}' if kind and default else f'={default}' if default else '')


def signature(name:str, sig:inspect.Signature) -> str:
    "A signature in one line, or in one for each parameter."
    parts, last = [], None
    for p in sig.parameters.values():
        if last == p.POSITIONAL_ONLY != p.kind: parts.append('/')
        if p.kind == p.KEYWORD_ONLY and last not in (p.KEYWORD_ONLY, p.VAR_POSITIONAL): parts.append('*')
        parts.append(parameter(p))
        last = p.kind
    if last == inspect.Parameter.POSITIONAL_ONLY: parts.append('/')
    result = text_of(sig.return_annotation)
    end = f') -> {result}' if result else ')'
    line = f'{name}({", ".join(parts)}{end}'
    if len(line) <= WIDE: return line
    return f'{name}(\n' + ''.join(f'    {part},\n' for part in parts) + end


def own_signature(f) -> inspect.Signature:
    "The signature of a function, method or class, without `self`."
    try: sig = inspect.signature(f)
    except ValueError: return inspect.Signature() # an exception that adds nothing to Python's
    return sig.replace(parameters=[p for name, p in sig.parameters.items() if name not in ('self', 'cls')])


def record(o) -> bool:
    "A class that has fields in the place of a constructor?"
    return isinstance(o, type) and (issubclass(o, tuple) or is_dataclass(o))


def comments_of(f) -> dict[str, str]:
    "The comments on a function's parameters and on what it returns, or on the fields of a named tuple or dataclass."
    if record(f):
        lines = textwrap.dedent(inspect.getsource(f)).splitlines()
        fields = [n for n in ast.parse('\n'.join(lines)).body[0].body if isinstance(n, ast.AnnAssign)]
        found = {n.target.id: re.search(r'#\s*(.*)$', lines[n.end_lineno - 1]) for n in fields}
        return {name: m[1] for name, m in found.items() if m}
    return {name: ' '.join(text.split()) for name, text in docments(f).items() if text}


def described(f) -> list[str]:
    "Lines for the parameters and the result of `f`."
    try: sig, comments = own_signature(f), comments_of(f)
    except (OSError, TypeError, ValueError): return [] # made by a machine, without a source
    lines = []
    for name, p in sig.parameters.items():
        facts = [f'`{text_of(p.annotation)}`'] if text_of(p.annotation) else []
        if p.default is not p.empty: facts.append(f'default `{value_of(p.default)}`')
        stars = {p.VAR_POSITIONAL: '*', p.VAR_KEYWORD: '**'}.get(p.kind, '')
        lines.append(f'- `{stars}{name}`' + (f' ({", ".join(facts)})' if facts else '') + (f': {comments[name]}' if name in comments else ''))
    result = text_of(sig.return_annotation) if not isinstance(f, type) else ''
    if result not in ('', 'None') or 'return' in comments:
        lines.append('- returns' + (f' `{result}`' if result else '') + (f': {comments["return"]}' if 'return' in comments else ''))
    return ['\n'.join(lines)] if lines else []


def docstring(o) -> list[str]:
    "A docstring as Markdown; none that is inherited."
    return [inspect.cleandoc(o.__doc__)] if o.__doc__ else []


def block(code): return f'```python\n{code}\n```'


def method(cls:type, name:str, f) -> list[str]:
    "What is to be said about one method or property."
    if isinstance(f, property):
        kind = text_of(inspect.signature(f.fget).return_annotation)
        return [f'#### `{cls.__name__}.{name}`', block(f'{name}: {kind}' if kind else name), *docstring(f)]
    f = getattr(cls, name)
    return [f'#### `{cls.__name__}.{name}`', block(signature(name, own_signature(f))), *docstring(f), *described(f)]


def told(cls:type, name:str, f) -> bool:
    "Is there anything to say about a method? Not about one that answers for a base class, which says what it does."
    if name.startswith('_'): return name in SPECIAL and bool(f.__doc__ or comments_of(f))
    return bool(f.__doc__) or not any(hasattr(base, name) for base in cls.__bases__)


def entry(module:str, name:str, o) -> list[str]:
    "What is to be said about one name."
    full = f'{module}.{name}'
    chapter = f'[Source and explanation]({ours(full)})'
    text = [f'<div id="{full}" class="place"></div>', f'### `{name}`']
    if not callable(o):
        value = repr(o)
        short = len(value) <= 60 and ' at 0x' not in value and '<' not in value
        return [*text, block(f'{name} = {value}' if short else f'{name}: {type(o).__name__}'), chapter]
    if isinstance(o, type) and issubclass(o, BaseException): return [*text, block(f'class {name}({o.__base__.__name__})'), *docstring(o), chapter]
    text += [block(signature(name, own_signature(o))), *docstring(o)]
    if isinstance(o, type) and not record(o) and '__init__' in vars(o): text += docstring(o.__init__) + described(o.__init__)
    else: text += described(o)
    text.append(chapter)
    if isinstance(o, type):
        fields = getattr(o, '_fields', getattr(o, '__dataclass_fields__', ()))
        for m, f in vars(o).items():
            mine = callable(f) or isinstance(f, (property, classmethod, staticmethod))
            if mine and m not in fields and told(o, m, f): text += method(o, m, f)
    return text


def page() -> str:
    "The whole page, as Markdown."
    text = []
    for name, module in modules().items():
        loaded = import_module(name)
        text.append(f'## `{name}`')
        for symbol, definition in module.public.items():
            if definition != f'{name}.{symbol}': text += [f'`{symbol}` is passed on from [`{definition}`](#{definition}).']
            else: text += entry(name, symbol, getattr(loaded, symbol))
    return '\n\n'.join(text) + '\n'
