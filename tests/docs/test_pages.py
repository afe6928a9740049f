"""The pages are true of the tree: links lead somewhere, rooms and recipes are there, figures can be drawn."""

import importlib.util
import json
import re
import sys
import tempfile

import pytest
from pages import DOCS, PAGES, ROOT, links

from diffuseq.recipes import RECIPES

SOURCE = ROOT / "src" / "diffuseq"


def script(name):
    """A script of the docs folder as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-")
        for line in page.read_text().splitlines()
        if line.startswith("#")
    }
    for target in links(page):
        path, _, heading = target.partition("#")
        assert not path or (page.parent / path).exists(), target
        assert path or heading in headings, target


def test_the_recipes_page_is_what_its_script_writes():
    assert (DOCS / "recipes.md").read_text() == script("recipes_page").page()


def test_the_recipes_page_names_every_recipe():
    named = set(re.findall(r"`([\w-]+)`|\[([\w-]+)\]\(#", (DOCS / "recipes.md").read_text()))
    assert set(RECIPES) <= {name for pair in named for name in pair}


def test_every_figure_is_drawn_kept_and_shown(tmp_path):
    figures = script("figures")
    drawn = {path.name for path in figures.draw(tmp_path)}
    concepts = (DOCS / "concepts.md").read_text()
    assert drawn == {path.name for path in (DOCS / "images").glob("concepts-*.svg")}
    for name in drawn:
        assert f"images/{name})" in concepts
        assert (DOCS / "images" / name).stat().st_size < 60_000


def rooms():
    """Rows of the table of rooms: the names in the first column, and those in the second."""
    text = (DOCS / "architecture.md").read_text()
    for left, right in re.findall(r"^\| (`.*?) \| (.*) \|$", text, re.MULTILINE):
        yield re.findall(r"`([\w./]+)`", left), re.findall(r"`([a-z_]+)`", right)


def test_the_architecture_page_has_every_room():
    named = {name.strip("/") for left, _ in rooms() for name in left}
    there = {
        path.name
        for path in SOURCE.iterdir()
        if (path.is_dir() and path.name != "__pycache__")
        or (path.suffix == ".py" and not path.name.startswith("__"))
    }
    assert there == named


def test_every_module_that_a_room_is_said_to_have_is_there():
    checked = 0
    for left, right in rooms():
        folders = [SOURCE / name for name in left if name.endswith("/")]
        for name in right if folders else ():
            assert any((folder / f"{name}.py").is_file() for folder in folders), f"{left}: {name}"
            checked += 1
    assert checked > 40


def test_the_tour_runs_from_top_to_bottom(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    notebook = json.loads((DOCS / "tour.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    cells[0], changed = re.subn(r"(?<==).*", " 0.02, 300, 3", cells[0])
    assert changed == 1
    space = {}
    for cell in cells:
        exec(compile(cell, "tour.ipynb", "exec"), space)
    printed = capsys.readouterr().out
    assert "dpm-solver" in printed
    assert "Unknown generation setting 'temprature'" in printed
    assert re.search(r"what should i do \[\.\.\.\] +what should i do", printed)


def test_the_tour_is_kept_without_outputs():
    notebook = json.loads((DOCS / "tour.ipynb").read_text())
    assert notebook["nbformat"] == 4
    assert all(cell["outputs"] == [] for cell in notebook["cells"] if cell["cell_type"] == "code")
