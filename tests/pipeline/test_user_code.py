"""The user's own code: where a recipe is found, what its wheel holds, and how an unusable one is reported."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from click.testing import CliRunner

from adaptation.errors import AdaptationError
from components.code_version import code_version
from models.recipe import UnusableRecipe
from models.user_code import digest_in, install
from pipeline.cli.main import cli
from pipeline.user_code import LARGEST, UserCode, code_uri, find, pack, prepare, upload
from pipeline.workspace.settings import Settings
from pipeline.workspace.settings_file import load, write_settings
from tests.worlds.images import collect

MODULE = "def build_model(spec):\n    return spec.model\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workspace with the package `shop` beside its settings."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "small.py").write_text(MODULE)
    return tmp_path


def settings(folder: Path, model: str = "shop.small", **options: object) -> Settings:
    (folder / "adapt.toml").unlink(missing_ok=True)
    values = {"model.name": model, "model.options": options or None}
    return load(write_settings(folder / "adapt.toml", ["hat", "shoe"], values))


def packed(folder: Path, model: str = "shop.small") -> UserCode:
    code = pack(settings(folder, model))
    assert code
    return code


def names(code: UserCode, file: Path) -> list[str]:
    file.write_bytes(code.data)
    return [name for name in zipfile.ZipFile(file).namelist() if "dist-info" not in name]


def test_built_in_recipe_has_no_wheel_whatever_lies_beside(folder: Path) -> None:
    (folder / "digits").mkdir()
    (folder / "digits" / "cut.py").write_text("")
    assert pack(settings(folder, "digits")) is None
    assert code_uri(settings(folder, "models.recipes.digits")) == ""


def test_wheel_holds_the_package_and_nothing_beside_it(folder: Path, tmp_path: Path) -> None:
    (folder / "other.py").write_text("")
    (folder / "shop" / "classes.json").write_text("[]")
    for hidden in (".cache/x.py", "__pycache__/small.pyc"):
        (folder / "shop" / hidden).parent.mkdir()
        (folder / "shop" / hidden).write_text("")
    assert names(packed(folder), tmp_path / "a.whl") == ["shop/__init__.py", "shop/classes.json", "shop/small.py"]


def test_wheel_of_a_module_holds_that_file(folder: Path, tmp_path: Path) -> None:
    (folder / "mine.py").write_text(MODULE)
    assert names(packed(folder, "mine"), tmp_path / "a.whl") == ["mine.py"]


def test_wheel_has_the_same_bytes_for_the_same_files(folder: Path, tmp_path: Path) -> None:
    first = packed(folder)
    os.utime(folder / "shop" / "small.py", (0, 0))
    assert packed(folder) == first
    assert packed(folder).put(str(tmp_path / "code")) == first.put(str(tmp_path / "code"))
    (folder / "shop" / "small.py").write_text(MODULE + "\n")
    assert packed(folder).name != first.name


def test_wheel_is_one_to_pip(folder: Path, tmp_path: Path) -> None:
    wheel = packed(folder).put(str(tmp_path))
    words = ["install", "-q", "--no-index", "--no-deps", "--target", str(tmp_path / "site"), wheel]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, capture_output=True)
    assert (tmp_path / "site" / "shop" / "small.py").read_text() == MODULE


def test_version_of_the_code_has_the_digest_of_the_recipe(folder: Path) -> None:
    digest = digest_in(code_uri(settings(folder)))
    assert code_version(digest) == f"{code_version()}.{packed(folder).digest[:12]}"


def test_recipe_is_imported_from_the_wheel_and_not_from_the_folder(folder: Path) -> None:
    spec = prepare(settings(folder))
    from shop import small  # type: ignore[import-not-found]

    assert spec.model == "shop.small"
    assert not Path(small.__file__).is_relative_to(folder)
    assert len(list((folder / "code").iterdir())) == 1


def test_changed_recipe_replaces_the_one_before_in_the_same_process(folder: Path) -> None:
    prepare(settings(folder))
    (folder / "shop" / "small.py").write_text("NEW = 1\n" + MODULE)
    prepare(settings(folder))
    from shop import small

    assert small.NEW == 1
    assert sum("recipe-" in path for path in sys.path) == 1


def test_installed_recipe_is_packed_too(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    (site / "acme").mkdir(parents=True)
    (site / "acme" / "__init__.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(site))
    assert names(packed(folder, "acme"), tmp_path / "a.whl") == ["acme/__init__.py"]


def test_entry_point_travels_with_the_wheel(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    info = site / "acme-1.dist-info"
    info.mkdir(parents=True)
    (site / "acme.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[continuous_adaptation.recipes]\nbest = acme\n")
    with monkeypatch.context() as patched:
        patched.syspath_prepend(str(site))
        wheel = packed(folder, "best").put(str(tmp_path))
    install(wheel)
    from models.recipe import load_recipe

    assert load_recipe("best").build_model(prepare_digits()) == "digits"
    assert distribution("adapt-recipe").version.startswith("0+")


def prepare_digits():  # type: ignore[no-untyped-def]
    from models.recipe import training_spec

    return training_spec("digits", ("hat", "shoe"))


def test_wheel_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdaptationError, match=r"nowhere\.whl.*adapt publish"):
        install(str(tmp_path / "nowhere.whl"))


def test_wheel_is_put_where_the_tasks_find_it(folder: Path) -> None:
    upload(settings(folder))
    assert Path(code_uri(settings(folder))).is_file()


@pytest.mark.parametrize("name", ["models", "pipeline", "json", "keras"])
def test_package_with_the_name_of_another_is_refused(folder: Path, name: str) -> None:
    (folder / "shop").rename(folder / name)
    with pytest.raises(UnusableRecipe, match=f"{folder / name} has the name of .*Rename yours"):
        find(f"{name}.small", folder)


def test_data_in_the_package_is_refused(folder: Path) -> None:
    with (folder / "shop" / "images.bin").open("wb") as file:
        file.truncate(LARGEST)
    with pytest.raises(AdaptationError, match=r"images\.bin"):
        pack(settings(folder))


@pytest.mark.parametrize(
    ("model", "text", "words"),
    [
        ("shop.smal", MODULE, 'did you mean "shop.small"'),
        ("digit", MODULE, 'did you mean "digits"'),
        ("shop.small", "def build(spec): pass\n", "build_model(spec)"),
        ("shop.small", "\ndef build_model(spec:\n", "shop/small.py, line 2"),
        ("shop.small", "\n\nimport no_such_library\n", "shop/small.py, line 3"),
    ],
)
@pytest.mark.parametrize("command", ["doctor", "train", "compile training", "rehearse training"])
def test_broken_recipe_is_reported_before_anything_starts(
    folder: Path, model: str, text: str, words: str, command: str
) -> None:
    (folder / "shop" / "small.py").write_text(text)
    values = {"model.name": model, "vertex.project": "p", "vertex.root": "gs://b/a", "vertex.image": "i"}
    if command.startswith("compile"):
        values |= {"data.root": "gs://b/data", "collection.root": "gs://b/collection", "platform.kind": "vertex"}
    write_settings(folder / "adapt.toml", ["hat", "shoe"], values)
    result = CliRunner().invoke(cli, [*command.split(), "-w", str(folder)])
    assert result.exit_code == 1
    assert words in result.output.replace("\n", " ")
    assert not (folder / "jobs").exists()


def test_option_that_the_recipe_lacks_is_reported(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.options: there is no option 'filters'"):
        prepare(settings(folder, filters=3))


def test_init_writes_a_recipe_that_is_the_model(tmp_path: Path) -> None:
    collect(tmp_path / "images", [f"{label}_{number}.png" for label in ("hat", "shoe") for number in range(10)])
    images = ["--images", str(tmp_path / "images")]
    result = CliRunner().invoke(cli, ["init", "--recipe", *images, "-w", str(tmp_path / "shop")])
    assert result.exit_code == 0, result.output
    found = load(tmp_path / "shop" / "adapt.toml")
    assert found.model.name == "recipe"
    assert prepare(found).options == {"filters": 16}


def test_init_refuses_a_recipe_that_does_not_exist(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["init", "--model", "digit", "-w", str(tmp_path / "shop")])
    assert result.exit_code == 1
    assert 'did you mean "digits"' in result.output
    assert not (tmp_path / "shop" / "adapt.toml").exists()
