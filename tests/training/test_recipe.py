"""Recipes: what is read, what overrides do, and how mistakes are answered."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from echogen.errors import InputError
from echogen.training.recipe import Recipe, first_difference, load_recipe, recipe_values, settings, with_present_names

TEXT = """
task: tokenizer
steps: 200
learning_rate: 3e-4
betas: [0.5, 0.9]
network:
  width: 64
options:
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(TEXT)
    return file


def test_reads_a_file(path):
    recipe = load_recipe(path)
    assert (recipe.task, recipe.steps, recipe.learning_rate, recipe.betas) == ("tokenizer", 200, 3e-4, (0.5, 0.9))
    assert recipe.network == {"width": 64}
    assert recipe.options == {}
    assert recipe.minutes is None


def test_overrides_are_yaml(path):
    overrides = (
        "steps=1e3",
        "network.width=128",
        "options.loss.weights=[1, 2.5]",
        "minutes=20",
        "init_from=null",
        "data.flip=true",
    )
    recipe = load_recipe(str(path), overrides)
    assert recipe.steps == 1000
    assert isinstance(recipe.steps, int)
    assert recipe.network == {"width": 128}
    assert recipe.options == {"loss": {"weights": [1, 2.5]}}
    assert recipe.minutes == 20.0
    assert recipe.init_from is None
    assert recipe.data == {"flip": True}


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        ("learning_rat=1", "did you mean learning_rate"),
        ("steps", "form key=value"),
        ("=3", "form key=value"),
        ("network..width=3", "form key=value"),
        ("steps=many", "steps must be a whole number"),
        ("steps=1.5", "steps must be a whole number"),
        ("steps=true", "steps must be a whole number"),
        ("steps=0", "steps must be at least 1"),
        ("learning_rate=.nan", "learning_rate must be a number"),
        ("learning_rate=0", "learning_rate must be above 0"),
        ("schedule=linear", "schedule must be one of constant, cosine"),
        ("betas=[0.9]", "betas must be a list of 2 values"),
        ("betas=[0.9, 1]", "betas must be at least 0 and below 1"),
        ("network=3", "network must be a mapping"),
        ("network.width.deep=3", "goes into network.width"),
        ("seed.x=3", "must be a whole number"),
        ("options.a=[1", "not valid YAML"),
        ("init_from=3", "init_from must be text"),
        ("final_learning_rate_share=2", "between 0 and 1"),
        ("minutes=-1", "minutes must be above 0"),
    ],
)
def test_override_mistakes(path, override, answer):
    with pytest.raises(InputError, match=answer) as caught:
        load_recipe(path, (override,))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", "lines"),
        ("- 1", "lines"),
        ("task: a", "lacks the setting steps"),
        ("task: a\nsteps: 3\nbatchsize: 3", "did you mean batch_size"),
        ("task: a\nsteps: 3\nqqqqqq: 3", "use one of"),
        ("task: a\nsteps: [3", "not valid YAML"),
        ("task: !!python/object/apply:os.system ['true']\nsteps: 1", "not valid YAML"),
        ("1: 2", "no setting 1"),
    ],
)
def test_file_mistakes(tmp_path, text, answer):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=answer) as caught:
        load_recipe(file)
    assert "\n" not in str(caught.value)


def test_unreadable_files(tmp_path):
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(bytes(range(128, 256)))
    for path in (binary, tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(InputError):
            load_recipe(path)
    with pytest.raises(InputError, match="no recipe 'nothing-like-it'"):
        load_recipe("nothing-like-it")


def test_shipped_recipes_load_by_name():
    shipped = sorted((Path(__file__).parents[2] / "src" / "echogen" / "training" / "recipes").glob("*.yaml"))
    assert shipped
    for file in shipped:
        assert load_recipe(file.stem).task


def test_settings_of_a_task():
    @dataclass(frozen=True)
    class Quantizer:
        levels: tuple[int, ...] = (8, 6, 5)

    @dataclass(frozen=True)
    class Network:
        width: int
        quantizer: Quantizer = Quantizer()
        dropout: float = 0.0

    values = {"width": 8, "quantizer": {"levels": [7, 5]}, "dropout": 1}
    assert settings(Network, values, "network.") == Network(8, Quantizer((7, 5)), 1.0)
    with pytest.raises(InputError, match=r"network\.quantizer\.level; did you mean network\.quantizer\.levels"):
        settings(Network, {"width": 8, "quantizer": {"level": [7]}}, "network.")
    with pytest.raises(InputError, match=r"lacks the setting network\.width"):
        settings(Network, {}, "network.")


def test_what_may_change_on_resume():
    recipe = Recipe(task="a", steps=3, network={"width": 4, "depth": 2})
    values = recipe_values(recipe)
    assert (
        first_difference(values, recipe_values(Recipe(task="a", steps=9, log_every=1, network={"width": 4, "depth": 2}))) is None
    )
    assert first_difference(values, recipe_values(Recipe(task="a", steps=3, network={"width": 4, "depth": 3}))) == "network.depth"
    assert first_difference(values, recipe_values(Recipe(task="a", steps=3, network={"width": 4}))) == "network.depth"
    nested = recipe_values(Recipe(task="a", steps=3, network={"width": 4, "depth": 2}, options={"steps": 8}))
    assert first_difference(values, nested) == "options.steps"


@given(
    st.fixed_dictionaries(
        {
            "task": st.text("abc", min_size=1),
            "steps": st.integers(1, 10**9),
            "learning_rate": st.floats(1e-9, 1.0),
            "betas": st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
            "minutes": st.none() | st.floats(0.01, 1e4),
            "precision": st.sampled_from(["auto", "bf16", "fp32"]),
            "options": st.dictionaries(st.text("abc", min_size=1), st.booleans() | st.integers() | st.text("xyz")),
        }
    )
)
def test_a_written_recipe_reads_back_the_same(values):
    recipe = Recipe(**values)
    assert settings(Recipe, yaml.safe_load(yaml.safe_dump(recipe_values(recipe)))) == recipe


def test_former_names_go_on_working():
    recipe = Recipe(task="a", steps=3, options={"old": 4, "other": 5})
    with pytest.warns(FutureWarning, match=r"options\.old of a recipe is called options\.new"):
        assert with_present_names(recipe, {"options.old": "options.new"}).options == {"new": 4, "other": 5}
    assert with_present_names(recipe, {"data.old": "data.new"}) == recipe
