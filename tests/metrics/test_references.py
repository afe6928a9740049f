"""A metric against references has no number for a text without any."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from diffuseq.errors import InputError
from diffuseq.metrics.bleu import sentence_bleu
from diffuseq.metrics.corpus import Counter
from diffuseq.metrics.rouge import rouge_l, rouge_n


@pytest.mark.parametrize(
    "metric",
    [
        sentence_bleu,
        rouge_l,
        lambda texts, references: rouge_n(texts, references, 2),
        lambda texts, references: Counter("BLEU", references)(texts),
        lambda texts, references: Counter("CHRF", references)(texts),
    ],
)
def test_texts_have_references_one_by_one(metric: Callable[[Sequence[str], Any], Any]) -> None:
    assert len(metric(["a b", "c"], [["a b"], ["d", "c"]])) == 2
    for few in ([["a b"]], [["a b"], ["c"], ["d"]]):
        with pytest.raises(InputError, match=f"There are 2 texts and references for {len(few)}"):
            metric(["a b", "c"], few)
    with pytest.raises(InputError, match="Text 2 has no reference; give it one"):
        metric(["a b", "c", "d"], [["a b"], [], ["d"]])
