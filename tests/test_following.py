"""Looking on while an answer forms: streamers, callbacks, streams of drafts."""

from __future__ import annotations

import pytest
import torch

from diffuseq.answers import TextDraft
from diffuseq.errors import InputError
from diffuseq.pipeline import DiffuSeqPipeline

SOURCE = "how do i learn to cook rice?"


def test_the_diffusion_streamer_of_transformers_shows_drafts_and_then_the_answer(
    tiny_pipe: DiffuSeqPipeline, tiny_folder: object, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_folder)
    streamer = transformers.TextDiffusionStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    answer = tiny_pipe(SOURCE, streamer=streamer)
    shown = capsys.readouterr().out
    assert shown.count("\033[33m") == 4  # a yellow draft a step
    assert shown.rstrip().endswith(answer.text)


def test_a_streamer_without_drafts_gets_the_answer(tiny_pipe: DiffuSeqPipeline) -> None:
    class Plain:
        def __init__(self) -> None:
            self.heard: list[list[int]] = []
            self.ended = False

        def put(self, value: torch.Tensor) -> None:
            self.heard.append(value.flatten().tolist())

        def end(self) -> None:
            self.ended = True

    streamer = Plain()
    answer = tiny_pipe(SOURCE, streamer=streamer)
    assert streamer.ended
    assert streamer.heard[0] == []
    assert tiny_pipe.tokenizer.decode(streamer.heard[1]) == answer.text
    assert answer.candidates == tiny_pipe(SOURCE).candidates


def test_what_cannot_look_on_is_refused(tiny_pipe: DiffuSeqPipeline) -> None:
    with pytest.raises(InputError, match="streamer is of the type int, without put and end; give"):
        tiny_pipe(SOURCE, streamer=5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="callback_on_step_end is of the type int; give a function"):
        tiny_pipe(SOURCE, callback_on_step_end=5)  # type: ignore[arg-type]


def test_a_callback_hears_every_step_and_can_stop(tiny_pipe: DiffuSeqPipeline) -> None:
    heard: list[tuple[int, str]] = []

    def stop_at_the_second(pipe: DiffuSeqPipeline, index: int, draft: TextDraft) -> bool:
        heard.append((index, draft.text))
        return index == 1

    answer = tiny_pipe(SOURCE, callback_on_step_end=stop_at_the_second)
    assert [index for index, _ in heard] == [0, 1]
    assert answer.forwards == 2
    assert heard[-1][1] == answer.candidates[0]


def test_streams_end_with_the_answer(tiny_pipe: DiffuSeqPipeline) -> None:
    drafts = list(tiny_pipe.stream(SOURCE, template="why [MASK]*4", seed=3))
    assert [draft.index for draft in drafts] == [0, 1, 2, 3]
    assert drafts[-1].texts == tiny_pipe(SOURCE, template="why [MASK]*4", seed=3).candidates
    assert drafts[0].all_pinned == [[True, False, False, False, False]] * 3


def test_streamers_follow_one_source(tiny_pipe: DiffuSeqPipeline) -> None:
    with pytest.raises(InputError, match="follow one source"):
        tiny_pipe([SOURCE], callback_on_step_end=lambda *_: None)
