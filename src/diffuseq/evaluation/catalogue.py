"""Every metric: what it is, how it is set, where it comes from, which way is better; and the tasks' choices.

The entries go into scores.json beside the numbers, so that a number never travels without its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diffuseq.errors import unknown_name

PUBLISHED_SCRIPT = "Gong et al., ICLR 2023 (DiffuSeq), scripts/eval_seq2seq.py"
DIVERSITY_CANDIDATES = 3  # the published diversity numbers look at three candidates


@dataclass(frozen=True)
class Metric:
    """One metric. group: "text" is measured on one answer a source, "set" on the candidates of a source."""

    name: str
    title: str
    definition: str
    settings: str
    source: str
    better: Literal["higher", "lower", "neither"] = "higher"
    group: Literal["text", "set"] = "text"
    decimals: int = 4
    needs: Literal["", "sacrebleu", "encoder", "language model", "several references"] = ""


_NLTK = "BLEU-4, uniform weights, smoothing method 4 of Chen and Cherry 2014, tokens split at white space"
_ROUGE = "lower-cased runs of a–z and 0–9, no stemming, best of several references"

_METRICS = (
    Metric(
        "bleu",
        "BLEU",
        "mean over sentences of BLEU(answer; first reference)",
        f"{_NLTK}; single reference: the first",
        PUBLISHED_SCRIPT,
    ),
    Metric(
        "bleu_swapped",
        "BLEU swapped",
        "mean over sentences of BLEU with answer and reference in each other's place",
        f"{_NLTK}; the argument order of the published script until 14 Feb 2023, not to be mixed with bleu",
        PUBLISHED_SCRIPT,
    ),
    Metric(
        "bleu_multi",
        "BLEU multi-ref",
        "mean over sentences of BLEU(answer; all references)",
        f"{_NLTK}; counts clipped by the largest over the references, the nearest length",
        "Papineni et al. 2002; NLTK",
        needs="several references",
    ),
    Metric(
        "sacrebleu",
        "sacreBLEU",
        "corpus BLEU in 0…100 against all references",
        "see the signature",
        "Post 2018",
        decimals=2,
        needs="sacrebleu",
    ),
    Metric(
        "chrf",
        "chrF",
        "corpus chrF2 (character 6-grams) in 0…100 against all references",
        "see the signature",
        "Popović 2015",
        decimals=2,
        needs="sacrebleu",
    ),
    Metric("rouge1", "R-1", "mean over sentences of the F-measure of shared words", _ROUGE, "Lin 2004"),
    Metric("rouge2", "R-2", "mean over sentences of the F-measure of shared bigrams", _ROUGE, "Lin 2004"),
    Metric(
        "rougeL",
        "R-L",
        "mean over sentences of the F-measure of the longest common subsequence",
        _ROUGE,
        f"Lin 2004; {PUBLISHED_SCRIPT}",
    ),
    Metric(
        "bertscore",
        "BERTScore",
        "mean over sentences of the F1 of greedily matched contextual embeddings",
        "no idf, no rescaling; model and layer in the signature, never compared across models",
        "Zhang et al. 2020",
        needs="encoder",
    ),
    Metric(
        "sari",
        "SARI",
        "mean F1 of added, kept and deleted 1…4-grams, in 0…100 against all references",
        "counts summed over the corpus, F1 for deletion, lower-cased, tokenised by 13a",
        "Xu et al. 2016; EASSE (Alva-Manchego et al. 2019)",
        decimals=2,
        needs="sacrebleu",
    ),
    Metric(
        "ibleu",
        "iBLEU",
        "0.8 · BLEU(answer; first reference) − 0.2 · BLEU(answer; source), mean over sentences",
        _NLTK,
        "Sun and Zhou 2012",
    ),
    Metric(
        "bleu_source",
        "BLEU to source",
        "mean over sentences of BLEU(answer; source): how much is copied",
        _NLTK,
        "Sun and Zhou 2012",
        better="lower",
    ),
    Metric(
        "copied",
        "copied",
        "share of answers that equal their source",
        "white space aside",
        "this project",
        better="lower",
    ),
    Metric(
        "exact_match",
        "exact match",
        "share of answers that equal one of their references",
        "white space aside",
        "Rajpurkar et al. 2016, without normalisation",
    ),
    Metric(
        "dist1",
        "dist-1",
        "mean over sentences of distinct over all words of the answer",
        "tokens split at white space; 0 for an empty answer",
        PUBLISHED_SCRIPT,
    ),
    Metric(
        "dist2",
        "dist-2",
        "mean over sentences of distinct over all bigrams of the answer",
        "tokens split at white space; 0 for an answer of fewer than two words",
        PUBLISHED_SCRIPT,
    ),
    Metric(
        "length",
        "length",
        "words of the answer, mean",
        "split at white space",
        "this project",
        better="neither",
        decimals=1,
    ),
    Metric(
        "length_published",
        "len (published)",
        "pieces of the answer split at single blanks, mean",
        "text as it stands: the blanks that special tokens leave behind count, two an answer",
        PUBLISHED_SCRIPT,
        better="neither",
        decimals=1,
    ),
    Metric(
        "perplexity",
        "perplexity",
        "exp of the mean cost of a token of the answers under a causal language model",
        "tokens of the model's own tokenizer, after its start token; the model is in the signature",
        "Jelinek et al. 1977",
        better="lower",
        decimals=1,
        needs="language model",
    ),
    Metric(
        "mauve",
        "MAUVE",
        "area under the divergence frontier between answers and references",
        "last hidden state, 90 % of the variance, k-means with n/10 clusters, c = 5, 25 mixtures",
        "Pillutla et al. 2021",
        decimals=3,
        needs="language model",
    ),
    Metric(
        "self_bleu",
        "self-BLEU",
        "mean BLEU(candidate i; candidate j), i < j, of the first three candidates",
        _NLTK,
        PUBLISHED_SCRIPT,
        better="lower",
        group="set",
    ),
    Metric(
        "div4",
        "div-4",
        "distinct over all 4-grams, pooled over the first three candidates of a source, mean",
        "tokens split at white space; 0 where there is no 4-gram",
        PUBLISHED_SCRIPT,
        group="set",
    ),
    Metric(
        "self_bleu_all",
        "self-BLEU (all)",
        "self-BLEU over all candidates",
        _NLTK,
        PUBLISHED_SCRIPT,
        better="lower",
        group="set",
    ),
    Metric(
        "div4_all",
        "div-4 (all)",
        "div-4 over all candidates; falls with their number",
        "tokens split at white space; 0 where there is no 4-gram",
        PUBLISHED_SCRIPT,
        group="set",
    ),
    Metric(
        "bleu_average_candidate",
        "BLEU, average candidate",
        "BLEU averaged over all candidates: what one sample is worth, without the luck of one seed",
        f"{_NLTK}; single reference: the first",
        "this project",
        group="set",
    ),
    Metric(
        "bleu_best_candidate",
        "BLEU, best candidate",
        "BLEU of the candidate that is nearest to the reference: what choosing could reach at most",
        f"{_NLTK}; single reference: the first",
        "this project",
        group="set",
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _METRICS}


@dataclass(frozen=True)
class Task:
    """A task: its metrics beyond those that every task has, and the columns of its tables.

    lowercase: whether texts are compared in lower case, as in the published tables of its data sets, whose
    systems and references went through an uncased vocabulary.
    """

    name: str
    title: str
    extra: tuple[str, ...]
    columns: tuple[str, ...]
    lowercase: bool = True


_TEXT_COLUMNS = ("bleu", "rougeL", "bertscore", "dist1", "self_bleu", "div4", "length")

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("paraphrase", "Paraphrase", (), ("bleu", "ibleu", "bleu_source", *_TEXT_COLUMNS[1:])),
        Task("simplification", "Text simplification", ("sari",), ("bleu", "sari", *_TEXT_COLUMNS[1:])),
        Task(
            "dialogue",
            "Open-domain dialogue",
            (),
            ("bleu", "rougeL", "bertscore", "dist1", "dist2", "self_bleu", "div4", "length"),
        ),
        Task("question-generation", "Question generation", (), _TEXT_COLUMNS),
        Task("translation", "Translation", (), ("sacrebleu", "chrf", *_TEXT_COLUMNS), lowercase=False),
        Task("other", "Other", (), _TEXT_COLUMNS, lowercase=False),
    )
}

_TASK_ALIASES = {
    "qqp": "paraphrase",
    "wiki-auto": "simplification",
    "wiki_auto": "simplification",
    "asset": "simplification",
    "ccd": "dialogue",
    "dailydialog": "dialogue",
    "quasar-t": "question-generation",
    "question_generation": "question-generation",
    "qg": "question-generation",
    "multi30k": "translation",
    "multi30k_de_en": "translation",
}


def find_task(name: str | None) -> Task:
    """A task by its name or the name of its data set. Raises `InputError` for an unknown one."""
    if name is None:
        return TASKS["other"]
    key = str(name).lower()
    key = _TASK_ALIASES.get(key, key)
    if key not in TASKS:
        raise unknown_name("task", name, [*TASKS, *_TASK_ALIASES])
    return TASKS[key]


def find_metrics(names: tuple[str, ...] | list[str]) -> list[Metric]:
    """Metrics by name. Raises `InputError` for an unknown one."""
    for name in names:
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS)
    return [METRICS[name] for name in names]
