"""Writes tests/text/goldens/chat.json: templates in the manner of published chat templates and what Jinja makes of them.

  pip install jinja2 && python3 tools/goldens/chat_templates.py

With files as arguments (*.jinja): prints JSON of the same form for them to standard output, for a comparison by hand.
"""
import json
import pathlib
import sys

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def outcome(template, context):
    try:
        return {"text": environment().from_string(template).render(**context)}
    except Exception as error:  # noqa: BLE001: any failure is a failure
        return {"error": str(error)}


system = [{"role": "system", "content": "You are helpful.\n"}]
talk = [{"role": "user", "content": "Hello <b>\n"}, {"role": "assistant", "content": " Hi there! "}, {"role": "user", "content": "Größe? 日本 \"quoted\""}]
parts = [{"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "image"}, {"type": "text", "text": "this?"}]}]
tools = [{"type": "function", "function": {"name": "get_weather", "description": "Weather of a place", "parameters":
          {"type": "object", "properties": {"place": {"type": "string", "description": "Where"}, "days": {"type": "integer"}}, "required": ["place"]}}}]
calls = talk[:1] + [{"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": {"place": "Köln", "days": 2}}}]},
                    {"role": "tool", "content": "sunny", "tool_call_id": "c1"}, {"role": "tool", "content": "warm"}, {"role": "assistant", "content": "It is sunny."}]
contexts = [{"messages": m, "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": g, **({"tools": tools} if t else {})}
            for m in (talk, system + talk, parts, calls, [talk[0], talk[0]], []) for g in (False, True) for t in (False, True)]

chat = {
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "alternating": """{%- if messages and messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Roles must alternate user/assistant, not ' ~ message.role) }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- if loop.first and system_message is defined %}
            {{- ' [INST] <<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] + ' [/INST]' }}
        {%- else %}
            {{- ' [INST] ' ~ message['content'] ~ ' [/INST]' }}
        {%- endif %}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + (message['content'] or '')|trim + eos_token}}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported!") }}
    {%- endif %}
{%- endfor %}
""",
    "tools": """{%- set ns = namespace(found=false, last=-1) %}
{%- if tools is not none and tools is defined and tools | length > 0 %}
    {{- '<|system|>\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=2) }}{{ "," if not loop.last else "" }}
        {%- for name, spec in tool.function.parameters.properties.items() %}
            {{- '\\n- ' ~ name ~ ': ' ~ spec.type ~ (' (required)' if name in tool.function.parameters.required else '') ~ (spec.description | default('none', true) | upper) }}
        {%- endfor %}
    {%- endfor %}
{%- endif %}
{%- for message in messages -%}
    {%- if message.role == "tool" %}
        {%- if loop.index0 == 0 or messages[loop.index0 - 1].role != "tool" %}
            {{- '<tools>' }}
        {%- endif %}
        {{- message.content }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{ '</tools>' }}{% endif %}
    {%- elif message.tool_calls %}
        {%- for call in message.tool_calls %}
            {%- set function = call.function %}
            {{- function.name ~ '(' }}{% for k, v in function.arguments | items %}{{ k }}={{ v | tojson }}{% if not loop.last %}, {% endif %}{% endfor %}{{ ')' }}
        {%- endfor %}
        {%- set ns.found = true %}
    {%- elif message.content is string %}
        {{- message.role | capitalize }}: {{ message.content.strip().split('\\n')[-1].replace('"', "'") }}
    {%- elif message.content is iterable and message.content is not mapping %}
        {%- for part in message.content %}{{ part.text if part.type == 'text' else '<image>' }}{% endfor %}
    {%- endif %}
{%- endfor %}
{{ ns.found }}{% if add_generation_prompt %}
<|assistant|>
{% endif %}
""",
    "macros": """{#- a comment -#}
{% macro say(role, text='nothing', end="\\n") -%}
[{{ role }}] {{ text }}{{ end }}
{%- endmacro %}
{% for m in messages if m.role != 'system' %}
  {% if m.content is string %}
    {{- say(m.role, m.content | trim) }}
  {% else %}
{{ say(m.role, end='!') }}
  {% endif %}
{% else %}
nobody spoke
{% endfor %}
{% set block %}
  in a block {{ messages | length }}
{% endset %}
{{ block | trim }}
{% filter upper %}shout {{ bos_token }}{% endfilter %}
{{ messages | map(attribute='role') | join(', ') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}
{{ messages | rejectattr('role', 'in', ['user', 'system']) | map(attribute='role') | list }}
""",
}
# Expressions, each on its own.
expressions = """1 + 2 * 3 - 4 | 7 // 2 | -7 // 2 | 7 % 3 | -7 % 3 | 7 / 2 | 2 ** 10 | 1.5 + 1 | 'a' ~ 1 ~ none ~ true | 'ab' * 3 | [1, 2] + [3] | not true and false or true
1 < 2 | 'a' in 'cat' | 'x' not in ['a'] | {'a': 1}.a | {'a': 1}['a'] | {'a': [1, {'b': 'x'}]} | [1, 'two', 3.0, none, true] | (1, 2)[1] | 'hello'[1:3] | 'hello'[::-1] | [1,2,3,4][1:] | [1,2,3,4][:-1] | [1,2,3][-1]
'  x '.strip() + '|' | 'a,b,c'.split(',') | 'a b  c'.split() | 'a,b,c'.split(',', 1) | 'Hello World'.lower() | 'hello world'.title() | 'xaxbx'.replace('x', '-') | 'abc'.startswith('ab') | 'abc'.endswith(('x', 'c')) | 'abcabc'.find('c') | 'xxaxx'.strip('x') | 'größe'.upper()
undefined_name is defined | undefined_name is undefined | none is none | 3 is odd | 4 is divisibleby 2 | 'a' is string | {} is mapping | [] is iterable | 1 is number | 1.5 is float | true is boolean | 'x' is in ['x'] | 3 is not none
[3,1,2] | sort | [3,1,2] | sort(reverse=true) | [1,2,3] | sum | [1,2,2,3] | unique | list | ['a','b'] | join('-') | ['b', 'A'] | sort | 'abc' | first | [1,2] | last | 'abc' | length | 'abc' | reverse | '3' | int + 1 | 'x' | int | 3.7 | int | 3.14159 | round(2) | -5 | abs | 'a<b>' | e | 'x' | default('y') | undefined_name | default('y') | '' | default('y', true) | {'b': 1, 'a': 2} | dictsort | first | first | 'a\\nb\\n\\nc' | indent(2) | 'a\\nb' | indent(3, true)
'yes' if 1 > 2 else 'no' | 'only' if false | range(5) | list | range(2, 10, 3) | list | [[1, 2], [3, 4]] | map('first') | list | ['a', 'B'] | map('upper') | list | [0, 1, 2, ''] | select | list | [1, 2, 3] | select('gt', 1) | list | [1,2,3] | reject('odd') | list | {'x': [1, 2], 'y': 'z"\\'é'} | tojson | 1e3 | 10 == 10.0 | 'a' == "a" | none == false | [1] == [1] | 1_000
namespace(a=1).a | dict(a=1, b=2) | dict(a=1).get('c', 'none') | {'a': 1}.keys() | list | {'a': 1}.values() | list | {'a': 1}.items() | list | first | first | 'a' 'b' | "it's" | ["it's"] | 'tab\\there' | '\\u00e9' | 1 if true else 2 if false else 3"""
spaces = ["a\n  {% if true %}\n    b\n  {% endif %}\nc\n", "a {%- if true %} b {%- endif %} c", "{% if true -%}\n\n  x\n{%- endif %}\n\ny", "  {{ 1 }}  \n  {{- 2 -}}  \n 3", "{# c #}\nx {# d #} y\n", "x\n\n{% set a = 1 %}\n\n{{ a }}\n\n",
          "  {%+ if true %}a{% endif +%}\nb", "{% for i in [1,2] %}\n{{ i }}\n{% endfor %}\nend", "{% for i in [1,2,3,4] %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }},{{ loop.index }}/{{ loop.length }} {% endfor %}",
          "{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}", "{% for a, b in [[1, 2], [3, 4]] %}{{ a }}-{{ b }} {{ loop.previtem is defined }} {% endfor %}", "{% set a, b = 1, 2 %}{{ a + b }}", "\ttext\n\t{% if true %}\n\tin\n\t{% endif %}"]
broken = ["{{ 1 + }}", "{% if x %}", "{% endif %}", "{{ missing.attribute }}", "{{ 'a' + 1 }}", "{{ raise_exception('no!') }}", "{% unknown %}", "{{ x | nofilter }}", "{{ 'a' }", "{# never", "{{ 1 // 0 }}", "{{ missing() }}"]


def main():
    if len(sys.argv) > 1:
        cases = []
        for path in sys.argv[1:]:
            template = pathlib.Path(path).read_text()
            cases += [{"template": template, "context": c, **outcome(template, c)} for c in contexts]
        print(json.dumps(cases))
        return
    cases = [{"template": t, "context": c, **outcome(t, c)} for t in chat.values() for c in contexts]
    # A bar between expressions has spaces on both sides and is not followed by a filter's name alone: split by hand below.
    for line in expressions.split("\n"):
        pieces, current = [], ""
        for part in line.split(" | "):
            filters = ("sort", "sum", "unique", "list", "join", "first", "last", "length", "reverse", "int", "round", "abs", "e", "default", "dictsort", "indent", "map", "select", "reject", "tojson")
            if current and part.split("(")[0].split(" ")[0] in filters:
                current += " | " + part
            else:
                pieces += [current] if current else []
                current = part
        for e in pieces + [current]:
            t = "{{ " + e + " }}"
            cases.append({"template": t, "context": {}, **outcome(t, {})})
    for t in spaces + broken:
        cases.append({"template": t, "context": {"x": 1}, **outcome(t, {"x": 1})})
    path = pathlib.Path(__file__).parents[2] / "tests/text/goldens/chat.json"
    path.write_text(json.dumps(cases, ensure_ascii=False, indent=0) + "\n")
    print(len(cases), "cases,", sum("error" in c for c in cases), "of them errors")


if __name__ == "__main__":
    main()
