"""Checks the JSON files of a model or adapter folder before transformers and peft read them.

The files come from elsewhere. A wrong type, endless nesting, or a shape of 10^9 layers would end inside those
libraries in a traceback, or never. Here each is one ModelError with the file, the field and the reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fulgurite.errors import ModelError
from fulgurite.files.json import name_type, read_object
from fulgurite.language.library_errors import translate_error, translate_system_error
from fulgurite.language.message import UserMessage, message

MOST_TEMPLATE = 4 << 20
"""Maximum bytes of a chat template; the longest published ones have about 50,000."""
MOST_TOKENIZER = 256 << 20
"""Maximum bytes of tokenizer.json and similar files, which are not parsed here; the largest published have 40 MB."""
MOST_PARAMETERS = 10**14
"""The largest published models have about 10^12."""
MOST_ADAPTERS = 8
"""Maximum number of adapters on top of each other."""
REMEDY = message("download the folder again, or correct this file")

Check = Callable[[Any], bool]
Expected = tuple[Check, UserMessage]
"""A check of a value, and what is expected of it."""


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_text_or_list(value: Any) -> bool:
    return isinstance(value, str) or _is_list_of_text(value)


def _is_token(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("content"), str))


def _is_tokens(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value
    return isinstance(value, dict | list) and all(_is_token(item) for item in items)


def _is_token_id(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return all(isinstance(item, int) and not isinstance(item, bool) and abs(item) < 2**31 for item in items)


def _is_dtype(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, str) and DTYPE.fullmatch(value) is not None)


def _is_added_tokens(value: Any) -> bool:
    return isinstance(value, dict) and all(
        key.isdecimal() and int(key[:12]) < 2**31 and _is_token(token) for key, token in value.items()
    )


def _is_token_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_token_id(number) for number in value.values())


def _is_templates(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= MOST_TEMPLATE
    entries = value if isinstance(value, list) else []
    named = all(
        isinstance(entry, dict) and _is_text(entry.get("name")) and _is_templates(entry.get("template"))
        for entry in entries
    )
    return bool(entries) and named


DTYPE = re.compile(r"(torch\.)?(auto|float(16|32|64)|bfloat16|u?int\d+|float8_\w+)")
COUNT, NUMBER, FLAG = (
    (_is_count, message("a whole number above 0")),
    (_is_number, message("a finite number")),
    (_is_flag, message("true or false")),
)
RANK = (
    lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1 << 16,
    message("a rank of at most 65,536"),
)
TEXT, OBJECT = (_is_text, message("text")), (_is_object, message("an object"))
TEXTS = (_is_list_of_text, message("a list of texts"))
TEXT_OR_LIST = (_is_text_or_list, message("text or a list of texts"))
TOKEN, TOKENS = (_is_token, message("the text of a token")), (_is_tokens, message("the texts of tokens"))
TOKEN_ID = (_is_token_id, message("the number of a token"))
TEMPLATES = (
    _is_templates,
    message("a template, or a list of named templates, of at most {most} MB", most=MOST_TEMPLATE >> 20),
)
DTYPE_NAME = (_is_dtype, message("the name of a dtype"))
SPECIAL = dict.fromkeys(
    ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token"), TOKEN
)
IDS = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"), TOKEN_ID)

FIELDS: dict[str, dict[str, Expected]] = {
    "config.json": {
        "model_type": TEXT,
        "architectures": TEXTS,
        "quantization_config": OBJECT,
        "dtype": DTYPE_NAME,
        "torch_dtype": DTYPE_NAME,
        "auto_map": OBJECT,
        "id2label": OBJECT,
        "label2id": OBJECT,
        "rope_parameters": OBJECT,
        "rope_scaling": OBJECT,
        "tie_word_embeddings": FLAG,
        "text_config": OBJECT,
        "vocab_size": COUNT,
        "hidden_size": COUNT,
        "num_hidden_layers": COUNT,
        "max_position_embeddings": COUNT,
        "n_embd": COUNT,
        "n_layer": COUNT,
        "d_model": COUNT,
        **IDS,
    },
    "generation_config.json": {
        "temperature": NUMBER,
        "top_p": NUMBER,
        "repetition_penalty": NUMBER,
        "do_sample": FLAG,
        "transformers_version": TEXT,
        **IDS,
    },
    "tokenizer_config.json": {
        "model_max_length": (lambda value: _is_number(value) and value >= 1, message("a number of at least 1")),
        "tokenizer_class": TEXT,
        "auto_map": (lambda value: isinstance(value, dict | list), message("an object")),
        "chat_template": TEMPLATES,
        "added_tokens_decoder": (_is_added_tokens, message("an object of token numbers and tokens")),
        "additional_special_tokens": TOKENS,
        "extra_special_tokens": TOKENS,
        "model_input_names": TEXTS,
        "padding_side": TEXT,
        "truncation_side": TEXT,
        **SPECIAL,
    },
    "special_tokens_map.json": {**SPECIAL, "additional_special_tokens": TOKENS, "extra_special_tokens": TOKENS},
    "added_tokens.json": {},
    "chat_template.json": {"chat_template": TEMPLATES},
    "adapter_config.json": {
        "base_model_name_or_path": TEXT,
        "peft_type": TEXT,
        "task_type": TEXT,
        "r": RANK,
        "lora_alpha": NUMBER,
        "lora_dropout": NUMBER,
        "target_modules": TEXT_OR_LIST,
        "modules_to_save": TEXTS,
        "exclude_modules": TEXT_OR_LIST,
        "rank_pattern": OBJECT,
        "alpha_pattern": OBJECT,
        "auto_mapping": OBJECT,
        "target_parameters": TEXTS,
    },
}
"""The files, and the type of each field that a library uses without a check of its own. null counts as absent."""

SIZES: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"(n|num|\w+)_layers?|layers|num_blocks|n_blocks|depth"), 512),
    (re.compile(r"(n|num)_(\w+_)?experts"), 4_096),
    (re.compile(r"(n|num)_(\w+_)?heads?|(\w+_)?num_groups|n_groups?|num_labels"), 1 << 20),
    (re.compile(r"(\w+_)?vocab_size|vocab_size_\w+"), 1 << 28),
    (
        re.compile(
            r"max_position_embeddings|n_positions|max_seq_len|seq_length|max_sequence_length|n_ctx|sliding_window"
        ),
        1 << 40,
    ),
    (
        re.compile(r"\w+_(size|dim|rank|width)|n_(embd|inner)|d_(model|ff|inner|kv|state|conv)|ffn_dim|head_dim"),
        1 << 26,
    ),
)
"""The largest value of a field, by its name. Libraries build several objects per layer: 500 layers take about 10
seconds (measured). The deepest published model has 126."""


def check_folder(folder: Path) -> None:
    """Raises ModelError if a JSON file of the folder cannot be what transformers or peft expect of it."""
    for name in FIELDS:
        if (folder / name).is_file():
            config = read_checked(folder / name)
            if name == "config.json":
                check_sizes(config, folder / name, count_weight_bytes(folder))
    for path, most in _bounded_files(folder):
        if path.stat().st_size > most:
            raise ModelError(
                "{path} has {size:,.0f} MB, at most {most:,.0f} MB are read; {remedy}.",
                path=path, size=path.stat().st_size / 1e6, most=most / 1e6, remedy=REMEDY,
            )


def read_checked(path: Path) -> dict[str, Any]:
    """Returns the object of one of the FIELDS' files with its types checked. Raises ModelError."""
    try:
        config = read_object(path)
    except OSError as error:
        raise ModelError(
            "The model file {path} cannot be read: {reason}.", path=path, reason=translate_system_error(error),
        ) from error
    except ValueError as error:
        raise ModelError(
            "{path}: {reason}; {remedy}.", path=path, reason=translate_error(error), remedy=REMEDY,
        ) from error
    for field, (holds, expected) in FIELDS[path.name].items():
        value = config.get(field)
        if value is not None and not holds(value):
            raise ModelError(
                "{path}: field '{field}': expected {expected}, found {found}; {remedy}.",
                path=path, field=field, expected=expected, found=_describe_value(value), remedy=REMEDY,
            )
    if path.name == "added_tokens.json" and not _is_token_numbers(config):
        raise ModelError("{path}: expected an object of tokens and their numbers; {remedy}.", path=path, remedy=REMEDY)
    return config


def check_sizes(config: dict[str, Any], place: Path | str, on_disk: int | None = None) -> None:
    """Raises ModelError if a shape is too large to be built, or does not belong to weight files of `on_disk` bytes."""
    for field, value in _fields(config):
        most = next((most for name, most in SIZES if name.fullmatch(field)), None)
        largest = max((n for n in (value if isinstance(value, list) else [value]) if isinstance(n, int)), default=0)
        if most is not None and largest > most:
            raise ModelError(
                "{place}: field '{field}': {found} is more than {most:,}, which no model has; {remedy}.",
                place=place, field=field, found=_describe_value(largest), most=most, remedy=REMEDY,
            )
    parameters = max(estimate_parameters(part) for part in (config, *_parts(config)))
    if parameters > MOST_PARAMETERS:
        raise ModelError(
            "{place} describes a model of about {parameters:.0e} parameters, more than can be built; {remedy}.",
            place=place, parameters=parameters, remedy=REMEDY,
        )
    # Two bits are the smallest weights there are. The estimate may be too high by a factor of four: layers that share
    # weights.
    if on_disk is not None and parameters > 16 * on_disk + 10**8:
        raise ModelError(
            "{place} describes a model of about {parameters:.0e} parameters, and its weight files have {on_disk:,} "
            "bytes: they do not belong together; {remedy}.",
            place=place, parameters=parameters, on_disk=on_disk, remedy=REMEDY,
        )


def estimate_parameters(config: dict[str, Any]) -> int:
    """Returns the number of parameters from widths and layers, or 0 if they are not there; the order is right, not
    the number."""
    def size(*names: str) -> int:
        return next((int(config[name]) for name in names if _is_count(config.get(name))), 0)

    width, layers = (
        size("hidden_size", "n_embd", "d_model"),
        size("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    )
    inner = size("moe_intermediate_size", "intermediate_size", "ffn_dim", "n_inner", "d_ff") or 4 * width
    experts = max(1, size("num_experts", "num_local_experts", "n_routed_experts"))
    layer = 4 * width * width + 3 * width * inner * experts
    return layers * layer + size("vocab_size") * width


def count_weight_bytes(folder: Path) -> int | None:
    """Returns the bytes of the folder's weight files, or None if there are none."""
    sizes = [path.stat().st_size for path in folder.glob("*.safetensors") if path.is_file()]
    return sum(sizes) if sizes else None


def describe_suspects(folder: Path | str) -> UserMessage:
    """Returns the sizes of config.json that are null, zero or negative: the likely cause of an error that names no
    field."""
    try:
        config = read_object(Path(folder) / "config.json")
    except (OSError, ValueError):
        return UserMessage()
    odd = [
        f"{field}={_describe_value(value)}"
        for field, value in _fields(config)
        if any(name.fullmatch(field) for name, _ in SIZES)
        and (value is None or (isinstance(value, int | float) and value <= 0))
    ]
    return message(" (config.json contains {fields})", fields=", ".join(odd[:3])) if odd else UserMessage()


def find_base_of_adapter(folder: Path) -> str:
    """Returns the folder or hub id of the model that an adapter was trained on. Raises ModelError if there is none,
    or only a ring."""
    base, seen = folder, {folder.resolve()}
    named = ""
    while (base / "adapter_config.json").is_file():
        found = read_checked(base / "adapter_config.json").get("base_model_name_or_path")
        named = named or found or ""
        base = Path(found or "").expanduser()
        if not found:
            break
        if base.resolve() in seen or len(seen) > MOST_ADAPTERS:
            raise ModelError(
                "{folder}/adapter_config.json: field 'base_model_name_or_path': leads to an adapter again and never to "
                "a model; give the model that the adapter was trained on.",
                folder=folder,
            )
        seen.add(base.resolve())
    return named


def _fields(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for part in (config, *_parts(config)):
        yield from part.items()


def _parts(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the configs inside a config, such as text_config; read_json limits their depth."""
    inner = [value for name, value in config.items() if name.endswith("_config") and isinstance(value, dict)]
    return inner + [part for value in inner for part in _parts(value)]


def _bounded_files(folder: Path) -> Iterator[tuple[Path, int]]:
    for path in (folder / "chat_template.jinja", *folder.glob("additional_chat_templates/*.jinja")):
        if path.is_file():
            yield path, MOST_TEMPLATE
    for name in (
        "tokenizer.json",
        "tokenizer.model",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "model.safetensors.index.json",
    ):
        if (folder / name).is_file():
            yield folder / name, MOST_TOKENIZER


def _describe_value(value: Any) -> object:
    """Describes a value in at most about 60 characters."""
    if isinstance(value, int) and abs(value) > 10**15:
        return message("a number of {digits} digits", digits=int(math.log10(abs(value))) + 1)
    if isinstance(value, dict | list):
        return str(name_type(value))
    text = repr(value) if isinstance(value, str) else "null" if value is None else str(value)
    if len(text) <= 60:
        return text
    return message("{start}… ({count:,} characters)", start=text[:50], count=len(text))
