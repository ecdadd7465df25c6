"""The commands with --backend kubernetes where there is no cluster: files that are rendered, and bad input."""

import sys
from pathlib import Path

import pytest
import yaml

import igniter_opt as ig
from igniter_opt.deploy.approval import approval_path
from tests.cli.helpers import Run, invoke
from tests.deploy.conftest import approved, solve
from tests.deploy.models import write_models

IMAGE = ("--image", "example/triton:1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    approved(solve(ig.read_instance("igniter-three")), tmp_path / "plan.json")
    write_models(tmp_path / "models")
    Path("cluster.yaml").write_text("models: {claim: triton-models}\n")
    return tmp_path


def deploy(*words: str | Path, plan: str = "plan.json", cluster: str = "cluster.yaml") -> Run:
    return invoke("deploy", plan, "--models", "models", "--backend", "kubernetes", "--cluster", cluster, *IMAGE, *words)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_rendering_is_the_same_for_the_same_plan_and_touches_nothing_else(folder: Path) -> None:
    first = deploy("--render", "out", "--namespace", "ig")
    assert first.code == 0, first.err
    assert "nothing was asked of a cluster" in first.err
    out = folder / "out"
    before = files(out)
    assert set(before) == {"objects.yaml", "Kustomization", "admin/rbac.yaml"}
    (out / "mine.yaml").write_text("mine")
    assert deploy("--render", "out", "--namespace", "ig").code == 0
    assert files(out) == {**before, "mine.yaml": b"mine"}
    objects = list(yaml.safe_load_all(before["objects.yaml"]))
    assert {entry["metadata"]["namespace"] for entry in objects} == {"ig"}
    kinds = [entry["kind"] for entry in objects]
    assert (kinds.count("Deployment"), kinds.count("ResourceClaim"), kinds.count("Service")) == (3, 1, 3)
    role = next(e for e in yaml.safe_load_all(before["admin/rbac.yaml"]) if e["kind"] == "Role")
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} <= {
        "create",
        "delete",
        "get",
        "list",
        "patch",
        "watch",
    }
    assert not {"*", "secrets", "nodes"} & {name for rule in role["rules"] for name in rule["resources"]}


def test_somebody_elses_file_is_not_replaced(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "objects.yaml").write_text("mine: true\n")
    run = deploy("--render", "out")
    assert (run.code, "exists and is not objects of igniter-opt" in run.err) == (2, True)
    assert (folder / "out" / "objects.yaml").read_text() == "mine: true\n"


def test_limits_of_other_allocations_stand_in_the_file_and_in_the_output(folder: Path) -> None:
    (folder / "hami.yaml").write_text("models: {claim: m}\nallocation: hami\n")
    run = deploy("--render", "out", cluster="hami.yaml")
    assert run.code == 0, run.err
    assert "note: allocation hami: HAMi limits servers by a library of its own" in run.err
    assert "# Note: allocation hami:" in (folder / "out" / "objects.yaml").read_text()


def test_a_plan_that_is_not_approved_is_not_rendered(folder: Path) -> None:
    approval_path(folder / "plan.json").unlink()
    run = deploy("--render", "out")
    assert (run.code, run.err.startswith("refused: plan.json is not approved")) == (1, True)
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cpu"], "--cpu does not go with --backend kubernetes"),
        (["--base-port", "9000"], "--base-port does not go with --backend kubernetes"),
        (["--gpu", "V100-1=GPU-1"], "--gpu does not go with --backend kubernetes"),
        (["--state", "x"], "--state does not go with --backend kubernetes"),
        (["--inventory", "hosts.yaml"], "--inventory and --docker-host go with --backend docker"),
    ],
)
def test_options_that_do_not_go_together_are_refused(folder: Path, words: list[str], said: str) -> None:
    run = deploy(*words)
    assert (run.code, said in run.err) == (2, True), run.err
    assert "Traceback" not in run.err


@pytest.mark.parametrize("words", [[], ["--diff"], ["--dry-run"]])
def test_without_the_extra_it_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    for name in ("kubernetes", "kubernetes.config", "kubernetes.client"):  # other tests may have imported them
        monkeypatch.setitem(sys.modules, name, None)
    run = deploy(*words)
    assert (run.code, "the package 'kubernetes' of the extra 'kubernetes'" in run.err) == (2, True), run.err
    assert deploy("--render", "out").code == 0, "which needs none"


def test_what_is_missing_is_asked_for(folder: Path) -> None:
    plain = ["deploy", "plan.json", "--models", "models", "--backend", "kubernetes"]
    assert invoke(*plain).err == (
        "error: --backend kubernetes needs --image, such as the tritonserver image that your engines were built for\n"
    )
    run = invoke(*plain, *IMAGE)
    assert run.err == "error: --backend kubernetes needs --cluster, a file that says where pods find the models\n"
    other = invoke("deploy", "plan.json", "--models", "models", "--cpu", "--render", "out")
    assert (other.code, "--render, --diff and --take-over go with --backend kubernetes" in other.err) == (2, True)
    foreign = invoke("status", "--namespace", "ig")
    assert (foreign.code, "go with --backend kubernetes" in foreign.err) == (2, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found nothing"),
        ("models: {}\n", "give either claim"),
        ("models: {claim: Not_A_Name}\n", "models.claim: must be lower-case letters"),
        ("models: {claim: m, path: ../x}\n", "models.path: must be a relative path"),
        ("models: {claim: m}\nallocation: draa\n", "allocation: must be one of dra, hami, device-plugin; found 'draa'"),
        ("models: {claim: m}\nuser: 0\n", "user: must be at least 1"),
        ("models: {claim: m}\nnode_selector: {'a b': c}\n", "must be the key of a label"),
        ("models: {claim: m}\nimage: x\n", "unknown key 'image'"),
        ('models: {claim: m}\nproducts: {V100: ["a\\nb"]}\n', "must be a card's name"),
    ],
)
def test_bad_cluster_files_are_told(folder: Path, text: str, said: str) -> None:
    (folder / "bad.yaml").write_text(text)
    run = deploy("--render", "out", cluster="bad.yaml")
    assert (run.code, said in run.err) == (2, True), run.err
    assert not (folder / "out").exists()


@pytest.mark.parametrize("namespace", ["Upper", "a/b", "-x", "a" * 64, "../x", ""])
def test_hostile_namespaces_are_refused(folder: Path, namespace: str) -> None:
    run = deploy("--render", "out", f"--namespace={namespace}")
    assert (run.code, "--namespace: must be" in run.err) == (2, True), run.err
    status = invoke("status", "--backend", "kubernetes", f"--namespace={namespace}")
    assert (status.code, "--namespace: must be" in status.err) == (2, True), status.err


def test_what_an_image_is_called_becomes_no_other_field(folder: Path) -> None:
    run = invoke(
        "deploy", "plan.json", "--models", "models", "--backend", "kubernetes", "--cluster", "cluster.yaml",
        "--image", "x\nprivileged: true", "--render", "out",
    )  # fmt: skip
    assert (run.code, "--image: must be an image" in run.err) == (2, True)


def test_a_card_that_is_quoted_stays_a_text(folder: Path) -> None:
    (folder / "quoted.yaml").write_text("models: {claim: m}\nproducts: {V100: ['a\" || true || \"']}\n")
    run = deploy("--render", "out", cluster="quoted.yaml")
    assert run.code == 0, run.err
    objects = yaml.safe_load_all((folder / "out" / "objects.yaml").read_text())
    claim = next(entry for entry in objects if entry["kind"] == "ResourceClaim")
    (chosen,) = claim["spec"]["devices"]["requests"][0]["exactly"]["selectors"]
    assert chosen["cel"]["expression"].endswith(r'in ["a\" || true || \""]')
