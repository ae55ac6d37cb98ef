"Nothing of the notes that the book grew from is lost: what they compute and show stands in a chapter, with its value."
import re

import nbformat, pytest
from conftest import ROOT

NBS = {path.stem: nbformat.read(path, 4) for path in (ROOT/'nbs').glob('*.ipynb')}


def shown(output):
    data = output.get('data', {})
    return output.get('text', '') + ''.join(data.get(kind, '') for kind in ('text/plain', 'text/html'))


def page(name):
    "The source and the outputs of a chapter's cells, without runs of spaces."
    cells = NBS[name].cells
    return re.sub(r'\s+', ' ', '\n'.join([c.source + '\n' + '\n'.join(map(shown, c.get('outputs', []))) for c in cells]))


ITEMS = [  # (chapter, what must stand there)
    ('00_data', 'x_train, y_train, x_valid, y_valid = mnist[:4]'), ('00_data', '(torch.Size([50000, 784]), torch.Size([50000]))'),
    ('92_notes', '((x_train, y_train), (x_valid, y_valid), _) = pickle.load(f, encoding=\'latin-1\')'),
    ('01_model', 'for l in self.layers: x = l(x)'), ('01_model', 'nn.Linear(n_in, nh), nn.ReLU(), nn.Linear(nh, n_out)'),
    ('01_model', 'pred = model(x_train)'), ('01_model', 'torch.Size([50000, 10])'),
    ('02_softmax', 'pred = [0.99'), ('02_softmax', 'truth = [1, 0'),
    ('02_softmax', 'df.to_markdown()'), ('02_softmax', '| 1 | dog | 2.6 | 13.4637 | 0.8736 |'),
    ('02_softmax', '| 4 | building | -4.57 | 0.010358 | 0.00067208 |'), ('02_softmax', 'test_close(df[\'exp\'].sum(), 15.4118'),
    ('02_softmax', r'\frac{e^{x_i}}{e^{x_0} + e^{x_1} + \cdots + e^{x_{n-1}}}'), ('02_softmax', r'\frac{e^{x_i}}{\sum_{0 \le j < n} e^{x_j}}'),
    ('03_logsumexp', 'numer = x.exp() denom = x.exp().sum(-1, keepdim=True) return (numer / denom).log()'),
    ('03_logsumexp', r'\log\left(\frac{a}{b}\right) = \log(a) - \log(b)'),
    ('03_logsumexp', 'return x - x.exp().sum(-1, keepdim=True).log()'),
    ('03_logsumexp', r'\log \Big( e^{a} \sum_j e^{x_j - a} \Big)'), ('03_logsumexp', r'a + \log \sum_j e^{x_j - a}'),
    ('03_logsumexp', 'return m + (x - m[:, None]).exp().sum(-1).log()'), ('03_logsumexp', 'return x - x.logsumexp(-1, keepdim=True)'),
    ('03_logsumexp', 'test_close(logsumexp(pred), pred.logsumexp(-1)'), ('03_logsumexp', 'sm_pred = log_softmax(pred)'),
    ('04_nll', r'-\sum_i t_i \log p_i'), ('04_nll', 'F.one_hot(labels, 3)'), ('04_nll', '1.1268974644123069'),
    ('04_nll', 'sm_pred[0, 5], sm_pred[1, 0], sm_pred[2, 4]'), ('04_nll', '*Integer array indexing*'),
    ('04_nll', 'tensor([5, 0, 4])'), ('04_nll', 'tensor([-2.20, -2.37, -2.36])'),
    ('04_nll', 'return -input[range(target.shape[0]), target].mean()'), ('04_nll', 'nll_short(sm_pred, y_train) tensor(2.30)'),
    ('04_nll', 'test_close(F.nll_loss(F.log_softmax(pred, -1), y_train)'), ('04_nll', 'test_close(F.cross_entropy(pred, y_train), loss'),
    ('05_training', 'loss_func = cross_entropy'), ('05_training', 'bs = 50'), ('05_training', 'xb = x_train[0:bs]'),
    ('05_training', 'yb = y_train[0:bs]'), ('05_training', 'preds = model(xb)'),
    ('05_training', 'tensor([5, 0, 4, 1, 9, 2, 1, 3, 1, 4'), ('05_training', 'tensor([3, 9, 3, 8, 5, 9, 3, 9, 3, 9'), ('05_training', 'tensor(0.08)'),
    ('05_training', 'report(loss, preds, yb, labels=True) 2.30, 0.08 loss 2.30, accuracy 0.08'),
    ('05_training', 's = slice(i, min(n, i+bs))'), ('05_training', "if hasattr(l, 'weight'):"),
    ('05_training', 'l.weight -= l.weight.grad * lr'), ('05_training', 'l.bias .grad.zero_()')]


@pytest.mark.parametrize('chapter, item', ITEMS, ids=lambda item: item[:40])
def test_is_there(chapter, item): assert item in page(chapter)


def test_loop_prints_three_lines():
    "The loop over the layers prints the loss and the accuracy of each epoch in the notes' format."
    [cell] = [c for c in NBS['05_training'].cells if 'l.weight.grad.zero_()' in c.source and 'report(loss, preds, yb)' in c.source]
    lines = shown(cell.outputs[0]).splitlines()
    assert len(lines) == 3
    for line in lines:
        assert re.fullmatch(r'\d\.\d\d, \d\.\d\d', line)
        loss, right = map(float, line.split(', '))
        assert loss < .3 and right > .9
