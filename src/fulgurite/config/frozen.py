"""Makes a tree of config dataclasses immutable: after `freeze`, assigning to any part of it raises."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class FrozenConfigError(TypeError):
    """Raised by an assignment to a frozen config."""


def _refuse(self: Any, *_: Any, **__: Any) -> NoReturn:
    raise FrozenConfigError(
        f"this {type(self).__name__} belongs to a resolved config, which does not change; "
        "make a changed one with fulgurite.config.resolve"
    )


class Freezable:
    """Base of all config dataclasses. OmegaConf assigns while it builds them, so they are frozen afterwards."""

    __slots__ = ("_frozen",)

    def __setattr__(self, name: str, value: Any) -> None:
        if is_frozen(self):
            _refuse(self)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if is_frozen(self):
            _refuse(self)
        object.__delattr__(self, name)

    def __setstate__(self, state: Any) -> None:
        """Restores a copy or a pickle, which stays frozen."""
        for part in state if isinstance(state, tuple) else (state,):
            for name, value in (part or {}).items():
                object.__setattr__(self, name, value)


class FrozenList(list[T]):
    """A list that cannot be changed. It equals a list of the same items, and is one to OmegaConf, JSON and peft."""

    # every method of list that changes it
    append = extend = insert = remove = pop = clear = sort = reverse = _refuse
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self),)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.__reduce__()


class FrozenDict(dict[str, T]):
    """A mapping that cannot be changed."""

    pop = popitem = clear = update = setdefault = _refuse
    __setitem__ = __delitem__ = __ior__ = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.__reduce__()


def is_frozen(node: Any) -> bool:
    """Whether `freeze` was called on this part of a config."""
    return bool(getattr(node, "_frozen", False))


def _is_part(node: Any) -> bool:
    return isinstance(node, Freezable) and is_dataclass(node)


def freeze(node: Any) -> Any:
    """Freezes a config in place, with all it contains, and returns it; lists and mappings are
    replaced by frozen ones."""
    if _is_part(node):
        for field in fields(node):
            # past our own __setattr__, which refuses if the node was frozen before
            object.__setattr__(node, field.name, freeze(getattr(node, field.name)))
        object.__setattr__(node, "_frozen", True)
    elif isinstance(node, list):
        return FrozenList(freeze(item) for item in node)
    elif isinstance(node, dict):
        return FrozenDict({key: freeze(item) for key, item in node.items()})
    return node


def thaw(node: Any) -> Any:
    """Returns a copy of a config that may be changed; for fulgurite.config alone."""
    if _is_part(node):
        # without __init__: the values were checked when the original was made; `_frozen` is no field and is not copied
        made = object.__new__(type(node))
        for field in fields(node):
            setattr(made, field.name, thaw(getattr(node, field.name)))
        return made
    if isinstance(node, list):
        return [thaw(item) for item in node]
    if isinstance(node, dict):
        return {key: thaw(item) for key, item in node.items()}
    return node
