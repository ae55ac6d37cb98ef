"Our loader gives what PyTorch's gives, from the same seed, in all its options; and each works in the place of the other."
import itertools
from collections import namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from minibatch.dataloader import BatchSampler, DataLoader, Dataset, RandomSampler, collate
from torch.utils import data


def equal(a, b):
    if isinstance(a, torch.Tensor): return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict): return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)): return len(a) == len(b) and all(map(equal, a, b))
    return a == b


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 40), bs=st.integers(1, 45), shuffle=st.booleans(), drop_last=st.booleans(), own=st.booleans(), as_rows=st.booleans())
def test_same_batches_as_pytorch(n, bs, shuffle, drop_last, own, as_rows):
    if drop_last and bs > n: return
    ds = Dataset(torch.arange(n), torch.randn(n, 3))
    if as_rows: ds = [ds[i] for i in range(n)]
    def epochs(Loader):
        torch.manual_seed(1)
        generator = torch.Generator().manual_seed(2) if own else None
        loader = Loader(ds, bs, shuffle, drop_last=drop_last, generator=generator)
        found = [[*map(list, loader)] for _ in range(3)]
        return found, len(loader), torch.rand(1).item()  # and as many random numbers are drawn
    assert equal(epochs(DataLoader), epochs(data.DataLoader))


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 40), num=st.none() | st.integers(1, 100), replacement=st.booleans(), own=st.booleans())
def test_same_order_as_pytorch(n, num, replacement, own):
    def orders(Sampler):
        torch.manual_seed(1)
        sampler = Sampler(range(n), replacement, num, torch.Generator().manual_seed(2) if own else None)
        return [list(sampler), list(sampler), len(sampler), torch.rand(1).item()]
    assert orders(RandomSampler) == orders(data.RandomSampler)


def test_samplers_are_exchanged():
    ds = Dataset(torch.arange(23))
    for a, b in itertools.product([RandomSampler, data.RandomSampler], repeat=2):
        loaders = [L(ds, batch_sampler=B(S(ds, generator=torch.Generator().manual_seed(1)), 4, False))
                   for L, B, S in ((DataLoader, BatchSampler, a), (data.DataLoader, data.BatchSampler, b))]
        assert equal(*([x for [x] in loader] for loader in loaders))


Row = namedtuple('Row', 'x y')
ROWS = [lambda i: torch.tensor(i), lambda i: (torch.ones(2) * i, i), lambda i: Row(torch.ones(2) * i, i), lambda i: dict(x=np.ones(2) * i, y=str(i)),
        lambda i: dict(x=Row(i, {'z': torch.tensor(i)})), lambda i: np.float64(i), lambda i: np.int32(i), lambda i: i % 2 == 0]


@pytest.mark.parametrize('row', ROWS)
def test_rows_keep_their_kind(row):
    rows = [row(i) for i in range(5)]
    ours, theirs = ([*L(rows, 2)] for L in (DataLoader, data.DataLoader))
    assert equal(ours, theirs) and type(ours[0]) is (tuple if type(rows[0]) is tuple else type(theirs[0]))
    assert equal(collate(rows), data.default_collate(rows))


def test_fast_way_is_the_same():
    x, y = torch.randn(50, 3), torch.arange(50)
    for ds in Dataset(x, y), data.TensorDataset(x, y), Dataset(x.numpy(), y), x, y.numpy():
        rows = [ds[i] for i in range(50)]
        assert equal([*DataLoader(ds, 7)], [*DataLoader(rows, 7)])


def test_iterable_dataset_is_referred_to_pytorch():
    class Stream(data.IterableDataset):
        def __iter__(self): yield from range(5)
    with pytest.raises(TypeError, match='use torch.utils.data.DataLoader'): DataLoader(Stream(), 2)


def test_works_with_pytorchs_tools():
    ds = Dataset(torch.arange(10))
    parts = data.random_split(ds, [7, 3], torch.Generator().manual_seed(1))
    assert sorted(torch.cat([x for part in parts for [x] in DataLoader(part, 2)]).tolist()) == list(range(10))
    assert len(ds + ds) == 20 and len(list(data.DataLoader(ds, 3, num_workers=1))) == 4
