"""Places that only fill rows up are left out, and nothing else changes."""

from __future__ import annotations

import pytest
import torch

from diffuseq.model.denoiser import Denoiser
from diffuseq.model.order import Order, places_of
from diffuseq.model.packing import Packing, rows_to_keep

STANDS = torch.tensor([[True, True, False], [False, False, False], [True, False, True]])


def test_packing_and_back() -> None:
    packing = Packing.of(STANDS)
    x = torch.randn(3, 3, 4, 2)
    packed = packing.pack(x)
    assert torch.equal(packed, x[STANDS])
    assert packing.row.tolist() == [0, 0, 2, 2]
    assert torch.equal(packing.unpack(packed), x * STANDS[..., None, None])


def test_the_last_places_of_every_row() -> None:
    packing = Packing.of(STANDS)
    ending = packing.last(2)
    x = torch.randn(3, 3, 5)
    assert torch.equal(packing.pack(x)[ending.kept], ending.pack(x[:, 1:]))
    assert torch.equal(ending.unpack(ending.pack(x[:, 1:])), x[:, 1:] * STANDS[:, 1:, None])


@pytest.mark.parametrize(("moving", "kept"), [("1101", None), ("0101", [1, 3]), ("00010", [3]), ("000", [])])
def test_rows_at_rest_are_left_out_once_they_are_half(moving: str, kept: list[int] | None) -> None:
    found = rows_to_keep(torch.tensor([mark == "1" for mark in moving]))
    assert (found if found is None else found.tolist()) == kept


@pytest.mark.parametrize("layers", [1, 3])
def test_states_are_those_of_all_places_computed(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of which some ask for much and some for nothing, over two calls, the second of which attends to what the
    first has left."""
    torch.manual_seed(0)
    network = Denoiser(
        40, width=32, heads=2, feed_forward=32, encoder_layers=1, decoder_layers=layers, embedding_width=16,
        dropout=0.0, copy=True, self_conditioned=False, longest_in_order=8,
    ).eval()  # fmt: skip
    rows, length = 4, 6
    ids = torch.randint(5, 40, (rows, 7))
    padding = torch.arange(7) >= torch.tensor([7, 3, 5, 7])[:, None]
    words = torch.randint(5, 40, (rows, length))
    noise = torch.randn(rows, length, 16)
    place = torch.arange(length)
    known = place < torch.tensor([6, 1, 3, 0])[:, None]
    asked = (place >= torch.tensor([2, 6, 0, 5])[:, None]) & (place < torch.tensor([6, 6, 5, 6])[:, None])
    rank = place.float().expand(rows, -1)
    order = Order.of_words(rank, torch.full((rows,), length), is_known=False)
    order = order._replace(seen=rank.masked_fill(~known, torch.inf))

    @torch.no_grad()
    def states() -> list[torch.Tensor]:
        encoded = network.encode(ids, padding).with_room(2 * length)
        levels, x0 = network.level(torch.tensor([3.0, -8.0])), network.word_embedding(words)
        places = places_of(asked)
        return [
            network.decode_places_in_order(x0, noise, levels, encoded, order, places_of(stale), places)[
                places < length
            ]
            for stale in (known, known & (place > 0))
        ]

    packed = states()
    used = []
    monkeypatch.setattr(network, "_packing", lambda *given: used.append(given))
    whole = states()
    assert len(used) == 2
    for some, everything in zip(packed, whole, strict=True):
        assert some.shape == (int(asked.sum()), 32)
        torch.testing.assert_close(some, everything)
