import pytest
from tokenizers.pre_tokenizers import BertPreTokenizer

from diffuseq.text.cleanup import join_wordpieces, published, tidy


def spaced(text):
    return " ".join(word for word, _ in BertPreTokenizer().pre_tokenize_str(text))


@pytest.mark.parametrize(
    "text",
    [
        "what's the best 5-year plan, and why don't i have one?",
        "it's what they've said: we'll see, i'm sure he'd agree!",
        "what’s a “good” book?",
        "is the u.s. economy (in 2016) growing by 3.5% or 10,000 jobs?",
        'who said "to be or not to be" first?',
        "should i learn c++, c# or java/kotlin at 10:30?",
        "wait... what?",
        "is $500 too much for d'angelo's tickets?",
        "which costs less: tea, coffee; or [none]?",
        "i have 3, 4 or 5 cats",
        "",
    ],
)
def test_english_spacing_comes_back(text):
    assert tidy(spaced(text)) == text


def test_chinese_and_japanese_characters_are_not_spaced():
    assert tidy("我 喜 欢 你 。") == "我喜欢你。"
    assert tidy("i like 寿 司 a lot") == "i like 寿司 a lot"


def test_tidy_text_is_left_alone():
    for text in ("what's a 5-year plan?", 'he said "no" (twice), u.s. style...', "我喜欢你。"):
        assert tidy(text) == text


def test_wordpieces_continue_their_word():
    assert join_wordpieces(["play", "##ing", "the", "u", "##ku", "##lele"]) == "playing the ukulele"
    assert join_wordpieces(["##ing", "x"]) == "##ing x"
    assert join_wordpieces([]) == ""


def test_published_cleanup_follows_berts_rules_alone():
    assert published("what ' s up , 3 . 5 - 6 ? no !") == "what's up, 3. 5 - 6? no!"
    assert published("i do n't , he 's , we 've , you 're , i 'm") == "i don't, he's, we've, you're, i'm"
