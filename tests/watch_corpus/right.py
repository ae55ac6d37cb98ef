"""Loops that are right and look odd. Each returns something, so that a watched run can be compared with a plain one."""
import copy
import math
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler
from data import curve, digits, letters, signals

RIGHT = {}


def right(loop):
    RIGHT[loop.__name__] = loop
    return loop


def mlp(*sizes, act=nn.ReLU):
    layers = [layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Linear(a, b), act())]
    return nn.Sequential(*layers[:-1])


def accuracy(net, x, y):
    net.eval()
    with torch.no_grad(): hits = (net(x).argmax(1) == y).float().mean().item()
    net.train()
    return hits


def batches(n, bs=32, epochs=4):
    for _ in range(epochs): yield from torch.randperm(n).split(bs)


@right
def accumulation():
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), .4)
    for i, rows in enumerate(batches(len(x), 8)):
        (F.cross_entropy(net(x[rows]), y[rows]) / 4).backward()
        if i % 4 == 3: opt.step(); opt.zero_grad()
    return accuracy(net, xv, yv)


@right
def accumulation_by_the_number_of_rows():
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), .4)
    for rows in batches(len(x), 64):
        for part in rows.split(16): (F.cross_entropy(net(x[part]), y[part], reduction='sum') / len(rows)).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.)
        opt.step(); opt.zero_grad()
    return accuracy(net, xv, yv)


@right
def frozen_backbone():
    x, y, xv, yv = digits()
    body, head = mlp(64, 48, 48), nn.Linear(48, 10)
    for p in body.parameters(): p.requires_grad = False
    net = nn.Sequential(body, nn.ReLU(), head)
    opt = torch.optim.Adam((p for p in net.parameters() if p.requires_grad), 1e-2)
    for rows in batches(len(x)):
        opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
    return accuracy(net, xv, yv)


@right
def frozen_batch_norm():
    x, y, xv, yv = digits()
    net = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    net(x)
    opt = torch.optim.SGD(net.parameters(), .2)
    for epoch in range(3):
        net.train()
        net[1].eval()
        for rows in batches(len(x), epochs=1):
            opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
        result = accuracy(net, xv, yv)
    return result


@right
def tied_weights():
    train, valid = letters()
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.rnn, self.out = nn.Embedding(12, 24), nn.GRU(24, 24, batch_first=True), nn.Linear(24, 12)
            self.out.weight = self.emb.weight
        def forward(self, x): return self.out(self.rnn(self.emb(x))[0])
    net = Tied()
    opt = torch.optim.AdamW(net.parameters(), 1e-2)
    for rows in batches(len(train), 50, 6):
        out = net(train[rows, :-1])
        loss = F.cross_entropy(out.flatten(0, 1), train[rows, 1:].flatten())
        opt.zero_grad(); loss.backward(); opt.step()
    return loss.item()


@right
def gan():
    x = digits()[0]
    G, D = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64), nn.Sigmoid()), nn.Sequential(nn.Linear(64, 32), nn.LeakyReLU(.2), nn.Linear(32, 1), nn.Sigmoid())
    og, od, bce = torch.optim.Adam(G.parameters(), 2e-4, (.5, .999)), torch.optim.Adam(D.parameters(), 2e-4, (.5, .999)), nn.BCELoss()
    for rows in batches(len(x), 64):
        real, n = x[rows], len(rows)
        od.zero_grad()
        bce(D(real).view(-1), torch.ones(n)).backward()
        fake = G(torch.randn(n, 8))
        bce(D(fake.detach()).view(-1), torch.zeros(n)).backward()
        od.step()
        og.zero_grad()
        loss = bce(D(fake).view(-1), torch.ones(n))
        loss.backward()
        og.step()
    return loss.item()


@right
def wasserstein_critic():
    x = digits()[0]
    G, C = mlp(8, 32, 64), mlp(64, 32, 1)
    og, oc = torch.optim.RMSprop(G.parameters(), 5e-4), torch.optim.RMSprop(C.parameters(), 5e-4)
    for i, rows in enumerate(batches(len(x), 64, 8)):
        with torch.no_grad(): fake = G(torch.randn(len(rows), 8))
        loss = C(fake).mean() - C(x[rows]).mean()
        oc.zero_grad(); loss.backward(); oc.step()
        for p in C.parameters(): p.data.clamp_(-.05, .05)
        if i % 5 == 4:
            og.zero_grad(); (-C(G(torch.randn(64, 8))).mean()).backward(); og.step()
    return loss.item()


@right
def gradient_penalty():
    x = digits()[0]
    G, C = mlp(8, 32, 64), mlp(64, 32, 1)
    og, oc = torch.optim.Adam(G.parameters(), 1e-3), torch.optim.Adam(C.parameters(), 1e-3)
    for rows in batches(len(x), 64):
        real, fake = x[rows], G(torch.randn(len(rows), 8)).detach()
        mix = torch.lerp(real, fake, torch.rand(len(rows), 1)).requires_grad_()
        slope, = torch.autograd.grad(C(mix).sum(), mix, create_graph=True)
        loss = C(fake).mean() - C(real).mean() + 10 * ((slope.norm(dim=1) - 1) ** 2).mean()
        oc.zero_grad(); loss.backward(); oc.step()
        og.zero_grad(); (-C(G(torch.randn(64, 8))).mean()).backward(); og.step()
    return loss.item()


@right
def lbfgs_closure():
    x, y, xv, yv = digits()
    net = nn.Linear(64, 10)
    opt = torch.optim.LBFGS(net.parameters(), lr=.5, max_iter=4)
    def closure():
        opt.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        return loss
    for _ in range(12): opt.step(closure)
    return accuracy(net, xv, yv)


@right
def label_smoothing_and_mixup():
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), .3)
    for rows in batches(len(x)):
        lam, other = torch.rand(1).item(), rows[torch.randperm(len(rows))]
        xb = lam * x[rows] + (1 - lam) * x[other]
        t = lam * F.one_hot(y[rows], 10) + (1 - lam) * F.one_hot(y[other], 10)
        opt.zero_grad(); F.cross_entropy(net(xb), t, label_smoothing=.1).backward(); opt.step()
    return accuracy(net, xv, yv)


@right
def distillation():
    x, y, xv, yv = digits()
    teacher, student = mlp(64, 64, 10), mlp(64, 24, 10)
    for net in (teacher, student):
        opt = torch.optim.Adam(net.parameters(), 1e-2)
        for rows in batches(len(x)):
            s = net(x[rows])
            loss = F.cross_entropy(s, y[rows])
            if net is student:
                with torch.no_grad(): t = teacher(x[rows])
                loss = .5 * loss + 2 * F.kl_div(F.log_softmax(s / 2, 1), F.softmax(t / 2, 1), reduction='batchmean') + .1 * F.cross_entropy(s, t.softmax(1))
            opt.zero_grad(); loss.backward(); opt.step()
        teacher.eval()
    return accuracy(student, xv, yv)


@right
def contrastive():
    x = digits()[0]
    net = mlp(64, 48, 16)
    opt = torch.optim.Adam(net.parameters(), 1e-3)
    for rows in batches(len(x), 64):
        a, b = (F.normalize(net(x[rows] + .1 * torch.randn(len(rows), 64)), dim=1) for _ in range(2))
        logits = a @ b.T / .2
        t = torch.arange(len(rows))
        loss = (F.cross_entropy(logits, t) + F.cross_entropy(logits.T, t)) / 2
        opt.zero_grad(); loss.backward(); opt.step()
    return loss.item()


@right
def supervised_contrastive():
    x, y, *_ = digits()
    net = mlp(64, 48, 16)
    opt = torch.optim.Adam(net.parameters(), 1e-3)
    for rows in batches(len(x), 64):
        z, labels = F.normalize(net(x[rows]), dim=1), y[rows]
        same = (labels.view(-1, 1) == labels).float() - torch.eye(len(rows))
        logp = (z @ z.T / .2 - 1e9 * torch.eye(len(rows))).log_softmax(1)
        loss = -((same * logp).sum(1) / same.sum(1).clamp(min=1)).mean()
        opt.zero_grad(); loss.backward(); opt.step()
    return loss.item()


@right
def sparse_embedding():
    train, _ = letters()
    emb, head = nn.Embedding(12, 16, sparse=True), nn.Linear(32, 12)
    oe, oh = torch.optim.SparseAdam(list(emb.parameters()), 1e-2), torch.optim.Adam(head.parameters(), 1e-2)
    for rows in batches(len(train), 50, 8):
        loss = F.cross_entropy(head(emb(train[rows, 3:5]).flatten(1)), train[rows, 5])
        for o in (oe, oh): o.zero_grad()
        loss.backward()
        for o in (oe, oh): o.step()
    return loss.item()


@right
def autocast_and_scaler():
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt, scaler = torch.optim.SGD(net.parameters(), .3), torch.amp.GradScaler('cpu')
    for rows in batches(len(x)):
        with torch.autocast('cpu', torch.bfloat16): loss = F.cross_entropy(net(x[rows]), y[rows])
        opt.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(net.parameters(), 1.)
        scaler.step(opt); scaler.update()
    return accuracy(net, xv, yv)


@right
def checkpointing():
    x, y, xv, yv = digits()
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(.1)), nn.Linear(32, 10)
        def forward(self, x): return self.b(checkpoint(self.a, x, use_reentrant=False))
    net = Net()
    opt = torch.optim.SGD(net.parameters(), .2)
    for rows in batches(len(x)):
        opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
    return accuracy(net, xv, yv)


@right
def warmup_from_zero_and_cosine_to_zero():
    x, y, xv, yv = digits()
    net, n = mlp(64, 32, 10), 164
    opt = torch.optim.SGD(net.parameters(), .5)
    sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda t: t / 20 if t < 20 else .5 + .5 * math.cos(math.pi * (t - 20) / (n - 20)))
    for rows in batches(len(x)):
        opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step(); sched.step()
    return accuracy(net, xv, yv)


@right
def one_cycle_with_momentum():
    x, y, xv, yv = digits()
    net, loader = mlp(64, 32, 10), DataLoader(TensorDataset(*digits()[:2]), 32, shuffle=True)
    opt = torch.optim.SGD(net.parameters(), .1, momentum=.9)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, .5, epochs=4, steps_per_epoch=len(loader))
    for epoch in range(4):
        for xb, yb in loader:
            opt.zero_grad(); F.cross_entropy(net(xb), yb).backward(); opt.step(); sched.step()
    return accuracy(net, xv, yv)


@right
def warm_restarts():
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), .3)
    sched = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, 41)
    for rows in batches(len(x), epochs=5):
        opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step(); sched.step()
    return accuracy(net, xv, yv)


@right
def moving_average():
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    mean = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(.95))
    opt = torch.optim.SGD(net.parameters(), .2)
    for epoch in range(4):
        for rows in batches(len(x), epochs=1):
            opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
            mean.update_parameters(net)
        result = accuracy(mean, xv, yv)
    return result


@right
def recalibrated_batch_norm():
    x, y, xv, yv = digits()
    net = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    opt = torch.optim.SGD(net.parameters(), .2)
    for epoch in range(3):
        for rows in batches(len(x), epochs=1):
            opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
        with torch.no_grad():
            for part in x.split(200): net(part)
        result = accuracy(net, xv, yv)
    return result


@right
def easy_rows_first():
    x, y, xv, yv = digits()
    order = (x - torch.stack([x[y == k].mean(0) for k in range(10)])[y]).norm(dim=1).argsort()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), .2)
    for epoch in range(4):
        for rows in order.split(32):
            opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
    return accuracy(net, xv, yv)


@right
def batch_size_one():
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), .02)
    for xb, yb in DataLoader(TensorDataset(x, y), shuffle=True):
        opt.zero_grad(); F.cross_entropy(net(xb), yb).backward(); opt.step()
    return accuracy(net, xv, yv)


@right
def full_batch():
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(120):
        opt.zero_grad(); loss = F.cross_entropy(net(x), y); loss.backward(); opt.step()
        if step % 20 == 0: train, valid = accuracy(net, x, y), accuracy(net, xv, yv)
    return valid


@right
def regression_with_training_error():
    x, y, xv, yv = curve()
    net, loss_fn = mlp(8, 32, 1), nn.MSELoss()
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for epoch in range(5):
        for rows in batches(len(x), epochs=1):
            opt.zero_grad(); loss_fn(net(x[rows]).squeeze(-1), y[rows]).backward(); opt.step()
        with torch.no_grad(): errors = [loss_fn(net(a).squeeze(-1), b).item() for a, b in ((x, y), (xv, yv))]
    return errors[1]


@right
def autoencoder_with_sigmoid():
    x, _, xv, _ = digits()
    net = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 64), nn.Sigmoid())
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for (xb,) in [b for _ in range(4) for b in DataLoader(TensorDataset(x), 32, shuffle=True)]:
        opt.zero_grad(); F.binary_cross_entropy(net(xb), xb).backward(); opt.step()
    with torch.no_grad(): return F.mse_loss(net(xv), xv).item()


@right
def variational_autoencoder():
    x = digits()[0]
    enc, dec = mlp(64, 32, 8), mlp(4, 32, 64)
    opt = torch.optim.Adam([*enc.parameters(), *dec.parameters()], 1e-3)
    for rows in batches(len(x), 64):
        mu, logvar = enc(x[rows]).chunk(2, 1)
        z = mu + torch.randn_like(mu) * (logvar / 2).exp()
        loss = F.binary_cross_entropy_with_logits(dec(z), x[rows], reduction='sum') - .5 * (1 + logvar - mu ** 2 - logvar.exp()).sum()
        opt.zero_grad(); loss.backward(); opt.step()
    return loss.item()


@right
def heads_that_alternate():
    x, y, xv, yv = digits()
    body, heads = mlp(64, 32, 32), nn.ModuleList([nn.Linear(32, 10), nn.Linear(32, 2)])
    opts = [torch.optim.SGD([*body.parameters(), *h.parameters()], .2) for h in heads]
    for i, rows in enumerate(batches(len(x))):
        k = i % 2
        out = heads[k](body(x[rows]).relu())
        opts[k].zero_grad(); F.cross_entropy(out, y[rows] if k == 0 else y[rows] % 2).backward(); opts[k].step()
    with torch.no_grad(): return (heads[0](body(xv).relu()).argmax(1) == yv).float().mean().item()


@right
def monte_carlo_dropout():
    x, y, xv, yv = digits()
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(.3), nn.Linear(64, 10))
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for epoch in range(3):
        for rows in batches(len(x), epochs=1):
            opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
        net.eval()
        net[2].train()
        with torch.no_grad(): p = torch.stack([net(xv).softmax(1) for _ in range(8)]).mean(0)
        result = (p.argmax(1) == yv).float().mean().item()
        net.train()
    return result


@right
def policy_gradient():
    policy = mlp(4, 16, 3)
    opt = torch.optim.Adam(policy.parameters(), 1e-2)
    for episode in range(150):
        state, logps, rewards = torch.randn(16, 4), [], []
        for t in range(3):
            dist = torch.distributions.Categorical(logits=policy(state))
            a = dist.sample()
            logps.append(dist.log_prob(a)); rewards.append((a == state[:, :3].argmax(1)).float())
            state = torch.randn(16, 4)
        r = torch.stack(rewards).sum(0)
        loss = -(torch.stack(logps).sum(0) * (r - r.mean())).mean()
        opt.zero_grad(); loss.backward(); opt.step()
    return loss.item()


@right
def deep_q_learning():
    online = mlp(4, 24, 3)
    target = copy.deepcopy(online)
    opt = torch.optim.Adam(online.parameters(), 1e-3)
    for step in range(200):
        s, a, s2 = torch.randn(32, 4), torch.randint(3, (32,)), torch.randn(32, 4)
        r = (a == s[:, :3].argmax(1)).float()
        q = online(s).gather(1, a[:, None]).squeeze(1)
        with torch.no_grad(): best = r + .5 * target(s2).max(1).values
        opt.zero_grad(); F.smooth_l1_loss(q, best).backward(); opt.step()
        if step % 20 == 0: target.load_state_dict(online.state_dict())
    return q.mean().item()


@right
def adversarial_training():
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), .2)
    for rows in batches(len(x)):
        xb = x[rows].clone().requires_grad_()
        F.cross_entropy(net(xb), y[rows]).backward()
        hostile = (xb + .05 * xb.grad.sign()).detach()
        opt.zero_grad(); F.cross_entropy(net(hostile), y[rows]).backward(); opt.step()
    return accuracy(net, xv, yv)


@right
def sharpness_aware():
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), .2)
    for rows in batches(len(x)):
        loss = F.cross_entropy(net(x[rows]), y[rows])
        opt.zero_grad(); loss.backward()
        with torch.no_grad():
            size = torch.stack([p.grad.norm() for p in net.parameters()]).norm()
            old = [p.clone() for p in net.parameters()]
            for p in net.parameters(): p.add_(p.grad, alpha=.05 / size.item())
        opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward()
        with torch.no_grad():
            for p, o in zip(net.parameters(), old): p.copy_(o)
        opt.step()
    return accuracy(net, xv, yv)


@right
def private_gradients():
    x, y, xv, yv = digits()
    net = mlp(64, 16, 10)
    opt = torch.optim.SGD(net.parameters(), .2)
    for rows in batches(400, 8, 1):
        total = [torch.zeros_like(p) for p in net.parameters()]
        for i in rows:
            F.cross_entropy(net(x[i:i + 1]), y[i:i + 1]).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.)
            for t, p in zip(total, net.parameters()): t += p.grad
            opt.zero_grad()
        for t, p in zip(total, net.parameters()): p.grad = (t + .01 * torch.randn_like(t)) / len(rows)
        opt.step(); opt.zero_grad()
    return accuracy(net, xv, yv)


@right
def truncated_backpropagation():
    train, _ = letters()
    text = train.flatten()[:8000].view(20, -1)
    emb, rnn, out = nn.Embedding(12, 16), nn.LSTM(16, 24, batch_first=True), nn.Linear(24, 12)
    params = [*emb.parameters(), *rnn.parameters(), *out.parameters()]
    opt, state = torch.optim.Adam(params, 1e-2), None
    for i in range(0, text.shape[1] - 11, 10):
        h, state = rnn(emb(text[:, i:i + 10]), state)
        state = tuple(s.detach() for s in state)
        loss = F.cross_entropy(out(h).transpose(1, 2), text[:, i + 1:i + 11])
        opt.zero_grad(); loss.backward(); nn.utils.clip_grad_norm_(params, 1.); opt.step()
    return loss.item()


@right
def time_first_network():
    x, y, xv, yv = signals()
    rnn, out = nn.GRU(4, 16), nn.Linear(16, 5)
    opt = torch.optim.Adam([*rnn.parameters(), *out.parameters()], 1e-2)
    for rows in batches(len(x), 30):
        loss = F.cross_entropy(out(rnn(x[rows].transpose(0, 1))[1][0]), y[rows])
        opt.zero_grad(); loss.backward(); opt.step()
    return loss.item()


@right
def hand_written_with_tensors():
    x, y, xv, yv = digits()
    w, b = (torch.randn(64, 10) / 8).requires_grad_(), torch.zeros(10, requires_grad=True)
    for rows in batches(len(x)):
        z = x[rows] @ w + b
        logp = z - z.exp().sum(-1).log().unsqueeze(-1)
        loss = -logp[range(len(rows)), y[rows]].mean()
        loss.backward()
        with torch.no_grad():
            w -= w.grad * .5; b -= b.grad * .5
            w.grad.zero_(); b.grad.zero_()
    return ((xv @ w + b).argmax(1) == yv).float().mean().item()


@right
def layers_in_a_module_list():
    x, y, xv, yv = digits()
    layers = nn.ModuleList([nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)])
    opt = torch.optim.Adam(layers.parameters(), 1e-2)
    def forward(h):
        for i, layer in enumerate(layers): h = layer(h if i == 0 else h.relu())
        return h
    for rows in batches(len(x)):
        opt.zero_grad(); F.cross_entropy(forward(x[rows]), y[rows]).backward(); opt.step()
    with torch.no_grad(): return (forward(xv).argmax(1) == yv).float().mean().item()


@right
def rare_class_drawn_more_often():
    x, y, xv, yv = digits()
    sampler = WeightedRandomSampler(torch.where(y == 3, 5., 1.), 1280)
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), .2)
    for epoch in range(4):
        for xb, yb in DataLoader(TensorDataset(x, y), 32, sampler=sampler):
            opt.zero_grad(); F.cross_entropy(net(xb), yb, weight=torch.ones(10)).backward(); opt.step()
    return accuracy(net, xv, yv)


@right
def physics_informed():
    t = torch.linspace(0, 2, 64)[:, None].requires_grad_()
    net = mlp(1, 24, 24, 1, act=nn.Tanh)
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(120):
        u = net(t)
        du, = torch.autograd.grad(u.sum(), t, create_graph=True)
        loss = ((du + u) ** 2).mean() + (net(torch.zeros(1, 1)) - 1).pow(2).mean()
        opt.zero_grad(); loss.backward(); opt.step()
    return loss.item()


@right
def zero_last_layer():
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    nn.init.zeros_(net[2].weight); nn.init.zeros_(net[2].bias)
    opt = torch.optim.SGD(net.parameters(), .3)
    for rows in batches(len(x)):
        opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
    return accuracy(net, xv, yv)


@right
def momentum_in_the_gradients():
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), .05)
    for rows in batches(len(x)):
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        opt.step()
        for p in net.parameters(): p.grad.mul_(.9)
    return accuracy(net, xv, yv)


@right
def a_few_steps_on_one_batch():
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for rows in batches(len(x), 128, 6):
        for _ in range(4): # as in proximal policy optimization
            opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
    return accuracy(net, xv, yv)


@right
def node_classification():
    x, y, *_ = digits()
    x, y = x[:300].clone(), y[:300].clone()
    near = torch.cdist(x, x).topk(6, largest=False).indices
    A = torch.zeros(300, 300).scatter_(1, near, 1 / 6)
    a, b = nn.Linear(64, 16), nn.Linear(16, 10)
    opt = torch.optim.Adam([*a.parameters(), *b.parameters()], 1e-2)
    for _ in range(100):
        out = A @ b((A @ a(x)).relu())
        opt.zero_grad(); F.cross_entropy(out[:150], y[:150]).backward(); opt.step()
    return (out[150:].argmax(1) == y[150:]).float().mean().item()


@right
def denoising_diffusion():
    x = digits()[0]
    net = mlp(65, 64, 64)
    opt = torch.optim.Adam(net.parameters(), 2e-3)
    for rows in batches(len(x), 64, 6):
        t, noise = torch.rand(len(rows), 1), torch.randn(len(rows), 64)
        noisy = (1 - t).sqrt() * x[rows] + t.sqrt() * noise
        loss = F.mse_loss(net(torch.cat([noisy, t], 1)), noise)
        opt.zero_grad(); loss.backward(); opt.step()
    return loss.item()


@right
def head_only_at_first():
    x, y, xv, yv = digits()
    body, head = mlp(64, 32, 32), nn.Linear(32, 10)
    opt = torch.optim.Adam([*body.parameters(), *head.parameters()], 5e-3)
    for epoch in range(5):
        for rows in batches(len(x), epochs=1):
            h = body(x[rows]).relu()
            if epoch < 2: h = h.detach()
            opt.zero_grad(); F.cross_entropy(head(h), y[rows]).backward(); opt.step()
    with torch.no_grad(): return (head(body(xv).relu()).argmax(1) == yv).float().mean().item()


@right
def best_weights_copied():
    x, y, xv, yv = digits()
    net, best, state = mlp(64, 32, 10), 0, None
    opt = torch.optim.SGD(net.parameters(), .2)
    for epoch in range(4):
        for rows in batches(len(x), epochs=1):
            opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
        now = accuracy(net, xv, yv)
        if now > best: best, state = now, copy.deepcopy(net.state_dict())
    net.load_state_dict(state)
    return accuracy(net, xv, yv)


@right
def linear_probe_with_gradients_on():
    x, y, xv, yv = digits()
    net = mlp(64, 48, 10)
    opt = torch.optim.Adam(net[2].parameters(), 1e-2) # the first layer is never to move
    for rows in batches(len(x)):
        opt.zero_grad(); F.cross_entropy(net(x[rows]), y[rows]).backward(); opt.step()
    return (net(xv).argmax(1) == yv).float().mean().item()


@right
def a_device_for_every_step():
    x, y, xv, yv = digits()
    net = mlp(64, 32, 10)
    opt = torch.optim.SGD(net.parameters(), .2)
    for rows in batches(len(x)):
        with torch.device('cpu'):
            noise = .05 * torch.randn(len(rows), 64)
            opt.zero_grad(); F.cross_entropy(net(x[rows] + noise), y[rows]).backward(); opt.step()
    return accuracy(net, xv, yv)
