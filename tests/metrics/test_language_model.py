"""The metrics with a network, on tiny real models with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diffuseq.errors import InputError
from diffuseq.metrics.language_model import BertScore, LanguageModel
from diffuseq.metrics.mauve import frontier_area, mauve

transformers = pytest.importorskip("transformers")
WORDS = ["the", "cat", "sat", "on", "a", "mat", "dog", "ran", "far"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=14,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        initializer_range=0.5,
    )
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["./encoder", "models/of/mine", "~/encoder", "no/model.safetensors"])
def test_a_missing_path_is_not_asked_for_on_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(transformers, "AutoTokenizer")  # which would ask
    for network in (BertScore, LanguageModel):
        with pytest.raises(
            InputError, match=f"There is no {name}; give a folder for transformers that exists"
        ):
            network(name)


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("causal")
    tokenizer = Tokenizer(
        models.WordLevel({"<s>": 0, **{w: i + 1 for i, w in enumerate(WORDS)}}, unk_token="<s>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<s>").save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=10, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_bertscore_is_that_of_its_authors_code(encoder: Path) -> None:
    """As bert_score 0.3.13: every token is matched with all of the other text, [CLS] and [SEP] have no weight."""
    tokenizer = transformers.BertTokenizer.from_pretrained(encoder)
    model = transformers.BertModel.from_pretrained(encoder).eval()

    @torch.no_grad()
    def embedded(text: str) -> torch.Tensor:
        return model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states[1][0]

    def matched(text: str, other: str) -> float:
        words, all_of_it = embedded(text)[1:-1], embedded(other)
        cosines = torch.nn.functional.cosine_similarity(words[:, None], all_of_it[None], dim=-1)
        return float(cosines.max(dim=1).values.mean())

    texts, references = (
        ["the cat sat", "a dog ran far", "the mat", "on"],
        ["the cat sat on a mat", "dog", "the mat", "far ran"],
    )
    wanted = []
    for text, reference in zip(texts, references, strict=True):
        precision, recall = matched(text, reference), matched(reference, text)
        wanted.append(2 * precision * recall / (precision + recall))
    ours = BertScore(str(encoder), layer=1)(texts, [[reference] for reference in references])
    np.testing.assert_allclose(ours, wanted, atol=1e-5)


def test_bertscore_takes_the_best_reference_and_gives_an_empty_text_nothing(encoder: Path) -> None:
    scores = BertScore(str(encoder))(["the cat", ""], [["dog ran", "the cat"], ["the cat"]])
    assert scores == pytest.approx([1.0, 0.0], abs=1e-5)


def test_the_model_and_layer_stand_in_the_signature(encoder: Path) -> None:
    assert f"model:{encoder}|layer:2" in BertScore(str(encoder)).signature
    with pytest.raises(InputError, match="layer 9 does not exist"):
        BertScore(str(encoder), layer=9)


def test_perplexity_is_the_models_own_loss(causal: Path) -> None:
    texts = ["the cat sat on a mat", "dog", "", "the cat sat on a mat"]
    counts = LanguageModel(str(causal)).negative_log_likelihood(texts)
    model = transformers.GPT2LMHeadModel.from_pretrained(causal).eval()
    ids = torch.tensor([[0, *(WORDS.index(word) + 1 for word in texts[0].split())]])
    wanted = model(ids, labels=ids).loss.item() * 6
    assert counts[0] == pytest.approx([wanted, 6], rel=1e-5)
    assert counts[:, 1].tolist() == [6, 1, 0, 6]
    assert counts[2, 0] == 0


def test_features_do_not_depend_on_the_neighbours(causal: Path) -> None:
    model = LanguageModel(str(causal))
    together = model.features(["the cat", "a dog ran far", ""])
    np.testing.assert_allclose(together[0], model.features(["the cat"])[0], atol=1e-5)
    assert together.shape == (3, 16)


def test_a_folder_that_holds_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path}' cannot be opened"):
        LanguageModel(str(tmp_path))


def test_mauve_is_one_for_equal_and_small_for_separate_distributions() -> None:
    points = np.random.default_rng(0).normal(size=(2, 200, 4))
    assert mauve(points[0], points[0]) == pytest.approx(1.0)
    assert mauve(points[0], points[1]) > 0.8
    assert mauve(points[0], points[1] + 10) < 0.02


def test_the_frontier_of_disjoint_histograms_is_known() -> None:
    # p = (1, 0), q = (0, 1): KL(q‖λp+(1−λ)q) = −log(1−λ), so the curve is ((1−λ)^5, λ^5), whose area is
    # ∫ λ^5 · 5(1−λ)^4 dλ = 5·B(6, 5) = 5·5!·4!/10!
    area = frontier_area(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert area == pytest.approx(5 * 120 * 24 / 3628800, rel=0.03)
