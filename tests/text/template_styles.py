"""Chat templates in the styles of public model families, written for these tests: each shows one way in which
real templates use the language. (name, template, what comes out for `CHAT`)
"""

from __future__ import annotations

from typing import Any

CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": " Be brief. "},
    {"role": "user", "content": "Hi <b>&"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "1 + 1?"},
]
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "add", "description": "Adds <&>", "parameters": {"a": "int"}}}
]


def _style(name: str, source: str, text: str) -> tuple[str, str, str]:
    return name, source, text


STYLES = (
    _style(
        "chatml",
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' "
        "}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\nHi <b>&<|im_end|>\n<|im_start|>assist"
        "ant\nHello!<|im_end|>\n<|im_start|>user\n1 + 1?<|im_end|>\n<|im_start|>assistant\n",
    ),
    _style(
        "default system prompt",
        "{% for m in messages[1:] %}{% if loop.first and m.role != 'system' %}[sys]{% endif %}[{{ m.role "
        "}}]{% endfor %}",
        "[sys][user][assistant][user]",
    ),
    _style(
        "llama 2: system folded into the first turn",
        "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set sys = "
        "messages[0]['content'] %}{% endif %}{% for m in rest %}{% if loop.index0 == 0 %}{% set text = "
        "'<<SYS>>\\n' + sys.strip() + '\\n<</SYS>>\\n\\n' + m['content'] %}{% else %}{% set text = "
        "m['content'] %}{% endif %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + text.strip() + "
        "' [/INST]' }}{% else %}{{ ' ' + text.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi <b>& [/INST] Hello! </s><s>[INST] 1 + 1? [/INST]",
    ),
    _style(
        "llama 3: trim filter and string concatenation",
        "{% set loop_messages = messages %}{% for m in loop_messages %}{% set content = '<|h|>' + "
        "m['role'] + '</h>\n\n' + m['content'] | trim + '<|eot|>' %}{% if loop.index0 == 0 %}{% set "
        "content = bos_token + content %}{% endif %}{{ content }}{% endfor %}",
        "<s><|h|>system</h>\n\nBe brief.<|eot|><|h|>user</h>\n\nHi <b>&<|eot|><|h|>assistant</h>\n\nHello!<"
        "|eot|><|h|>user</h>\n\n1 + 1?<|eot|>",
    ),
    _style(
        "gemma: assistant becomes model",
        "{% for m in messages %}{% if (m['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% "
        "set role = m['role'] %}{% endif %}{{ '<t>' + role + '\n' + m['content'] | trim + '</t>\n' }}{% "
        "endfor %}",
        "<t>system\nBe brief.</t>\n<t>user\nHi <b>&</t>\n<t>model\nHello!</t>\n<t>user\n1 + 1?</t>\n",
    ),
    _style(
        "blocks on their own lines: trimmed and stripped",
        "{% for m in messages %}\n    {% if m.role == 'user' %}\n<|user|>\n{{ m.content }}\n    {% endif %}"
        "\n{% endfor %}\n<|assistant|>\n",
        "<|user|>\nHi <b>&\n<|user|>\n1 + 1?\n<|assistant|>",
    ),
    _style(
        "dashes that strip",
        "  {%- for m in messages -%}  \n  {{- m.role -}}  \n  {%- endfor -%}  \n  !",
        "systemuserassistantuser!",
    ),
    _style(
        "namespace that lives through loops",
        "{% set ns = namespace(system='', n=0) %}{% for m in messages %}{% if m.role == 'system' %}{% "
        "set ns.system = m.content %}{% else %}{% set ns.n = ns.n + 1 %}{% endif %}{% endfor %}{{ "
        "ns.system }}|{{ ns.n }}",
        " Be brief. |3",
    ),
    _style(
        "macro with arguments",
        "{% macro turn(role, text, end='.') %}[{{ role }}:{{ text|trim }}{{ end }}]{% endmacro %}{% for "
        "m in messages %}{{ turn(m.role, m.content, end='!' if loop.last else '.') }}{% endfor %}",
        "[system:Be brief..][user:Hi <b>&.][assistant:Hello!.][user:1 + 1?!]",
    ),
    _style(
        "tools as JSON",
        "{% for tool in tools %}{{ tool | tojson }}{% endfor %}",
        '{"type": "function", "function": {"name": "add", "description": "Adds <&>", "parameters": {"a": '
        '"int"}}}',
    ),
    _style(
        "tools as indented JSON",
        "{{ tools[0].function | tojson(indent=2) }}",
        '{\n  "name": "add",\n  "description": "Adds <&>",\n  "parameters": {\n    "a": "int"\n  }\n}',
    ),
    _style(
        "separators and sorted keys",
        "{{ tools[0].function | tojson(separators=(',', ':'), sort_keys=True) }}",
        '{"description":"Adds <&>","name":"add","parameters":{"a":"int"}}',
    ),
    _style(
        "items of a mapping",
        "{% for key, value in tools[0]['function'].items() %}{{ key }}={{ value }};{% endfor %}",
        "name=add;description=Adds <&>;parameters={'a': 'int'};",
    ),
    _style(
        "dictsort, length and default",
        "{% for key, _ in tools[0].function | dictsort %}{{ key }} {% endfor %}{{ messages|length }}{{ "
        "missing|default('-') }}",
        "description name parameters 4-",
    ),
    _style(
        "selectattr, map, join, first, last",
        "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join(' / ') "
        "}}{{ (messages | first).role }}{{ (messages | last).role }}",
        "Hi <b>& / 1 + 1?systemuser",
    ),
    _style(
        "rejectattr and list",
        "{% set rest = messages | rejectattr('role', 'equalto', 'system') | list %}{{ rest | length }}{{ "
        "rest[-1]['content'] }}",
        "31 + 1?",
    ),
    _style(
        "break and continue",
        "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.role }} {% if "
        "m.role == 'assistant' %}{% break %}{% endif %}{% endfor %}",
        "user assistant ",
    ),
    _style(
        "date of today",
        "Today is {{ strftime_now('%d %b %Y') }}; {{ strftime_now('%H:%M:%S') }}",
        "Today is 02 Jan 2025; 03:04:05",
    ),
    _style(
        "date unless given",
        "{% if not date_string is defined %}{% set date_string = strftime_now('%Y') %}{% endif %}{{ "
        "date_string }}",
        "2025",
    ),
    _style(
        "generation mark",
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% "
        "endgeneration %}{% else %}{{ m.role }},{% endif %}{% endfor %}",
        "system,user,Hello!user,",
    ),
    _style(
        "string methods",
        "{{ messages[0].content.strip().upper().replace('BRIEF', 'SHORT').split(' ')[-1] }}{{ "
        "'a-b'.startswith('a') }}{{ 'x</think>y'.split('</think>')[-1].lstrip('\n') }}",
        "SHORT.Truey",
    ),
    _style(
        "set block",
        "{% set text %}<{{ messages|length }}>{% endset %}{{ text }}{{ text|length }}",
        "<4>3",
    ),
    _style(
        "call and filter blocks",
        "{% macro box() %}[{{ caller() }}]{% endmacro %}{% call box() %}x{% endcall %}{% filter upper %}"
        "abc{% endfilter %}",
        "[x]ABC",
    ),
    _style(
        "neighbours in a loop",
        "{% for m in messages %}{{ loop.index }}{% if loop.previtem is defined and loop.previtem.role == "
        "'system' %}*{% endif %}{% if loop.nextitem is defined %}>{{ loop.nextitem.role[0] }}{% endif %} "
        "{% endfor %}",
        "1>u 2*>a 3>u 4 ",
    ),
    _style(
        "tests on types",
        "{{ messages[0].content is string }}{{ messages is iterable }}{{ messages[0] is mapping }}{{ "
        "messages is sequence }}{{ none is none }}{{ 1 is number }}{{ true is boolean }}{{ tools is "
        "defined }}",
        "TrueTrueTrueTrueTrueTrueTrueTrue",
    ),
    _style(
        "backwards over the messages",
        "{% for m in messages[::-1] %}{{ m.role[0] }}{% endfor %}{% for m in messages|reverse %}{{ "
        "m.role[0] }}{% endfor %}",
        "uausuaus",
    ),
    _style(
        "ranges and arithmetic",
        "{% for i in range(0, messages|length, 2) %}{{ i }}{{ messages[i].role[0] }}{% endfor %}{{ "
        "(messages|length - 1) // 2 }}{{ 7 % 4 }}{{ 2 * 3 ~ '' }}",
        "0s2a136",
    ),
    _style(
        "thinking switched by a variable",
        "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
        "{{ reasoning_effort|default('medium') }}",
        "medium",
    ),
    _style(
        "formatting of strings",
        "{{ '%s:%03d' | format('a', 7) }} {{ '{}-{}'.format(1, 'x') }} {{ '%.1f' % 2.25 }}",
        "a:007 1-x 2.2",
    ),
    _style(
        "comments and raw text",
        "{# nothing #}{% raw %}{{ raw }}{% endraw %}{{ '{{' }}",
        "{{ raw }}{{",
    ),
    _style(
        "conditional expressions and membership",
        "{{ 'user' if messages[-1].role in ['user', 'tool'] else 'no' }}{{ 'name' in tools[0].function "
        "}}{{ messages[0].get('name', 'anon') }}{{ messages[0].name is defined }}",
        "userTrueanonFalse",
    ),
    _style(
        "recursive macro over a schema",
        "{% macro show(x) %}{% if x is mapping %}({% for k in x %}{{ k }}{{ show(x[k]) }}{% endfor %}){% "
        "else %}={{ x }}{% endif %}{% endmacro %}{{ show(tools[0].function.parameters) }}",
        "(a=int)",
    ),
)
