"""What the README's architecture section says of the house, checked on its source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fulgurite.config.run import list_all_knobs

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "fulgurite"
FILES = sorted(SOURCE.rglob("*.py"))

LAZY = {
    "peft", "bitsandbytes", "wandb", "mlflow", "trackio", "gradio", "datasets", "tensorboard", "optuna", "opacus",
    "scipy",
}


def imports(tree: ast.AST) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, node.lineno))
    return found


def at_top(tree: ast.Module) -> list[tuple[str, int]]:
    """Imports that run with the module: not inside functions, nor under TYPE_CHECKING."""
    found: list[tuple[str, int]] = []
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found += imports(node)
    return found


def module_of(path: Path) -> str:
    return ".".join(["fulgurite", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")


def declares(path: Path) -> bool:
    """Whether the module holds declarations of a group: `<group>/config.py` or a part of the package
    `<group>/config`."""
    return path.stem == "config" or (path.parent.name == "config" and path.parent.parent != SOURCE)


def test_there_are_files_to_look_at() -> None:
    assert len(FILES) > 60


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_optional_libraries_are_imported_where_they_are_needed(path: Path) -> None:
    lazy = {name.partition(".")[0] for name, _ in at_top(ast.parse(path.read_text()))} & LAZY
    assert not lazy, f"{path} imports {lazy} at its top"


LIGHT = (
    "--help", "explain optim.lr", "explain --search warmup", "explain scheduler", "runs", "train --help", "plan --help",
    "plan --rules", "chat --help", "eval --help", "export --help", "serve --help",
)
REFUSED = (
    "train optim.lr=-1", "plan stage=nonsense", "train --nonsense", "train privacy=dp_sgd scheduler=reduce_on_plateau",
    "train launcher=slurm launcher.time=4h",
)


def test_help_and_refusals_load_no_torch(tmp_path: Path) -> None:
    """`make lint` checks the imports of what `--help`, `explain` and `runs` load; other commands load torch when they
    need it. One process answers all commands, and its modules are looked at after each."""
    asked = [(words, 0) for words in LIGHT] + [(words, 2) for words in REFUSED]
    code = (
        "import sys; from fulgurite.cli.main import main\n"
        "for words in sys.argv[1:]:\n"
        "    status = main(words.split())\n"
        "    heavy = {'torch', 'transformers', 'lightning', 'numpy'} & set(sys.modules)\n"
        "    print(); print('HEAVY', heavy or 'none', status, words)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *(words for words, _ in asked)], capture_output=True, text=True, cwd=tmp_path,
        check=False,
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("HEAVY")]
    assert found == [f"HEAVY none {status} {words}" for words, status in asked], done.stderr


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_private_parts_of_hydra_are_used_in_one_place(path: Path) -> None:
    private = [name for name, _ in imports(ast.parse(path.read_text())) if name.startswith("hydra._internal")]
    assert not private or path == SOURCE / "config" / "hydra_internals.py"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_unsafe_is_called(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] + [getattr(node, "module", "") or ""]
            assert not {
                "pickle", "joblib", "dill", "cloudpickle", "marshal", "shelve",
            } & set(names), f"{path}:{node.lineno}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {
                "eval", "exec", "os.system", "os.popen", "torch.load", "numpy.load",
            }, f"{path}:{node.lineno} {called}"
            for word in node.keywords:
                constant = isinstance(word.value, ast.Constant) and word.value.value is True
                assert not (
                    word.arg in {"shell", "trust_remote_code", "allow_pickle"} and constant
                ), f"{path}:{node.lineno}"


LOADS = {"from_pretrained", "from_config", "pipeline", "load_adapter", "get_class_from_dynamic_module"}


def loading_calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    """Each call that loads a model, a tokenizer or an adapter, with the name of the function that it is in."""
    found = []
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            calls = [
                node
                for node in ast.walk(function) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            ]
            found += [(function.name, call) for call in calls if call.func.attr in LOADS]  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_whatever_loads_says_whether_code_may_run_and_reads_safetensors_only(path: Path) -> None:
    """transformers asks on stdin whether a folder's code may run if its caller does not say; peft reads pickles."""
    for function, call in loading_calls(ast.parse(path.read_text())):
        called, words = ast.unparse(call.func), {word.arg: word.value for word in call.keywords}
        if called == "GenerationConfig.from_pretrained":
            continue  # reads JSON, and has no such argument
        if called == "PeftModel.from_pretrained":
            assert (path.name, function) == (
                "adapters.py", "load_adapter",
            ), f"{path}:{call.lineno} loads an adapter that nobody checked"
            continue
        assert "trust_remote_code" in words, f"{path}:{call.lineno} {called}"
        if "Model" in called and called.endswith("from_pretrained") and "gguf_file" not in words:
            assert ast.unparse(words["use_safetensors"]) == "True", f"{path}:{call.lineno} {called}"


def test_the_lint_of_loading_calls_sees_them() -> None:
    found = [ast.unparse(call.func) for path in FILES for _, call in loading_calls(ast.parse(path.read_text()))]
    assert {
        "AutoTokenizer.from_pretrained", "AutoModelForCausalLM.from_config", "PeftModel.from_pretrained",
    } <= set(found)
    assert len(found) >= 10


def test_no_module_is_called_utils() -> None:
    for path in FILES:
        assert not {"utils", "helpers", "common", "misc"} & {*path.parts, path.stem}, path


def test_every_knob_is_read_by_code() -> None:
    """A knob nobody reads is a lie: its name must stand as an attribute outside the config modules."""
    read: set[str] = set()
    for path in FILES:
        if declares(path) or path.stem in {"monitor", "sweep", "lr_finder", "export_arguments", "serve_arguments"}:
            tree = ast.parse(path.read_text())
            read |= {
                n.attr
                for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)
                if isinstance(n, ast.Attribute)
            }
            continue
        read |= {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        read |= set(re.findall(r'getattr\([^,]+, "(\w+)"', path.read_text()))
    dead = sorted({k.path for k in list_all_knobs() if k.name not in read})
    assert dead == []


def test_every_knob_says_what_it_means_who_says_so_and_what_to_do() -> None:
    for knob in list_all_knobs():
        assert knob.meaning.endswith((".", "!", "?")), knob.path
        assert knob.source.strip(), knob.path
        assert knob.advice.strip(), knob.path
        if knob.usual is not None and knob.bounds is not None and isinstance(knob.usual, tuple):
            assert all(knob.bounds.has(v) for v in knob.usual), knob.path


def test_public_functions_have_docstrings() -> None:
    bare = []
    for path in FILES:
        tree = ast.parse(path.read_text())
        if tree.body:
            assert ast.get_docstring(tree), f"{path} has no docstring"
        for node in tree.body:
            if isinstance(
                node, ast.FunctionDef | ast.ClassDef,
            ) and not node.name.startswith("_") and not ast.get_docstring(node):
                bare.append(f"{path.name}:{node.name}")
    assert bare == []
