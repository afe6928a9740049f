"""Metrics that need a network: BERTScore with an encoder, perplexity and MAUVE with a causal language model.

Models are named by the caller, a hub name or a local folder that transformers opens; numbers of different
models are never to be compared, so the name is part of every signature. All networks run in float32,
without gradients, texts sorted by length so that little is padded.

Legend: n texts, b texts at a time, l tokens, d width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffuseq.devices import usable_device
from diffuseq.errors import InputError
from diffuseq.metrics.references import check_references
from diffuseq.names import WEIGHT_SUFFIXES, refuse_missing_path

DEFAULT_BERTSCORE_MODEL = "microsoft/deberta-xlarge-mnli"
BERTSCORE_LAYERS = {
    "microsoft/deberta-xlarge-mnli": 40,
    "roberta-large": 17,
    "bert-base-uncased": 9,
    "distilbert-base-uncased": 5,
}
"""The layer that BERTScore's authors tuned for a model; any other model gives its last."""

_TEXTS_AT_ONCE = 32

Floats = NDArray[np.float64]


class BertScore:
    """BERTScore F1 (Zhang et al. 2020): greedy matching of contextual embeddings by cosine.

    No idf weighting and no rescaling with a baseline, as DiffuSeq's script calls it. The authors' own code
    (bert_score) lets words be matched with [CLS] and [SEP] of the other text too, which do not count as words
    themselves. An empty text scores 0; of several references the best counts.
    """

    def __init__(self, model: str, layer: int | None = None, device: str | torch.device = "cpu") -> None:
        self.name = model
        self._tokenizer, self._model = _load(model, "AutoModel", device)
        deepest = self._model.config.num_hidden_layers
        self.layer = min(BERTSCORE_LAYERS.get(model, deepest), deepest) if layer is None else layer
        if not 0 <= self.layer <= deepest:
            raise InputError(
                f"BERTScore layer {self.layer} does not exist; {model} has 0 (input) to {deepest}."
            )

    @property
    def signature(self) -> str:
        return f"bertscore|model:{self.name}|layer:{self.layer}|idf:no|rescale:no"

    def __call__(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        """F1 of every hypothesis: [n]."""
        check_references(hypotheses, references)
        pairs = [(h, r) for h, targets in zip(hypotheses, references, strict=True) for r in targets]
        embedded = self._embed(sorted({text for pair in pairs for text in pair}))
        scores = np.array([_greedy_f1(embedded[h], embedded[r]) for h, r in pairs])
        starts = np.cumsum([0, *(len(targets) for targets in references)])[:-1]
        return np.maximum.reduceat(scores, starts)

    @torch.inference_mode()
    def _embed(self, texts: list[str]) -> dict[str, Tensor]:
        """Unit-norm embeddings [l+2 d] of each text's tokens, between those of [CLS] and [SEP]."""
        result: dict[str, Any] = {}
        for batch in _batches(texts):
            tokens = _tokenize(self._tokenizer, self._model, batch, special=True)
            hidden = self._model(**tokens, output_hidden_states=True).hidden_states[self.layer].float()
            hidden = torch.nn.functional.normalize(hidden, dim=-1).cpu()
            lengths = tokens["attention_mask"].sum(dim=1)
            for text, row, length in zip(batch, hidden, lengths, strict=True):
                result[text] = row[: int(length)].clone()
        return result


class LanguageModel:
    """A causal language model as a judge: perplexity, and the features of MAUVE."""

    def __init__(self, model: str, device: str | torch.device = "cpu") -> None:
        self.name = model
        self._tokenizer, self._model = _load(model, "AutoModelForCausalLM", device)
        start = self._tokenizer.bos_token_id
        self._start = self._tokenizer.eos_token_id if start is None else start
        if self._start is None:
            raise InputError(
                f"The tokenizer of {model} has neither a start nor an end token; give another model."
            )

    @torch.inference_mode()
    def negative_log_likelihood(self, texts: Sequence[str]) -> Floats:
        """(−log p in nats, tokens) of each text: [n 2]; perplexity is exp(sum / sum).

        Each text is read after the start token; the end of the text is not predicted. An empty text has no
        token and weighs nothing.
        """
        result: dict[str, Any] = {}
        for batch in _batches(sorted(set(texts))):
            ids, mask = self._with_start(batch)
            logits = self._model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
            costs = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
            sums, counts = (costs * mask[:, 1:]).sum(dim=1), mask[:, 1:].sum(dim=1)
            result.update(zip(batch, zip(sums.tolist(), counts.tolist(), strict=True), strict=True))
        return np.array([result[text] for text in texts], dtype=np.float64)

    @torch.inference_mode()
    def features(self, texts: Sequence[str]) -> Floats:
        """The last hidden state at the last token of each text: [n d]."""
        result: dict[str, Any] = {}
        for batch in _batches(sorted(set(texts))):
            ids, mask = self._with_start(batch)
            hidden = self._model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[
                -1
            ]
            last = hidden[torch.arange(len(batch)), mask.sum(dim=1) - 1]
            result.update(zip(batch, last.cpu().double().numpy(), strict=True))
        return np.stack([result[text] for text in texts])

    def _with_start(self, batch: list[str]) -> tuple[Tensor, Tensor]:
        rows = [
            [self._start, *self._tokenizer(text, add_special_tokens=False)["input_ids"]] for text in batch
        ]
        limit = _limit(self._tokenizer, self._model)
        rows = [row[:limit] for row in rows]
        width = max(map(len, rows))
        ids = torch.tensor([row + [self._start] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        device = self._model.device
        return ids.to(device), mask.to(device)


def _greedy_f1(ours: Tensor, theirs: Tensor) -> float:
    """Of texts [l+2 d] between [CLS] and [SEP]: all tokens are matched with, words alone are averaged over."""
    if min(len(ours), len(theirs)) <= 2:
        return 0.0
    cosine = (ours @ theirs.T).clamp(min=0)
    precision, recall = cosine[1:-1].max(dim=1).values.mean(), cosine[:, 1:-1].max(dim=0).values.mean()
    total = float(precision + recall)
    return float(2 * precision * recall) / total if total > 0 else 0.0


def _batches(texts: list[str]) -> Iterator[list[str]]:
    ordered = sorted(texts, key=len)
    for start in range(0, len(ordered), _TEXTS_AT_ONCE):
        yield ordered[start : start + _TEXTS_AT_ONCE]


def _tokenize(tokenizer: Any, model: Any, batch: list[str], special: bool) -> dict[str, Tensor]:
    limit = _limit(tokenizer, model)
    tokens = tokenizer(
        batch,
        add_special_tokens=special,
        padding=True,
        truncation=True,
        max_length=limit,
        return_tensors="pt",
    )
    return {name: value.to(model.device) for name, value in tokens.items()}


def _limit(tokenizer: Any, model: Any) -> int:
    """The longest text in tokens that both the tokenizer and the position table allow."""
    positions = getattr(model.config, "max_position_embeddings", None) or 1 << 20
    return int(min(tokenizer.model_max_length, positions))


def _load(name: str, kind: str, device: str | torch.device) -> tuple[Any, Any]:
    refuse_missing_path(name, "a folder for transformers", WEIGHT_SUFFIXES)
    try:
        import transformers
    except ImportError:
        raise InputError(
            "This metric needs the package transformers; install it with `pip install diffuseq[metrics]`."
        ) from None
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        model = getattr(transformers, kind).from_pretrained(name, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"The model {name!r} cannot be opened ({reason}); give a hub name, or a folder for transformers."
        ) from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model.to(usable_device(device)).eval()
