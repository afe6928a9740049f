"""Scripts without spaces between words, and what says so."""

from __future__ import annotations

import pytest

from diffuseq.metrics.scripts import are_foreign_to_rouge, are_unspaced, spaced

UNSPACED = {
    "chinese": "今天我在学校看书。",
    "japanese": "今日は学校でBLEUを学びます。",
    "thai": "วันนี้ฉันอ่านหนังสือที่โรงเรียน",
    "burmese": "ကျွန်တော်ကျောင်းသွားတယ်",
    "khmer": "ខ្ញុំទៅសាលារៀន",
}
SPACED = {
    "english": "i read a book at school.",
    "german": "Ein Boston Terrier läuft über saftig-grünes Gras.",
    "arabic": "كل يوم المعلم في الحديقة يحب الفيلم؟",
    "korean": "나는 학교에서 책을 읽는다.",
    "russian": "я читаю книгу в школе.",
    "chinese between blanks": "今 天 我 在 学 校 看 书 。",
    "some chinese": "how do i write 你好 in japanese?",
    "nothing": "",
}


@pytest.mark.parametrize("text", UNSPACED.values(), ids=UNSPACED)
def test_every_character_is_a_word_where_words_have_no_spaces(text: str) -> None:
    assert are_unspaced([text, text])
    words = spaced(text).split()
    assert "".join(words) == text and len(words) > len(text) / 2
    assert spaced(spaced(text)).split() == words


@pytest.mark.parametrize("text", SPACED.values(), ids=SPACED)
def test_spaces_are_words_elsewhere(text: str) -> None:
    assert not are_unspaced([text])
    if "你" not in text:
        assert spaced(text).split() == text.split()


def test_rouge_reads_ascii() -> None:
    assert are_foreign_to_rouge([SPACED["russian"], SPACED["english"][:5]])
    assert are_foreign_to_rouge([UNSPACED["thai"]])
    assert not are_foreign_to_rouge([SPACED["german"], "2 + 2"])
    assert not are_foreign_to_rouge([])
