"""Several systems that draw every word from the mixture of what they expect."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffuseq.baselines.autoregressive import Autoregressive
from diffuseq.baselines.configs import (
    AutoregressiveGeneration,
    CMLMConfig,
    Gpt2Config,
    GpvaeT5Config,
    GruConfig,
    IterativeGeneration,
    TransformerConfig,
)
from diffuseq.cli import main
from diffuseq.config import Config, DiffusionGeneration, TextConfig, TrainingConfig
from diffuseq.data.batch import Batch, pad
from diffuseq.errors import InputError
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.plain import to_dict
from diffuseq.registry import build, config_from_dict
from diffuseq.sampling.hooks import mix_words
from diffuseq.system import Request, System
from diffuseq.systems.diffuseq import DiffuSeq
from diffuseq.systems.ensemble import Ensemble
from diffuseq.training.feed import Stream
from diffuseq.training.loop import fit

SOURCES = ["how do i learn to cook rice?", "why do people like music so much?", "tea"]
SMALL = {"width": 32, "dropout": 0.0}
READERS: dict[str, Any] = {
    "transformer": TransformerConfig(encoder_layers=1, decoder_layers=2, heads=2, feed_forward=64, **SMALL),
    "gru": GruConfig(layers=1, hidden=32, **SMALL),
    "gpt2": Gpt2Config(weights="random", layers=2, heads=2, max_length=64, **SMALL),
}


def member(pipe: DiffuSeqPipeline, config: Any, seed: int = 1) -> System:
    """A system of the pipeline's vocabulary that is sure of what it says, though nobody trained it."""
    torch.manual_seed(seed)
    system = build(config, pipe.tokenizer.special).eval()
    for parameter in system.parameters():
        parameter.data.mul_(2.0)
    return system


def together(pipe: DiffuSeqPipeline, *others: System, weights: tuple[float, ...] = ()) -> DiffuSeqPipeline:
    """The pipeline's system and others as an ensemble that writes by fixed-point."""
    system = Ensemble.of([pipe.system, *others], weights).eval()
    generation = pipe.settings(sampler="fixed-point", temperature=0.7)
    return DiffuSeqPipeline(
        system, pipe.tokenizer, dataclasses.replace(pipe.config, system=system.config, generation=generation)
    )


@pytest.fixture(scope="module")
def transformer(ordered_pipe: DiffuSeqPipeline) -> System:
    return member(ordered_pipe, READERS["transformer"])


@pytest.fixture(scope="module")
def both(ordered_pipe: DiffuSeqPipeline, transformer: System) -> DiffuSeqPipeline:
    return together(ordered_pipe, transformer)


def batch_of(pipe: DiffuSeqPipeline, targets: list[list[int]]) -> Batch:
    sources = pipe.tokenizer.encode(SOURCES[: len(targets)])
    return Batch(*pad(sources, pipe.tokenizer.special.pad), *pad(targets, pipe.tokenizer.special.pad))


def request_of(batch: Batch, candidates: int = 1) -> Request:
    seeds = list(range(len(batch) * candidates))
    return Request(batch.source, batch.source_padding, candidates, seeds, DiffusionGeneration())


def say(read: Any, *given: Tensor) -> Tensor:
    return torch.cat(list(read(*given)))


def test_a_mixture_is_the_weighted_mean_of_probabilities() -> None:
    torch.manual_seed(0)
    one, two = torch.randn(2, 5, 7).log_softmax(-1)
    mixed = mix_words(
        [lambda: [one[:3].clone(), one[3:].clone()], lambda: [two[:3].clone(), two[3:].clone()]], [0.25, 0.75]
    )
    torch.testing.assert_close(say(mixed).exp(), 0.25 * one.exp() + 0.75 * two.exp())


def test_who_has_nothing_to_say_leaves_the_draw_to_the_others() -> None:
    torch.manual_seed(0)
    one = torch.randn(5, 7).log_softmax(-1)
    silent = torch.full_like(one, -torch.inf)
    mixed = mix_words([lambda: [one.clone()], lambda: [silent.clone()]], [0.5, 0.5])
    torch.testing.assert_close(say(mixed).softmax(-1), one.exp())


@pytest.mark.parametrize("kind", READERS)
def test_an_autoregressive_member_says_what_teacher_forcing_says(
    kind: str, ordered_pipe: DiffuSeqPipeline
) -> None:
    system = member(ordered_pipe, READERS[kind])
    assert isinstance(system, Autoregressive)
    batch = batch_of(ordered_pipe, [[7, 8, 9, 10], [9, 12, 7, 11]])
    read = system.reader(request_of(batch), torch.tensor([4, 4]), is_open_ended=True)
    everywhere = torch.ones_like(batch.target, dtype=torch.bool)
    silent = system.special.without_text(end=False)
    expected = system.next_words(batch)[:, :4]
    expected[..., silent] = 0.0
    expected /= expected.sum(-1, keepdim=True)
    for _ in range(2):  # asked again, it says it again
        said = say(read, batch.target, everywhere, everywhere)
        torch.testing.assert_close(said.exp().view(2, 4, -1), expected)
    # then one word changes, and one row is at rest
    changed = batch.target.clone()
    changed[0, 1] = 13
    stale = torch.tensor([[False, True, True, True], [False] * 4])
    asked = torch.tensor([[False, False, True, True], [False] * 4])
    said = say(read, changed, stale, asked)
    expected = system.next_words(batch_of(ordered_pipe, changed.tolist()))[0, 2:4]
    expected[..., silent] = 0.0
    torch.testing.assert_close(said.exp(), expected / expected.sum(-1, keepdim=True))


@pytest.mark.parametrize("kind", READERS)
def test_an_autoregressive_member_says_nothing_behind_words_that_are_not_known(
    kind: str, ordered_pipe: DiffuSeqPipeline
) -> None:
    system = member(ordered_pipe, READERS[kind])
    batch = batch_of(ordered_pipe, [[7, 8, 9, 10]])
    read = system.reader(request_of(batch), torch.tensor([4]), is_open_ended=False)
    tokens = torch.tensor([[7, -1, 9, -1]])
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    said = say(read, tokens, everywhere, everywhere)
    assert said[:2].isfinite().any(1).all()
    assert (said[2:] == -torch.inf).all()
    assert (said[:2, system.special.end] == -torch.inf).all()  # a length is given: the end is no word
    torch.testing.assert_close(said[:2].exp().sum(1), torch.ones(2))


def test_a_system_twice_writes_what_it_writes_alone(ordered_pipe: DiffuSeqPipeline) -> None:
    twice = together(ordered_pipe, ordered_pipe.system)
    changes = {"sampler": "fixed-point", "temperature": 0.7, "steps": 12}
    alone, answers = ordered_pipe(SOURCES, **changes), twice(SOURCES, **changes)
    assert [answer.candidates for answer in answers] == [answer.candidates for answer in alone]
    for one, two in zip(answers, alone, strict=True):
        assert one.log_p == pytest.approx(two.log_p, abs=1e-3)
        assert one.forwards == two.forwards == 12


def test_a_system_twice_with_a_template_writes_what_it_writes_alone(ordered_pipe: DiffuSeqPipeline) -> None:
    twice = together(ordered_pipe, ordered_pipe.system)
    template = "what is [MASK]*3 to learn [MASK]?"
    changes: dict[str, Any] = {"sampler": "fixed-point", "temperature": 0.7, "template": template}
    alone, answers = ordered_pipe(SOURCES, **changes), twice(SOURCES, **changes)
    assert [answer.candidates for answer in answers] == [answer.candidates for answer in alone]


@pytest.mark.parametrize("kind", READERS)
def test_a_member_that_counts_for_all_is_decoded_greedily_in_few_calls(
    kind: str, ordered_pipe: DiffuSeqPipeline
) -> None:
    """The fixed point of the likeliest words is the greedy text, whoever drafted."""
    system = member(ordered_pipe, READERS[kind], seed=3)
    pipe = together(ordered_pipe, system, weights=(1e-30, 1.0))
    settings = pipe.settings(temperature=0.0, steps=24, candidates=1, repeats=True)
    *_, last = pipe.run(pipe.prepare(SOURCES, settings), settings)
    special = pipe.tokenizer.special
    for row, (source, gone) in enumerate(zip(pipe.tokenizer.encode(SOURCES), last.padding, strict=True)):
        words: list[int] = []
        for place in range(int((~gone).sum())):
            batch = Batch(*pad([source], special.pad), *pad([[*words, special.pad]], special.pad))
            chances = system.next_words(batch)[0, place]
            chances[special.without_text(end=place == 0)] = 0.0
            words.append(int(chances.argmax()))
        assert last.tokens[row][~gone].tolist() == words


def test_the_expectations_of_an_ensemble_are_the_mean_of_its_members(
    ordered_pipe: DiffuSeqPipeline, transformer: System
) -> None:
    pipe = together(ordered_pipe, transformer, weights=(3.0, 1.0))
    batch = batch_of(ordered_pipe, [[7, 8, 9], [9, 12]])
    draws = [torch.Generator().manual_seed(0) for _ in range(2)]
    with torch.no_grad():
        found = pipe.system.next_words(batch, draws[0])
        ours, theirs = (system.next_words(batch, draws[1]) for system in (ordered_pipe.system, transformer))
    torch.testing.assert_close(found, 0.75 * ours + 0.25 * theirs)


def test_pinned_words_stand_where_they_were_put(both: DiffuSeqPipeline) -> None:
    settings = both.settings()
    prompts = both.prepare(SOURCES, settings, "what is [MASK]*3 to learn [MASK]?")
    given = torch.tensor(prompts[0].templates[0])
    for draft in both.run(prompts, settings):
        assert (draft.tokens == given)[:, given >= 0].all()


def test_an_answer_does_not_depend_on_what_else_is_in_the_batch(both: DiffuSeqPipeline) -> None:
    together = both(SOURCES)
    assert [answer.candidates for answer in together] == [both(source).candidates for source in SOURCES]


@pytest.mark.parametrize("changes", [{"sampler": "settle"}, {"sampler": "ddim"}, {"guidance": 2.0}])
def test_settings_that_an_ensemble_cannot_serve_are_refused(
    changes: dict[str, Any], both: DiffuSeqPipeline
) -> None:
    with pytest.raises(InputError, match="ensemble"):
        both(SOURCES, **changes)


def test_sources_that_a_member_cannot_read_are_refused(ordered_pipe: DiffuSeqPipeline) -> None:
    short = member(ordered_pipe, dataclasses.replace(READERS["transformer"], max_length=3))
    with pytest.raises(InputError, match="this system takes 3"):
        together(ordered_pipe, short)(SOURCES)


def test_a_source_that_leaves_no_room_for_an_answer_is_refused(ordered_pipe: DiffuSeqPipeline) -> None:
    length = len(ordered_pipe.tokenizer.encode(SOURCES[:1])[0])
    for room in (-2, 0, 1):
        gpt2 = member(ordered_pipe, dataclasses.replace(READERS["gpt2"], max_length=length + 1 + room))
        both = together(ordered_pipe, gpt2)
        if room > 0:
            assert len(ordered_pipe.tokenizer.encode([both(SOURCES[0]).text])[0]) == 1
            continue
        with pytest.raises(InputError, match=f"but this system takes {length + 1 + room}"):
            both(SOURCES[0])


def test_a_length_beyond_what_a_member_takes_is_refused(ordered_pipe: DiffuSeqPipeline) -> None:
    pipe = together(ordered_pipe, ordered_pipe.system)
    text = dataclasses.replace(pipe.config.text, max_target=100)
    pipe.config = dataclasses.replace(pipe.config, text=text)
    for ask in ({"length": 25}, {"template": "[MASK]*25"}):
        with pytest.raises(
            InputError, match="An answer of 25 tokens was asked for; this model writes up to 24"
        ):
            pipe("tea", **ask)


def test_answers_have_room_for_what_the_member_takes_that_takes_least(
    ordered_pipe: DiffuSeqPipeline,
) -> None:
    short = member(ordered_pipe, dataclasses.replace(READERS["transformer"], max_length=12))
    gpt2 = member(ordered_pipe, dataclasses.replace(READERS["gpt2"], max_length=20))
    both = together(ordered_pipe, short)
    assert isinstance(both.system, Ensemble) and both.system.longest_answer(9) == 12
    assert Ensemble.of([ordered_pipe.system, short, gpt2]).longest_answer(9) == 10
    assert Ensemble.of([ordered_pipe.system]).longest_answer(9) == ordered_pipe.system.config.max_length
    answer = both(SOURCES[0], steps=3)  # who leads has not learned any length, and would have room for all
    assert len(ordered_pipe.tokenizer.encode([answer.text])[0]) <= 12


def test_members_that_cannot_be_mixed_are_refused(
    ordered_pipe: DiffuSeqPipeline, tiny_pipe: DiffuSeqPipeline, transformer: System
) -> None:
    with pytest.raises(InputError, match="first member"):
        Ensemble.of([transformer, ordered_pipe.system])
    with pytest.raises(InputError, match="Member 2 of the ensemble, a diffuseq"):
        Ensemble.of([ordered_pipe.system, tiny_pipe.system])
    latent = GpvaeT5Config(weights="random", layers=1, heads=2, width=32, head_width=16, feed_forward=64)
    for config in (
        latent,
        CMLMConfig(encoder_layers=1, decoder_layers=1, heads=2, width=32, feed_forward=32),
    ):
        with pytest.raises(InputError, match=f"Member 2 of the ensemble, a {config.kind}"):
            Ensemble.of([ordered_pipe.system, member(ordered_pipe, config)])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"weights": (1.0,)}, "1 numbers for 2 members"),
        ({"weights": (1.0, 0.0)}, "above 0"),
        ({"weights": (1.0, float("nan"))}, "above 0"),
        ({"weights": ("1", "2")}, "has '1'; give numbers above 0"),
        ({"members": ()}, "0 systems"),
    ],
)
def test_configs_that_make_no_ensemble_are_refused(
    changes: dict[str, Any], says: str, both: DiffuSeqPipeline
) -> None:
    with pytest.raises(InputError, match=says):
        build(dataclasses.replace(both.system.config, **changes), both.tokenizer.special)


def test_an_ensemble_within_an_ensemble_is_refused(both: DiffuSeqPipeline) -> None:
    with pytest.raises(InputError, match="is an ensemble; give its members"):
        Ensemble.of([both.system.leader, both.system])  # type: ignore[union-attr, list-item]


def test_the_config_of_an_ensemble_comes_back_from_json(both: DiffuSeqPipeline) -> None:
    values = json.loads(json.dumps(to_dict(both.config)))
    assert config_from_dict(values) == both.config
    values["system"]["members"][1]["layers"] = 3
    with pytest.raises(InputError, match=r"system\.members\[1\]"):
        config_from_dict(values)
    values["system"]["members"][1] = {"width": 3}
    with pytest.raises(InputError, match=r"no system\.members\[1\]\.kind"):
        config_from_dict(values)


def test_an_ensemble_is_trained_on_as_its_members_are_alone(
    ordered_pipe: DiffuSeqPipeline, transformer: System
) -> None:
    batch = batch_of(ordered_pipe, [[7, 8, 9], [9, 12], [10]])
    members = [build(system.config, system.special) for system in (ordered_pipe.system, transformer)]
    ensemble = Ensemble.of(members)
    loss = ensemble(batch, torch.Generator().manual_seed(0))
    alone = [system(batch, torch.Generator().manual_seed(0)) for system in members]
    torch.testing.assert_close(loss.value, alone[0].value + alone[1].value)
    assert loss.weight == alone[0].weight == alone[1].weight
    shares = {name: ensemble.learning_rate_share(name) for name, _ in ensemble.named_parameters()}
    assert set(shares.values()) == {1.0}
    before = loss.value.item()
    settings = TrainingConfig(batch_size=3, steps=30, learning_rate=1e-2, warmup=0.0, ema=0.0, log_every=30)
    seen: list[dict[str, float]] = []
    fit(ensemble, Stream(lambda _: batch, 3), settings, on_log=seen.append)
    assert {"nll 1", "nll 2"} <= set(seen[-1])
    assert ensemble(batch, torch.Generator().manual_seed(0)).value.item() < before / 2


@pytest.fixture
def folders(ordered_pipe: DiffuSeqPipeline, transformer: System, tmp_path: Path) -> list[str]:
    """Ours and a Transformer as model folders of one vocabulary."""
    ordered_pipe.save_pretrained(tmp_path / "ours")
    text = TextConfig(max_source=20, max_target=24)
    config = Config(system=transformer.config, text=text, generation=AutoregressiveGeneration())
    DiffuSeqPipeline(transformer, ordered_pipe.tokenizer, config).save_pretrained(tmp_path / "transformer")
    return [str(tmp_path / "ours"), str(tmp_path / "transformer")]


def run(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main(["ensemble", *map(str, words)])
    return int(left.value.code or 0)


def test_the_command_writes_a_model_like_any_other(folders: list[str], tmp_path: Path) -> None:
    out = tmp_path / "both"
    assert run(*folders, "--out", out, "--weights", "2", "1") == 0
    saved, opened = DiffuSeqPipeline.from_pretrained(out), DiffuSeqPipeline.ensemble(folders, (2.0, 1.0))
    assert isinstance(saved.system, Ensemble) and isinstance(saved.system.leader, DiffuSeq)
    assert saved.system.weights == pytest.approx([2 / 3, 1 / 3])
    assert saved.config == opened.config
    assert (saved.config.text.max_source, saved.config.generation.sampler) == (20, "fixed-point")
    assert [a.candidates for a in saved(SOURCES)] == [a.candidates for a in opened(SOURCES)]
    saved.save_pretrained(tmp_path / "again")
    again = DiffuSeqPipeline.from_pretrained(tmp_path / "again")
    assert [a.candidates for a in again(SOURCES)] == [a.candidates for a in opened(SOURCES)]
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "# An `ensemble` system" in card
    assert "trained apart: `diffuseq` (weight 0.667), `transformer` (weight 0.333)" in card
    assert "pairs a step" not in card  # the whole was never trained


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8])
def test_weights_stay_as_the_members_store_them(
    dtype: torch.dtype, ordered_pipe: DiffuSeqPipeline, folders: list[str]
) -> None:
    from diffuseq.checkpoint import save_model
    from diffuseq.ensembles import save_ensemble
    from diffuseq.weights import read_weights

    given, out = (
        (ordered_pipe.system, ordered_pipe.config, ordered_pipe.tokenizer),
        Path(folders[0] + "-both"),
    )
    save_model(folders[0], *given, dtype=dtype, max_shard_bytes=4000)
    save_ensemble(folders, out)
    members = [read_weights(Path(folder)) for folder in folders]
    assert any(tensor.dtype == dtype for tensor in members[0].values())
    found = read_weights(out)
    for number, member in enumerate(members):
        for name, tensor in member.items():
            stored = found.pop(f"members.{number}.{name}")
            assert stored.dtype == tensor.dtype and torch.equal(stored, tensor)
    assert not found
    answers = [
        pipe(SOURCES) for pipe in (DiffuSeqPipeline.from_pretrained(out), DiffuSeqPipeline.ensemble(folders))
    ]
    assert [a.candidates for a in answers[0]] == [a.candidates for a in answers[1]]


def test_an_ensemble_by_name_opens_the_models_where_they_are(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffuseq.training.start import begin_as, starting_from

    monkeypatch.chdir(tmp_path)
    out = tmp_path / "deeper" / "both"
    assert run("ours", "transformer", "--out", out, "--by-name") == 0
    assert not list(out.glob("*.safetensors*"))
    monkeypatch.chdir(out)
    named, whole = DiffuSeqPipeline.from_pretrained(out), DiffuSeqPipeline.ensemble(folders)
    assert named.config.system == whole.config.system  # whose weights are there now
    assert [a.candidates for a in named(SOURCES)] == [a.candidates for a in whole(SOURCES)]
    named.save_pretrained(tmp_path / "again")
    shutil.rmtree(folders[1])
    again = DiffuSeqPipeline.from_pretrained(tmp_path / "again")
    assert [a.candidates for a in again(SOURCES)] == [a.candidates for a in whole(SOURCES)]
    with pytest.raises(InputError, match="There is no model folder"):
        DiffuSeqPipeline.from_pretrained(out)
    shutil.copytree(folders[0], folders[1])  # another system there: not what the ensemble was made of
    with pytest.raises(InputError, match=r"not those of its config|knows nothing of"):
        DiffuSeqPipeline.from_pretrained(out)
    assert run(folders[0], folders[0], "--out", out, "--by-name", "--overwrite") == 0
    begun = starting_from(whole.config, str(out))
    system = build(begun.system, named.tokenizer.special)
    begin_as(system, str(out), named.tokenizer)
    ours = DiffuSeqPipeline.from_pretrained(folders[0]).system
    for member in system.members:
        assert all(torch.equal(a, b) for a, b in zip(member.parameters(), ours.parameters(), strict=True))


def test_a_model_of_another_vocabulary_by_now_is_refused(folders: list[str], tmp_path: Path) -> None:
    from diffuseq.text.tokenizer import Tokenizer

    assert run(*folders, "--out", tmp_path / "both", "--by-name") == 0
    Tokenizer.train(["nothing that was there before"], vocab_size=60).save(Path(folders[1]))
    with pytest.raises(InputError, match="another vocabulary by now"):
        DiffuSeqPipeline.from_pretrained(tmp_path / "both")


def test_names_and_members_must_agree(folders: list[str], tmp_path: Path) -> None:
    assert run(*folders, "--out", tmp_path / "both", "--by-name") == 0
    place = tmp_path / "both" / "config.json"
    values = json.loads(place.read_text(encoding="utf-8"))
    values["system"]["models"].pop()
    place.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(InputError, match="models has 1 names for 2 members"):
        DiffuSeqPipeline.from_pretrained(tmp_path / "both")


def test_the_command_refuses_what_makes_no_ensemble(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str | Path) -> str:
        assert run(*words, "--out", tmp_path / "out") == 2
        return capsys.readouterr().err

    assert "two or more" in refused(folders[0])
    assert "first" in refused(*reversed(folders))
    assert "numbers for 2 members" in refused(*folders, "--weights", "1")
    assert "another vocabulary" in refused(folders[0], "grammar")
    assert "no model folder" in refused(folders[0], str(tmp_path / "nowhere"))
    assert not (tmp_path / "out").exists()
    shutil.copytree(folders[0], tmp_path / "out")
    assert "--overwrite" in refused(*folders)
    assert run(*folders, "--out", tmp_path / "out", "--overwrite") == 0


@pytest.mark.parametrize("how", [(), ("--by-name",)])
def test_a_member_is_not_written_over(
    how: tuple[str, ...], folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(folders[1])
    for out in (folders[0], tmp_path / "link", tmp_path / "ours" / ".." / "ours"):
        assert run(*folders, "--out", out, "--overwrite", *how) == 2
        assert "is one of the members, whose weights would be lost" in capsys.readouterr().err
    assert all((Path(folder) / "model.safetensors").is_file() for folder in folders)


def test_a_readme_of_ones_own_stays(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "README.md").write_text("mine")
    assert run(*folders, "--out", tmp_path / "both") == 0
    assert "README.md is not as diffuseq wrote it, and stays as it is" in capsys.readouterr().err
    assert (tmp_path / "both" / "README.md").read_text() == "mine"


def test_an_ensemble_of_systems_without_words_in_order_cannot_be_opened(
    ordered_pipe: DiffuSeqPipeline, folders: list[str], tmp_path: Path
) -> None:
    cmlm = CMLMConfig(encoder_layers=1, decoder_layers=1, heads=2, width=32, feed_forward=32)
    config = Config(system=cmlm, text=ordered_pipe.config.text, generation=IterativeGeneration())
    given = build(cmlm, ordered_pipe.tokenizer.special), ordered_pipe.tokenizer, config
    DiffuSeqPipeline(*given).save_pretrained(tmp_path / "cmlm")
    with pytest.raises(InputError, match="a cmlm, has no probability"):
        DiffuSeqPipeline.ensemble([folders[0], tmp_path / "cmlm"])
    with pytest.raises(InputError, match="no models"):
        DiffuSeqPipeline.ensemble([])
