"""The model card: the README.md of a model folder, generated from its config and its scores.

A training writes it from the config and the validation set. To put the scores of a test set into it:

    diffuseq evaluate predictions.jsonl --task qqp --json MODEL/scores.json --card MODEL

or, where a scores.json is there already, `add_scores("MODEL", "MODEL/scores.json")`. Only the section
"Evaluation" is written anew, so that what a person wrote into the card stays.

A card ends with a seal, a hash of all before it. A README.md whose seal does not fit, or which has none, is a
person's own: saving a model leaves it as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import diffuseq
from diffuseq.config import Config, EnsembleConfig, TrainingConfig
from diffuseq.errors import InputError
from diffuseq.evaluation.markdown import plain
from diffuseq.files import read_text, write_text
from diffuseq.names import readable
from diffuseq.plain import to_dict

CARD, SCORES = "README.md", "scores.json"
EVALUATION = "## Evaluation"

_FRONT = """\
---
library_name: diffuseq
pipeline_tag: text-generation
tags: [diffuseq, sequence-to-sequence, text-generation]
---
"""
_USE = """\
```python
from diffuseq import DiffuSeqPipeline

pipe = DiffuSeqPipeline.from_pretrained("path/to/this/folder")
print(pipe("What is the best way to learn to cook?").text)
```"""
_CITATION = """\
```bibtex
@inproceedings{gong2023diffuseq,
  title     = {{DiffuSeq}: Sequence to Sequence Text Generation with Diffusion Models},
  author    = {Gong, Shansan and Li, Mukai and Feng, Jiangtao and Wu, Zhiyong and Kong, Lingpeng},
  booktitle = {International Conference on Learning Representations},
  year      = {2023}
}
```"""
_SEAL = "<!-- Written by diffuseq; once anything above is changed by hand, it stays as it is. {digest} -->\n"
_OWN_LINES = ("start_from", "teachers")
"""Settings of the training that have lines of their own (`_other_models`)."""
_ARROWS = {"higher": " ↑", "lower": " ↓"}


def model_card(
    config: Config,
    parameters: int,
    validation: Mapping[str, Any] | None = None,
    data: str = "",
    scores: Mapping[str, Any] | None = None,
) -> str:
    """The text of a card: what the model is, how to use it, how it was trained, what it reached, its limits.

    validation: numbers of the last look at the validation set. data: name of the training data. scores: the
    contents of a scores.json; raises `InputError` when it is none.
    """
    kind = config.system.kind
    named = f"{'An' if kind[0] in 'aeiou' else 'A'} `{kind}` system"
    what = f"{named} with {parameters:,} parameters, which rewrites a source text into a target text."
    sections = [
        f"{_FRONT}\n# {named} trained with diffuseq\n\n{what} {_described(config)}".rstrip(),
        _USE,
        "## Training\n\n" + "\n".join(_training(config, data)),
    ]
    numbers = {name: value for name, value in (validation or {}).items() if isinstance(value, int | float)}
    if numbers:
        rows = [f"| {name} | {value:.4g} |" for name, value in numbers.items()]
        sections.append("\n".join(["## On the validation set\n", "| metric | value |", "|---|---|", *rows]))
    if scores is not None:
        sections.append(evaluation_section(scores))
    sections.append("## Limits\n\n" + "\n".join(_limits(config)))
    made_with = f"Made with diffuseq {diffuseq.__version__}, a library of the method of:"
    sections.append(f"## Citation\n\n{made_with}\n\n{_CITATION}")
    return _sealed("\n\n".join(sections) + "\n")


def write_card(folder: Path, card: str) -> None:
    """Write the card of a model folder, unless the folder has a README.md of a person's own."""
    if not has_own_card(folder):
        write_text(folder / CARD, card)


def has_own_card(folder: Path) -> bool:
    """Whether the folder has a README.md that is not as we wrote it, so that it is not ours to replace."""
    path = folder / CARD
    if not path.exists():
        return False
    try:
        return _unsealed(read_text(path)) is None
    except (OSError, ValueError):
        return True


def own_card_note(folder: Path) -> str | None:
    """What to tell who saves a model into a folder with a README.md of their own; None where there is none."""
    if not has_own_card(folder):
        return None
    return f"{folder / CARD} is not as diffuseq wrote it, and stays as it is; without it there would be a new one."


def add_scores(folder: str | Path, scores: str | Path | Mapping[str, Any]) -> Path:
    """Write the section "Evaluation" of a model folder's card anew. Returns the card's path.

    scores: a scores.json, or its contents. Raises `InputError` when the folder has no card, or the scores
    are not those of one system.
    """
    path = Path(folder) / CARD
    content = scores if isinstance(scores, Mapping) else _read_scores(Path(scores))
    write_text(path, _with_evaluation(_read_card(path), evaluation_section(content)))
    return path


def check_card(folder: Path) -> None:
    """Raise `InputError` for a folder without a card that scores could be written into."""
    _read_card(folder / CARD)


def current_card(folder: Path) -> str | None:
    """The card of a model folder as it is shared, or None where there is none.

    A scores.json in the folder is in it, unless it is older than the card or the config, which saving a model
    writes last, or a list of several systems' scores, as `diffuseq compare` writes.
    """
    card, scores = folder / CARD, folder / SCORES
    if not card.is_file():
        return None
    text = _read_card(card)
    written = max(path.stat().st_mtime for path in (card, folder / "config.json") if path.is_file())
    if not scores.is_file() or scores.stat().st_mtime < written:
        return text
    content = _read_scores(scores)
    return text if isinstance(content, list) else _with_evaluation(text, evaluation_section(content))


def evaluation_section(scores: Mapping[str, Any]) -> str:
    """The numbers of a scores.json as a table, with what each was measured by. Raises `InputError`."""
    try:
        return _evaluation(scores)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"The scores are not those of one system as `diffuseq evaluate --json` writes them ({error!r}); "
            "evaluate one system and give its file."
        ) from error


def _evaluation(scores: Mapping[str, Any]) -> str:
    metrics, rows = scores["metrics"], scores["rows"]
    titles = [plain(row["title"]) for row in rows.values()]
    table = [f"| metric | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    explained = []
    for name, metric in metrics.items():
        cells = [_cell(row["scores"].get(name)) for row in rows.values()]
        title = metric["title"] + _ARROWS.get(metric["better"], "")
        table.append(f"| {title} | {' | '.join(cells)} |")
        explained.append(
            f"- {metric['title']}: {metric['definition']} ({metric['settings']}); `{metric['signature']}`"
        )
    task = f"Task {scores['task']}, " if scores["task"] else ""
    counted = f"{scores['sources']:,} sources with {scores['candidates']} candidates each"
    head = f"{task}{counted}; intervals: {scores['intervals']}."
    means = "How each is measured; numbers compare only where the signature is the same:"
    return "\n\n".join([EVALUATION, head, "\n".join(table), means, "\n".join(explained)])


def _cell(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return "–"
    if score["low"] is None or score["high"] is None:
        return f"{score['value']:.4g}"
    return f"{score['value']:.4g} ({score['low']:.4g} to {score['high']:.4g})"


def _described(config: Config) -> str:
    """The first sentence of the system's config, which names its paper where it has one; nothing where it has no
    docstring but that which Python makes."""
    system = type(config.system)
    text = " ".join((system.__doc__ or "").split())
    if not text or text.startswith(f"{system.__name__}("):
        return ""
    return re.split(r"(?<=[\w)`])\. ", text)[0].rstrip(".") + "."


def _training(config: Config, data: str) -> list[str]:
    system, training, text = config.system, config.training, config.text
    is_ensemble = isinstance(system, EnsembleConfig)
    lines = [f"- members, trained apart: {_members(system)}"] if is_ensemble else []
    if not is_ensemble or training.start_from is not None:
        lines += [
            f"- recipe: {_recipe(config)}",
            *_other_models(training),
            f"- data: {data or 'not recorded'}",
            f"- {_budget(training)} with {training.batch_size} pairs a step, {training.optimizer}, "
            f"seed {training.seed}",
        ]
    return [
        *lines,
        f"- texts of up to {text.max_source} (source) and {text.max_target} (target) tokens",
        "",
        "Every setting is in `config.json`; how it generates is in `generation_config.json`.",
    ]


def _members(system: EnsembleConfig) -> str:
    weights = system.weights or (1.0,) * len(system.members)
    each = zip(system.members, weights, strict=True)
    return ", ".join(f"`{member.kind}` (weight {weight / sum(weights):.3g})" for member, weight in each)


def _other_models(training: TrainingConfig) -> list[str]:
    """The models that a training began with and learned from, by the names that it was given."""
    begun = [] if training.start_from is None else [f"- begun with the weights of `{training.start_from}`"]
    teachers = ", ".join(f"`{name}`" for name in training.teachers)
    return [*begun, *([f"- learned what these expect of every word: {teachers}"] if teachers else [])]


def _budget(training: TrainingConfig) -> str:
    if training.minutes is not None:
        return f"{training.minutes:g} minutes"
    if training.epochs is not None:
        return f"{training.epochs:g} times through the pairs"
    return f"{training.steps:,} steps"


def _recipe(config: Config) -> str:
    """The recipe of the same system and text, with the training settings that were changed."""
    from diffuseq.recipes import RECIPES

    training = to_dict(config)["training"]
    best: tuple[int, str] | None = None
    for name, make in RECIPES.items():
        recipe = make()
        if (recipe.system, recipe.text) == (config.system, config.text):
            usual = to_dict(recipe)["training"]
            changed = [
                f"`training.{key} = {value}`"
                for key, value in training.items()
                if value != usual[key] and key not in _OWN_LINES
            ]
            told = f"`{name}`" + (f" with {', '.join(changed)}" if changed else "")
            best = min(best or (len(changed), told), (len(changed), told))
    return "none by name" if best is None else best[1]


def _limits(config: Config) -> list[str]:
    text = config.text
    overlong = "cut" if text.overlong == "cut" else "refused"
    return [
        f"- Sources of over {text.max_source} tokens are {overlong}; answers end at {text.max_target}.",
        *(["- It reads and writes lower case only."] if text.lowercase else []),
        "- It knows the language, the topics and the prejudices of its training data, and nothing else.",
        "- Nothing checks its answers: they can be wrong, change the meaning, or offend.",
    ]


def _sealed(text: str) -> str:
    """The text with its seal."""
    text = readable(text)
    return text + "\n" + _SEAL.format(digest=sha256(text.encode()).hexdigest()[:16])


def _unsealed(card: str) -> str | None:
    """The text of a card that is as it was when it was sealed; None for any other."""
    text, _, _ = card.rpartition("\n" + _SEAL.split("{digest}")[0])
    return text if card == _sealed(text) else None


def _with_evaluation(card: str, section: str) -> str:
    """The card with this section in the place of the old one; a new one comes before the limits. What was sealed
    is sealed anew."""
    text = _unsealed(card)
    if text is not None:
        return _sealed(_with_evaluation(text, section))
    old = re.search(rf"^{EVALUATION}$.*?(?=^## |\Z)", card, re.MULTILINE | re.DOTALL)
    limits = re.search(r"^## (Limits|Citation)$", card, re.MULTILINE)
    start = old.start() if old else limits.start() if limits else len(card)
    end = old.end() if old else start
    return (
        "\n\n".join(part for part in (card[:start].rstrip("\n"), section, card[end:].strip("\n")) if part)
        + "\n"
    )


def _read_card(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, ValueError):
        raise InputError(
            f"There is no model card {path}; give a model folder (the --out of a training)."
        ) from None


def _read_scores(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        raise InputError(
            f"{path} is no scores.json that can be read; write it with `diffuseq evaluate --json`."
        ) from None
