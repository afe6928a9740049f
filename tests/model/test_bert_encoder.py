"""A pretrained BERT in the place of our encoder: its states, its words, its rate, its way into a folder."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from diffuseq.checkpoint import load_model, save_model
from diffuseq.config import Config, DiffuSeqConfig, DiffusionGeneration, TrainingConfig
from diffuseq.errors import InputError
from diffuseq.model.bert_encoder import BertEncoder, principal_directions
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.system import SpecialTokens
from diffuseq.systems.diffuseq import DiffuSeq
from diffuseq.text.tokenizer import Tokenizer
from diffuseq.training.optim import make_optimizers

transformers = pytest.importorskip("transformers")

TEXTS = ["how do i learn to cook rice?", "what is the best way to learn python?", "why do people like tea?"]
SMALL = DiffuSeqConfig(
    encoder_layers=7,
    decoder_layers=1,
    heads=2,
    width=32,
    feed_forward=32,
    embedding_width=16,
    dropout=0.0,
    max_length=16,
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS * 3, vocab_size=90)


@pytest.fixture
def folder(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """A BERT of random weights as transformers saves one."""
    torch.manual_seed(2)
    special = tokenizer.special
    config = transformers.BertConfig(
        vocab_size=special.vocab_size, hidden_size=24, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=64, pad_token_id=special.pad,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def test_its_states_are_berts_whatever_the_padding(tokenizer: Tokenizer, folder: Path) -> None:
    special = tokenizer.special
    bert = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    encoder = BertEncoder(bert, 24, special)
    torch.nn.init.eye_(encoder.bring.weight)
    rows = tokenizer.encode(TEXTS)
    width = max(map(len, rows)) + 2
    ids = torch.tensor([row + [special.pad] * (width - len(row)) for row in rows])
    padding = torch.tensor([[i >= len(row) for i in range(width)] for row in rows])
    with torch.no_grad():
        ours = encoder(ids, padding)
        for i, row in enumerate(rows):
            marked = torch.tensor([[special.start, *row, special.end]])
            theirs = bert(input_ids=marked).last_hidden_state[0, 1:-1]
            torch.testing.assert_close(ours[i, : len(row)], theirs, atol=1e-5, rtol=1e-4)


def test_a_source_longer_than_berts_positions_is_refused(tokenizer: Tokenizer, folder: Path) -> None:
    bert = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    encoder = BertEncoder(bert, 24, tokenizer.special)
    ids = torch.full((2, 62), tokenizer.special.unknown)
    assert encoder(ids, torch.zeros_like(ids, dtype=torch.bool)).shape == (2, 62, 24)
    longer = torch.full((2, 63), tokenizer.special.unknown)
    with pytest.raises(InputError, match=r"63 tokens, but the BERT .* takes 62; shorten it"):
        encoder(longer, torch.zeros_like(longer, dtype=torch.bool))


def test_words_begin_with_the_angles_of_berts_words() -> None:
    words = torch.randn(200, 12, generator=torch.Generator().manual_seed(0))
    centred = torch.nn.functional.normalize(words - words.mean(0), dim=-1)
    table = principal_directions(words, 12, 0.1)
    turned = torch.nn.functional.normalize(table, dim=-1)
    torch.testing.assert_close(turned @ turned.T, centred @ centred.T, atol=1e-4, rtol=1e-3)
    assert table.std().item() == pytest.approx(0.1, rel=1e-3)
    assert principal_directions(words, 20, 0.1).shape == (200, 20)


def test_a_saved_model_opens_without_the_folder_it_came_from(
    tokenizer: Tokenizer, folder: Path, tmp_path: Path
) -> None:
    config = Config(
        system=dataclasses.replace(SMALL, pretrained=str(folder)),
        generation=DiffusionGeneration(candidates=2, sampler="settle", steps=3),
    )
    system = DiffuSeq(config.system, tokenizer.special).eval()
    assert system.config.bert is not None and system.config.bert.layers == 2
    assert not len(system.denoiser.encoder)
    here = DiffuSeqPipeline(system, tokenizer, config)(TEXTS[0], seed=1)
    save_model(tmp_path / "model", system, config, tokenizer)
    shutil.rmtree(folder)
    there = DiffuSeqPipeline(*load_model(tmp_path / "model"))(TEXTS[0], seed=1)
    assert here.candidates == there.candidates


def test_it_learns_at_its_own_rate(tokenizer: Tokenizer, folder: Path) -> None:
    system = DiffuSeq(
        dataclasses.replace(SMALL, pretrained=str(folder), pretrained_rate=0.25), tokenizer.special
    )
    for optimizer in ("adamw", "muon"):
        settings = TrainingConfig(optimizer=optimizer, learning_rate=0.01, muon_learning_rate=0.02)
        peak = {
            id(p): group["peak"]
            for each in make_optimizers(system, settings)
            for group in each.param_groups
            for p in group["params"]
        }
        slow = {name for name, p in system.named_parameters() if peak[id(p)] == 0.0025}
        assert slow == {name for name, _ in system.named_parameters() if "reader.bert." in name}


def test_another_vocabulary_is_refused(folder: Path) -> None:
    special = SpecialTokens(vocab_size=5000, pad=0, start=1, end=2, unknown=3, mask=4)
    with pytest.raises(InputError, match=r"set text\.tokenizer to"):
        DiffuSeq(dataclasses.replace(SMALL, pretrained=str(folder)), special)
