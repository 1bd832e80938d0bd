"""What an option is, it declares: other modules read the declaration and compare no names of options.

Counted over the syntax trees: comparisons and look-ups by the name of an option (`run.stage.name == "dpo"`,
`TABLE[run.method.name]`,
`about.stage in LANGUAGE`, `choices["optim"] == ...`, `str(stage.loss) == ...`), and `isinstance` against the class of
an option, each
outside the group that declares the option.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from fulgurite.config.run import GROUPS, load_options
from fulgurite.config.schema import list_groups

SOURCE = Path(__file__).resolve().parents[2] / "src" / "fulgurite"
ALLOWED = 1
LOSSES = "loss"


def named(node: ast.expr) -> str:
    """The group of which this expression is the name of an option, or an empty text."""
    match node:
        case ast.Call(func=ast.Name(id="str"), args=[inner]):
            return named(inner)
        case ast.Attribute(attr="name", value=ast.Attribute(attr=group) | ast.Name(id=group)) if group in GROUPS:
            return group
        case ast.Attribute(
            attr="loss", value=ast.Attribute(attr="stage" | "about") | ast.Name(id="stage" | "about" | "config"),
        ):
            return LOSSES
        case ast.Subscript(
            value=ast.Attribute(attr="choices") | ast.Name(id="choices"), slice=ast.Constant(value=str(group)),
        ):
            return group if group in GROUPS else ""
        case ast.Call(func=ast.Attribute(attr="get", value=inner), args=[ast.Constant(value=str(group)), *_]):
            choices = isinstance(inner, ast.Attribute | ast.Name | ast.Call) and "choices" in ast.unparse(inner)
            return group if choices and group in GROUPS else ""
    return ""


def spelled(node: ast.expr) -> bool:
    """Whether the expression is a text, several texts, or a constant of the module."""
    match node:
        case ast.Constant(value=str()):
            return True
        case ast.Tuple(elts=[*parts]) | ast.List(elts=[*parts]) | ast.Set(elts=[*parts]):
            return bool(parts) and all(spelled(part) for part in parts)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.isupper()
    return False


def word(node: ast.expr) -> str:
    """The group of which a variable or an attribute of its name may hold the name of an option: `stage`,
    `source.stage`."""
    match node:
        case ast.Attribute(attr=group) | ast.Name(id=group) if group in GROUPS:
            return group
    return ""


def comparisons(tree: ast.AST, classes: dict[str, str]) -> Iterator[tuple[str, int, str]]:
    """The group, the line and the text of each comparison or look-up by the name of an option."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=left, comparators=[right, *_]):
                group = named(left) or named(right)
                if not group and (spelled(left) or spelled(right)):
                    group = word(left) or word(right)
                if group:
                    yield group, node.lineno, ast.unparse(node)
            case ast.Subscript(slice=index, ctx=ast.Load()) if named(index):
                yield named(index), node.lineno, ast.unparse(node)
            case ast.Call(func=ast.Attribute(attr="get"), args=[key, *_]) if named(key):
                yield named(key), node.lineno, ast.unparse(node)
            case ast.Call(func=ast.Name(id="isinstance"), args=[_, kinds]):
                for kind in kinds.elts if isinstance(kinds, ast.Tuple) else [kinds]:
                    module, _, name = ast.unparse(kind).rpartition(".")
                    if name in classes and module != "nn":
                        yield classes[name], node.lineno, ast.unparse(node)


def found() -> list[str]:
    """`file:line: text` of each comparison outside the group that declares the option."""
    load_options()
    classes = {cls.__name__: group for group, options in list_groups().items() for cls in options.values()}
    lines = []
    for path in sorted(SOURCE.rglob("*.py")):
        inside = path.relative_to(SOURCE)
        declares = inside.parts[0] if inside.parts[1:2] in (("config.py",), ("config",)) else ""
        for group, line, text in comparisons(ast.parse(path.read_text()), classes):
            home = "stage" if group == LOSSES else group
            if home != declares:
                lines.append(f"{inside}:{line}: {text}")
    return lines


def test_other_modules_compare_no_names_of_options() -> None:
    lines = found()
    assert len(lines) <= ALLOWED, f"{len(lines)} comparisons:\n" + "\n".join(lines)


def test_the_count_sees_each_form() -> None:
    text = """
run.stage.name == "dpo"
run.method.name in {"lora", "qlora"}
stage.name in LANGUAGE
TABLE[run.optim.name]
TABLE.get(run.optim.name, 1.0)
composed.choices["precision"] == "auto"
composed.choices.get("stage") == "rm"
str(run.stage.loss) == "orpo"
about.stage not in ("sft", "pt")
source.stage == "pt"
isinstance(run.method, c.Qlora)
isinstance(x, (int, Qlora))
"""
    lines = {line for _, line, _ in comparisons(ast.parse(text), {"Qlora": "method"})}
    assert lines == set(range(2, 14))
    assert not list(
        comparisons(ast.parse("run.stage.rolls_out\nisinstance(x, GenerativeStage)\ntrainer.state == other"), {})
    )
