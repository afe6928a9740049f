"""Weights in blocks: the same products, of the same parameters, whatever happens to these."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diffuseq import DiffuSeqPipeline, blocked
from diffuseq.blocked import Blocked, block_weights, is_linear
from diffuseq.precision import round_matrices

if not blocked._can_block():
    pytest.skip("this processor has no products with weights in blocks", allow_module_level=True)


@pytest.fixture(autouse=True)
def small_layers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked, "_MANY", 1)


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(48, 80), nn.SiLU(), nn.Linear(80, 33, bias=False))


def blocked_twin(network: nn.Sequential) -> nn.Sequential:
    twin = copy.deepcopy(network)
    block_weights(twin)
    assert isinstance(twin[0], Blocked) and isinstance(twin[2], Blocked)
    return twin


@torch.no_grad()
def answers(network: nn.Module, x: Tensor) -> Tensor:
    return network(x)


@pytest.mark.parametrize("shape", [(48,), (1, 48), (5, 48), (2, 7, 48), (300, 48), (0, 48), (2, 0, 48)])
def test_products_are_what_they_were(shape: tuple[int, ...]) -> None:
    network, x = two_layers(), torch.randn(shape)
    torch.testing.assert_close(answers(blocked_twin(network), x), answers(network, x), rtol=1e-5, atol=1e-5)


def test_rows_that_do_not_lie_together_are_multiplied_as_well() -> None:
    network, x = two_layers(), torch.randn(48, 6).T
    torch.testing.assert_close(answers(blocked_twin(network), x), answers(network, x), rtol=1e-5, atol=1e-5)


def test_in_bf16_products_are_those_of_autocast() -> None:
    network = two_layers()
    round_matrices(network)
    twin, x = blocked_twin(network), torch.randn(9, 48)
    with torch.autocast("cpu", torch.bfloat16):
        plain, ours = answers(network, x), answers(twin, x)
    assert plain.dtype == ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours, plain, rtol=0.02, atol=0.02)


def test_under_autocast_single_precision_is_left_to_it() -> None:
    network, x = two_layers(), torch.randn(9, 48)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(answers(blocked_twin(network), x), answers(network, x))


def test_weights_that_change_are_laid_out_anew() -> None:
    network, other, x = two_layers(), two_layers(), torch.randn(4, 48)
    twin = blocked_twin(network)
    answers(twin, x)
    with torch.no_grad():
        other[0].weight.mul_(2)
        twin[0].weight.mul_(2)
    torch.testing.assert_close(answers(twin, x), answers(other, x))
    twin.load_state_dict(network.state_dict())
    torch.testing.assert_close(answers(twin, x), answers(network, x))
    twin.double()
    torch.testing.assert_close(answers(twin, x.double()), answers(network.double(), x.double()))


def test_the_network_still_learns() -> None:
    network, x = two_layers(), torch.randn(4, 48)
    twin = blocked_twin(network)
    network(x).square().sum().backward()
    twin(x).square().sum().backward()
    for plain, ours in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(plain.grad, ours.grad)


def test_it_is_copied_pickled_and_saved_like_any_other() -> None:
    network, x = two_layers(), torch.randn(4, 48)
    twin = blocked_twin(network)
    before = answers(twin, x)
    assert list(twin.state_dict()) == list(network.state_dict())
    for same in (copy.deepcopy(twin), pickle.loads(pickle.dumps(twin))):
        assert torch.equal(answers(same, x), before)


def test_a_layer_in_two_places_stays_one() -> None:
    layer = nn.Linear(16, 16)
    network = nn.ModuleDict({"first": layer, "second": layer})
    block_weights(network)
    assert network["first"] is network["second"]


def test_transformers_layers_have_their_weights_the_other_way_round() -> None:
    transformers = pytest.importorskip("transformers")
    layer = transformers.pytorch_utils.Conv1D(24, 40)
    assert is_linear(layer)
    network, x = nn.Sequential(layer), torch.randn(2, 3, 40)
    twin = copy.deepcopy(network)
    block_weights(twin)
    assert isinstance(twin[0], Blocked) and list(twin.state_dict()) == list(network.state_dict())
    torch.testing.assert_close(answers(twin, x), answers(network, x))


def test_small_layers_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked, "_MANY", 80 * 48)
    network = two_layers()
    block_weights(network)
    assert isinstance(network[0], Blocked) and isinstance(network[2], nn.Linear)


def test_chance_goes_on_as_if_nothing_had_been_tried() -> None:
    blocked._can_block.cache_clear()
    torch.manual_seed(3)
    blocked._can_block()
    drawn = torch.randn(3)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.randn(3))


def test_where_it_cannot_be_done_networks_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked, "_can_block", lambda: False)
    network = two_layers()
    block_weights(network)
    assert isinstance(network[0], nn.Linear)


def test_a_model_that_is_opened_has_its_weights_in_blocks_and_can_be_saved(
    tiny_folder: Path, tmp_path: Path
) -> None:
    pipe = DiffuSeqPipeline.from_pretrained(tiny_folder, "cpu", precision="fp32")
    assert not any(isinstance(module, nn.Linear) for module in pipe.system.modules())
    text = pipe("where is it?", seed=3).text
    pipe.save_pretrained(tmp_path / "again")
    assert DiffuSeqPipeline.from_pretrained(tmp_path / "again", "cpu")("where is it?", seed=3).text == text
