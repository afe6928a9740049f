"""Our denoiser: padding changes nothing, the pointer is a distribution, the source is encoded once."""

from __future__ import annotations

import pytest
import torch

from diffuseq.model.denoiser import Denoiser, Encoded, Level
from diffuseq.model.order import Order, places_of
from diffuseq.model.word_losses import negative_log_likelihood, word_losses

VOCAB = 30


def make_denoiser(copy: bool = True) -> Denoiser:
    torch.manual_seed(0)
    network = Denoiser(
        VOCAB, width=32, heads=2, feed_forward=48, encoder_layers=2, decoder_layers=2, embedding_width=16,
        dropout=0.0, copy=copy, self_conditioned=True,
    )  # fmt: skip
    for parameter in network.parameters():  # nothing stays at zero, so that every part matters
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


@pytest.fixture
def rows() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "source": torch.randint(5, VOCAB, (3, 6), generator=generator),
        "target": torch.randint(5, VOCAB, (3, 5), generator=generator),
        "x": torch.randn(3, 5, 16, generator=generator),
        "log_snr": torch.randn(3, 5, generator=generator),
        "estimate": torch.randn(3, 5, 16, generator=generator),
    }


def run(network: Denoiser, rows: dict[str, torch.Tensor], source_width: int, target_width: int, row: slice):
    """The log-distribution of the rows, with the given number of padded positions on either side."""
    source = torch.nn.functional.pad(rows["source"][row], (0, source_width), value=0)
    source_padding = torch.zeros_like(source, dtype=torch.bool)
    source_padding[:, 6:] = True
    x = torch.nn.functional.pad(rows["x"][row], (0, 0, 0, target_width), value=7.0)
    estimate = torch.nn.functional.pad(rows["estimate"][row], (0, 0, 0, target_width), value=7.0)
    log_snr = torch.nn.functional.pad(rows["log_snr"][row], (0, target_width))
    padding = torch.zeros(log_snr.shape, dtype=torch.bool)
    padding[:, 5:] = True
    encoded = network.encode(source, source_padding)
    hidden = network.decode(x, network.level(log_snr), padding, encoded, estimate)
    return network.distribution(hidden, encoded, ~padding).log().view(-1, 5, VOCAB)


def read(network: Denoiser, rows: dict[str, torch.Tensor]) -> tuple[Encoded, torch.Tensor]:
    """The source of the rows and the states of their targets, without padding."""
    encoded = network.encode(rows["source"], torch.zeros(3, 6, dtype=torch.bool))
    level, padding = network.level(rows["log_snr"]), torch.zeros(3, 5, dtype=torch.bool)
    return encoded, network.decode(rows["x"], level, padding, encoded)


@pytest.mark.parametrize("copy", [True, False])
def test_padding_and_neighbours_change_no_row(copy: bool, rows: dict[str, torch.Tensor]) -> None:
    network = make_denoiser(copy)
    together = run(network, rows, 4, 3, slice(0, 3))
    for i in range(3):
        alone = run(network, rows, 0, 0, slice(i, i + 1))
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("learns", [True, False])
def test_an_empty_source_gives_finite_numbers_and_changes_no_other_row(
    copy: bool, learns: bool, rows: dict[str, torch.Tensor]
) -> None:
    network = make_denoiser(copy)
    level, padding = network.level(rows["log_snr"]), torch.zeros(3, 5, dtype=torch.bool)
    found = []
    for is_empty in (False, True):
        source_padding = torch.zeros(3, 6, dtype=torch.bool)
        source_padding[1] = is_empty
        with torch.set_grad_enabled(learns):
            encoded = network.encode(rows["source"], source_padding)
            hidden = network.decode(rows["x"], level, padding, encoded)
            found.append(network.distribution(hidden, encoded).view(3, 5, VOCAB))
        assert source_padding[1].all() == is_empty, "what was given stays as it was"
    whole, one_empty = found
    assert one_empty.isfinite().all() and not torch.allclose(whole[1], one_empty[1])
    assert torch.equal(whole[[0, 2]], one_empty[[0, 2]])


@pytest.mark.parametrize("copy", [True, False])
def test_the_distribution_sums_to_one_and_agrees_with_the_loss(
    copy: bool, rows: dict[str, torch.Tensor]
) -> None:
    network = make_denoiser(copy)
    encoded, hidden = read(network, rows)
    where = rows["log_snr"] > 0
    log_p = network.distribution(hidden, encoded, where).log()
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(int(where.sum())))
    chosen = log_p.gather(-1, rows["target"][where][:, None]).squeeze(-1)
    nll = negative_log_likelihood(network, hidden, encoded, rows["target"], where)
    torch.testing.assert_close(-nll, chosen, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("copy", [True, False])
def test_smoothing_is_cross_entropy_with_a_share_for_all_words(
    copy: bool, rows: dict[str, torch.Tensor]
) -> None:
    network, everywhere = make_denoiser(copy), torch.ones(3, 5, dtype=torch.bool)
    encoded, hidden = read(network, rows)
    given = hidden, encoded, rows["target"]
    nll, unchanged = word_losses(network, *given)
    torch.testing.assert_close(unchanged, nll)
    target, logits = rows["target"].flatten(), network.logits(hidden).flatten(0, 1)
    plain, smooth = (
        torch.nn.functional.cross_entropy(logits, target, label_smoothing=share, reduction="none")
        for share in (0.0, 0.1)
    )
    if not copy:
        torch.testing.assert_close(
            word_losses(network, *given, smoothing=0.1, vocabulary=0.5), (plain, smooth)
        )
        return
    torch.testing.assert_close(word_losses(network, *given, vocabulary=1.0), (nll, (nll + plain) / 2))
    # exact for words that no pointer can reach
    log_p = network.distribution(hidden, encoded, everywhere).log()
    log_generate = network.pointing(hidden, encoded)[1]
    assert log_generate is not None
    by_softmax = logits.log_softmax(-1) + log_generate.flatten()[:, None]
    unreached = torch.ones_like(log_p, dtype=torch.bool)
    unreached.scatter_(1, encoded.ids.repeat_interleave(5, 0), False)
    torch.testing.assert_close(log_p[unreached], by_softmax[unreached], atol=1e-5, rtol=1e-4)
    mixed = 0.9 * nll - 0.1 * by_softmax.mean(-1)
    loss = word_losses(network, *given, smoothing=0.1, vocabulary=0.5)[1]
    torch.testing.assert_close(loss, (mixed + 0.5 * smooth) / 1.5, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("copy", [True, False])
def test_a_large_vocabulary_is_scored_part_by_part_and_kept_nowhere(
    copy: bool, rows: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = make_denoiser(copy)
    encoded = network.encode(rows["source"], torch.zeros(3, 6, dtype=torch.bool))
    padding = torch.zeros(3, 5, dtype=torch.bool)
    kept: list[int] = []

    def loss_and_gradients() -> list[torch.Tensor]:
        hidden = network.decode(rows["x"], network.level(rows["log_snr"]), padding, encoded)
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
            _, loss = word_losses(network, hidden, encoded, rows["target"], smoothing=0.1, vocabulary=0.5)
        parameters = [network.word_bias, network.word_embedding.weight, network.target_up.weight]
        weights = torch.arange(15.0).cos()
        return [loss.detach(), *torch.autograd.grad((loss * weights).sum(), parameters, retain_graph=True)]

    whole = loss_and_gradients()
    assert 15 * VOCAB in kept
    monkeypatch.setattr("diffuseq.model.word_losses.SCORES", 4 * VOCAB)
    parts = loss_and_gradients()
    torch.testing.assert_close(parts, whole)
    assert 15 * VOCAB not in kept and 4 * VOCAB not in kept


@pytest.mark.parametrize("copy", [True, False])
def test_a_position_has_the_same_distribution_whether_others_are_asked_for_or_not(
    copy: bool, rows: dict[str, torch.Tensor]
) -> None:
    network = make_denoiser(copy)
    encoded, hidden = read(network, rows)
    where = rows["log_snr"] > 0
    everywhere = network.distribution(hidden, encoded, torch.ones_like(where)).view(3, 5, VOCAB)
    torch.testing.assert_close(network.distribution(hidden, encoded, where), everywhere[where])


def test_some_places_are_computed_as_all_are_where_the_others_are_known(
    rows: dict[str, torch.Tensor],
) -> None:
    network, padding = make_denoiser(), torch.zeros(3, 5, dtype=torch.bool)
    padding[1, 4:] = True
    encoded = network.encode(rows["source"], torch.zeros(3, 6, dtype=torch.bool))
    level = network.level(rows["log_snr"])
    room = encoded.with_room(5)
    assert encoded.memories[0].key.shape[2] == 6 < room.memories[0].key.shape[2] == 12

    def decode(x: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The places and their states."""
        places = places_of(chosen)
        at = places.clamp_max(4)[..., None, None].expand(-1, -1, *level.modulation.shape[2:])
        some = Level(level.scale, level.features, level.modulation.gather(1, at))
        return places, network.decode_places(x, some, padding, room, places)

    everything = network.decode(rows["x"], level, padding, encoded)
    places, states = decode(rows["x"], ~padding)
    torch.testing.assert_close(states[~padding], everything[~padding])
    chosen = torch.tensor([[0, 1, 0, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
    places, states = decode(rows["x"], chosen)
    assert places.tolist() == [[1, 3], [2, 5], [5, 5]], "5 is nowhere"
    torch.testing.assert_close(states[places < 5], everything[chosen])
    # what is not computed again is taken as it was
    changed = rows["x"].clone()
    changed[0, 4] += 1.0
    there = torch.tensor([[1, 0, 0, 0, 0]] + [[0] * 5] * 2, dtype=torch.bool)
    _, stale = decode(changed, there)
    torch.testing.assert_close(stale[0, 0], everything[0, 0])
    assert (network.decode(changed, level, padding, encoded)[0, 0] - everything[0, 0]).abs().max() > 1e-4
    _, anew = decode(changed, ~padding)
    torch.testing.assert_close(anew[0], network.decode(changed, level, padding, encoded)[0])


def test_repeating_the_encoding_equals_encoding_the_repeated_source(rows: dict[str, torch.Tensor]) -> None:
    network = make_denoiser()
    padding = torch.zeros(3, 6, dtype=torch.bool)
    once = network.encode(rows["source"], padding).repeat(2)
    twice = network.encode(rows["source"].repeat_interleave(2, 0), padding.repeat_interleave(2, 0))
    for a, b in zip(
        [*once.memories, (once.states, once.ids)], [*twice.memories, (twice.states, twice.ids)], strict=True
    ):
        torch.testing.assert_close(a[0], b[0])
        torch.testing.assert_close(a[1], b[1])


def test_every_word_stands_at_radius_root_d() -> None:
    table = make_denoiser().word_embedding.table()
    torch.testing.assert_close(table.norm(dim=-1), torch.full((VOCAB,), 4.0))


def test_the_network_hears_the_noise_level_and_the_last_estimate(rows: dict[str, torch.Tensor]) -> None:
    network = make_denoiser()
    base = run(network, rows, 0, 0, slice(0, 1))
    for changed in ("log_snr", "estimate"):
        other = run(network, {**rows, changed: rows[changed] + 1.0}, 0, 0, slice(0, 1))
        assert (other - base).abs().max() > 1e-3, changed


def test_what_noise_hides_is_not_read(rows: dict[str, torch.Tensor]) -> None:
    network, padding = make_denoiser(), torch.zeros(3, 5, dtype=torch.bool)
    encoded = network.encode(rows["source"], torch.zeros(3, 6, dtype=torch.bool))

    def difference(log_snr: float) -> float:
        """How far two draws of x are apart in the states, at one level for all."""
        level = network.level(torch.full((3, 5), log_snr))
        states = [network.decode(x, level, padding, encoded) for x in (rows["x"], rows["x"].flip(0))]
        return ((states[0] - states[1]).norm() / states[0].norm()).item()

    assert difference(-12.0) < 0.02 < 0.2 < difference(3.0)
    assert network.level(torch.tensor(30.0)).scale == 1, "clean words stay as they are"


class InOrder:
    """A network whose positions see only what settled before, and a row of words with their levels."""

    def __init__(self, length: int = 6) -> None:
        torch.manual_seed(0)
        self.network = Denoiser(
            VOCAB, width=16, heads=2, feed_forward=24, encoder_layers=1, decoder_layers=2, embedding_width=8,
            dropout=0.0, copy=True, self_conditioned=False, longest_in_order=8,
        ).eval()  # fmt: skip
        with torch.no_grad():  # the modulation begins at zero
            self.network.modulation_head.weight.normal_(std=0.2)
        self.levels = self.network.level(torch.tensor([3.0, -8.0]))
        self.words = torch.randint(VOCAB, (1, length))
        self.noise = torch.randn(1, length, 8)
        source = torch.randint(VOCAB, (1, 4))
        self.encoded = self.network.encode(source, torch.zeros(1, 4, dtype=torch.bool))

    def states(self, words: torch.Tensor, order: Order) -> torch.Tensor:
        x0 = self.network.word_embedding(words)
        return self.network.decode_in_order(x0, self.noise, self.levels, self.encoded, order)[0]


def ranks(places: list[int]) -> torch.Tensor:
    """The ranks of positions that settle in this order."""
    return torch.tensor([places]).argsort(1).float()


def of_length(places: list[int], length: int = 6) -> Order:
    return Order.of_words(ranks(places), torch.tensor([length]))


@torch.no_grad()
@pytest.mark.parametrize("places", [[0, 1, 2, 3, 4, 5], [3, 0, 5, 1, 4, 2]])
def test_in_order_a_position_sees_the_words_before_it_and_no_others(places: list[int]) -> None:
    case, order = InOrder(), of_length(places)
    before = case.states(case.words, order)
    for turn, place in enumerate(places):
        words = case.words.clone()
        words[0, place] = (words[0, place] + 1) % VOCAB
        moved = (case.states(words, order) - before).abs().amax(-1) > 1e-6
        assert sorted(places[turn + 1 :]) == moved.nonzero().flatten().tolist(), f"after word {place}"


@torch.no_grad()
def test_one_pass_in_order_says_what_one_call_after_the_other_does() -> None:
    case, settling = InOrder(), [3, 0, 5, 1, 4, 2]
    at_once = case.states(case.words, of_length(settling))
    room, clean = case.encoded.with_room(6), case.network.word_embedding(case.words)
    padding = torch.zeros(1, 6, dtype=torch.bool)
    rank, stale = torch.full((1, 6), torch.inf), list(range(6))
    for turn, place in enumerate(settling):
        is_open = rank.isinf()
        x, which = torch.where(is_open[..., None], case.noise, clean), is_open.long()
        places = torch.tensor([sorted(stale)])
        scale, features, modulation = case.levels
        level = Level(scale[which], features[which], modulation[which.gather(1, places)])
        order = Order.of_words(rank, torch.tensor([6]))
        states = case.network.decode_places(x, level, padding, room, places, order=order)[0]
        torch.testing.assert_close(states[sorted(stale).index(place)], at_once[place])
        rank[0, place] = turn
        stale = is_open[0].nonzero().flatten().tolist()  # what settles now is computed once more, clean


@torch.no_grad()
def test_in_order_some_places_are_computed_as_all_are_when_the_others_are_as_they_were() -> None:
    case, order = InOrder(), of_length([0, 1, 2, 3, 4, 5])
    room = case.encoded.with_room(12)

    def at(words: torch.Tensor, places: list[int]) -> torch.Tensor:
        x0, stale = case.network.word_embedding(words), torch.tensor([places])
        asked = torch.tensor([places[1:]])
        return case.network.decode_places_in_order(x0, case.noise, case.levels, room, order, stale, asked)[0]

    torch.testing.assert_close(at(case.words, [0, 1, 2, 3, 4, 5]), case.states(case.words, order)[1:])
    other = case.words.clone()
    other[0, 3:] = (other[0, 3:] + 1) % VOCAB
    found = at(other, [3, 4, 5, 6])  # the last is none
    torch.testing.assert_close(found[:2], case.states(other, order)[4:])


@torch.no_grad()
def test_nobody_sees_the_end_and_who_comes_after_it_knows_the_number_of_words() -> None:
    case = InOrder()
    last = Order.of_targets(ranks([0, 1, 2, 3, 4, 5]), torch.tensor([4]))
    first = Order.of_targets(ranks([4, 0, 1, 2, 3, 5]), torch.tensor([4]))
    blind, knowing = case.states(case.words, last), case.states(case.words, first)
    assert (knowing[:4] - blind[:4]).abs().amax(-1).min() > 1e-4
    for order, others in ((last, [0, 1, 2, 3, 4]), (first, [0, 1, 2, 3])):
        states = case.states(case.words, order)
        words = case.words.clone()
        words[0, 4:] = (words[0, 4:] + 1) % VOCAB
        torch.testing.assert_close(case.states(words, order)[others], states[others])
        longer = order._replace(length=torch.tensor([5]))
        knows = (case.states(case.words, longer) - states).abs().amax(-1)[others] > 1e-4
        assert knows.all() if order is first else not knows.any()
