import pytest
import torch

from diffuseq.data.batch import Batch, pad
from diffuseq.data.layout import fit_lengths, lay_out, lay_out_question
from diffuseq.errors import InputError
from diffuseq.system import SpecialTokens

PAD, START, END = 0, 1, 2
SPECIAL = SpecialTokens(50, pad=PAD, start=START, end=END, unknown=3, mask=4)


def popped(source: int, target: int, room: int) -> tuple[int, int]:
    """The published cut, word by word."""
    while source + target > room:
        longer_source, longer_target = source >= target, target >= source
        source, target = source - longer_source, target - longer_target
    return source, target


@pytest.mark.parametrize("length", [7, 8, 24, 25])
def test_the_cut_is_popping_words_one_by_one(length: int) -> None:
    pairs = [(s, t) for s in range(1, 30) for t in range(1, 30)]
    source, target = torch.tensor(pairs).T
    ours = torch.stack(fit_lengths(source, target, length - 5), 1).tolist()
    assert ours == [list(popped(s, t, length - 5)) for s, t in pairs]


def test_a_pair_is_laid_out_between_its_special_tokens() -> None:
    batch = Batch(*pad([[10, 11], [12]], PAD), *pad([[20], [21, 22, 23]], PAD))
    sequences = lay_out(batch, SPECIAL, 11)
    assert sequences.ids.tolist() == [
        [START, 10, 11, END, END, START, 20, END, PAD, PAD, PAD],
        [START, 12, END, END, START, 21, 22, 23, END, PAD, PAD],
    ]
    assert sequences.target.tolist() == [[False] * 5 + [True] * 6, [False] * 4 + [True] * 7]
    assert sequences.target_start.tolist() == [5, 4]


def test_the_wider_padding_of_a_batch_changes_no_sequence() -> None:
    narrow = Batch(*pad([[10, 11]], PAD), *pad([[20]], PAD))
    wide = Batch(*pad([[10, 11]], PAD, 40), *pad([[20]], PAD, 40))
    assert torch.equal(lay_out(narrow, SPECIAL, 12).ids, lay_out(wide, SPECIAL, 12).ids)


def test_an_open_answer_may_fill_the_sequence() -> None:
    asked = lay_out_question(*pad([[10, 11], [12]], PAD), SPECIAL, 10)
    assert asked.ids[0].tolist() == [START, 10, 11, END, END, PAD, PAD, PAD, PAD, PAD]
    assert asked.known[0].tolist() == [True] * 5 + [False] * 5
    assert asked.answer.tolist() == [[6, 7, 8, 9, 9], [5, 6, 7, 8, 9]]
    assert asked.outside.tolist() == [[False] * 4 + [True], [False] * 5]
    assert not asked.fixed_length


def test_a_source_leaves_a_quarter_to_an_open_answer() -> None:
    asked = lay_out_question(*pad([list(range(10, 40))], PAD), SPECIAL, 24)
    assert int((asked.ids >= 10).sum()) == 24 - 5 - 6


def test_a_template_pins_its_words_and_the_end() -> None:
    template = torch.tensor([[-1, 30, -1]])
    asked = lay_out_question(*pad([[10]], PAD), SPECIAL, 12, template=template)
    assert asked.ids.tolist() == [[START, 10, END, END, START, 0, 30, 0, END, PAD, PAD, PAD]]
    assert (~asked.known).nonzero().tolist() == [[0, 5], [0, 7]]
    assert asked.answer.tolist() == [[5, 6, 7]]
    assert asked.fixed_length


def test_a_given_length_cuts_the_source_to_make_room() -> None:
    asked = lay_out_question(*pad([list(range(10, 40))], PAD), SPECIAL, 12, answer_length=6)
    assert asked.ids[0].tolist() == [START, 10, END, END, START, *[0] * 6, END]


@pytest.mark.parametrize("answer_length", [0, 7])
def test_an_answer_that_leaves_no_source_is_refused(answer_length: int) -> None:
    with pytest.raises(InputError, match="1 to 6"):
        lay_out_question(*pad([[10]], PAD), SPECIAL, 12, answer_length=answer_length)


def test_a_sequence_without_room_for_words_is_refused() -> None:
    with pytest.raises(InputError, match="at least 7"):
        lay_out(Batch(*pad([[10]], PAD), *pad([[20]], PAD)), SPECIAL, 6)
