"""Measure every metric on the answers of one system; work that metrics or rows share is done once.

Legend: n sources, k candidates a source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffuseq.decoding import mbr
from diffuseq.evaluation import catalogue
from diffuseq.evaluation.predictions import Predictions
from diffuseq.metrics import corpus, diversity, novelty, rouge, significance, simplification
from diffuseq.metrics.bleu import pairwise_sentence_bleu, sentence_bleu
from diffuseq.metrics.scripts import spaced
from diffuseq.metrics.significance import Statistics

CHOSEN, SINGLE, COPY, REFERENCES = "chosen", "single", "copy", "references"

Floats = NDArray[np.float64]


class Against:
    """The counters of one set of references; their n-grams are extracted once, when first needed."""

    def __init__(self, sources: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        self._sources, self._references = sources, references

    @cached_property
    def bleu(self) -> corpus.Counter:
        return corpus.Counter("BLEU", self._references)

    @cached_property
    def chrf(self) -> corpus.Counter:
        return corpus.Counter("CHRF", self._references)

    @cached_property
    def sari(self) -> simplification.SariCounter:
        return simplification.SariCounter(self._sources, self._references)


class Answers:
    """One answer a source, scored against sources and references; shared work is done once."""

    def __init__(
        self, measure: Measure, texts: Sequence[str], references: Sequence[Sequence[str]], fixed: Against
    ) -> None:
        self.measure, self.texts, self.references, self.fixed = measure, texts, references, fixed

    @cached_property
    def bleu(self) -> Floats:
        return sentence_bleu(self.texts, [targets[0] for targets in self.references])

    @cached_property
    def bleu_source(self) -> Floats:
        return sentence_bleu(self.texts, self.measure.sources)

    def __call__(self, metric: str) -> Statistics | float:
        """The statistics of a metric; a bare number for one whose counts do not add up."""
        if metric == "sacrebleu":
            return Statistics(self.fixed.bleu(self.texts), corpus.bleu_from_counts)
        if metric == "chrf":
            return Statistics(self.fixed.chrf(self.texts), corpus.chrf_from_counts)
        if metric == "sari":
            return Statistics(self.fixed.sari(self.texts), simplification.sari_from_counts)
        if metric == "perplexity":
            counts = self.measure.language_model.negative_log_likelihood(self.texts)
            return Statistics(counts, lambda sums: np.exp(significance.mean(sums)))
        if metric == "mauve":
            return self.measure.mauve(self.texts, [targets[0] for targets in self.references])
        return Statistics.of_mean(self._values(metric))

    def _values(self, metric: str) -> Floats:
        """The metrics that are means over sentences: [n]."""
        means: dict[str, Callable[[], Floats]] = {
            "bleu": lambda: self.bleu,
            "bleu_swapped": lambda: sentence_bleu([targets[0] for targets in self.references], self.texts),
            "bleu_multi": lambda: sentence_bleu(self.texts, self.references),
            "rouge1": lambda: rouge.rouge_n(self.texts, self.references, 1),
            "rouge2": lambda: rouge.rouge_n(self.texts, self.references, 2),
            "rougeL": lambda: rouge.rouge_l(self.texts, self.references),
            "bertscore": lambda: self.measure.bertscore(self.texts, self.references),
            "ibleu": lambda: novelty.ibleu(self.bleu, self.bleu_source),
            "bleu_source": lambda: self.bleu_source,
            "copied": lambda: novelty.exact_match(self.texts, [(s,) for s in self.measure.sources]),
            "exact_match": lambda: novelty.exact_match(self.texts, self.references),
            "dist1": lambda: diversity.dist_n(self.texts, 1),
            "dist2": lambda: diversity.dist_n(self.texts, 2),
            "length": lambda: diversity.word_length(self.texts),
            "length_published": lambda: diversity.published_length(self.texts),
        }
        return means[metric]()


class Measure:
    """Everything that is shared between the rows of one system's scores."""

    def __init__(
        self,
        predictions: Predictions,
        bertscore_model: str | None,
        bertscore_layer: int | None,
        language_model: str | None,
        seed: int,
        device: str,
    ) -> None:
        self.predictions, self.sources = predictions, predictions.sources
        self._bertscore_model, self._bertscore_layer = bertscore_model, bertscore_layer
        self._language_model, self._seed, self._device = language_model, seed, device
        self._fixed = Against(self.sources, predictions.references)

    def answers(self) -> list[tuple[str, str, Answers]]:
        """(name, title, answers) of the four rows that have one answer a source."""
        references, fixed = self.predictions.references, self._fixed
        size = len(self.predictions.rows[0].candidates)
        by_itself = all(row.chosen is not None for row in self.predictions.rows)
        how = "one candidate" if size == 1 else ("own choice" if by_itself else "MBR") + f" of {size}"
        human, others = [targets[0] for targets in references], [targets[1:] for targets in references]
        if all(others):
            best = ("first reference against the others", others, Against(self.sources, others))
        else:
            best = ("references (best by definition)", references, fixed)
        return [
            (CHOSEN, f"{self.predictions.name} ({how})", Answers(self, self.chosen, references, fixed)),
            (
                SINGLE,
                f"{self.predictions.name} (first sample)",
                Answers(self, self._first, references, fixed),
            ),
            (COPY, "copy the source", Answers(self, self.sources, references, fixed)),
            (REFERENCES, best[0], Answers(self, human, best[1], best[2])),
        ]

    @property
    def _first(self) -> list[str]:
        return [row.candidates[0] for row in self.predictions.rows]

    @cached_property
    def chosen(self) -> list[str]:
        """The answer to each source: the system's own choice, else minimum Bayes risk."""
        rows = self.predictions.rows
        groups = self.predictions.candidates
        has_spaces = all(text == spaced(text) for group in groups for text in group)
        agreement = self._pairwise if has_spaces else mbr.pairwise_group_bleu(groups)
        picked = mbr.choose_from(agreement, [len(group) for group in groups])
        return [
            row.candidates[index] if row.chosen is None else row.chosen
            for row, index in zip(rows, picked, strict=True)
        ]

    @cached_property
    def _agreement(self) -> Floats:
        """BLEU between all candidates and, last, the first reference of each source: [n k+1 k+1]."""
        return pairwise_sentence_bleu([(*row.candidates, row.references[0]) for row in self.predictions.rows])

    @property
    def _pairwise(self) -> Floats:
        """BLEU between the candidates of each source: [n k k]."""
        return self._agreement[:, :-1, :-1]

    @property
    def _candidate_bleu(self) -> Floats:
        """BLEU of every candidate with the first reference: [n k]."""
        return self._agreement[:, :-1, -1]

    def of_candidates(self, metric: str) -> Statistics:
        """A metric of the set of candidates."""
        first = [row.candidates[: catalogue.DIVERSITY_CANDIDATES] for row in self.predictions.rows]
        few = len(first[0])
        means: dict[str, Callable[[], Floats]] = {
            "self_bleu": lambda: diversity.self_bleu_of_matrix(
                self._pairwise[:, :few, :few], [few] * len(first)
            ),
            "self_bleu_all": lambda: diversity.self_bleu_of_matrix(
                self._pairwise, [self._pairwise.shape[1]] * len(first)
            ),
            "div4": lambda: diversity.div_n(first),
            "div4_all": lambda: diversity.div_n(self.predictions.candidates),
            "bleu_average_candidate": lambda: self._candidate_bleu.mean(axis=1),
            "bleu_best_candidate": lambda: self._candidate_bleu.max(axis=1),
        }
        return Statistics.of_mean(means[metric]())

    @cached_property
    def bertscore(self) -> Any:
        from diffuseq.metrics.language_model import DEFAULT_BERTSCORE_MODEL, BertScore

        return BertScore(
            self._bertscore_model or DEFAULT_BERTSCORE_MODEL, self._bertscore_layer, self._device
        )

    @cached_property
    def language_model(self) -> Any:
        from diffuseq.metrics.language_model import LanguageModel

        return LanguageModel(self._language_model or "", self._device)

    def mauve(self, texts: Sequence[str], references: Sequence[str]) -> float:
        from diffuseq.metrics.mauve import mauve

        features = self.language_model.features
        return mauve(features(texts), features(references), seed=self._seed)

    def signature(self, metric: str) -> str:
        """What has to be equal for two numbers of this metric to be comparable."""
        most = max(len(targets) for targets in self.predictions.references)
        if metric == "sacrebleu":
            return self._fixed.bleu.signature
        if metric == "chrf":
            return self._fixed.chrf.signature
        if metric == "sari":
            return f"{simplification.SIGNATURE}|nrefs:{most}"
        if metric == "bertscore":
            return f"{self.bertscore.signature}|nrefs:{most}"
        if metric == "exact_match":
            return f"{metric}|tok:split|nrefs:{most}"
        if metric.startswith("rouge"):
            return f"{metric}|f-measure|tok:a-z0-9|case:lower|stem:no|nrefs:{most}"
        if catalogue.METRICS[metric].needs == "language model":
            rows = f"|rows:{len(self.sources)}" if metric == "mauve" else ""
            return f"{metric}|model:{self._language_model}|seed:{self._seed}{rows}"
        counted = self._candidates_counted(metric)
        among = "" if counted is None else f"|candidates:{counted}"
        if metric.startswith("self_bleu"):
            return f"{metric}|smooth:method4|tok:split{among}"
        if "bleu" in metric:
            references = most if metric == "bleu_multi" else 1
            order = "swapped" if metric == "bleu_swapped" else "answer-reference"
            how = f"mean-of-sentences|smooth:method4|tok:split|order:{order}|nrefs:{references}"
            return f"{metric}|{how}{among}"
        return f"{metric}|tok:split{among}"

    def _candidates_counted(self, metric: str) -> int | None:
        """How many candidates of a source a metric looks at, where that changes the number."""
        size = len(self.predictions.rows[0].candidates)
        if metric in ("self_bleu", "div4"):
            return min(catalogue.DIVERSITY_CANDIDATES, size)
        return size if metric in ("self_bleu_all", "div4_all", "bleu_best_candidate") else None
