"""Draws docs/images/watch.svg: a text forming step by step, as the terminal shows it.

python docs/watch_picture.py MODEL "a question" [seed]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from diffuseq.cli.view import choice_view, legend, one_line
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.trace import Recording

PICTURE = Path(__file__).parent / "images" / "watch.svg"
WIDTH = 92


def draw(model: str, source: str, seed: int) -> str:
    """The svg: a line a step, then the candidates and the choice."""
    pipe = DiffuSeqPipeline.from_pretrained(model, "cpu")
    with Path("/dev/null").open("w") as nowhere:
        console = Console(
            record=True, width=WIDTH, force_terminal=True, color_system="truecolor", file=nowhere
        )
        recording = Recording(pipe, source, pipe.settings(seed=seed))
        console.print(Text(f"{'source':>8}  {source}", style="bold"))
        for frame in recording:
            console.print(
                Text(f"{f'step {frame.index + 1}':>8}  ").append(one_line(frame.rows[0], WIDTH - 10))
            )
        states = legend()
        shown = states[: states.plain.index("pinned")]  # no word is pinned here, and bars have no room
        console.print(Text(" " * 10).append(shown), "", choice_view(recording.choice, WIDTH), sep="\n")
        picture = console.export_svg(title="diffuseq generate --watch", unique_id="watch")
    # The fonts would be fetched from elsewhere; the reader's own do.
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL).replace("Fira Code", "ui-monospace")


if __name__ == "__main__":
    model, source, *rest = sys.argv[1:]
    text = draw(model, source, int(rest[0]) if rest else 0)
    PICTURE.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", encoding="utf-8")
