import json
import random

import pytest

from diffuseq.data.grammar import SPLITS, Grammar, Meaning, build_corpus, split_of, write_corpus
from diffuseq.data.grammar_words import VERBS
from diffuseq.errors import InputError


@pytest.fixture(scope="module")
def grammar():
    return Grammar()


@pytest.fixture(scope="module")
def corpus():
    return build_corpus(num_train=10_000, num_valid=300, num_test=300, seed=1)


def words(text):
    return text.replace("?", " ?").replace(",", " ,").split()


def all_meanings(grammar):
    return [m for split in SPLITS for group in grammar.meanings[split].values() for m in group]


def test_there_are_more_than_twenty_thousand_meanings_in_a_small_vocabulary(grammar):
    meanings = all_meanings(grammar)
    assert len(set(meanings)) == len(meanings) > 30_000
    vocabulary = {word for m in meanings[::7] for text in grammar.wordings(m) for word in words(text)}
    assert 500 < len(vocabulary) < 700


def test_a_sentence_parses_to_its_own_meaning_and_wording_and_fits_no_other_pattern(grammar):
    for meaning in all_meanings(grammar)[::29]:
        for index, text in enumerate(grammar.wordings(meaning)):
            read = grammar.parse(text)
            assert (read, read.wording, read.swapped) == (meaning, index, False)
            spaced = text.replace("?", " ?").replace(",", " ,")
            assert sum(bool(pattern.fullmatch(spaced)) for *_, pattern in grammar._patterns) == len(
                [
                    d
                    for d in grammar.intents[meaning.intent].domains
                    if set(meaning.fillers) <= {*sum(d.values(), ())}
                ]
            )


def test_every_wording_of_every_meaning_is_a_different_sentence(grammar):
    texts = [text for m in all_meanings(grammar)[::7] for text in grammar.wordings(m)]
    assert len(set(texts)) == len(texts)


def test_sentences_are_questions_of_six_to_thirteen_words(grammar):
    for meaning in all_meanings(grammar)[::13]:
        for text in grammar.wordings(meaning):
            assert text.endswith("?") and text == text.lower() and "{" not in text
            assert 6 <= len(text.split()) <= 13, text


def test_an_article_stands_before_a_consonant_and_verb_forms_are_regular_english(grammar):
    for meaning in all_meanings(grammar)[::13]:
        for text in grammar.wordings(meaning):
            following = [b for a, b in zip(words(text), words(text)[1:], strict=False) if a == "a"]
            assert all(word[0] not in "aeiou" or word == "used" for word in following), text
    for forms in VERBS.values():
        assert forms["s"].endswith("s") and forms["ing"].endswith("ing")


def test_no_sentence_names_the_same_thing_twice(grammar):
    for meaning in all_meanings(grammar)[::13]:
        assert len(set(meaning.fillers)) == len(meaning.fillers)


def test_case_and_spacing_do_not_matter(grammar):
    text = "in july, should i be afraid to camp in the desert?"
    spaced = "  In July ,should i be afraid  to camp in the desert ? "
    assert (
        grammar.parse(text)
        == grammar.parse(spaced)
        == Meaning("safety of an outing", ("camp", "desert", "july"))
    )


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "?",
        "how",
        "how can i",
        "[MASK] [MASK]",
        "\x00",
        "🦆" * 50,
        "how " * 5000,
        "how long is the trip from paris to paris by bus?",
        "how do tea and wool differ in price?",
        "how do i stop my dog from chew my new shoes?",
        "where can i find a cheap hotel in paris",
        "where can i find a cheap hotel in paris? where can i find a cheap hotel in paris?",
    ],
)
def test_garbage_and_ungrammatical_text_is_no_sentence(grammar, garbage):
    assert grammar.parse(garbage) is None


def test_a_verdict_tells_same_meaning_and_other_words_apart(grammar):
    source = "where can i find a cheap hotel in paris?"
    assert grammar.verdict(source, "can you recommend a cheap hotel in paris ?").valid
    copied = grammar.verdict(source, source.upper())
    assert (copied.same_meaning, copied.worded_differently, copied.valid) == (True, False, False)
    other = grammar.verdict(source, "can you recommend a cheap hotel in rome?")
    assert (other.same_meaning, other.worded_differently, other.valid) == (False, True, False)
    assert not grammar.verdict(source, "can you recommend a cheap cheap").valid
    with pytest.raises(InputError, match="no question of the built-in grammar"):
        grammar.verdict("what is up?", source)


def test_interchangeable_things_may_change_places_but_places_of_a_trip_may_not(grammar):
    assert grammar.verdict(
        "how do tea and milk differ in taste?", "how different are tea and milk in taste?"
    ).valid
    assert grammar.verdict(
        "how do tea and milk differ in taste?", "how different are milk and tea in taste?"
    ).valid
    turned = grammar.verdict("how do tea and milk differ in taste?", "how do milk and tea differ in taste?")
    assert turned.same_meaning and not turned.worded_differently
    there = "how long is the trip from rome to milan by bus?"
    assert grammar.verdict(there, "how many hours is milan from rome by bus?").valid
    assert not grammar.verdict(there, "how many hours is rome from milan by bus?").same_meaning


def test_pairs_are_valid_and_follow_their_seed(grammar):
    pairs = [grammar.pair(random.Random(seed)) for seed in range(500)]
    assert pairs == [grammar.pair(random.Random(seed)) for seed in range(500)]
    assert all(grammar.verdict(pair.source, pair.target).valid for pair in pairs)
    assert {grammar.parse(pair.source).intent for pair in pairs} == set(grammar.intents)


def test_held_out_meanings_never_occur_in_train_though_their_words_do(grammar, corpus):
    train = {grammar.parse(row[key]) for row in corpus["train"] for key in ("src", "trg")}
    seen = {word for row in corpus["train"] for key in ("src", "trg") for word in words(row[key])}
    for split in ("valid", "test"):
        held_out = [grammar.parse(row["src"]) for row in corpus[split]]
        assert len(set(held_out)) == len(held_out) == 300
        assert not train & set(held_out)
        assert {split_of(m) for m in held_out} == {split}
        assert {word for row in corpus[split] for word in words(row["src"] + " " + row["trg"])} <= seen
    everything = {word for m in all_meanings(grammar) for word in words(grammar.wordings(m)[0])}
    assert everything <= seen


def test_training_rows_are_distinct_and_references_are_all_right_answers(grammar, corpus):
    rows = [(row["src"], row["trg"]) for row in corpus["train"]]
    assert len(set(rows)) == len(rows) == 10_000
    for row in corpus["test"]:
        assert row["trg"] == row["refs"][0] and len(set(row["refs"])) == len(row["refs"]) == 4
        assert all(grammar.verdict(row["src"], answer).valid for answer in row["refs"])


def test_a_corpus_follows_its_seed():
    assert build_corpus(50, 5, 5, seed=3) == build_corpus(50, 5, 5, seed=3) != build_corpus(50, 5, 5, seed=4)


def test_a_corpus_is_written_as_json_lines(tmp_path):
    folder = write_corpus(tmp_path / "demo", 20, 10, 5, seed=2)
    written = {
        s: [json.loads(line) for line in (folder / f"{s}.jsonl").read_text().splitlines()] for s in SPLITS
    }
    assert written == build_corpus(20, 10, 5, seed=2)


@pytest.mark.parametrize("counts", [(10**7, 1, 1), (1, 10**6, 1), (1, 1, -1)])
def test_more_rows_than_there_are_is_an_error_that_says_how_many_there_are(counts):
    with pytest.raises(InputError, match=r"the built-in grammar gives 0 to \d+"):
        build_corpus(*counts)


def test_scores_count_valid_answers_and_different_ones(grammar):
    source = "where can i find a cheap hotel in paris?"
    good, better = "can you recommend a cheap hotel in paris?", "where in paris is there a cheap hotel?"
    scores = grammar.score_answers(
        [source, source], [[good, good, better, "x"], [source, source, source, source]]
    )
    assert scores == {"valid": 0.5, "valid_candidates": 3 / 8, "distinct_valid": 1.0, "coverage": 0.25}
    assert grammar.score_answers([source], [["x", good]], chosen=[good])["valid"] == 1.0
    assert grammar.score_answers([source], [[]])["valid"] == 0.0
    with pytest.raises(InputError, match="one of each for every source"):
        grammar.score_answers([source], [])
    with pytest.raises(InputError, match="at least one source"):
        grammar.score_answers([], [])
