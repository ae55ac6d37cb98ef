"The built site, in a real browser: `make docs` first. `make check` does."
import contextlib, functools, http.server, os, re, shutil, sys, threading
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import nbformat, pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(ROOT/'site'))
from links import modules

pytestmark = [pytest.mark.slow, pytest.mark.elsewhere]
SITE = ROOT/'_site'
BROWSERS = 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome'
FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-quic']
PAGES = sorted(p.name for p in SITE.glob('*.html')) or ['there is no site: run make docs']
CHAPTERS = {re.sub(r'^\d+_(.*)\.ipynb', r'\1.html', p.name): p for p in sorted((ROOT/'nbs').glob('[0-9]*.ipynb'))} # and their notebooks


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass


@pytest.fixture(scope='module')
def address():
    "The site, served on this machine."
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=SITE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()
    server.server_close()


@pytest.fixture(scope='module')
def browser():
    path = os.environ.get('CHROMIUM') or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        reason = f'no browser: expected one of {", ".join(BROWSERS)} on the path, or its path in $CHROMIUM'
        pytest.fail(reason) if os.environ.get('CI') else pytest.skip(reason)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def opener(browser, address):
    "A function that opens a page of the site in a window of its own, or in `window`; what it does wrong collects in `page.problems`."
    opened = []

    def open_page(name, window=None, **options):
        if window is None: opened.append(browser.new_context(**options))
        page = (window or opened[-1]).new_page()
        opened.append(page)
        page.problems = []
        page.on('console', lambda m: page.problems.append(m.text) if m.type == 'error' else None)
        page.on('pageerror', lambda e: page.problems.append(str(e)))
        page.on('request', lambda r: None if r.url.startswith((address, 'data:')) else page.problems.append(f'asks for {r.url}'))
        page.on('response', lambda r: page.problems.append(f'{r.status} {r.url}') if r.status >= 400 else None)
        page.goto(address + name)
        if page.evaluate('"MathJax" in window'): page.evaluate('MathJax.startup.promise')
        return page

    yield open_page
    for thing in reversed(opened): thing.close()


@pytest.fixture
def open_page(browser, address):
    with opener(browser, address) as open_page: yield open_page


@pytest.fixture(scope='module')
def window(browser):
    "A window that keeps what the pages share."
    context = browser.new_context(color_scheme='light')
    yield context
    context.close()


@pytest.fixture(scope='module', params=PAGES)
def page(request, browser, address, window):
    "Each page once, in the light theme, for all the tests that look at every page; the last of them change it."
    with opener(browser, address) as open_page:
        page = open_page(request.param, window)
        page.name = request.param
        if 'figures/load.js' in page.content(): page.wait_for_load_state('networkidle')
        yield page


def test_page_is_whole(page):
    "No error, no request to another host, all math typeset, all pictures there and described."
    assert page.problems == []
    pictures = page.eval_on_selector_all('img', 'all => all.map(i => [i.src.slice(-40), i.complete && i.naturalWidth > 0, i.alt.length > 20])')
    assert all(loaded and described for _, loaded, described in pictures), pictures
    source, typeset = page.locator('.math').count(), page.locator('mjx-container').count()
    assert source == typeset and page.locator('mjx-merror').count() == 0
    prose = page.eval_on_selector_all('article p, article li', 'all => all.map(e => { e = e.cloneNode(true);'
                                      'e.querySelectorAll("code, mjx-container").forEach(c => c.remove()); return e.innerText })')
    assert not [text for text in prose if re.search(r'\$|\\[(\[a-z]', text)]
    code = ''.join(page.locator('pre').all_text_contents())
    assert '`](' not in code and not re.search(r'^\s*#\s*\|', code, re.M)  # no link where none can be, no directive
    page.wait_for_function("() => [...document.querySelectorAll('article *')].filter(e => e.localName.startsWith('mb-')).every(e => e.shadowRoot)")  # alive, no longer a picture
    assert page.problems == []


def test_every_chapter_has_a_page(): assert CHAPTERS and set(CHAPTERS) <= set(PAGES)


def answers(path) -> list[tuple[str, list, int]]: # (words, sources of the code cells, how many of them print something)
    "The answers in a notebook: the words in the fold, and the cells up to the next words."
    found, open_ = [], None
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == 'markdown':
            folds = re.findall(r'<details><summary>\s*Answer[^<]*</summary>(.*?)</details>', cell.source, re.S)
            found += [(words, [], []) for words in folds]
            open_ = found[-1] if folds and cell.source.rstrip().endswith('</details>') else None
        elif open_ and not re.match(r'#\|\s*hide\b', cell.source):
            open_[1].append(re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M).strip())
            open_[2].append(bool(cell.outputs))
    return [(words, code, sum(printed)) for words, code, printed in found]


ANSWERS = """() => [...document.querySelectorAll('article details')].filter(d => /^Answer/.test(d.querySelector('summary').textContent.trim())).map(d => ({
    open: d.open, height: d.offsetHeight - d.querySelector('summary').offsetHeight,
    seen: [...d.children].filter(e => e.localName != 'summary' && e.checkVisibility()).length,
    code: [...d.querySelectorAll('.cell_input pre')].map(e => e.textContent.trim()), outputs: d.querySelectorAll('.cell_output').length,
    next: d.nextElementSibling?.className || ''}))"""


@pytest.mark.parametrize('page', CHAPTERS, indirect=True)
def test_answers_are_in_one_fold(page):
    "Words, code and what it prints; nothing of it is seen while the fold is closed, and no code stands behind it."
    written, shown = answers(CHAPTERS[page.name]), page.evaluate(ANSWERS)
    assert len(shown) == len(written)
    for (words, code, printed), fold in zip(written, shown):
        assert (fold['open'], fold['seen']) == (False, 0) and fold['height'] <= 1
        assert (fold['code'], fold['outputs']) == (code, printed) and 'cell' not in fold['next'].split()
    page.eval_on_selector_all('article details', 'all => all.forEach(d => d.open = true)')
    assert all(fold['seen'] for fold in page.evaluate(ANSWERS))


@pytest.mark.parametrize('page', CHAPTERS, indirect=True)
def test_chapter_has_what_it_needs(page):
    "Imports before all other code, every picture, math where there is any, next and previous, the notebook."
    cells = nbformat.read(CHAPTERS[page.name], as_version=4).cells
    code, words = ([c for c in cells if c.cell_type == kind] for kind in ('code', 'markdown'))
    [imports, *_] = [c.source for c in code if re.search(r'^(import|from) ', c.source, re.M)]
    assert page.locator('.cell_input pre').first.text_content().strip() == re.sub(r'^#\|.*\n', '', imports, flags=re.M).strip()
    pictures = sum('image/png' in out.get('data', {}) for c in code for out in c.outputs if not re.match(r'#\|\s*hide\b', c.source))
    assert page.locator('article .cell_output img').count() == pictures
    if any('$$' in c.source for c in words): assert page.locator('mjx-container[display="true"]').count() >= 1
    assert page.locator('.prev-next-footer a').count() == 2
    download = page.get_by_text('Download this notebook').get_attribute('href')
    assert (SITE/download).read_bytes() == CHAPTERS[page.name].read_bytes()


def test_phone_never_scrolls_sideways(page):
    page.eval_on_selector_all('details', 'all => all.forEach(d => d.open = true)')
    wide = page.viewport_size
    page.set_viewport_size({'width': 390, 'height': 844})
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    page.evaluate('window.scrollTo(500, 0)')
    assert page.evaluate('window.scrollX') == 0
    page.set_viewport_size(wide)


# A token's colour hangs on its class and on the theme: of thousands, the longest of each class is enough (axe passes over single letters).
ONE_OF_EACH = """() => {
    const longest = {}
    for (const token of document.querySelectorAll('.highlight span[class]')) {
        const kind = [token.className, token.closest('.highlight').parentElement.className].join()
        const other = longest[kind]
        const keep = other && other.textContent.length >= token.textContent.length ? other : token
        if (other) { const drop = keep === token ? other : token; drop.replaceWith(...drop.childNodes) }
        longest[kind] = keep
    }
}"""


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_accessible(page, scheme):
    page.eval_on_selector_all('details', 'all => all.forEach(d => d.open = true)')
    page.eval_on_selector_all('article > section > section:nth-of-type(n+4)', f'all => {page.name == "reference.html":d} && all.forEach(s => s.remove())')
    page.evaluate(ONE_OF_EACH)
    page.emulate_media(color_scheme=scheme)  # some styles follow the system,
    page.evaluate(f'document.documentElement.dataset.theme = "{scheme}"')  # and the others the switch
    page.evaluate('Promise.all(document.getAnimations().map(a => a.finished))')  # colours that are still changing
    options = {'resultTypes': ['violations']} | ({'runOnly': ['color-contrast']} if scheme == 'dark' else {})  # only colours differ
    found = Axe().run(page, options=options).response['violations']
    serious = [(v['id'], [n['html'][:100] for n in v['nodes'][:3]]) for v in found if v['impact'] in ('serious', 'critical')]
    assert not serious


class Page(HTMLParser):
    "The links and the anchors of a page."
    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], {''}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[k] for k in ('id', 'name') if attrs.get(k)}
        if tag == 'a' and 'href' in attrs: self.links.append(attrs['href'])
        if tag in ('script', 'img') and not attrs.get('src', 'data:').startswith('data:'): self.links.append(attrs['src'])


def test_links_lead_somewhere():
    pages = {name: Page((SITE/name).read_text(encoding='utf-8')) for name in PAGES}
    broken, outside = [], set()
    for name, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(re.sub(r'\?[\w=.]+$', '', link))
            if urlsplit(link).scheme: outside.add(target)
            elif target and not (SITE/urljoin(name, unquote(target))).is_file(): broken.append((name, link))
            elif (goal := urljoin(name, target) if target else name) in pages and unquote(anchor) not in pages[goal].anchors:
                broken.append((name, link))
    assert not broken
    assert any('pytorch.org' in link for link in outside)
    assert not [link for link in outside if 'your-user-name' in link]  # there is no public home yet


def test_links_land_at_the_code():
    "Each public name has a place on its chapter's page, and what follows there defines it; the reference has it in its contents."
    def text(html): return re.sub(r'<[^>]*>', '', html)
    contents = (SITE/'reference.html').read_text(encoding='utf-8').partition('bd-sidebar-secondary')[2]
    listed = set(map(text, re.findall(r'<a class="reference[^>]*>.*?</a>', contents)))
    for module, (page, _, public) in modules().items():
        html = (SITE/page).read_text(encoding='utf-8')
        for name in (name for name, definition in public.items() if definition == f'{module}.{name}'): # not passed on
            assert name in listed
            after = html.split(f'id="{module}.{name}"')[1]
            code = text(after.partition('</details>' if 0 < after.find('<details') < after.find('<pre>') else '</pre>')[0])
            assert re.search(rf'^(def|class) {name}\b|^(\w+, )*{name}\b.* = ', code, re.M), f'{module}.{name}: {code[-80:]}'


def test_quarto_gets_what_it_understands():
    "Quarto itself is not needed here: its options above the code, folds closed and none in another, links within the book to what is there."
    made = {path.name: nbformat.read(path, as_version=4).cells for path in (ROOT/'_proc').glob('*.ipynb')}
    prose = {name: '\n\n'.join(c.source for c in cells if c.cell_type != 'code') for name, cells in made.items()}
    prose['reference.qmd'] = (ROOT/'_proc/reference.qmd').read_text(encoding='utf-8')
    html = {re.sub(r'^\d+_', '', name).rsplit('.', 1)[0] + '.html': name for name in prose}
    for name, cells in made.items():
        for cell in cells:
            if cell.cell_type != 'code': continue
            options, code = re.fullmatch(r'((?:#\| [\w-]+: .*\n)*)(.*)', cell.source, re.S).groups()
            assert not re.search(r'^\s*#\s*\|', code, re.M), f'{name}: {cell.source[:80]}'
            assert set(re.findall(r'^#\| ([\w-]+):', options, re.M)) <= {'fig-alt', 'echo', 'eval', 'output', 'warning'}
    for name, text in prose.items():
        depth = 0
        for tag in re.findall(r'</?details', text):
            depth += 1 if tag == '<details' else -1
            assert depth in (0, 1)
        assert depth == 0
        for target, anchor in re.findall(r'\]\(([\w.]*)(#[\w.-]*)?\)', text):
            page = html.get(target, target) or name
            assert page in prose or (ROOT/'_proc'/page).is_file(), f'{name}: {target}{anchor}'
            if anchor.startswith('#minibatch.'): assert f'<div id="{anchor[1:]}" class="place">' in prose[page], f'{name}: {target}{anchor}'


def test_names_lead_to_the_chapter_that_defines_them(open_page):
    "In the table on the first page each name leads to the chapter of its row."
    page = open_page('index.html')
    rows = page.eval_on_selector_all('article tr:has(td:first-child > p > a:not(:has(code)))', """all => all.map(r => ({
        chapter: r.querySelector('a').href.split('/').pop(),
        names: [...r.querySelectorAll('a:has(code)')].map(a => [a.textContent.replace('()', ''), a.href.split('/').pop()])}))""")
    named = [row for row in rows if row['names']]
    assert len(named) > 10
    for row in named:
        for name, link in row['names']: assert re.fullmatch(rf'{row["chapter"]}#minibatch\.\w+\.{name}', link), (name, link)
    link = named[3]['names'][-1][1]
    page.locator(f'a[href="{link}"]').first.click()
    page.wait_for_url(f'**/{link}')
    assert page.locator(f'[id="{link.partition("#")[2]}"]').bounding_box()['y'] < 400


def test_links_to_code_are_names():
    "Nothing but a name is inside such a link, and on the reference page the way to the source."
    for name in PAGES:
        links = re.findall(r'<a class="reference internal" href="[\w.]*#minibatch\.[\w.]*">(.*?)</a>', (SITE/name).read_text(encoding='utf-8'), re.S)
        texts = {re.sub(r'<[^>]*>', '', link) for link in links}
        assert all(re.fullmatch(r'[\w.]+(\(\))?', text) for text in texts - {'Source and explanation'}), texts


def test_private_names_lead_nowhere():
    for name in PAGES: assert not re.search(r'<a [^>]*><code[^>]*><span class="pre">_\w+</span></code></a>', (SITE/name).read_text(encoding='utf-8'))


def test_search_finds_the_chapter(open_page):
    page = open_page('index.html')
    page.keyboard.press('Control+k')
    page.keyboard.type('logsumexp')
    page.keyboard.press('Enter')
    page.wait_for_url('**/search.html?q=logsumexp*')
    page.locator('#search-results a[href*="logsumexp.html"]').first.wait_for(timeout=10_000)
    assert page.problems == []


def test_theme_is_switched_and_remembered(open_page):
    page = open_page('softmax.html', color_scheme='light')
    def theme(): return page.evaluate('document.documentElement.dataset.theme')
    assert theme() == 'light'
    page.get_by_role('button', name='Color mode').click()
    page.get_by_role('button', name='Dark', exact=True).click()
    assert theme() == 'dark'
    page.reload()
    assert theme() == 'dark'
    page.goto(page.url.replace('softmax', 'nll'))
    assert theme() == 'dark'


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_system_theme_is_followed(open_page, scheme):
    assert open_page('index.html', color_scheme=scheme).evaluate('document.documentElement.dataset.theme') == scheme


def test_code_is_copied(open_page):
    page = open_page('softmax.html', permissions=['clipboard-read', 'clipboard-write'])
    cell = page.locator('.cell_input').nth(3)
    cell.hover()
    cell.locator('button.copybtn').click()
    assert page.evaluate('navigator.clipboard.readText()').strip() == cell.locator('pre').text_content().strip()


def test_keyboard_reaches_content_and_code(open_page):
    page = open_page('logsumexp.html', viewport={'width': 390, 'height': 844})
    page.keyboard.press('Tab')
    assert page.evaluate('document.activeElement.textContent.trim()') == 'Skip to main content'
    page.keyboard.press('Enter')
    assert page.evaluate('location.hash') == '#main-content'
    wide = page.eval_on_selector_all('article pre', 'all => all.filter(e => e.scrollWidth > e.clientWidth).map(e => e.tabIndex)')
    assert wide and all(index == 0 for index in wide)
