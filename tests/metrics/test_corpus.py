"""The corpus scores from counts are sacrebleu's own; SARI is checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF

from diffuseq.metrics.corpus import Counter, bleu_from_counts, chrf_from_counts
from diffuseq.metrics.simplification import SariCounter, sari_from_counts

TEXTS = ["The cat sat on the mat.", "a dog", "", "what's up?", "one two three four five six"]
REFERENCES = [
    ["The cat sat on a mat.", "A cat sat there."],
    ["the dog", "a dog barks"],
    ["nothing"],
    ["What is up?", "what's up"],
    ["one two three five four six"],
]
STREAMS = [[r[0] for r in REFERENCES], [r[1] if len(r) > 1 else None for r in REFERENCES]]


@pytest.mark.parametrize(
    ("kind", "finish", "library"), [("BLEU", bleu_from_counts, BLEU), ("CHRF", chrf_from_counts, CHRF)]
)
@pytest.mark.parametrize("rows", [slice(0, 5), slice(1, 3), slice(2, 3)])
def test_scores_from_counts_are_sacrebleus(kind: str, finish, library, rows: slice) -> None:  # type: ignore[no-untyped-def]
    counter = Counter(kind, REFERENCES)
    reference = library()
    wanted = reference.corpus_score(TEXTS[rows], [stream[rows] for stream in STREAMS]).score
    assert float(finish(counter(TEXTS)[rows].sum(axis=0))) == pytest.approx(wanted, abs=1e-9)


def test_the_signature_is_sacrebleus() -> None:
    reference = BLEU()
    reference.corpus_score(TEXTS, STREAMS)
    assert Counter("BLEU", REFERENCES).signature == f"BLEU|{reference.get_signature().format()}"


def test_sari_of_a_case_worked_by_hand() -> None:
    # source "a b", output "a c", references "a c" and "a b"; only orders 1 and 2 have n-grams.
    # order 1: add {c} right 1 of 1, wanted {c}: 1; keep: a twice, wanted a twice and b once: f1 = 4/5;
    #          delete: b twice, wanted b once: f1 = 2·1/(2+1) = 2/3
    # order 2: add {a c}: f1 1; keep: nothing kept, "a b" wanted once: 0; delete "a b" twice, wanted once: 2/3
    counts = SariCounter(["a b"], [["a c", "a b"]])(["a c"])
    wanted = 100 * np.mean([1, 4 / 5, 2 / 3, 1, 0, 2 / 3] + [0] * 6)
    assert float(sari_from_counts(counts.sum(axis=0))) == pytest.approx(wanted)


def test_sari_prefers_the_wanted_change_to_copying() -> None:
    sources, references = ["the big old cat sat down slowly"], [["the cat sat down", "the old cat sat"]]
    counter = SariCounter(sources, references)
    scores = [
        float(sari_from_counts(counter([text]).sum(axis=0)))
        for text in ("the cat sat down", sources[0], "zebra")
    ]
    assert scores[0] > scores[1] > 0
    assert scores[0] > scores[2]
