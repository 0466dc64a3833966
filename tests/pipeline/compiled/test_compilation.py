"""The compiled pipelines: the golden specs, their readers, and the executors of an installed copy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from google.cloud.aiplatform_v1 import CustomJobSpec

from adaptation.retraining import TRAINING
from adaptation.trigger import EVALUATION
from pipeline.compiled.spec import Spec, executor_classes
from pipeline.workspace.settings_file import InvalidSettings, load, write_settings

GOLDEN = Path(__file__).parents[1] / "golden"
PROJECT = Path(__file__).parents[3]
BOTH = pytest.mark.parametrize("name", [TRAINING, EVALUATION])


@BOTH
def test_compiled_specs_are_the_golden_ones(name: str) -> None:
    from pipeline.compiled.compilation import compile_pipeline

    assert compile_pipeline(load(GOLDEN / "adapt.toml"), name).to_json() == (GOLDEN / f"{name}.json").read_bytes()


@BOTH
def test_sdk_parses_the_golden_specs(name: str) -> None:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.aiplatform import PipelineJob

    job = PipelineJob(
        display_name=name,
        template_path=str(GOLDEN / f"{name}.json"),
        project="shop",
        location="europe-west4",
        credentials=AnonymousCredentials(),
    )
    assert job.pipeline_spec["pipelineInfo"]["name"] == f"shop-{name}"


@BOTH
def test_kubeflow_loads_the_pipeline_spec(name: str, tmp_path: Path) -> None:
    from kfp.components import load_component_from_file

    from pipeline.compiled.kubeflow import package

    file = package(Spec.from_json((GOLDEN / f"{name}.json").read_bytes()), tmp_path)
    assert load_component_from_file(str(file)).pipeline_spec.pipeline_info.name == f"shop-{name}"


def test_runtime_parameters_are_those_of_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.compiled.compilation import compile_pipeline

    assert parameters(EVALUATION) == {"data_gcs_prefix"}
    assert parameters(TRAINING) == {"window", "digest"}
    monkeypatch.setenv("ADAPT_TRAINING__INGESTION", "import")
    imported = compile_pipeline(load(GOLDEN / "adapt.toml"), TRAINING)
    assert set(imported.parameters) == {"input-config", "output-config"}


def test_training_with_its_own_machine_is_a_vertex_job(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.compiled.compilation import compile_pipeline

    for name, value in {"MACHINE": "n1-standard-16", "ACCELERATOR": "NVIDIA_TESLA_T4"}.items():
        monkeypatch.setenv(f"ADAPT_VERTEX__TRAINING__{name}", value)
    spec = compile_pipeline(load(GOLDEN / "adapt.toml"), TRAINING)
    assert "tfx.extensions.google_cloud_ai_platform.trainer.executor.GenericExecutor" in executor_classes(spec)
    given = spec.tasks["Trainer"]["inputs"]["parameters"]["custom_config"]["runtimeValue"]["constant"]
    job = json.loads(given)["ai_platform_training_args"]
    CustomJobSpec(job["job_spec"])  # the service's own message takes it
    (pool,) = job["job_spec"]["worker_pool_specs"]
    assert pool["machine_spec"]["accelerator_type"] == "NVIDIA_TESLA_T4"
    assert pool["container_spec"]["image_uri"] == "europe-west4-docker.pkg.dev/shop/images/adaptation:1"


def test_dataflow_runs_the_image_of_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.compiled.compilation import compile_pipeline

    monkeypatch.setenv("ADAPT_VERTEX__DATAFLOW", "true")
    spec = compile_pipeline(load(GOLDEN / "adapt.toml"), EVALUATION)
    arguments = spec.executors["SpanPreparator_executor"]["container"]["args"]
    assert "--runner=DataflowRunner" in arguments
    assert "--sdk_container_image=europe-west4-docker.pkg.dev/shop/images/adaptation:1" in arguments


@BOTH
def test_beam_runs_in_the_task_unless_it_runs_on_dataflow(name: str) -> None:
    arguments = [
        executor["container"]["args"] for executor in golden(name).executors.values() if "container" in executor
    ]
    assert all("--runner=FnApiRunner" in given for given in arguments)


@pytest.mark.parametrize("ingestion", ["spans", "import"])
def test_evaluation_triggers_a_training_with_its_way_of_ingestion(
    monkeypatch: pytest.MonkeyPatch, ingestion: str
) -> None:
    from pipeline.compiled.compilation import compile_pipeline

    monkeypatch.setenv("ADAPT_TRAINING__INGESTION", ingestion)
    given = compile_pipeline(load(GOLDEN / "adapt.toml"), EVALUATION).tasks["PipelineTrigger"]["inputs"]["parameters"]
    assert given["ingestion"]["runtimeValue"]["constant"] == ingestion


def test_settings_without_a_cloud_are_refused_with_all_that_is_missing(tmp_path: Path) -> None:
    from pipeline.compiled.compilation import compile_pipeline

    settings = load(write_settings(tmp_path / "adapt.toml", ["cat", "dog"]))
    with pytest.raises(InvalidSettings) as caught:
        compile_pipeline(settings, TRAINING)
    for key in ("vertex.project", "vertex.root", "vertex.image", "data.root", "collection.root"):
        assert key in str(caught.value)


def test_executors_import_from_an_installed_copy(tmp_path: Path) -> None:
    python = installed_copy(tmp_path)
    classes = sorted({path for name in (TRAINING, EVALUATION) for path in executor_classes(golden(name))})
    script = f"""
import importlib, os
for path in {classes!r}:
    module, _, name = path.rpartition(".")
    found = importlib.import_module(module)
    getattr(found, name)
    assert not module.startswith("components.") or found.__file__.startswith({str(tmp_path)!r}), found.__file__
"""
    done = subprocess.run([python, "-I", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_image_installs_the_lock_and_the_project_and_runs_without_root() -> None:
    lines = (PROJECT / "Dockerfile").read_text().splitlines()
    installs = [line for line in lines if "pip install" in line]
    assert any("--require-hashes" in line and "requirements.lock" in line for line in installs)
    assert any("--no-deps" in line and "/build &&" in line and "--editable" not in line for line in installs)
    assert all("--compile" in line for line in installs)
    assert [line for line in lines if line.startswith("USER")] == ["USER adaptation"]
    assert "PYTHONDONTWRITEBYTECODE" not in "\n".join(lines)
    copied = {line.split()[1] for line in lines if line.startswith("COPY") and line.split()[1].isidentifier()}
    assert copied == {"adaptation", "components", "models", "pipeline"}
    admitted = {line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied | {"requirements.lock", "pyproject.toml", "README.md", "LICENSE"} == admitted


def test_image_starts_beams_own_boot_program_of_the_locked_version() -> None:
    lines = (PROJECT / "Dockerfile").read_text().splitlines()
    (beam,) = [line for line in lines if line.startswith("FROM apache/beam_python3.11_sdk:")]
    locked = (PROJECT / "requirements.lock").read_text()
    assert f"\napache-beam=={beam.split()[1].partition(':')[2]} " in locked
    assert "COPY --from=beam /opt/apache/beam /opt/apache/beam" in lines
    assert "ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1" in lines
    assert [line for line in lines if "ENTRYPOINT" in line] == ['ENTRYPOINT ["/opt/apache/beam/boot"]'] == lines[-1:]


def golden(name: str) -> Spec:
    return Spec.from_json((GOLDEN / f"{name}.json").read_bytes())


def parameters(name: str) -> set[str]:
    return set(golden(name).parameters)


def installed_copy(folder: Path) -> str:
    """Return the Python of a fresh environment with the locked packages and this project, installed as in the image."""
    venv.create(folder / "fresh", with_pip=False)
    site = next((folder / "fresh" / "lib").glob("python*/site-packages"))
    locked = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    (site / "locked.pth").write_text(f"{locked}\n")
    wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    source = folder / "source"
    source.mkdir()
    for name in ("adaptation", "components", "models", "pipeline", "pyproject.toml", "README.md", "LICENSE"):
        os.symlink(PROJECT / name, source / name)
    subprocess.run([*wheel, str(source)], check=True, capture_output=True)
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site)]
    subprocess.run([*install, *map(str, folder.glob("*.whl"))], check=True, capture_output=True)
    return str(folder / "fresh" / "bin" / "python")
