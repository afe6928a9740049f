"""The rows that papers printed, for reference beside our own and never mixed with them.

Table 1 of Gong et al., "DiffuSeq", ICLR 2023 (arXiv 2210.08933), with the paper's data, tokenisation and
script; DiffuSeq's single-sample BLEU from Table 1 of Yuan et al., "SeqDiffuSeq" (arXiv 2212.10325). Lengths
are counted as the published script does, two more than words. The table has no row for copying the source.
"""

from __future__ import annotations

from dataclasses import dataclass

from diffuseq.errors import unknown_name

CAPTION = (
    "Printed numbers of Gong et al., ICLR 2023 (arXiv 2210.08933): the paper's own data, training budget and"
    " text processing. For orientation only; never compare them digit by digit with the rows above."
)


@dataclass(frozen=True)
class PublishedRow:
    """One printed row: scores as in the paper's columns; single: BLEU of one sample, where it was printed."""

    system: str
    bleu: float
    rouge_l: float
    bertscore: float
    dist1: float
    self_bleu: float
    div4: float
    length: float
    single: float | None = None


_TASK_OF = {
    "qqp": "paraphrase",
    "wiki-auto": "simplification",
    "quasar-t": "question-generation",
    "ccd": "dialogue",
}

PUBLISHED: dict[str, tuple[PublishedRow, ...]] = {
    "dialogue": (
        PublishedRow("GRU with attention", 0.0068, 0.1054, 0.4128, 0.8998, 0.8008, 0.1824, 4.46),
        PublishedRow("Transformer-base", 0.0189, 0.1039, 0.4781, 0.7493, 0.3698, 0.6472, 19.5),
        PublishedRow("GPT-2 base, fine-tuned", 0.0108, 0.1508, 0.5279, 0.9194, 0.0182, 0.9919, 16.8),
        PublishedRow("GPT-2 large, fine-tuned", 0.0125, 0.1002, 0.5293, 0.9244, 0.0213, 0.9938, 16.8),
        PublishedRow("GPVAE-T5", 0.0110, 0.1009, 0.4317, 0.5625, 0.3560, 0.5551, 20.1),
        PublishedRow("NAR-LevT", 0.0158, 0.0550, 0.4760, 0.9726, 0.7103, 0.1416, 4.11),
        PublishedRow("DiffuSeq, MBR 10", 0.0139, 0.1056, 0.5131, 0.9467, 0.0144, 0.9971, 13.6),
    ),
    "question-generation": (
        PublishedRow("GRU with attention", 0.0651, 0.2617, 0.5222, 0.7930, 0.9999, 0.3178, 10.1),
        PublishedRow("Transformer-base", 0.1663, 0.3441, 0.6307, 0.9309, 0.3265, 0.7720, 10.3),
        PublishedRow("GPT-2 base, fine-tuned", 0.0741, 0.2714, 0.6052, 0.9602, 0.1403, 0.9216, 10.0),
        PublishedRow("GPT-2 large, fine-tuned", 0.1110, 0.3215, 0.6346, 0.9670, 0.2910, 0.8062, 9.96),
        PublishedRow("GPVAE-T5", 0.1251, 0.3390, 0.6308, 0.9381, 0.3567, 0.7282, 11.4),
        PublishedRow("NAR-LevT", 0.0930, 0.2893, 0.5491, 0.8914, 0.9830, 0.4776, 6.93),
        PublishedRow("DiffuSeq, MBR 10", 0.1731, 0.3665, 0.6123, 0.9056, 0.2789, 0.8103, 11.5, 0.1584),
    ),
    "simplification": (
        PublishedRow("GRU with attention", 0.3256, 0.5602, 0.7871, 0.8883, 0.9998, 0.3313, 18.9),
        PublishedRow("Transformer-base", 0.2693, 0.4907, 0.7381, 0.8886, 0.6924, 0.5095, 18.5),
        PublishedRow("GPT-2 base, fine-tuned", 0.3083, 0.5461, 0.8021, 0.9439, 0.5444, 0.6047, 16.1),
        PublishedRow("GPT-2 large, fine-tuned", 0.2693, 0.5111, 0.7882, 0.9464, 0.6042, 0.5876, 15.4),
        PublishedRow("GPVAE-T5", 0.3392, 0.5828, 0.8166, 0.9308, 0.8147, 0.4355, 18.5),
        PublishedRow("NAR-LevT", 0.2052, 0.4402, 0.7254, 0.9715, 0.9907, 0.3271, 8.31),
        PublishedRow("DiffuSeq, MBR 10", 0.3622, 0.5849, 0.8126, 0.9264, 0.4642, 0.6604, 17.7, 0.2989),
    ),
    "paraphrase": (
        PublishedRow("GRU with attention", 0.1894, 0.5129, 0.7763, 0.9423, 0.9958, 0.3287, 8.30),
        PublishedRow("Transformer-base", 0.2722, 0.5748, 0.8381, 0.9748, 0.4483, 0.7345, 11.2),
        PublishedRow("GPT-2 base, fine-tuned", 0.1980, 0.5212, 0.8246, 0.9798, 0.5480, 0.6245, 9.67),
        PublishedRow("GPT-2 large, fine-tuned", 0.2059, 0.5415, 0.8363, 0.9819, 0.7325, 0.5020, 9.53),
        PublishedRow("GPVAE-T5", 0.2409, 0.5886, 0.8466, 0.9688, 0.5604, 0.6169, 9.60),
        PublishedRow("NAR-LevT", 0.2268, 0.5795, 0.8344, 0.9790, 0.9995, 0.3329, 8.85),
        PublishedRow("DiffuSeq, MBR 10", 0.2413, 0.5880, 0.8365, 0.9807, 0.2732, 0.8641, 11.2, 0.1847),
    ),
}


def published_rows(name: str) -> tuple[PublishedRow, ...]:
    """The printed rows of a task or data set (qqp, wiki-auto, quasar-t, ccd). Raises `InputError`."""
    key = _TASK_OF.get(name.lower(), name.lower())
    if key not in PUBLISHED:
        raise unknown_name("published table", name, [*_TASK_OF, *PUBLISHED])
    return PUBLISHED[key]
