"The figures that a reader can touch: what they compute, against the package, and what they do, in a real browser."
import base64, functools, gzip, http.server, importlib.util, itertools, json, re, shutil, threading

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT
from test_site import Quiet, browser, opener  # noqa: F401 (`browser` is a fixture)

from minibatch.gradient import cross_entropy_grad
from minibatch.logsumexp import log_softmax, logsumexp
from minibatch.model import Model
from minibatch.nll import cross_entropy, nll
from minibatch.optim import SGD
from minibatch.softmax import softmax
from minibatch.training import accuracy, train

pytestmark = [pytest.mark.slow, pytest.mark.elsewhere]  # they need a browser; that figures come alive on the site's pages is in test_site.py
FOLDER = ROOT/'nbs'/'figures'
MODULES = sorted(FOLDER.glob('*.js'))
FIGURES = sorted(p.stem for p in MODULES if f"define('{p.stem}'" in p.read_text(encoding='utf-8'))
EXAMPLE = re.search(r"(?m)(^    import \{define.*?^    \}\))$", (ROOT/'CONTRIBUTING.md').read_text(encoding='utf-8'), re.S)[1]
PAGE = """<!doctype html><html lang="en" style="color-scheme: light dark"><meta charset="utf-8"><title>{name}</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width"><style>body {{ font: 17px/1.5 sans-serif; margin: 0 auto; padding: 1rem; max-width: 46rem;
background: light-dark(#fff, #14181e); color: light-dark(#222, #ced6dd) }} img {{ max-width: 100% }}</style>
<main><h1>{name}</h1><mb-{name} {attributes}><p>What stands here without scripts.</p></mb-{name}></main><script type="module" src="/figures/{name}.js"></script>"""


class Handler(Quiet):
    "nbs/figures/ as the site has it, and a page for each figure."
    def do_GET(self):
        found = re.fullmatch(r'/(\w+)\.html(?:\?(\w+))?', self.path)
        if found: kind, text = 'text/html', PAGE.format(name=found[1], attributes=found[2] or '').encode()
        elif self.path == '/figures/sigmoid.js': kind, text = 'text/javascript', EXAMPLE.encode()
        else: return super().do_GET()
        self.send_response(200)
        self.send_header('Content-Type', kind)
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture(scope='module')
def address():
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Handler, directory=ROOT/'nbs'))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()
    server.server_close()


@pytest.fixture(scope='module')
def open_page(browser, address):  # noqa: F811
    with opener(browser, address) as open_page: yield open_page


@pytest.fixture(scope='module')
def compute(open_page):
    "`compute(module, expression, data)`: what the module's functions make of `data`, in the browser."
    page = open_page('softmax.html')
    def call(module, expression, data=None):
        code = f'async text => {{ const data = JSON.parse(text), m = await import("/figures/{module}.js"); return JSON.stringify({expression}) }}'
        return json.loads(page.evaluate(code, json.dumps(data)))
    return call


# What they are made of

def test_there_are_figures(): assert {'digit', 'unit', 'softmax', 'precision', 'nll', 'training', 'gradient', 'valley', 'workers', 'watch'} <= set(FIGURES)


@pytest.mark.parametrize('path', MODULES, ids=lambda p: p.name)
def test_module_is_small_and_asks_nobody(path):
    text = path.read_text(encoding='utf-8')
    assert text.count('\n') < 150
    assert set(re.findall(r'https?://[^\'"]*', text)) <= {'http://www.w3.org/2000/svg'}  # a name, not an address
    for name in re.findall(r"from '(.*?)'", text): assert (FOLDER/name).is_file()


def needed(name):
    "A module and all that it imports."
    found = [name]
    for name in found: found += [n for n in re.findall(r"from '\./(.*?)'", (FOLDER/name).read_text(encoding='utf-8')) if n not in found]
    return set(found)


@pytest.mark.parametrize('name', FIGURES)
def test_figure_weighs_little(name):
    files = needed(f'{name}.js') | {'figure.css'} | ({'watch.json'} if name == 'watch' else set())
    assert sum(len(gzip.compress((FOLDER/n).read_bytes())) for n in files) < 60_000


def test_network_and_digits_weigh_little():
    assert sum((FOLDER/n).stat().st_size for n in ('network.json', 'digits.bin')) < 200_000
    assert 'Yann LeCun, Corinna Cortes' in (FOLDER/'network.json').read_text(encoding='utf-8')


# What they compute

def stored_network():
    kept, model = json.loads((FOLDER/'network.json').read_text(encoding='utf-8')), Model(784, 50, 10)
    with torch.no_grad():
        for layer, k in (model.layers[0], kept['first']), (model.layers[2], kept['last']):
            q = np.frombuffer(base64.b64decode(k['weight']), np.int8).reshape(k['shape'])
            layer.weight.copy_(torch.tensor(q) * torch.tensor(k['scale']))
            layer.bias.copy_(torch.tensor(k['bias']))
    return model, kept


def stored_digits():
    content = np.frombuffer(gzip.decompress((FOLDER/'digits.bin').read_bytes()), np.uint8)
    return torch.tensor(content[700:].reshape(700, 784) / np.float32(256)), torch.tensor(content[:700]).long()


def the_command():
    spec = importlib.util.spec_from_file_location('figures', ROOT/'site'/'figures.py')
    command = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(command)
    return command


@pytest.mark.slow
def test_each_figure_has_its_picture(tmp_path, monkeypatch):
    "The command draws the pictures that are stored; to the pixel where Matplotlib is the same."
    command = the_command()
    for name in 'network.json', 'digits.bin', 'watch.json': shutil.copy(FOLDER/name, tmp_path)
    shutil.copy(FOLDER.parent/'matplotlibrc', tmp_path.parent)
    monkeypatch.setattr(command, 'OUT', tmp_path)
    command.write_pictures()
    stored, drawn = ({p.name: plt.imread(p) for p in folder.glob('*.png')} for folder in (FOLDER, tmp_path))
    assert stored.keys() == drawn.keys() and {f'{name}.png' for name in FIGURES} <= stored.keys()
    for name in stored: assert stored[name].shape == drawn[name].shape and np.abs(stored[name] - drawn[name]).mean() < .02


@pytest.mark.slow
def test_stored_are_what_the_command_makes():
    "Digits to the byte; the network, which differs from one kind of processor to another, in what it says."
    from minibatch.data import load_mnist
    try: mnist = load_mnist(source='mnist')
    except FileNotFoundError: pytest.skip('needs real MNIST')
    command, (x, y) = the_command(), stored_digits()
    assert gzip.decompress(command.digits(mnist)) == gzip.decompress((FOLDER/'digits.bin').read_bytes())
    assert torch.equal(x[:500], mnist.x_train[:500]) and torch.equal(y[500:], mnist.y_valid[:200])
    (stored, kept), made = stored_network(), command.train_network(mnist)
    with torch.no_grad(): a, b = stored(mnist.x_valid), made(mnist.x_valid)
    assert abs(accuracy(a, mnist.y_valid) - kept['validation accuracy']) < 1e-3  # a sum in another order may tip one digit
    assert abs(accuracy(a, mnist.y_valid) - accuracy(b, mnist.y_valid)) < .01 and (a.argmax(1) == b.argmax(1)).float().mean() > .97


slow = pytest.mark.slow


@slow
def test_recorded_runs_are_what_the_command_makes():
    "Losses and accuracies within a band: training differs from one kind of processor to another. Of `watch`, the kinds: what it says has numbers in it."
    from minibatch.data import load_mnist
    try: mnist = load_mnist(source='mnist')
    except FileNotFoundError: pytest.skip('needs real MNIST')
    command, kept = the_command(), json.loads((FOLDER/'watch.json').read_text(encoding='utf-8'))
    assert tuple(kept['wrong']) == command.MISTAKES
    for mistake, stored in {'': kept['right'], **kept['wrong']}.items():
        made = command.runs(mnist, mistake, seeds=[1])
        a, b = (torch.tensor(r['loss']) / 1000 for r in (stored, made))
        assert len(a) == len(b) == 1000 and (a - b)[:10].abs().max() < .01, mistake  # before roundings grow
        epochs = a.view(10, 100).mean(1) / b.view(10, 100).mean(1)
        assert (epochs.log().abs() < (.3 if mistake == 'sorted by label' else .15)).all(), (mistake, epochs)
        for key in 'reported', 'true': assert abs(stored[key][0] - made[key][0]) < (.1 if mistake == 'sorted by label' else .02), (mistake, key)
        assert made['kinds'] == stored['kinds'], mistake
        assert all(kind.split(': ')[0].upper() + ' ' + kind.split(': ')[1] in stored['prints'] for kind in stored['kinds']) and '1000 steps' in stored['prints']


def test_recorded_runs_say_what_the_figure_says():
    "What it replies to each guess, in all three seeds."
    kept = json.loads((FOLDER/'watch.json').read_text(encoding='utf-8'))
    right, wrong = kept['right'], kept['wrong']
    def above(a, b, by): return all(x > y + by for x, y in zip(a, b))
    def near(a, b): return all(abs(x - y) < .01 for x, y in zip(a, b))
    for mistake in 'frozen biases', 'cleared every second step': assert near(wrong[mistake]['true'], right['true'])
    for mistake in 'measured with dropout', 'validation rows in training': assert near(wrong[mistake]['true'], right['true'])
    assert above(right['reported'], wrong['measured with dropout']['reported'], .02) and above(wrong['validation rows in training']['reported'], right['reported'], .02)
    assert above(right['true'], wrong['never back to train']['true'], 0) and above(right['true'], wrong['sorted by label']['true'], .5)
    last = {mistake: sum(run['loss'][900:]) / sum(right['loss'][900:]) for mistake, run in wrong.items()}
    assert all(.9 < last[mistake] < 1.1 for mistake in ('frozen biases', 'measured with dropout', 'validation rows in training')) and last['never back to train'] < .8

@slow
def test_formulas(compute):
    torch.manual_seed(1)
    x, target = torch.randn(50, 7, dtype=torch.float64) * 20, torch.randint(7, (50,))
    rows, labels = x.tolist(), target.tolist()
    def same(expression, expected, data=rows):
        assert torch.allclose(torch.tensor(compute('math', expression, data), dtype=torch.float64), expected, rtol=1e-6, atol=1e-9)
    same('data.map(m.softmax)', softmax(x))
    same('data.map(m.logsumexp)', logsumexp(x))
    same('data.map(m.logSoftmax)', log_softmax(x))
    both = [rows, labels]
    same('m.crossEntropy(...data)', cross_entropy(x, target), both)
    same('m.nll(data[0].map(m.logSoftmax), data[1])', nll(log_softmax(x), target), both)
    same('m.crossEntropyGrad(...data)', cross_entropy_grad(x, target), both)
    near = torch.tensor(compute('math', 'data[0].map((row, i) => row.map((_, j) => m.finiteDifference(row, data[1][i], j)))', both))
    assert (near / 50 - cross_entropy_grad(x, target)).abs().max() < 1e-6


@slow
def test_softmax_figure(compute):
    x = torch.tensor([-4.89, 2.6, .59, -2.07, -4.57], dtype=torch.float64)
    for constant, temperature in (0, 1), (3, 1), (-2.5, .3):
        found = compute('softmax', 'm.columns(...data)', [x.tolist(), constant, temperature])
        z = (x + constant) / temperature
        assert torch.allclose(torch.tensor(found['x'], dtype=torch.float64), z)
        assert torch.allclose(torch.tensor(found['p'], dtype=torch.float64), softmax(z), rtol=1e-6)
        assert torch.allclose(torch.tensor(found['e'], dtype=torch.float64), z.exp(), rtol=1e-6) and abs(found['total'] / z.exp().sum() - 1) < 1e-6


@slow
def test_nll_figure_keeps_probabilities(compute):
    row = torch.tensor(compute('nll', 'm.withProbability([.8, .15, .05], 1, .4)'))
    assert torch.allclose(row, torch.tensor([.8 / .85 * .6, .4, .05 / .85 * .6])) and torch.allclose(row.sum(), torch.tensor(1.))


# The versions of chapter 03, numbered as there (the third is the package's), and the scores to try them on
def as_the_words_say(x): return (x.exp() / x.exp().sum(-1, keepdim=True)).log()
def log_of_a_quotient(x): return x - x.exp().sum(-1, keepdim=True).log()
def by_logsumexp(x): return x - x.logsumexp(-1, keepdim=True)
VERSIONS = as_the_words_say, log_of_a_quotient, log_softmax, by_logsumexp


def versions(compute, x):
    "The four answers of the figure, (4, n, 3), in float64."
    kind = str(x.dtype).removeprefix('torch.')
    found = compute('floats', 'data[0].map(x => m.versions(x, data[1]).map(([, steps]) => steps.at(-1)[1].map(String)))', [x.tolist(), kind])
    return torch.tensor([[[float(v.replace('Infinity', 'inf')) for v in answer] for answer in row] for row in found], dtype=torch.float64).transpose(0, 1)


def scores(dtype):
    torch.manual_seed(1)
    grid = torch.arange(-130, 129, .5)[:, None] + torch.tensor([0., 1., 2.])
    return torch.cat([grid, torch.randn(2000, 3) * 3, torch.randn(2000, 3) * 60]).to(dtype)


@slow
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
def test_16_bit_numbers_have_pytorchs_bits(compute, dtype):
    "exp and log of all numbers there are, rounding, and the four versions."
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every[every.isfinite()]
    name = str(dtype).removeprefix('torch.')
    for f in 'exp', 'log':
        found = torch.tensor([float(v) for v in compute('floats', f'data.map(v => String(m.TYPES.{name}(Math.{f}(v))).replace("Infinity", "inf"))', every.tolist())])
        assert torch.allclose(found, getattr(every, f)().float(), rtol=0, atol=0, equal_nan=True)
    wide = torch.cat([torch.randn(5000), torch.randn(5000) * 1e-6, torch.randn(5000) * 7e4, torch.tensor([65519.99, 65520., 2**-25, 2**-24 * 1.5, 2049., 2051., 3.3895e38, 3.4e38])])
    rounded = [float(v.replace('Infinity', 'inf')) for v in compute('floats', f'data.map(v => String(m.TYPES.{name}(v)))', wide.tolist())]
    assert torch.tensor(rounded).equal(wide.to(dtype).float())
    x = scores(dtype)
    for found, version in zip(versions(compute, x), VERSIONS):
        assert torch.allclose(found, version(x).double(), rtol=0, atol=0, equal_nan=True)


@slow
def test_float32_is_within_a_bit_of_pytorch(compute):
    """The last bit of a float32 exp or log differs between processors: PyTorch's is within a unit of it, and so are ours.
    The four versions are nan and inf where PyTorch's are, and agree but for the last digits of the scores, except near exp's smallest numbers, where a unit is much."""
    torch.manual_seed(1)
    for f, x in ('exp', torch.empty(20_000).uniform_(-103.9, 88.7)), ('log', torch.empty(20_000).uniform_(-103, 88).exp()):
        found = torch.tensor([float(v) for v in compute('floats', f'data.map(v => m.TYPES.float32(Math.{f}(v)))', x.tolist())])
        assert (found.view(torch.int32) - getattr(x, f)().view(torch.int32)).abs().max() <= 1
    x = scores(torch.float32)
    top, truth = x.amax(-1, keepdim=True), log_softmax(x.double())
    clear = ((top - 88.72).abs() > .01) & ((top + 103.97).abs() > 1) & ((truth + 103.97).abs() > 1)
    normal = clear & (x > -87) & (truth > -87)
    for found, version in zip(versions(compute, x), VERSIONS):
        expected = version(x).double()
        for kind in torch.isnan, torch.isposinf, torch.isneginf: assert torch.equal(kind(found)[clear], kind(expected)[clear])
        unit = 2**-22 * x.abs().amax(-1, keepdim=True).clamp(min=1).expand_as(x)
        compared = normal & expected.isfinite()
        assert compared.sum() > 3000 and ((found - expected).abs() <= unit)[compared].all()


@slow
def test_network_and_unit(compute):
    model, _ = stored_network()
    x, _ = stored_digits()
    found = torch.tensor(compute('network', 'await Promise.all([m.loadNetwork(), m.loadDigits()]).then(([net, {kept}]) => kept.x.map(x => m.forward(net, x).scores))'))
    with torch.no_grad(): assert torch.allclose(found.double(), model.double()(x[500:].double()), rtol=1e-6, atol=1e-6)
    w, b = model.layers[0].weight[7], model.layers[0].bias[7]
    unit = torch.tensor(compute('unit', 'm.output(...data)', [w.tolist(), b.item(), x[600].tolist()]))
    assert abs(unit - (w @ x[600].double() + b)) < 1e-6


@slow
def test_training_takes_the_steps_of_train(compute):
    "The same start as PyTorch's, and twenty steps with the same losses."
    start = compute('network', '(net => Object.fromEntries(Object.entries(net).map(([k, p]) => [k, Array.from(p)])))(m.fresh(1))')
    torch.manual_seed(1)
    model = Model(784, 50, 10)
    for found, p in zip((start[k] for k in ('w1', 'b1', 'w2', 'b2')), model.parameters()):
        assert (torch.tensor(found) - p.flatten()).abs().max() < 1e-7  # a unit in the last place, where a processor rounds twice
    x, y = stored_digits()
    found = compute('network', """await m.loadDigits().then(({train: {x, y}}) => { const net = m.fresh(1)
        return [...Array(20).keys()].map(i => { const s = i % 10 * 50, r = m.blame(net, x.slice(s, s + 50), y.slice(s, s + 50)); m.nudge(net, r.grad, .5); return r.loss }) })""")
    losses = train(model.double(), x[:500].double(), y[:500], epochs=2, after_epoch=lambda *_: None)
    assert torch.allclose(torch.tensor(found), torch.tensor(losses), rtol=0, atol=1e-6)


@slow
def test_sorted_rows_fool_the_last_batch(compute):
    "What the training figure asks, and the answer it calls right: after the fours a tenth of the others is right; after an epoch in batches of 5 the last is right, and a tenth of the others."
    half, last, kept = compute('network', """await m.loadDigits().then(({train, kept}) => { const net = m.fresh(1), at = train.y.map((_, i) => i).sort((a, b) => train.y[a] - train.y[b] || a - b)
        let r, y, half
        const others = () => m.accuracy(kept.x.map(x => m.forward(net, x).scores), kept.y)
        for (let s = 0; s < 500; s += 5) { const rows = at.slice(s, s + 5); y = rows.map(i => train.y[i]); r = m.blame(net, rows.map(i => train.x[i]), y); m.nudge(net, r.grad, .5)
            if (train.y[at[s + 4]] === 4 && train.y[at[s + 5]] === 5) half = others() }
        return [half, m.accuracy(r.scores, y), others()] })""")
    assert last == 1 and .05 < kept < .2 and .05 < half < .2


@slow
@pytest.mark.parametrize('lr, momentum', [(.035, 0), (.02, .8), (.045, .5)])
def test_valley_takes_the_steps_of_sgd(compute, lr, momentum):
    p = torch.nn.Parameter(torch.tensor([-9., 1.3], dtype=torch.float64))
    opt, path = SGD([p], lr=lr, momentum=momentum), [p.tolist()]
    for _ in range(60):
        ((p[0]**2 + 50 * p[1]**2) / 2).backward()
        opt.step()
        opt.zero_grad()
        path.append(p.tolist())
    found = compute('valley', 'm.descend(data)', dict(lr=lr, momentum=momentum))
    assert torch.allclose(torch.tensor(found), torch.tensor(path), rtol=1e-6, atol=1e-6)


@slow
def test_workers_formula(compute):
    for width in 50, 2048: assert compute('workers', f'm.bytes({width})') == 4 * sum(p.numel() for p in Model(784, width, 10).parameters())
    for W, n, alpha, beta in itertools.product((1, 2, 7, 1024), (159_040, 6_512_680), (1e-6, 121e-6), (.7e9, 25e9)):
        found = compute('workers', 'm.allReduce(...data)', [W, n, alpha, beta])
        assert abs(found - (2 * (W - 1) * alpha + 2 * (W - 1) / W * n / beta)) < 1e-9


@slow
def test_watch_averages(compute):
    torch.manual_seed(1)
    losses = torch.rand(1000, dtype=torch.float64)
    for n in 1, 7, 100: assert torch.allclose(torch.tensor(compute('watch', 'm.means(...data)', [losses.tolist(), n]), dtype=torch.float64), losses.unfold(0, n, 1).mean(1), rtol=1e-6)


# What they do: for each figure, what to drag, and a key that moves it too
DRAG = {'softmax': ('input[type=range] >> nth=1', 'ArrowLeft'), 'precision': ('input[type=range]', 'PageUp'), 'nll': ('.handle >> nth=0', 'ArrowRight'),
        'gradient': ('input[type=range] >> nth=0', 'ArrowRight'), 'unit': ('.weights', 'ArrowDown'), 'valley': ('.handle', 'ArrowRight'), 'valley.noise': ('.handle', 'ArrowRight'),
        'workers': ('.handle', 'PageUp'), 'digit': ('.pad', 'Delete'), 'training': ('input[type=range] >> nth=0', None), 'watch': ('input[type=range]', 'ArrowLeft')}


def test_every_figure_is_dragged(): assert {name.partition('.')[0] for name in DRAG} == set(FIGURES)


def centre(page, target):
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    if target.get_attribute('type') == 'range':  # its thumb
        share = target.evaluate('e => (e.value - e.min) / (e.max - e.min)')
        return box['x'] + 10 + share * (box['width'] - 20), box['y'] + box['height'] / 2
    return box['x'] + box['width'] / 2, box['y'] + box['height'] / 2


def says(page): return page.locator('.says').inner_text()


@pytest.fixture(scope='module', params=DRAG)
def figure(request, open_page):
    "A figure whose question has been answered, for all the tests of figures; the last of them change it."
    name, _, attributes = request.param.partition('.')
    page = open_page(f'{name}.html' + (f'?{attributes}' if attributes else ''), color_scheme='light', has_touch=True, viewport={'width': 1000, 'height': 900})
    page.locator('.panel').wait_for()
    page.locator('.says:not(:empty)').wait_for(state='attached')
    page.name, (page.drag, page.key) = name, DRAG[request.param]
    yield page


@slow
def test_question_comes_first(figure):
    "What to do is said; what a figure asks about cannot be seen before one has guessed; after a guess it can, and the reply says why."
    assert figure.locator('.caption').is_visible() and len(figure.locator('.caption').inner_text()) > 40
    if not figure.locator('.predict').count():
        assert figure.name in ('digit', 'unit')  # these teach nothing that could be guessed
        return
    hidden = figure.locator('.answer, .block')
    assert hidden.count() and not any(e.is_visible() for e in hidden.all()) and figure.locator('.hint').is_visible()
    figure.locator('.predict button').last.click()
    assert hidden.first.is_visible() and not figure.locator('.hint').is_visible() and re.match(r'(Yes|No): “.+” is right\. \w', figure.locator('.reply').inner_text())
    [right], [mine] = (figure.locator(f'.predict button{which}').all_inner_texts() for which in ('.right', ':has-text("(your guess)")'))
    assert figure.locator('.reply').inner_text().startswith('Yes' if right == mine else 'No')
    assert right == mine or figure.locator('.predict button.wrong').all_inner_texts() == [mine]


@slow
def test_drag_by_mouse_touch_and_key(figure):
    "Each changes the sentence, and the screen reader hears it."
    page, target = figure, figure.locator(figure.drag)
    if page.locator('.hint').count() and page.locator('.hint').is_visible(): page.locator('.predict button').last.click()
    heard = page.locator('p.says + p[aria-live]')
    def changes(action):
        before = state()
        action()
        page.wait_for_function('before => window.state() !== before', arg=before, timeout=20_000)
    page.evaluate("""() => { window.state = () => { const root = document.querySelector('main > :nth-child(2)').shadowRoot
        return root.querySelector('.says').textContent + [...root.querySelectorAll('output')].map(o => o.textContent).join() } }""")
    def state(): return page.evaluate('window.state()')

    def by_mouse():
        x, y = centre(page, target)
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 15, y + 10, steps=3)
        page.mouse.move(x - 40, y + 30, steps=5)
        page.mouse.up()

    def by_touch():
        x, y = centre(page, target)
        session = page.context.new_cdp_session(page)
        def touch(kind, *points): session.send('Input.dispatchTouchEvent', {'type': kind, 'touchPoints': [{'x': a, 'y': b} for a, b in points]})
        touch('touchStart', (x, y))
        for i in range(1, 7): touch('touchMove', (x + 6 * i, y - i / 2))
        touch('touchEnd')
        session.detach()

    def by_key():
        target.focus()
        page.keyboard.press(figure.key or 'ArrowRight')

    changes(by_mouse)
    changes(by_touch)
    changes(by_key)
    page.wait_for_function("() => { const r = document.querySelector('main > :nth-child(2)').shadowRoot, s = r.querySelector('.says'); return s.textContent === s.nextElementSibling.textContent }")
    assert len(heard.text_content()) > 20 and page.problems == []


@slow
def test_everything_is_reached_by_keyboard(figure):
    "Tab goes through all that can be changed, and each of it has a name."
    page = figure
    page.evaluate('document.body.tabIndex = -1; document.body.focus()')
    expected = page.locator('button:enabled, input[type=range], [tabindex="0"], summary, fieldset').count()
    seen = set()
    for _ in range(80):
        page.keyboard.press('Tab')
        found = page.evaluate("""() => { const root = document.querySelector('main > :nth-child(2)').shadowRoot, e = root.activeElement
            if (!e) return null
            const all = [...root.querySelectorAll('*')]
            return [all.indexOf(e.closest('fieldset') ?? e), e.getAttribute('aria-label') || e.textContent || [...e.labels].map(l => l.textContent).join()] }""")
        if found is None: break
        assert found[1].strip()
        seen.add(found[0])
    visible = sum(e.is_visible() for e in page.locator('button:enabled, input[type=range], [tabindex="0"], summary, fieldset').all())
    assert len(seen) == visible <= expected


@slow
@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_accessible(figure, scheme):
    figure.emulate_media(color_scheme=scheme)
    figure.locator('details').evaluate_all('all => all.forEach(d => d.open = true)')
    found = Axe().run(figure, options={'resultTypes': ['violations']}).response['violations']
    assert not [(v['id'], [n['html'][:120] for n in v['nodes'][:3]]) for v in found]


@slow
def test_phone(figure):
    "At 390 pixels nothing is cut off, and what is touched is large enough for a finger."
    figure.set_viewport_size({'width': 390, 'height': 844})
    figure.wait_for_timeout(100)
    assert figure.evaluate('document.documentElement.scrollWidth') <= 390
    out = figure.evaluate("""() => { const r = document.querySelector('main > :nth-child(2)').shadowRoot, edge = r.querySelector('.panel').getBoundingClientRect().right
        return [...r.querySelectorAll('span, button, output, text, canvas, input, p, th, td, label')].filter(e => !e.closest('.hidden') && e.getBoundingClientRect().right > edge + 1).map(e => e.outerHTML.slice(0, 100)) }""")
    assert not out
    torn = figure.locator('.table .slider').evaluate_all("""all => all.filter(e => { const [a, b] = ['label', 'input'].map(n => e.querySelector(n).getBoundingClientRect())
        return Math.abs(a.top + a.height / 2 - b.top - b.height / 2) > 8 || a.left > e.parentElement.getBoundingClientRect().left + 2 }).map(e => e.textContent)""")
    assert not torn
    small = figure.locator('button:visible, input[type=range]:visible').evaluate_all('all => all.filter(e => e.getBoundingClientRect().height < 24).map(e => e.outerHTML.slice(0, 80))')
    assert not small


@slow
def test_without_scripts_the_picture_stays(open_page):
    page = open_page('softmax.html', java_script_enabled=False)
    assert page.get_by_text('What stands here without scripts').is_visible()


@slow
def test_if_something_is_missing_the_picture_stays(browser, address):  # noqa: F811
    page = browser.new_page()
    page.route('**/network.json', lambda route: route.abort())
    page.goto(address + 'digit.html')
    page.wait_for_timeout(500)
    assert page.get_by_text('What stands here without scripts').is_visible()
    page.close()


@slow
def test_example_of_contributing_works(open_page):
    page = open_page('sigmoid.html')
    page.get_by_label('score').focus()
    page.keyboard.press('PageUp')
    page.locator('.says', has_text='A probability of 0.88.').wait_for()
    assert page.problems == []


@slow
def test_softmax_says_what_happened(open_page):
    page = open_page('softmax.html')
    page.get_by_role('button', name='47 %').click()
    page.get_by_label('add to all').focus()
    page.keyboard.press('PageUp')
    page.keyboard.press('PageUp')
    page.locator('.says', has_text='changed no probability').filter(has_text='dog: 99.48 of 113.88, a probability of 87.4 %.').wait_for()
    assert page.locator('.head').nth(1).inner_text() == 'score + 2.0' and page.locator('.table output').nth(1).inner_text() == '4.60'
    page.get_by_label('temperature').evaluate('e => { e.value = 0; e.dispatchEvent(new Event("input")) }')
    page.locator('.head', has_text='(score + 2.0) / 0.1').wait_for()
    assert page.locator('.table output').nth(1).inner_text() == '46.0'
    assert page.locator('.number').evaluate_all('all => all.every(e => e.scrollWidth <= e.clientWidth + 1)')


@slow
def test_precision_meets_inf_where_the_chapter_says(open_page):
    page = open_page('precision.html')
    page.get_by_role('button', name='it is off by 0.1').click()
    slider = page.get_by_label('move all three')
    def at(v): slider.evaluate('(e, v) => { e.value = v; e.dispatchEvent(new Event("input")) }', v)
    for kind, fine, broken in ('float32', 86, 89), ('float16', 8, 12):
        page.get_by_text(kind, exact=True).click()
        at(fine)
        page.locator('.says', has_text=f'{fine}.0, ').wait_for()
        assert not page.locator('.lit').count()
        at(broken)
        page.locator('.lit').first.wait_for()
        assert page.locator('.lit').first.inner_text() == 'inf' and '“1 as the words say” meets inf in its step exp' in says(page)


@slow
def test_training_by_hand_and_alone(open_page):
    "Look, blame, nudge; then run: better than guessing. With sorted rows the last batch of an epoch is right and the rest is not."
    page = open_page('training.html')
    page.get_by_role('button', name='about 10 %').click()
    for word in 'Look', 'Blame', 'Nudge': page.get_by_role('button', name=word, exact=True).click()
    page.locator('.says', has_text='1 step. Loss of this batch 2.30 → 2.').wait_for()
    before, after = map(float, re.search(r'(\d\.\d\d) → (\d\.\d\d)', says(page)).groups())
    assert after < before
    ink = "e => e.getContext('2d').getImageData(0, 0, e.width, e.height).data.some((v, i) => i % 4 < 3 && v)"
    kept = re.compile(r'kept back, (\d+) %')
    def run(steps, shown=('.batch', '.batch >> xpath=../following-sibling::div/canvas')):
        page.get_by_role('button', name='Run').click()
        page.wait_for_function(f"() => parseInt(document.querySelector('mb-training').shadowRoot.querySelector('.says').textContent) >= {steps}", timeout=20_000)
        for _ in range(50):  # also while it runs
            if drawn := all(page.locator(c).evaluate(ink) for c in shown): break
            page.wait_for_timeout(100)
        assert drawn
        page.get_by_role('button', name='Pause').click()
    run(100)
    assert int(kept.search(says(page))[1]) > 70
    page.get_by_role('button', name='Start again').click()
    page.locator('.says', has_text='Not trained yet').wait_for()
    run(20)
    page.get_by_text('sorted by label').click()
    assert page.get_by_label('batch size').get_attribute('aria-valuetext') == '5'
    run(101, shown=['.batch'])  # its hidden units end up dead: nothing to blame
    assert int(kept.search(says(page))[1]) < 40
    assert re.search(r'At the end of epoch \d+ the last batch was 100 % right, the digits kept back 1\d %', says(page))


@slow
def test_watch_asks_for_each_mistake(open_page):
    "One guess for each; before it neither accuracy nor finding can be seen, nor read in the page's text."
    page, kept = open_page('watch.html'), json.loads((FOLDER/'watch.json').read_text(encoding='utf-8'))
    page.locator('.says:not(:empty)').wait_for()
    for mistake, run in kept['wrong'].items():
        page.get_by_text(mistake, exact=True).click()
        assert page.evaluate('document.activeElement.shadowRoot.activeElement.value') == mistake
        assert not page.locator('pre').is_visible() and page.locator('.reply').inner_text() == '' and page.locator('.predict').count() == 1
        page.get_by_role('button', name='orange').click()
        assert page.locator('pre').inner_text().split() == run['prints'].split()
        assert page.locator('td').all_inner_texts()[3] == f'{100*min(run["true"]):.1f} to {100*max(run["true"]):.1f} %'
        assert all(kind in page.locator('.reply').inner_text() for kind in run['kinds'] or ['The watch finds nothing'])
        shown = [page.locator(f'path.curve >> nth={i}').get_attribute('d') for i in (0, 1)]
        lower = [float(d.rpartition(' ')[2]) for d in shown]  # pixels from the top, at the last step
        wrong_is_orange = page.locator('.predict button.right').inner_text().startswith('orange')
        assert (lower[wrong_is_orange] > lower[not wrong_is_orange]) == (sum(run['loss'][900:]) < sum(kept['right']['loss'][900:]))
    assert page.problems == []


@slow
def test_digit_is_drawn_by_keyboard_and_kept_for_training(open_page):
    page = open_page('digit.html')
    page.locator('.pad').focus()
    page.keyboard.press('Delete')
    page.get_by_text('The pad is empty').wait_for()
    for key in [*['ArrowUp'] * 8, ' ', *['ArrowDown'] * 16]: page.keyboard.press(key)
    page.locator('.says', has_text='The network says 1').wait_for()
