"The built site, in a real browser: `make docs` first. `make check` does."
import contextlib, functools, http.server, os, re, shutil, threading
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT
from playwright.sync_api import sync_playwright

pytestmark = [pytest.mark.slow, pytest.mark.elsewhere]
SITE = ROOT/'_site'
BROWSERS = 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome'
FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-quic']
PAGES = sorted(p.name for p in SITE.glob('*.html')) or ['there is no site: run make docs']
CHAPTERS = [re.sub(r'^\d+_(.*)\.ipynb', r'\1.html', p.name) for p in sorted((ROOT/'nbs').glob('[0-9]*.ipynb'))]


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
    "A function that opens a page of the site in a window of its own; what it does wrong collects in `page.problems`."
    contexts = []

    def open_page(name, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.problems = []
        page.on('console', lambda m: page.problems.append(m.text) if m.type == 'error' else None)
        page.on('pageerror', lambda e: page.problems.append(str(e)))
        page.on('request', lambda r: None if r.url.startswith((address, 'data:')) else page.problems.append(f'asks for {r.url}'))
        page.on('response', lambda r: page.problems.append(f'{r.status} {r.url}') if r.status >= 400 else None)
        page.goto(address + name)
        if page.evaluate('"MathJax" in window'): page.evaluate('MathJax.startup.promise')
        return page

    yield open_page
    for context in contexts: context.close()


@pytest.fixture
def open_page(browser, address):
    with opener(browser, address) as open_page: yield open_page


@pytest.fixture(scope='module', params=PAGES)
def page(request, browser, address):
    "Each page once, in the light theme, for all the tests that look at every page; the last of them change it."
    with opener(browser, address) as open_page:
        page = open_page(request.param, color_scheme='light')
        page.name = request.param
        page.wait_for_load_state('networkidle')
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
    assert '`](' not in ''.join(page.locator('pre').all_inner_texts())  # nbdev links names in signatures too, where no link can be


def test_every_chapter_has_a_page(): assert CHAPTERS and set(CHAPTERS) <= set(PAGES)


@pytest.mark.parametrize('page', [name for name in PAGES if name in CHAPTERS], indirect=True)
def test_chapter_has_what_it_needs(page):
    "Math on the pages about formulas, a picture but for the commands, code everywhere, next and previous, the notebook."
    assert page.locator('pre').count() > 5 and page.get_by_text('Download this notebook').count() == 1
    assert page.locator('.prev-next-footer a').count() == 2
    assert page.locator('article details').count() >= 3
    if page.name != 'cli.html': assert page.locator('article img').count() >= 1
    if page.name in ('softmax.html', 'logsumexp.html', 'nll.html'): assert page.locator('mjx-container').count() >= 4


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


def test_links_lead_somewhere():
    pages = {name: Page((SITE/name).read_text(encoding='utf-8')) for name in PAGES}
    broken, outside = [], set()
    for name, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(link)
            if urlsplit(link).scheme: outside.add(target)
            elif target and not (SITE/urljoin(name, unquote(target))).is_file(): broken.append((name, link))
            elif (goal := urljoin(name, target) if target else name) in pages and unquote(anchor) not in pages[goal].anchors:
                broken.append((name, link))
    assert not broken
    assert any('pytorch.org' in link for link in outside)
    assert not [link for link in outside if 'your-user-name' in link]  # there is no public home yet


def test_exported_names_are_in_the_contents(open_page):
    from minibatch import logsumexp
    page = open_page('logsumexp.html')
    listed = page.locator('.bd-sidebar-secondary a').all_text_contents()
    assert set(logsumexp.__all__) <= {text.strip() for text in listed}
    page.goto(page.url.replace('logsumexp.html', 'reference.html'))
    headings = page.locator('article').inner_text()
    for name in logsumexp.__all__: assert f'{name}(' in headings


def test_names_lead_to_the_chapter_that_defines_them(open_page):
    page = open_page('index.html')
    page.get_by_role('link', name='log_softmax', exact=True).click()
    page.wait_for_url('**/logsumexp.html#log-softmax')


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


def test_keyboard_reaches_content_and_code(open_page):
    page = open_page('logsumexp.html', viewport={'width': 390, 'height': 844})
    page.keyboard.press('Tab')
    assert page.evaluate('document.activeElement.textContent.trim()') == 'Skip to main content'
    page.keyboard.press('Enter')
    assert page.evaluate('location.hash') == '#main-content'
    wide = page.eval_on_selector_all('article pre', 'all => all.filter(e => e.scrollWidth > e.clientWidth).map(e => e.tabIndex)')
    assert wide and all(index == 0 for index in wide)
