"""Chat templates in the style of today's models, shortened, with what they do about tools, calls and reasoning."""

from __future__ import annotations

from typing import Any

from fulgurite.data.template import Template, load_template

CHATML = ["<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<think>", "</think>"]

_TOOLS = (
    "{%- if tools %}{{- '<|im_start|>system\\n' }}{%- if messages[0].role == 'system' %}{{- messages[0].content + "
    "'\\n\\n' }}{%- endif %}"
    "{{- '# Tools\\n<tools>' }}{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}{{- "
    "'\\n</tools><|im_end|>\\n' }}"
    "{%- elif messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- "
    "endif %}"
)
_CALLS = (
    "{%- for call in message.tool_calls %}{%- if call.function %}{%- set call = call.function %}{%- endif %}"
    "{{- '\\n<tool_call>\\n{\"name\": \"' + call.name + '\", \"arguments\": ' }}"
    "{%- if call.arguments is string %}{{- call.arguments }}{%- else %}{{- call.arguments | tojson }}{%- endif %}"
    "{{- '}\\n</tool_call>' }}{%- endfor %}"
)
_RESULTS = (
    "{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}"
    "{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}"
    "{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}"
)
_PROMPT = "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"

QWEN2_5 = (
    _TOOLS + "{%- for message in messages %}{%- if message.role == 'user' or (message.role == 'system' and not "
             "loop.first) or "
    "(message.role == 'assistant' and not message.tool_calls) %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- elif message.role == 'assistant' %}{{- '<|im_start|>assistant' }}"
    "{%- if message.content %}{{- '\\n' + message.content }}{%- endif %}"
    + _CALLS + "{{- '<|im_end|>\\n' }}{%- elif message.role == 'tool' %}" + _RESULTS + "{%- endif %}{%- endfor %}"
    + _PROMPT
)
QWEN3 = (
    _TOOLS + "{%- set ns = namespace(last=-1) %}{%- for message in messages %}{%- if message.role == 'user' %}"
    "{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
    "{%- for message in messages %}{%- if message.role == 'user' %}{{- '<|im_start|>user\\n' + message.content + "
    "'<|im_end|>\\n' }}"
    "{%- elif message.role == 'assistant' %}{%- set thought = '' %}{%- set content = message.content %}"
    "{%- if message.reasoning_content is string %}{%- set thought = message.reasoning_content %}"
    "{%- elif '</think>' in content %}{%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') "
    "%}"
    "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if loop.index0 > ns.last and (loop.last or thought) %}{{- '<think>\\n' + thought.strip('\\n') + "
    "'\\n</think>\\n\\n' }}{%- endif %}"
    "{{- content }}" + _CALLS + "{{- '<|im_end|>\\n' }}{%- elif message.role == 'tool' %}" + _RESULTS
    + "{%- endif %}{%- endfor %}"
    + _PROMPT[: -len("{%- endif %}")]
    + "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif "
      "%}{%- endif %}"
)
HERMES = (
    "{{- bos_token }}" + _TOOLS
    + "{%- for message in messages %}{%- if message.role == 'user' or (message.role == 'assistant' and "
    "message.tool_calls is not defined) %}{{- '<|im_start|>' + message.role + '\\n' + message.content + "
    "'<|im_end|>\\n' }}"
    "{%- elif message.role == 'assistant' %}{{- '<|im_start|>assistant' }}" + _CALLS + "{{- '<|im_end|>\\n' }}"
    "{%- elif message.role == 'tool' %}{{- '<|im_start|>tool\\n<tool_response>\\n{\"name\": \"' + (message.name or '') "
    "+ "
    "'\", \"content\": ' + message.content + '}\\n</tool_response><|im_end|>\\n' }}{%- endif %}{%- endfor %}" + _PROMPT
)
LLAMA3_1 = (
    "{{- bos_token }}{%- set first = messages[0].role == 'system' %}{{- "
    "'<|start_header_id|>system<|end_header_id|>\\n\\n' }}"
    "{%- if tools %}{{- 'Environment: ipython\\n' }}{%- endif %}{%- if first %}{{- messages[0].content | trim }}{%- "
    "endif %}"
    "{{- '<|eot_id|>' }}{%- for message in (messages[1:] if first else messages) %}{%- if message.role == 'user' and "
    "loop.first "
    "and tools %}"
    "{{- '<|start_header_id|>user<|end_header_id|>\\n\\nGiven the following functions\\n\\n' }}{%- for tool in tools %}"
    "{{- tool | tojson(indent=4) + '\\n\\n' }}{%- endfor %}{{- message.content | trim + '<|eot_id|>' }}"
    "{%- elif message.tool_calls %}{%- if message.tool_calls | length != 1 %}"
    "{{- raise_exception('This model only supports single tool-calls at once!') }}{%- endif %}"
    "{%- set call = message.tool_calls[0].function %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
    "{{- '{\"name\": \"' + call.name + '\", \"parameters\": ' }}{{- call.arguments | tojson }}{{- '}<|eot_id|>' }}"
    "{%- elif message.role == 'tool' %}{{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}"
    "{%- if message.content is mapping or message.content is iterable %}{{- message.content | tojson }}{%- else %}{{- "
    "message.content }}"
    "{%- endif %}{{- '<|eot_id|>' }}{%- else %}{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}"
    "{{- message.content | trim + '<|eot_id|>' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)
MISTRAL = (
    "{%- if messages[0].role == 'system' %}{%- set system = messages[0].content %}{%- set loop_messages = messages[1:] "
    "%}{%- else %}"
    "{%- set loop_messages = messages %}{%- endif %}{%- set ns = namespace(users=0) %}{%- for message in loop_messages "
    "%}"
    "{%- if message.role == 'user' %}{%- set ns.users = ns.users + 1 %}{%- endif %}{%- endfor %}{{- bos_token }}"
    "{%- set seen = namespace(users=0) %}{%- for message in loop_messages %}{%- if message.role == 'user' %}"
    "{%- set seen.users = seen.users + 1 %}{%- if tools and seen.users == ns.users %}{{- '[AVAILABLE_TOOLS] ' + tools "
    "| tojson }}"
    "{{- '[/AVAILABLE_TOOLS]' }}{%- endif %}{%- if loop.first and system is defined %}{{- '[INST] ' + system + "
    "'\\n\\n' + "
    "message.content + '[/INST]' }}{%- else %}{{- '[INST] ' + message.content + '[/INST]' }}{%- endif %}{%- elif "
    "message.tool_calls %}"
    "{{- '[TOOL_CALLS] [' }}"
    "{%- for call in message.tool_calls %}{%- set out = call.function | tojson %}{{- out[:-1] }}{%- if call.id is not "
    "defined or "
    "call.id | length != 9 %}{{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{%- "
    "endif %}"
    "{{- ', \"id\": \"' + call.id + '\"}' }}{%- if not loop.last %}{{- ', ' }}{%- else %}{{- ']' + eos_token }}{%- "
    "endif %}{%- endfor %}"
    "{%- elif message.role == 'assistant' %}{{- ' ' + message.content | trim + eos_token }}{%- elif message.role == "
    "'tool' %}"
    "{{- '[TOOL_RESULTS] {\"content\": ' + message.content | string + ', \"call_id\": \"' + message.tool_call_id + "
    "'\"}[/TOOL_RESULTS]' }}"
    "{%- endif %}{%- endfor %}"
)
LLAMA_MARKS = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
MISTRAL_MARKS = [
    "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"
]
STYLES = {
    "qwen2.5": (QWEN2_5, CHATML), "qwen3": (QWEN3, CHATML), "hermes": (HERMES, CHATML),
    "llama3.1": (LLAMA3_1, LLAMA_MARKS),
    "mistral": (MISTRAL, MISTRAL_MARKS),
}
"""Template and special tokens by style. `STRICT` ones take no system message."""


def made(text: str, make_tokenizer: Any, marks: list[str] = CHATML, **arguments: Any) -> Template:
    tokenizer = make_tokenizer(marks)
    tokenizer.chat_template = text
    return load_template(None, tokenizer, arguments)
