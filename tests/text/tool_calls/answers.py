"""Answers in each wire format, and what is to be read from them.

Calls are (name, arguments), mismatches ("?", a part of the reason), everything else is text.
"""

from __future__ import annotations

from typing import Any

from apportion.text.tool_calls.deepseek import ALL_BEGIN, ALL_END, BEGIN, END, SEPARATOR

OSLO = '{"city": "Oslo"}'
DEEP = f"{ALL_BEGIN}{BEGIN}function{SEPARATOR}weather\n```json\n{OSLO}\n```{END}"

ANSWERS: dict[str, list[tuple[str, list[Any]]]] = {
    "hermes": [
        ("Hello.", ["Hello."]),
        ("", []),
        ("  \n", ["  \n"]),
        ("a < b <tool_cal", ["a < b <tool_cal"]),
        ("no </tool_call> here", ["no </tool_call> here"]),
        (f'<tool_call>{{"name": "weather", "arguments": {OSLO}}}</tool_call>', [("weather", OSLO)]),
        (
            f'One moment.\n\n<tool_call>\n{{"name":"weather","arguments":{OSLO}}}\n</tool_call>\n',
            ["One moment.", ("weather", OSLO)],
        ),
        (
            '<tool_call>{"name": "time"}</tool_call>\n<tool_call>{"name":"time","arguments":{}}</tool_call>',
            [("time", "{}"), ("time", "{}")],
        ),
        (
            '<tool_call>{"name": "time", "arguments": {}}</tool_call> Done.',
            [("time", "{}"), "Done."],
        ),
        (
            '<tool_call>{"arguments": {"city": "</tool_call>"}, "name": "weather"}</tool_call>',
            [("weather", '{"city": "</tool_call>"}')],
        ),
        (
            '<tool_call>{"name": "weather", "arguments": "{\\"city\\": \\"A\\\\nB\\"}"}</tool_call>',
            [("weather", '{"city": "A\\nB"}')],
        ),
        ('<tool_call>{"name": "time", "arguments": null}</tool_call>', [("time", "{}")]),
        ('<tool_call>{"type": "function", "function": {"name": "time"}}</tool_call>', [("time", "{}")]),
        ('<tool_call>{"name": "time", "why": ["x", 1.5e3, true]}</tool_call>', [("time", "{}")]),
        (
            '<tool_call>{"name":"weather","arguments":{"city": "\\u00e5\\"\\\\🚀","days":-1e+3}}</tool_call>',
            [("weather", '{"city": "\\u00e5\\"\\\\🚀","days":-1e+3}')],
        ),
        ('<tool_call>{"name": "time", "arguments": {}}', [("time", "{}")]),
        (
            '<tool_call>{"name": "weathr", "arguments": {}}</tool_call>',
            [
                '<tool_call>{"name": "weathr"',
                ("?", "no tool is called 'weathr'"),
                ', "arguments": {}}</tool_call>',
            ],
        ),
        (
            "<tool_call>weather(city)</tool_call>",
            ["<tool_call>", ("?", "malformed"), "weather(city)</tool_call>"],
        ),
        ("<tool_call></tool_call>", ["<tool_call>", ("?", "malformed"), "</tool_call>"]),
        ("<tool_call>", ["<tool_call>", ("?", "cut off")]),
        ('<tool_call>{"name": "ti', ['<tool_call>{"name": "ti', ("?", "cut off")]),
        ('<tool_call>{"name": "time", "arg', ['<tool_call>{"name": "time", "arg', ("?", "cut off")]),
        (
            '<tool_call>{"arguments": {}}</tool_call>',
            ['<tool_call>{"arguments": {}}', ("?", "no name"), "</tool_call>"],
        ),
        (
            '<tool_call>{"name": 3}</tool_call>',
            ['<tool_call>{"name":', ("?", "its name is no text"), " 3}</tool_call>"],
        ),
        (
            '<tool_call>{"name": "time", "arguments": [1]}</tool_call>',
            ['<tool_call>{"name": "time", "arguments":', ("?", "no object"), " [1]}</tool_call>"],
        ),
        (
            '<tool_call>{"name": "time", "arguments": "soon"}</tool_call>',
            ['<tool_call>{"name": "time", "arguments": "soon"', ("?", "no JSON object"), "}</tool_call>"],
        ),
        (
            '<tool_call>{"name": "weather", "arguments": {"city": "Os',
            [("weather", '{"city": "Os'), ("?", "cut off")],
        ),
        (
            '<tool_call>{"name": "weather", "arguments": {\'city\': 1}}</tool_call>',
            [("weather", "{"), ("?", "double quotes"), "'city': 1}}</tool_call>"],
        ),
        (
            '<tool_call>{"name": "weather", "arguments": {"city": "a",}}</tool_call>',
            [("weather", '{"city": "a",'), ("?", "double quotes"), "}}</tool_call>"],
        ),
        (
            '<tool_call>{"name": "weather", "arguments": {"city": "a\nb"}}</tool_call>',
            [("weather", '{"city": "a'), ("?", "control character"), '\nb"}}</tool_call>'],
        ),
        (
            '<tool_call>{"name": "weather", "arguments": {"days": 01}}</tool_call>',
            [("weather", '{"days": 01'), ("?", "no such number"), "}}</tool_call>"],
        ),
        (
            '<tool_call>{"name": "weather", "arguments": {"days": NaN}}</tool_call>',
            [("weather", '{"days": '), ("?", "no value begins"), "NaN}}</tool_call>"],
        ),
        (
            '<tool_call>{"name": "time", "arguments": {}}}</tool_call>',
            [("time", "{}"), ("?", "something else"), "}</tool_call>"],
        ),
        (
            '<tool_call>{"name": "time", "arguments": {}, "arguments": {}}</tool_call>',
            [("time", "{}"), ', "arguments":', ("?", "twice"), " {}}</tool_call>"],
        ),
        (
            '<tool_call>{"name": "nope"}</tool_call><tool_call>{"name": "time"}</tool_call>',
            ['<tool_call>{"name": "nope"', ("?", "nope"), "}</tool_call>", ("time", "{}")],
        ),
        (
            '<tool_call>{"name": "time", "arguments": ' + '{"a":' * 129,
            [("time", '{"a":' * 128), ("?", "nested too deep"), '{"a":'],
        ),
    ],
    "llama3": [
        ("Hello.", ["Hello."]),
        ('{"name": "weather", "parameters": {"city": "Oslo"}}', [("weather", OSLO)]),
        ('\n{"name": "weather", "arguments": {"city": "Oslo"}}', [("weather", OSLO)]),
        ('<|python_tag|>{"name": "weather", "parameters": {"city": "Oslo"}}', [("weather", OSLO)]),
        (
            '{"name": "time", "parameters": {}}; {"name": "time", "parameters": {}}',
            [("time", "{}"), ("time", "{}")],
        ),
        ('{"type": "function", "name": "time", "parameters": {}}', [("time", "{}")]),
        ('{"city": "Oslo"}', ['{"city": "Oslo"}']),
        ('{"name": "Ada", "age": 36}', ['{"name": "Ada", "age": 36}']),
        ('{"name": "Ada", "parameters": {}}', ['{"name": "Ada", "parameters":', ("?", "Ada"), " {}}"]),
        (
            'The answer is {"name": "time", "parameters": {}}',
            ['The answer is {"name": "time", "parameters": {}}'],
        ),
        ("{not json", ["{not json"]),
        ("<|python_tag|>print(1)", ["<|python_tag|>", ("?", "malformed"), "print(1)"]),
        ('{"name": "time", "parameters": {"a": ', [("time", '{"a": '), ("?", "cut off")]),
    ],
    "mistral": [
        ("Bonjour [TOOL", ["Bonjour [TOOL"]),
        ('[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Oslo"}}]', [("weather", OSLO)]),
        (
            '[TOOL_CALLS][{"name": "time", "arguments": {}, "id": "abcdefghi"}, {"name": "time"}]',
            [("time", "{}"), ("time", "{}")],
        ),
        ('Oui.[TOOL_CALLS]weather[ARGS]{"city": "Oslo"}', ["Oui.", ("weather", OSLO)]),
        ("[TOOL_CALLS]time{}[TOOL_CALLS]time[CALL_ID]abcdefghi[ARGS]{}", [("time", "{}"), ("time", "{}")]),
        ("[TOOL_CALLS] [", ["[TOOL_CALLS] [", ("?", "cut off")]),
        ("[TOOL_CALLS]nope[ARGS]{}", ["[TOOL_CALLS]nope[ARGS]", ("?", "nope"), "{}"]),
        ("[TOOL_CALLS]time[ARGS]", [("time", ""), ("?", "cut off")]),
        ("[TOOL_CALLS]time[ARGS]3", [("time", ""), ("?", "no object"), "3"]),
        ("[TOOL_CALLS]time", ["[TOOL_CALLS]time", ("?", "cut off")]),
        ("[TOOL_CALLS]" + "x" * 300, ["[TOOL_CALLS]" + "x" * 256, ("?", "does not end"), "x" * 44]),
        (
            '[TOOL_CALLS][{"name": "time", "arguments": {}} {"name": "time"}]',
            [("time", "{}"), ("?", "list of calls"), '{"name": "time"}]'],
        ),
    ],
    "deepseek": [
        (DEEP + ALL_END, [("weather", OSLO)]),
        (
            f"Hm.{DEEP}\n{DEEP.removeprefix(ALL_BEGIN)}{ALL_END}",
            ["Hm.", ("weather", OSLO), ("weather", OSLO)],
        ),
        (DEEP, [("weather", OSLO)]),
        (f"{ALL_BEGIN}{BEGIN}weather{SEPARATOR}{OSLO}{END}{ALL_END}", [("weather", OSLO)]),
        (
            f"{ALL_BEGIN}{BEGIN}nope{SEPARATOR}{{}}{END}",
            [f"{ALL_BEGIN}{BEGIN}nope{SEPARATOR}", ("?", "nope"), f"{{}}{END}"],
        ),
        (f"{ALL_BEGIN}{BEGIN}time", [f"{ALL_BEGIN}{BEGIN}time", ("?", "cut off")]),
        (f"{ALL_BEGIN}{BEGIN}time{SEPARATOR}[]{END}", [("time", ""), ("?", "no object"), f"[]{END}"]),
        (ALL_BEGIN + "hm", [ALL_BEGIN, ("?", "something else"), "hm"]),
    ],
    "harmony": [
        ("<|channel|>final<|message|>Hello.", ["Hello."]),
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.",
            [["Hm."], "Yes."],
        ),
        ("<|channel|>analysis<|message|>Hm", [["Hm"]]),
        (
            '<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{"city": "Oslo"}',
            [("weather", OSLO)],
        ),
        (
            " to=functions.time<|channel|>commentary json<|message|>{}",
            [("time", "{}")],
        ),
        (
            (
                "<|channel|>commentary<|message|>I look.<|end|>"
                "<|start|>assistant<|channel|>commentary to=functions.time<|message|>{}<|end|>"
            ),
            ["I look.", ("time", "{}")],
        ),
        ("Plain.", ["Plain."]),
        (
            "<|channel|>commentary to=browser<|message|>x",
            ["<|channel|>commentary to=browser<|message|>", ("?", "browser"), "x"],
        ),
        (
            "<|channel|>commentary to=functions.time",
            ["<|channel|>commentary to=functions.time", ("?", "cut off")],
        ),
        (
            "<|channel|>commentary to=functions.time<|message|>soon",
            [("time", ""), ("?", "no object"), "soon"],
        ),
    ],
    "qwen3_coder": [
        ("<tool_call>\n<function=time>\n</function>\n</tool_call>", [("time", "{}")]),
        ("Hm.\n<function=time>\n</function>", ["Hm.", ("time", "{}")]),
        (
            "<tool_call><function=weather><parameter=city>Oslo</parameter></function></tool_call>",
            [("weather", OSLO)],
        ),
        (
            '<function=weather>\n<parameter=city>\n "a"\n\\ </b>\n\n</parameter>\n</function>',
            [("weather", '{"city": " \\"a\\"\\n\\\\ </b>\\n"}')],
        ),
        (
            (
                "<tool_call><function=weather><parameter=days>\n3\n</parameter><parameter=unit>None</parameter>"
                '<parameter=where>{"x": 1}</parameter><parameter=zip>7</parameter></function></tool_call>'
            ),
            [("weather", '{"days": 3, "unit": null, "where": {"x": 1}, "zip": "7"}')],
        ),
        (
            "<tool_call><function=weather><parameter=unit>kelvin</parameter></function></tool_call>",
            [("weather", '{"unit": "kelvin"}')],
        ),
        (
            "<tool_call><function=weather><parameter=days>few</parameter></function>",
            [
                ("weather", '{"days": '),
                "<parameter=days>few",
                ("?", "'days' is no JSON"),
                "</parameter></function>",
            ],
        ),
        (
            "<tool_call><function=nope></function>",
            ["<tool_call><function=nope", ("?", "nope"), "></function>"],
        ),
        ("<tool_call>time</tool_call>", ["<tool_call>", ("?", "something else"), "time</tool_call>"]),
        ("<tool_call><function=time>hm", [("time", ""), ("?", "something else"), "hm"]),
        ("<tool_call>", ["<tool_call>", ("?", "cut off")]),
    ],
    "function_tags": [
        ('Hm. <function=weather>{"city": "Oslo"}</function>', ["Hm.", ("weather", OSLO)]),
        ("<function=time>{}</function><function=time>{}</function>", [("time", "{}"), ("time", "{}")]),
        ("<function=nope>{}</function>", ["<function=nope>", ("?", "nope"), "{}</function>"]),
        ("<function=time>soon</function>", [("time", ""), ("?", "no object"), "soon</function>"]),
        ("<function=time", ["<function=time", ("?", "cut off")]),
    ],
    "generic_json": [
        ("Hello.", ["Hello."]),
        ('{"name": "weather", "arguments": {"city": "Oslo"}}', [("weather", OSLO)]),
        ('```json\n{"name": "time", "arguments": {}}\n```', [("time", "{}")]),
        ('[{"name": "time", "parameters": {}}, {"name": "time"}]', [("time", "{}"), ("time", "{}")]),
        ("[1, 2]", ["[1, 2]"]),
        ("```python\nprint()\n```", ["```python\nprint()\n```"]),
        ('{"name": "Ada"}', ['{"name": "Ada"}', ("?", "no tool is called 'Ada'")]),
        ('{"name": "Ada", "age": 36}', ['{"name": "Ada", "age": 36}']),
        ('{"name": "time", "arguments": {}} and more', [("time", "{}"), "and more"]),
        (
            '[{"name": "time"}, {"name": "nope", "arguments": {}}]',
            [("time", "{}"), ', {"name": "nope", "arguments":', ("?", "nope"), " {}}]"],
        ),
        ('{"name": "time", "arguments"', ['{"name": "time", "arguments"', ("?", "cut off")]),
    ],
}
