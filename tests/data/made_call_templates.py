"""Chat templates that write calls as families of models do whose templates TRL does not ship, shortened to that."""

from __future__ import annotations

_TURNS = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}"
    "{% elif m.role == 'tool' %}{{ '<|im_start|>tool\n' + m.content + '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>assistant\n' + m.content }}{% if m.tool_calls %}CALLS{% endif %}"
    "{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_EACH = "{% for c in m.tool_calls %}{% set f = c.function %}"
_LIST = "{% for c in m.tool_calls %}{% if not loop.first %}, {% endif %}"
_STRING = "{{ v if v is string else v | tojson }}"
_CALLS = {
    "mistral by name": _EACH + "[TOOL_CALLS]{{ f.name }}[ARGS]{{ f.arguments | tojson }}{% endfor %}",
    "mistral by name, id": _EACH + "[TOOL_CALLS]{{ f.name }}[CALL_ID]{{ c.id }}[ARGS]{{ f.arguments | tojson }}"
    "{% endfor %}",
    "deepseek 3.1": "<｜tool▁calls▁begin｜>" + _EACH + "<｜tool▁call▁begin｜>{{ f.name }}<｜tool▁sep｜>"
    "{{ f.arguments | tojson }}<｜tool▁call▁end｜>{% endfor %}<｜tool▁calls▁end｜>",
    "kimi": "<|tool_calls_section_begin|>" + _EACH + "<|tool_call_begin|>functions.{{ f.name }}:{{ loop.index0 }}"
    "<|tool_call_argument_begin|>{{ f.arguments | tojson }}<|tool_call_end|>{% endfor %}<|tool_calls_section_end|>",
    "minimax": "\n<minimax:tool_call>\n" + _EACH + '<invoke name="{{ f.name }}">\n'
    '{% for k, v in f.arguments.items() %}<parameter name="{{ k }}">' + _STRING + "</parameter>\n{% endfor %}"
    "</invoke>\n{% endfor %}</minimax:tool_call>",
    "seed": _EACH + "<seed:tool_call>\n<function={{ f.name }}>\n{% for k, v in f.arguments.items() %}"
    "<parameter={{ k }}>" + _STRING + "</parameter>\n{% endfor %}</function>\n</seed:tool_call>\n{% endfor %}",
    "cohere": "<|START_ACTION|>[" + _LIST + '{"tool_call_id": "{{ loop.index0 }}", "tool_name": "{{ c.function.name }}"'
    ', "parameters": {{ c.function.arguments | tojson }}}{% endfor %}]<|END_ACTION|>',
    "phi": "<|tool_call|>[" + _LIST + "{{ c.function | tojson }}{% endfor %}]<|/tool_call|>",
    "openai in tags": _EACH + "\n<tool_call>\n{{ c | tojson }}\n</tool_call>{% endfor %}",
}
CALL_TEMPLATES = {name: _TURNS.replace("CALLS", calls) for name, calls in _CALLS.items()}
