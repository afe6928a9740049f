"""What the pages of the documentation hold: fenced blocks, command lines, inline code, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?:^\n)((?:^    \S.*\n)+)", re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_SHELL = ("", "bash", "sh", "console")
_SEPARATORS = ("|", "&&", ";", ">")


@dataclass(frozen=True)
class Command:
    """One program of a line: its words, and the text that is piped into it."""

    words: list[str]
    piped: str | None = None

    @property
    def diffuseq(self) -> list[str] | None:
        """The arguments of `diffuseq`, however it is started; None for another program."""
        if self.words[0].rpartition("/")[2] == "diffuseq":
            return self.words[1:]
        if self.words[0] == "torchrun" and "diffuseq" in self.words:
            return self.words[self.words.index("diffuseq") + 1 :]
        return None


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in these languages."""
    return [text for language, text in _FENCE.findall(page.read_text()) if language in languages]


def commands(page: Path) -> list[Command]:
    """All commands of the shell blocks (fenced or indented), in order."""
    text = page.read_text()
    shell = blocks(page, *_SHELL) + _INDENTED.findall(_FENCE.sub("", text))
    lines = [line.strip() for block in shell for line in block.replace("\\\n", " ").splitlines()]
    return [command for line in lines if _is_command(line) for command in parse_line(line)]


def inline_commands(page: Path) -> list[Command]:
    """Commands in running text, without those that hold places (`RECIPE`, `…`)."""
    found = []
    for code in _INLINE.findall(_FENCE.sub("", page.read_text())):
        if code.startswith("diffuseq ") and not re.search(r"\b[A-Z]{2,}\b|…", code) and len(code.split()) > 2:
            found += parse_line(code)
    return found


def flags(page: Path, pattern: str) -> set[str]:
    """Flags of a pattern, anywhere on a page."""
    return set(re.findall(rf"(?<![\w-])--{pattern}", page.read_text()))


def links(page: Path) -> list[str]:
    """Targets of links and images within the repository."""
    return [target for target in _LINK.findall(_FENCE.sub("", page.read_text())) if "://" not in target]


def parse_line(line: str) -> Iterator[Command]:
    """The commands of a line; what `echo` says is piped on."""
    piped, words = None, []
    for word in [*shlex.split(line, comments=True), ";"]:
        if word not in _SEPARATORS:
            words.append(word)
            continue
        if words:
            yield Command(words, piped)
            piped = " ".join(words[1:]) if words[0] == "echo" and word == "|" else None
        words = []


def _is_command(line: str) -> bool:
    program = line.partition(" ")[0].rpartition("/")[2]
    return program in ("diffuseq", "torchrun", "echo", "make", "python", "curl", "pip")
