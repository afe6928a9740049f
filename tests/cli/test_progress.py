from __future__ import annotations

import pytest

from diffuseq.cli import progress


def test_a_bar_shows_a_name_with_brackets_and_braces_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(progress, "PATIENCE_S", -1.0)
    with progress.counting("a [/b] {c} [red]", 2) as advance:
        advance(1)
    assert "a [/b] {c} [red]" in capsys.readouterr().err
