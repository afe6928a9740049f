"""Looking on while one source is answered: streamers of transformers, and callbacks that may stop it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import torch

from diffuseq.answers import TextDraft
from diffuseq.errors import InputError
from diffuseq.system import Draft

if TYPE_CHECKING:
    from diffuseq.pipeline import DiffuSeqPipeline


class Streamer(Protocol):
    """What `streamer=` takes: any streamer of transformers. One with `put_draft` is shown every draft."""

    def put(self, value: torch.Tensor) -> Any:
        """Take ids [1 l]: an empty prompt first, the answer last."""

    def end(self) -> Any:
        """The answer is complete."""


OnStep = Callable[["DiffuSeqPipeline", int, TextDraft], bool | None]
"""Called after every step with the pipeline, the index and the draft; True stops: the draft is the answer."""


class Streamed:
    """A streamer, or none, and what it is shown: nothing of the prompt, the first candidate on its way, the answer.

    Raises `InputError` for what is no streamer, and for one that wants what drafts have not.
    """

    def __init__(self, streamer: Streamer | None) -> None:
        if streamer is not None and not (hasattr(streamer, "put") and hasattr(streamer, "end")):
            raise InputError(
                f"The streamer is of the type {type(streamer).__name__}, without put and end; give a streamer of "
                "transformers, say TextStreamer(pipe.tokenizer)."
            )
        if getattr(streamer, "_takes_logits", False):
            raise InputError(
                "This streamer wants logits, which drafts do not carry; give one that takes ids."
            )
        self.streamer = streamer
        self.put_draft = getattr(streamer, "put_draft", None)

    def begin(self) -> None:
        if self.streamer is not None:
            self.streamer.put(torch.empty(1, 0, dtype=torch.long))  # the prompt: the answer has none

    def show(self, draft: Draft) -> None:
        if self.put_draft is not None:
            self.put_draft(value=_row(draft, 0))

    def end(self, draft: Draft, chosen: int) -> None:
        if self.streamer is not None:
            self.streamer.put(_row(draft, chosen))
            self.streamer.end()


def _row(draft: Draft, row: int) -> torch.Tensor:
    """Ids of a candidate without padding, [1 l]."""
    return draft.tokens[row][~draft.padding[row]][None].cpu()
