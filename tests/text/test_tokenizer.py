import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffuseq.data.grammar import build_corpus
from diffuseq.errors import InputError
from diffuseq.models import shipped_model
from diffuseq.text.tokenizer import SPECIALS, Tokenizer

BERT_WORDS = [*SPECIALS, "how", "do", "i", "play", "##ing", "##s", "guitar", "what", "s", *"'?,5-"]
OTHER_SCRIPTS = [
    "как научиться играть на гитаре?",
    "我喜欢吃苹果。你呢?",
    "寿司を食べたいです",
    "كيف أتعلم العزف على الجيتار؟",
    "ฉันจะเรียนกีตาร์ได้อย่างไร",
    "गिटार कैसे सीखें?",
    "l'été à la plage, où ça?",
    "party 🎉👨‍👩‍👧 time 👍🏽!",
]

LETTERS = ["abc a.b?, 'c' -5- \"(a)\" [b] _c_ #a abc"] * 3
BYTES = Tokenizer.train(LETTERS, vocab_size=300, algorithm="bpe")
PIECES = Tokenizer.train(LETTERS, vocab_size=60)


@pytest.fixture(scope="module")
def corpus():
    return build_corpus(num_train=3000, num_valid=100, num_test=100, seed=0)


@pytest.fixture(scope="module")
def texts(corpus):
    return [row[key] for row in corpus["train"] for key in ("src", "trg")]


@pytest.fixture(scope="module", params=["wordpiece", "bpe"])
def trained(request, texts):
    return Tokenizer.train(texts, vocab_size=1200, algorithm=request.param)


@pytest.fixture(scope="module")
def pieces(texts):
    return Tokenizer.train(texts + OTHER_SCRIPTS * 3, vocab_size=1500)


@pytest.fixture
def bert(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(BERT_WORDS) + "\n")
    return Tokenizer.load(tmp_path / "vocab.txt")


# -- training


def test_a_question_of_the_grammar_comes_back_exactly(trained, corpus):
    questions = [text for row in corpus["test"] for text in (row["src"], *row["refs"])]
    assert trained.decode_batch(trained.encode(questions)) == questions


def test_the_special_tokens_of_a_trained_tokenizer_stand_first_in_berts_order(trained):
    special = trained.special
    assert (special.pad, special.unknown, special.start, special.end, special.mask) == (0, 1, 2, 3, 4)
    assert trained.tokens(range(5)) == [" " + name for name in SPECIALS]
    assert special.vocab_size == trained.vocab_size <= 1200


@pytest.mark.parametrize("text", OTHER_SCRIPTS)
def test_other_scripts_come_back_exactly_once_they_were_seen(pieces, text):
    assert pieces.decode(pieces.encode([text])[0]) == text


@settings(max_examples=150, deadline=None)
@given(st.text())
def test_bytes_decode_to_the_normalized_text_whatever_it_is(text):
    ids = BYTES.encode([text])[0]
    assert BYTES.decode(ids) == " ".join(BYTES.normalize(text).split())
    assert BYTES.special.unknown not in ids


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="abc ?,.'-\"()[]_▁#\t\n\u00a05", max_size=30))
def test_pieces_decode_to_the_normalized_text(text):
    assert PIECES.decode(PIECES.encode([text])[0]) == PIECES.normalize(text)


def test_lowercase_is_a_choice(texts):
    cased = Tokenizer.train([*texts, "Paris PARIS"] * 2, vocab_size=1200, lowercase=False)
    assert cased.decode(cased.encode(["Paris PARIS paris"])[0]) == "Paris PARIS paris"
    lower = Tokenizer.train([*texts, "Paris PARIS"], vocab_size=1200)
    assert lower.decode(lower.encode(["Paris PARIS paris"])[0]) == "paris paris paris"


def test_an_empty_text_has_no_tokens(trained):
    assert trained.encode(["", "  \n "]) == [[], []]
    assert trained.encode([]) == [] and trained.decode([]) == "" and trained.tokens([]) == []


def test_ten_thousand_words_come_back(trained):
    text = " ".join(["how", "guitar"] * 5000)
    assert trained.decode(trained.encode([text])[0]) == text


def test_training_is_the_same_in_another_process(trained, texts, tmp_path):
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    code = (
        "import json, sys; from diffuseq.text.tokenizer import Tokenizer; "
        "texts = json.load(open(sys.argv[1])); "
        "print(*(Tokenizer.train(iter(texts), 1200, a).fingerprint for a in ('wordpiece', 'bpe')))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "texts.json")], capture_output=True, text=True, check=True
    ).stdout.split()
    assert trained.fingerprint in printed
    assert len(set(printed)) == 2


def test_training_reads_a_stream_once_and_never_holds_it():
    alive = most = 0

    class Text(str):
        def __new__(cls, value):
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            return super().__new__(cls, value)

        def __del__(self):
            nonlocal alive
            alive -= 1

    Tokenizer.train((Text(f"how are you {i % 7}?") for i in range(20_000)), vocab_size=100)
    assert most <= 5_000


# -- specials, unknown


def test_a_special_token_that_a_user_types_is_text(trained, bert):
    for tokenizer in (trained, bert):
        special = tokenizer.special
        ids = tokenizer.encode(["how [SEP] [PAD][CLS] do [MASK] i?"])[0]
        assert not {special.pad, special.start, special.end, special.mask} & set(ids)


def test_specials_are_dropped_and_the_unknown_is_shown(bert, trained):
    for tokenizer in (bert, trained):
        special = tokenizer.special
        ids = tokenizer.encode(["how do i play?"])[0]
        dressed = [special.start, *ids, special.end, special.pad, special.mask]
        assert tokenizer.decode(dressed) == "how do i play?"
        assert tokenizer.decode([special.unknown, *ids]) == "[UNK] how do i play?"


def test_the_share_of_unknown_tokens_comes_with_examples(pieces, bert):
    unknown = bert.unknown_share(["how do zebras play zebras", "what, quokka?"])
    assert unknown.share == 3 / 9 and unknown.examples == ["zebras", "quokka"]
    assert pieces.unknown_share(iter(["how ⵣⵣ"])).examples == ["ⵣⵣ"]
    assert bert.unknown_share([]).share == 0.0


def test_tokens_join_to_the_text(trained, pieces):
    for tokenizer in (trained, pieces):
        text = "how can i learn to play the guitar in three weeks?"
        assert "".join(tokenizer.tokens(tokenizer.encode([text])[0])).strip() == text


def test_tokens_of_a_bert_vocabulary_show_which_continue_a_word(bert):
    assert bert.tokens(bert.encode(["playing guitars?"])[0]) == [" play", "ing", " guitar", "s", " ?"]


# -- files


def test_saving_and_loading_keeps_every_id(trained, bert, tmp_path):
    for i, tokenizer in enumerate((trained, bert)):
        tokenizer.save(tmp_path / str(i))
        again = Tokenizer.load(tmp_path / str(i))
        text = ["How do i play guitars, what's 5-5?"]
        assert again.encode(text) == tokenizer.encode(text)
        assert (again.fingerprint, again.special) == (tokenizer.fingerprint, tokenizer.special)
        file = Tokenizer.load(str(tmp_path / str(i) / "tokenizer.json"))
        assert file.encode(text) == tokenizer.encode(text)


def test_auto_tokenizer_opens_a_saved_folder(trained, bert, tmp_path):
    transformers = pytest.importorskip("transformers")
    for i, tokenizer in enumerate((trained, bert)):
        tokenizer.save(tmp_path / str(i))
        auto = transformers.AutoTokenizer.from_pretrained(tmp_path / str(i))
        text = "how do i play guitars, what?"
        ids = tokenizer.encode([text])[0]
        assert auto.encode(text, add_special_tokens=False) == ids
        special = tokenizer.special
        assert (auto.pad_token_id, auto.unk_token_id, auto.mask_token_id) == (
            0,
            special.unknown,
            special.mask,
        )
        assert (auto.cls_token_id, auto.sep_token_id) == (special.start, special.end)
        if tokenizer is trained:
            assert auto.decode(ids).strip() == text


def test_a_bert_vocabulary_gives_berts_ids(bert, tmp_path):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertTokenizerFast.from_pretrained(tmp_path)
    for text in (
        "How do I play GUITARS?",
        "what's 5-5, zebra 's",
        "héllo  how\tdo 中文",
        "'how' do ? ,s",
        "",
    ):
        ids = bert.encode([text])[0]
        assert ids == theirs.encode(text, add_special_tokens=False)
        assert bert.decode(ids, style="published") == theirs.decode(ids, clean_up_tokenization_spaces=True)
    assert bert.decode(bert.encode(["What's  playing, 5-5?"])[0]) == "what's playing, 5-5?"
    assert (
        bert.decode(bert.encode(["What's  playing, 5-5?"])[0], style="published") == "what's playing, 5 - 5?"
    )


def test_a_bert_vocabulary_with_capitals_keeps_them(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*BERT_WORDS, "Paris"]))
    cased = Tokenizer.load(tmp_path)
    assert cased.decode(cased.encode(["how Paris paris"])[0]) == "how Paris [UNK]"


@pytest.mark.parametrize("word", ["\u2028", "\u00a0", "\x85"])
def test_a_word_of_white_space_has_its_number_in_a_vocabulary(tmp_path, word):
    """As vocabularies of many languages have some, which were collected and not written."""
    (tmp_path / "vocab.txt").write_text("\r\n".join([*BERT_WORDS, word, " last 12"]) + "\r\n", newline="")
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode(["last"]) == [[len(BERT_WORDS) + 1]]
    assert tokenizer.vocab_size == len(BERT_WORDS) + 2


@pytest.mark.parametrize("file", ["words.txt", "vocab.json"])
def test_a_published_word_list_has_four_special_tokens_before_its_words(tmp_path, file):
    words = ["ba", "be", "bi?"]
    vocabulary = {word: i for i, word in enumerate(["[START]", "[END]", "[UNK]", "[PAD]", *words])}
    content = "\n".join(words) + "\n" if file == "words.txt" else json.dumps(vocabulary)
    (tmp_path / file).write_text(content)
    for place in (tmp_path, tmp_path / file):
        tokenizer = Tokenizer.load(place)
        special = tokenizer.special
        assert (special.start, special.end, special.unknown, special.pad, special.vocab_size) == (
            0,
            1,
            2,
            3,
            7,
        )
        assert tokenizer.encode(["be  ba\tbi? Be [PAD]"]) == [[5, 4, 6, 2, 2]]
        assert tokenizer.decode([0, 5, 4, 6, 2, 1, 3, 3]) == "be ba bi? [UNK]"
    tokenizer.save(tmp_path / "saved")
    assert Tokenizer.load(tmp_path / "saved").encode(["be ba"]) == [[5, 4]]


def test_the_name_of_a_model_that_comes_with_the_package_means_its_tokenizer(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = Tokenizer.load("grammar")
    assert shipped.fingerprint == Tokenizer.load(shipped_model("grammar")).fingerprint
    trained.save("grammar")  # what is there goes first, as where a model is named
    assert Tokenizer.load("grammar").fingerprint == trained.fingerprint != shipped.fingerprint


def test_a_hub_name_opens_from_the_cache_without_a_network(trained, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    model = tmp_path / "models--somebody--tokens"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("abc")
    trained.save(model / "snapshots" / "abc")
    assert Tokenizer.load("somebody/tokens").fingerprint == trained.fingerprint
    with pytest.raises(InputError, match=r"'somebody/else'.*check the name and the connection"):
        Tokenizer.load("somebody/else")
    with pytest.raises(InputError, match=r"'bert-base-uncased'.*check the name and the connection"):
        Tokenizer.load("bert-base-uncased")


def test_padding_and_truncation_of_a_foreign_tokenizer_are_turned_off(trained, tmp_path):
    trained.save(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["truncation"] = {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    content["padding"] = {
        "strategy": {"Fixed": 20},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    text = ["how do i play the guitar?"]
    assert Tokenizer.load(tmp_path).encode(text) == trained.encode(text)


# -- errors


@pytest.mark.parametrize("nothing", [[], ["", "  "]])
def test_training_on_nothing_is_an_error(nothing):
    with pytest.raises(InputError, match="no text to train a tokenizer on"):
        Tokenizer.train(nothing)


@pytest.mark.parametrize(("vocab_size", "algorithm"), [(20, "wordpiece"), (3, "wordpiece"), (200, "bpe")])
def test_a_vocabulary_too_small_for_the_alphabet_is_an_error(texts, vocab_size, algorithm):
    with pytest.raises(InputError, match=f"{vocab_size} is too small for the alphabet"):
        Tokenizer.train(texts, vocab_size, algorithm)


def test_an_unknown_algorithm_or_style_is_an_error(trained):
    with pytest.raises(InputError, match="choose one of: bpe, wordpiece"):
        Tokenizer.train(["x"], algorithm="unigram")
    with pytest.raises(InputError, match="choose one of: published, tidy"):
        trained.decode([5], style="pretty")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.json", b"{", "not JSON"),
        ("A.JSON", b"{", "not JSON"),
        ("a.json", b"[1]", "is no tokenizer"),
        ("a.json", b'{"a": "b"}', "is no tokenizer"),
        ("a.json", b'{"model": {"type": "Quux"}}', "no tokenizer.json that can be opened"),
        ("a.json", b'{"a": 0, "[UNK]": 1}', "no padding token"),
        ("a.json", b'{"[PAD]": 0, "[UNK]": 1}', "no token for the start or the end"),
        ("a.json", b'{"[PAD]": 0, "[START]": 1}', "no unknown token"),
        ("a.txt", b"", "is empty"),
        ("a.txt", b"\xff\xfe\x00", "not UTF-8"),
        ("a.txt", b"a\nb\na\n", "'a' more than once"),
        ("vocab.txt", b"[PAD]\n[CLS]\na\n##b\n", "no unknown token"),
        ("vocab.txt", b"[UNK]\n[CLS]\na\n##b\n", "no padding token"),
    ],
)
def test_a_file_that_is_no_usable_tokenizer_is_an_error(tmp_path, file, content, message):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=message):
        Tokenizer.load(tmp_path / file)


def test_a_path_that_does_not_exist_or_holds_nothing_is_an_error(tmp_path):
    for name in (tmp_path / "nothing", "./nothing/here", "some/deep/path", "nothing.json", "vocab.txt"):
        with pytest.raises(InputError, match="There is no"):
            Tokenizer.load(name)
    with pytest.raises(InputError, match="holds no tokenizer"):
        Tokenizer.load(tmp_path)
