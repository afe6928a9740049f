"""GPT-2 against transformers, and its way in and out of folders."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import tokenizers
import torch
from autoregressive_cases import SPECIAL, answers, pairs, request, system, texts
from tokenizers import decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel

from diffuseq.baselines.configs import AutoregressiveGeneration, Gpt2Config
from diffuseq.baselines.gpt2 import Gpt2
from diffuseq.checkpoint import load_model, save_model
from diffuseq.config import Config
from diffuseq.data.batch import Batch, pad
from diffuseq.errors import InputError
from diffuseq.text.tokenizer import Tokenizer


def pretrained(folder: Path, **changes: object) -> GPT2LMHeadModel:
    """A GPT-2 with random weights, saved as transformers saves one."""
    torch.manual_seed(3)
    sizes = {"n_positions": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "bos_token_id": 1, "eos_token_id": 2}
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=SPECIAL.vocab_size, pad_token_id=0, **sizes, **changes)
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return model


def loaded(folder: Path) -> Gpt2:
    return Gpt2(Gpt2Config(name=str(folder)), SPECIAL).eval()


def texts_of_pairs() -> list[tuple[list[int], list[int]]]:
    batch = pairs(4)
    sources, targets = texts(batch.source, batch.source_padding), texts(batch.target, batch.target_padding)
    return list(zip(sources, targets, strict=True))


def test_the_loss_is_transformers_loss_on_the_target(tmp_path: Path) -> None:
    theirs, ours = pretrained(tmp_path), loaded(tmp_path)
    for source, target in texts_of_pairs():
        ids = torch.tensor([[*source, SPECIAL.start, *target, SPECIAL.end]])
        labels = ids.clone()
        labels[:, : len(source) + 1] = -100
        batch = Batch(*pad([source], 0), *pad([target], 0))
        with torch.no_grad():
            torch.testing.assert_close(
                ours(batch).value, theirs(ids, labels=labels).loss, atol=1e-5, rtol=1e-5
            )


def test_pairs_that_fit_one_by_one_fit_together(tmp_path: Path) -> None:
    pretrained(tmp_path)
    ours, long, short = loaded(tmp_path), [5, 6, 7] * 10, [8, 9]
    alone = [
        ours(Batch(*pad([source], 0), *pad([target], 0))) for source, target in ((long, short), (short, long))
    ]
    both = ours(Batch(*pad([long, short], 0), *pad([short, long], 0)))
    weights = torch.tensor([float(loss.weight) for loss in alone])
    mean = (weights * torch.stack([loss.value for loss in alone])).sum() / weights.sum()
    torch.testing.assert_close(both.value, mean, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="up to 61 tokens together, but this system takes 40"):
        ours(Batch(*pad([short, long], 0), *pad([short, long], 0)))


@pytest.mark.parametrize("beams", [1, 4])
def test_it_writes_what_transformers_generate_writes(tmp_path: Path, beams: int) -> None:
    theirs, ours = pretrained(tmp_path), loaded(tmp_path)
    batch = pairs(12)
    strategy = {"strategy": "beam", "beams": beams} if beams > 1 else {}
    given = answers(ours, request(batch, max_length=6, **strategy))
    for source, answer in zip(texts(batch.source, batch.source_padding), given, strict=True):
        prompt = torch.tensor([[*source, SPECIAL.start]])
        expected = theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=6,
            do_sample=False,
            num_beams=beams,
            early_stopping=beams > 1,
            suppress_tokens=[SPECIAL.pad, SPECIAL.start, SPECIAL.mask],
        )[0, prompt.shape[1] :].tolist()
        assert answer == [token for token in expected if token not in (SPECIAL.pad, SPECIAL.end)]


def test_a_loaded_network_opens_again_without_its_folder(tmp_path: Path) -> None:
    pretrained(tmp_path)
    first = loaded(tmp_path)
    assert (first.config.weights, first.config.layers, first.config.width) == ("saved", 2, 16)
    elsewhere = dataclasses.replace(first.config, name="nowhere/at-all")
    again = Gpt2(elsewhere, SPECIAL).eval()
    again.load_state_dict(first.state_dict())
    batch = pairs(3)
    with torch.no_grad():
        assert torch.equal(first(batch).value, again(batch).value)


def test_a_few_added_tokens_extend_the_vocabulary(tmp_path: Path) -> None:
    theirs = pretrained(tmp_path)
    more = dataclasses.replace(SPECIAL, vocab_size=SPECIAL.vocab_size + 2)
    ours = Gpt2(Gpt2Config(name=str(tmp_path)), more)
    assert ours.network.wte.weight.shape == (32, 16)
    torch.testing.assert_close(ours.network.wte.weight[:30], theirs.transformer.wte.weight)


def test_another_tokenizers_vocabulary_is_refused(tmp_path: Path) -> None:
    pretrained(tmp_path)
    with pytest.raises(InputError, match=r"has 5000 tokens.*was trained with 30.*text\.tokenizer"):
        Gpt2(Gpt2Config(name=str(tmp_path)), dataclasses.replace(SPECIAL, vocab_size=5000))


def test_a_folder_without_a_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot load the pretrained weights"):
        loaded(tmp_path)


def test_a_variant_with_another_activation_is_refused(tmp_path: Path) -> None:
    pretrained(tmp_path, activation_function="relu")
    with pytest.raises(InputError, match="differs from GPT-2 in activation_function"):
        loaded(tmp_path)


def test_the_configs_dropout_is_the_networks(tmp_path: Path) -> None:
    pretrained(tmp_path)
    ours = Gpt2(Gpt2Config(name=str(tmp_path), dropout=0.3), SPECIAL)
    assert {m.p for m in ours.modules() if isinstance(m, torch.nn.Dropout)} == {0.3}


def test_random_weights_need_no_name() -> None:
    assert system("gpt2", name="nowhere/at-all").config.weights == "random"


def gpt2_tokenizer(folder: Path) -> Tokenizer:
    """A tokenizer as GPT-2's: one special token, for the end of a text."""
    words = ["Ġ", *"abcdefghijklmnopqrstuvwxyz", "Ġa", "Ġb"]
    backend = tokenizers.Tokenizer(
        models.BPE({word: i for i, word in enumerate(words)}, [("Ġ", "a"), ("Ġ", "b")])
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>"])
    backend.save(str(folder / "tokenizer.json"))
    return Tokenizer.load(folder)


def test_one_special_token_is_enough_and_the_model_folder_needs_nothing_else(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    pretrained(origin)
    tokenizer = gpt2_tokenizer(origin)
    special = tokenizer.special
    assert special.pad == special.start == special.end == special.vocab_size - 1 == 29
    first = Gpt2(Gpt2Config(name=str(origin)), special)
    config = Config(Gpt2Config(name=str(origin)), generation=AutoregressiveGeneration(strategy="sample"))
    save_model(tmp_path / "model", first, config, tokenizer)
    shutil.rmtree(origin)

    again, _, loaded_config = load_model(tmp_path / "model")
    assert isinstance(again, Gpt2) and loaded_config.system == first.config
    batch = Batch(*pad(tokenizer.encode(["a cab", "b"]), special.pad), *pad([[1], [2, 3]], special.pad))
    asked = request(batch, candidates=3, strategy="sample")
    assert answers(first.eval(), asked) == answers(again, asked)
    assert torch.equal(first(batch).value, again(batch).value)
