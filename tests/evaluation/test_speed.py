"""The speed measurements: what is counted, what is drawn, what is fitted."""

from dataclasses import replace

import pytest
import torch

from diffuseq.blocked import block_weights
from diffuseq.errors import InputError
from diffuseq.evaluation.speed import PARTS, measure, peak
from diffuseq.evaluation.speed.growth import Series
from diffuseq.evaluation.speed.peak import count_operations, product_rate
from diffuseq.evaluation.speed.sampling import MEASURED_STEPS, Writer, published_steps
from diffuseq.evaluation.speed.sizes import find_size, special_tokens
from diffuseq.evaluation.speed.table import rounded
from diffuseq.evaluation.speed.timing import time_in_turn
from diffuseq.evaluation.speed.training import Trainee
from diffuseq.evaluation.speed.workload import draw_pairs, fixed_batch, make_request, training_batches

CPU = torch.device("cpu")
TINY = find_size("tiny")


def test_pairs_are_as_long_as_those_of_qqp():
    pairs = draw_pairs(4000, special_tokens(64))
    sources, targets = ([float(len(pair[side])) for pair in pairs] for side in (0, 1))
    assert sum(sources) / 4000 == pytest.approx(11.9, abs=0.3)
    assert sum(targets) / 4000 == pytest.approx(11.9, abs=0.3)
    correlation = torch.corrcoef(torch.tensor([sources, targets]))[0, 1]
    assert float(correlation) == pytest.approx(0.63, abs=0.06)


def test_words_are_in_the_vocabulary_and_no_special_tokens():
    words = {word for source, target in draw_pairs(500, special_tokens(64)) for word in source + target}
    assert min(words) == 5
    assert max(words) == 63


def test_training_batches_are_sorted_by_length_and_full():
    batches = training_batches(8, special_tokens(64), count=3, among=9)
    longest = [max(batch.source.shape[1], batch.target.shape[1]) for batch in batches]
    assert [len(batch) for batch in batches] == [8, 8, 8]
    assert longest == sorted(longest)
    assert longest[0] < longest[-1]


def test_operations_of_a_product_and_of_fused_attention_are_counted():
    left, right = torch.rand(3, 5), torch.rand(5, 7)
    assert count_operations(lambda: left @ right) == 2 * 3 * 5 * 7
    states = torch.rand(2, 4, 16, 8)
    attention = torch.nn.functional.scaled_dot_product_attention
    assert count_operations(lambda: attention(states, states, states)) == 2 * 2 * (2 * 4 * 16 * 16 * 8)


def test_the_backward_pass_of_a_linear_layer_counts_twice_its_forward_pass():
    layer, x = torch.nn.Linear(6, 4), torch.rand(10, 6, requires_grad=True)
    assert count_operations(lambda: layer(x).sum().backward()) == 3 * 2 * 10 * 6 * 4


def test_products_with_weights_in_blocks_are_counted():
    layer, x = torch.nn.Sequential(torch.nn.Linear(512, 512)), torch.rand(3, 512)
    block_weights(layer)
    with torch.no_grad():
        assert count_operations(lambda: layer(x)) == 2 * 3 * 512 * 512


def test_more_calls_do_proportionally_more_work():
    seeing_all = replace(TINY.ours, system=replace(TINY.ours.system, attention="all"))
    writer = Writer(replace(TINY, ours=seeing_all), CPU)
    batch = fixed_batch(2, 6, 6, TINY.special)
    kept = [count_operations(writer.action([batch], calls)) for calls in (1, 2, 3)]
    writer.settings = replace(writer.settings, cache=False)
    one, two, three = (count_operations(writer.action([batch], calls)) for calls in (1, 2, 3))
    assert one < two < three
    assert three - two == two - one
    assert kept[:2] == pytest.approx([one, two], rel=0.01), (
        "of the first call everything is computed once more"
    )
    assert two < kept[2] < three, "of the second, what had not settled by then"


def test_our_answers_are_as_long_as_their_sources():
    writer = Writer(TINY, CPU)
    request = make_request(fixed_batch(2, 9, 1, TINY.special), writer.settings, CPU)
    *_, draft = writer.system.generate(request)
    assert (~draft.padding).sum(1).tolist() == [9, 9]


def test_the_published_decoding_does_its_measured_steps_with_all_positions():
    system = TINY.published.system
    counted = count_operations(published_steps(TINY, CPU))
    positions = TINY.published_decoding_rows * system.sequence_length
    layer = 4 * system.width**2 + 2 * system.width * system.feed_forward
    rounding = system.embedding_width * TINY.words[1]
    least = 2 * MEASURED_STEPS * positions * (system.layers * layer + rounding)
    assert least < counted < 3 * least


def test_a_trainee_learns_by_its_passes_and_updates():
    trainee = Trainee(TINY.ours, TINY.special, training_batches(4, TINY.special, 1), CPU)
    before = [p.detach().clone() for p in trainee.training.system.parameters()]
    trainee.passes()
    trainee.update()
    after = list(trainee.training.system.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert all(p.grad is not None and not p.grad.any() for p in after)


def test_the_power_of_a_series_is_that_of_its_law():
    xs = (1, 2, 4, 8)
    assert Series("quadratic", xs, tuple(3.0 * x**2 for x in xs), "").power == pytest.approx(2)
    shared = Series("fixed cost", xs, tuple(10.0 + x for x in xs), "")
    assert shared.power < shared.last_power < 1


def test_actions_take_turns_after_a_warm_up():
    order: list[str] = []
    timings = time_in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, CPU)
    assert order == ["a", "b"] * 3
    assert [len(timing.seconds) for timing in timings.values()] == [2, 2]


def test_the_rate_of_products_is_positive():
    assert product_rate(32, torch.float32, CPU, repeats=1) > 0


def test_each_share_is_of_the_rate_in_its_own_precision(monkeypatch):
    # Networks of some widths are trained in bf16 and answer in fp32.
    rates = {torch.bfloat16: 8e9, torch.float32: 2e9}
    monkeypatch.setattr(peak, "product_rate", lambda side, dtype, device: rates[dtype])
    monkeypatch.setattr(
        peak,
        "our_trainee",
        lambda size, device: Trainee(
            replace(size.ours, training=replace(size.ours.training, precision="bf16")),
            size.special,
            training_batches(2, size.special, count=1),
            device,
        ),
    )
    table = peak.measure(TINY, CPU)
    assert [row[0] for row in table.rows[:2]] == ["matrix product, bf16", "matrix product, fp32"]
    for name, rate in (("training, whole step", 8e9), ("sampling, 10 calls", 2e9)):
        shown = next(float(row[1].replace(",", "")) for row in table.rows if row[0] == name)
        assert table.numbers[f"{name}: share"] == pytest.approx(1e9 * shown / rate, rel=0.01)
    assert "Training is in bf16 and sampling in fp32" in table.notes[0]
    assert "left out" not in table.notes[0]


@pytest.mark.parametrize(
    ("value", "text"), [(12345.0, "12,300"), (123.4, "123"), (45.67, "45.7"), (0.0012345, "0.00123")]
)
def test_numbers_are_shown_with_three_digits(value, text):
    assert rounded(value) == text


def test_onnx_runtime_is_measured_beside_pytorch(monkeypatch):
    pytest.importorskip("transformers")
    pytest.importorskip("onnxscript")
    from diffuseq import onnx_runtime
    from diffuseq.evaluation.speed import autoregressive

    given = []  # the graphs themselves are tested with the runtime; writing them takes long
    monkeypatch.setattr(onnx_runtime, "compute_with_onnx", given.append)
    names = [row[0] for row in autoregressive.measure(TINY, CPU).rows]
    assert len(given) == 1
    assert "ours, 10 calls" in names and "ours, 10 calls, ONNX Runtime" in names
    quick = autoregressive.measure(find_size("tiny", quick=True), CPU)
    assert len(given) == 1 and not any("ONNX" in row[0] for row in quick.rows)


def test_unknown_sizes_and_parts_are_refused_before_anything_is_measured():
    with pytest.raises(InputError, match="size 'large'; choose one of: base, small, tiny"):
        measure("large", list(PARTS), CPU)
    with pytest.raises(InputError, match="Did you mean 'sampling'"):
        measure("tiny", ["smapling"], CPU)
