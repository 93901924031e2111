"""Chat templates written with what the families' own are written with, and what transformers makes of them.

Writes into OUT_DIR:
  NAME.json       {source, tokens, cases: [{messages, add_generation_prompt, enable_thinking?, text?}, …]}
                  text is missing where the template refuses
  snippets.json   [{source, text?}, …]   single constructs, over the messages and variables of SNIPPET_SCOPE

The templates are our own words: same constructs, other layout. `strftime_now` reads NOW.

Usage: python template_reference.py OUT_DIR   (transformers as in ../starter/requirements.txt)
"""

import datetime
import json
import sys
from pathlib import Path

from transformers.utils import chat_template_utils

NOW = datetime.datetime(2026, 3, 4, 5, 6, 7)


class FixedDate(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


chat_template_utils.datetime = FixedDate

TEMPLATES = {
    # System text goes into the first user message; roles take turns; slicing, strip, raise_exception, nested ifs.
    "llama-2": (dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>"), """{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set sys = messages[0]['content'] %}{% else %}{% set rest = messages %}{% set sys = false %}{% endif %}{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('user and assistant must take turns') }}{% endif %}{% if loop.index0 == 0 and sys != false %}{% set body = '<<SYS>>\\n' + sys + '\\n<</SYS>>\\n\\n' + m['content'] %}{% else %}{% set body = m['content'] %}{% endif %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + body.strip() + ' [/INST]' }}{% elif m['role'] == 'assistant' %}{{ ' '  + body.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""),
    # Date and tool blocks in a system header, `is defined`, multi-line layout with whitespace control.
    "llama-3": (dict(bos_token="<|begin_of_text|>", eos_token="<|eot_id|>"), """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_first is defined %}
    {%- set tools_first = true %}
{%- endif %}
{%- if not day is defined %}
    {%- if strftime_now is defined %}
        {%- set day = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set day = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- The system message, or none. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_text = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_text = "" %}
{%- endif %}

{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if builtin is defined or tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{%- if builtin is defined %}
    {{- "Tools: " + builtin | reject('equalto', 'code') | join(", ") + "\\n\\n"}}
{%- endif %}
{{- "Knowledge until: December 2023\\n" }}
{{- "Today: " + day + "\\n\\n" }}
{%- if tools is not none and not tools_first %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_text }}
{{- "<|eot_id|>" }}

{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one call at a time") }}
        {%- endif %}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""),
    # Namespaces, selectattr, the last user message, tool lists that are not there.
    "mistral": (dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>"), """{%- if messages[0]["role"] == "system" %}
    {%- set preface = messages[0]["content"] %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set turns = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set asked = turns | selectattr("role", "equalto", "user") | list %}

{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in turns %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the system message, user and assistant must take turns") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in turns %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == asked[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {{- tool.function | tojson }}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and preface is defined %}
            {{- "[INST] " + preface + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {{- raise_exception("tool results need an id") }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are known, with the exception of one system message at the start") }}
    {%- endif %}
{%- endfor %}
"""),
    # ChatML with a default system message.
    "chatml": (dict(bos_token="<|im_start|>", eos_token="<|im_end|>"), """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful AI assistant<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""),
    "qwen-2.5": (dict(eos_token="<|im_end|>", pad_token="<|endoftext|>"), """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "<|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou answer questions.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""),
    # Thinking: the last question is looked for from the end, older thoughts are cut out, `enable_thinking`.
    "qwen-3": (dict(eos_token="<|im_end|>", pad_token="<|endoftext|>"), """{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(searching=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thoughts = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thoughts = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set thoughts = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last %}
            {%- if loop.last or (not loop.last and thoughts) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + thoughts.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""),
    # Modes in the system message, `generation` blocks, replace and rstrip, the date.
    "smollm-3": (dict(bos_token="<|im_start|>", eos_token="<|im_end|>"), """{%- if enable_thinking is not defined -%}
{%- set enable_thinking = true -%}
{%- endif -%}
{%- set mode = "/think" if enable_thinking else "/no_think" -%}
{{- "<|im_start|>system\\n" -}}
{%- if messages[0].role == "system" -%}
  {%- set said = messages[0].content -%}
  {%- if "/no_think" in said -%}
    {%- set mode = "/no_think" -%}
  {%- elif "/think" in said -%}
    {%- set mode = "/think" -%}
  {%- endif -%}
  {%- set instructions = said.replace("/no_think", "").replace("/think", "").rstrip() -%}
{%- endif -%}
{%- if instructions -%}
{{- "## Instructions\\n\\n" ~ instructions ~ "\\n\\n" -}}
{%- else -%}
{{- "## Instructions\\n\\nAnswer.\\n\\n" -}}
{%- endif -%}
{%- set today = strftime_now("%d %B %Y") -%}
{{- "Today: " ~ today ~ "\\nMode: " + mode + "<|im_end|>\\n" -}}
{% set start = 1 if messages[0].role == "system" else 0 %}
{%- for message in messages[start:] -%}
    {%- set content = message.content if message.content is string else "" -%}
    {%- if message.role == "user" -%}
        {{ "<|im_start|>" + message.role + "\\n"  + content + "<|im_end|>\\n" }}
    {%- elif message.role == "assistant" -%}
        {% generation %}
        {%- if mode == "/think" -%}
            {{ "<|im_start|>assistant\\n" + content.lstrip("\\n") + "<|im_end|>\\n" }}
        {%- else -%}
            {{ "<|im_start|>assistant\\n" + "<think>\\n\\n</think>\\n" + content.lstrip("\\n") + "<|im_end|>\\n" }}
        {%- endif -%}
        {% endgeneration %}
    {%- elif message.role == "tool" -%}
    {{ "<|im_start|>" + "user\\n"  + content + "<|im_end|>\\n" }}
    {%- endif -%}
{%- endfor -%}
{% if add_generation_prompt %}
    {%- if mode == "/think" -%}
        {{ "<|im_start|>assistant\\n" }}
    {%- else -%}
        {{ "<|im_start|>assistant\\n" + "<think>\\n\\n</think>\\n"  }}
    {%- endif -%}
{% endif %}
"""),
    # The assistant is the model; no system messages.
    "gemma-2": (dict(bos_token="<bos>", eos_token="<eos>", unk_token="<unk>", pad_token="<pad>"), """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate: user, assistant, user, …') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '
' + message['content'] | trim + '<end_of_turn>
' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model
'}}{% endif %}"""),
    # System text before the first user message; content may be text or parts.
    "gemma-3": (dict(bos_token="<bos>", eos_token="<eos>", unk_token="<unk>", pad_token="<pad>"), """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set first_prefix = "" -%}
    {%- set turns = messages -%}
{%- endif -%}
{%- for message in turns -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Roles must alternate") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"""),
    "phi-3": (dict(bos_token="<s>", eos_token="<|endoftext|>", unk_token="<unk>"), """{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>
' + message['content'] + '<|end|>
'}}{% elif message['role'] == 'user' %}{{'<|user|>
' + message['content'] + '<|end|>
'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>
' + message['content'] + '<|end|>
'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>
' }}{% else %}{{ eos_token }}{% endif %}"""),
    # What else templates of the Hub are written with.
    "constructs": (dict(bos_token="<s>", eos_token="</s>"), """{#- a comment -#}
{%- macro head(role, mark='#', upper=false) -%}
{{ mark * 2 }}{{ role | upper if upper else role | capitalize }}{{ caller() if caller is defined else '' }}
{%- endmacro -%}
{%- set names = {'user': 'User', 'assistant': 'Model'} -%}
{%- set ns = namespace(count=0, roles=[], seen={}) -%}
{{ bos_token }}
{% for message in messages if message.role != 'tool' %}
  {%- if message.role == 'developer' %}{{ '(skipped)' }}{% continue %}{% endif %}
  {%- if loop.index > 6 %}{{ '(cut)' }}{% break %}{% endif %}
  {%- set ns.count = ns.count + 1 %}
  {%- set ns.roles = ns.roles + [message.role] %}
  {%- if loop.first %}{% set first = 'yes' %}{% endif %}
{{ loop.index }}/{{ loop.length }} {{ names.get(message.role, message.role) }} {{ names[message.role] | default('nobody') }} {{ first | default('no') }}: {{ head(message.role, upper=loop.last) }}
    {%- for line in message.content.split('\\n') if line | trim %}
| {{ line | trim }}{{ ',' if not loop.last }}
    {%- else %} (empty)
    {%- endfor %}
{% else %}
nobody
{% endfor %}
{%- call head('system', mark='=') %} called{% endcall %}
{% filter upper %}filtered {{ ns.count }}{% endfilter %}
{% set block %}
  captured {{ ns.roles | join('+') }}
{% endset %}
{{ block | trim }} {{ (messages | map(attribute='role') | list)[-1] }} {{ messages | selectattr('role', 'in', ['user', 'tool']) | list | length }} {{ messages | rejectattr('role', 'eq', 'user') | map(attribute='role') | unique | join(',') }}
{{ {'a': [1, 2.5, none, true], 'b': {'c': 'é"\\n'}} | tojson }} {{ names | tojson(indent=2) }} {{ names.items() | list | length }}
{%- for key, value in names.items() %} {{ key }}={{ value }}{% endfor %}
{% if add_generation_prompt and messages[-1].role in ('user', 'tool') %}{{ head('assistant') }}{% endif %}
"""),
}

CHATS = [
    [("user", "Where is my order?")],
    [("system", "Be cheerful."), ("user", "Where is my order 48213?")],
    [("user", "  Hello  "), ("assistant", "Hi! How can I help?\n"), ("user", "Zurück, bitte: 😀\n\n- one\n- two")],
    [("system", " Be brief. /no_think \n"), ("user", "a\nb"), ("assistant", "{{ not jinja }} {% raw %}"), ("user", "Привет"), ("assistant", "Да.")],
    [("user", "Think."), ("assistant", "<think>\n\nhm\nhm\n\n</think>\n\nDone.\n"), ("user", "Again."), ("assistant", "<think>\nso</think>\n\nDone twice.\n\n")],
    [("user", "Call."), ("assistant", ""), ("tool", "42"), ("tool", "{\"a\": 1}"), ("assistant", "It is 42."), ("user", "\n\n")],
    [("user", "\ufeff\u00a0edges\u0085\u001f"), ("assistant", "\u200b zero \u200b"), ("user", "\u3000wide\u2028")],
    [("user", "one"), ("user", "two")],
    [("assistant", "I begin."), ("user", "Then I.")],
    [("system", ""), ("user", "")],
    [("developer", "Do this."), ("user", "<tool_response>x</tool_response>"), ("assistant", "ok"), ("system", "late"), ("user", "end")],
    [("system", "/think hard"), *[(role, f"{role} {i}") for i in range(4) for role in ("user", "assistant")], ("user", "last")],
]

SNIPPET_SCOPE = {
    "messages": [{"role": "user", "content": " Héllo\n wörld 😀 "}, {"role": "assistant", "content": "b"}, {"role": "user", "content": ""}],
    "text": "\ufeff\u0085 a-b_c 😀é\u001f ", "number": 7, "nothing": None, "yes": True, "list": [3, 1, 2], "words": ["b", "A", "c"], "map": {"b": 1, "a": [1, None], "k e y": "v"},
}

SNIPPETS = [
    "{{ text | trim }}|", "{{ text.strip() }}|", "{{ text.lstrip() }}|{{ text.rstrip() }}|", "{{ 'xxaxx'.strip('x') }}", "{{ 'abcba'.lstrip('ab') }}", "{{ '\\n\\na\\n'.rstrip('\\n') }}|", "{{ 'xyax' | trim('xy') }}",
    "{{ none }}", "{{ nothing }}", "{{ true }} {{ false }} {{ yes }}", "{{ 'a' ~ none ~ true ~ 1 ~ 1.5 }}", "{{ [1, 'a', none, true, 1.0] }}", "{{ {'a': 1, 'b': [true]} }}", "{{ (1, 'b') }}", "{{ 1.0 }} {{ 0.1 }} {{ 100000.0 * 1000000000000.0 }} {{ 0.1 * 0.0001 }} {{ 10 / 4 }} {{ 8 / 4 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 3 }}",
    "{{ undefined_thing }}|", "{{ undefined_thing is defined }} {{ messages[9] is defined }} {{ messages[0].nope is defined }}", "{{ undefined_thing | default('d') }} {{ '' | default('d') }} {{ '' | default('d', true) }} {{ none | default('d') }} {{ none | default('d', boolean=true) }}",
    "{{ text | length }} {{ 'a😀' | length }} {{ 'a😀b'[1] }} {{ 'a😀b'[-1] }} {{ 'a😀b'[1:] }} {{ 'a😀b'[::-1] }}", "{{ 'abc'.upper() }} {{ 'ABC' | lower }} {{ 'straße' | upper }} {{ 'hello wORLD' | title }} {{ 'hELLO' | capitalize }} {{ \"it's\" | title }}",
    "{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a b c'.split(' ', 1) }} {{ 'a\u0085b\u00a0c'.split() }} {{ 'aXbXc'.rsplit('X', 1) }}", "{{ 'a.b.a'.replace('a', 'x') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'aaa' | replace('a', '$&') }} {{ 'ab'.replace('', '-') }}",
    "{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'bc')) }} {{ 'abc'.find('c') }} {{ 'b' in 'abc' }} {{ 'a' not in ['b'] }} {{ 1 in [1, 2] }} {{ 'a' in {'a': 1} }}", "{{ 'a-b'.join(['1', '2']) }}", "{{ ['a', 1, none] | join('-') }} {{ [1, 2] | join }} {{ 'abc' | join('.') }}",
    "{{ 1 == 1.0 }} {{ '1' == 1 }} {{ [1] == [1] }} {{ {'a': 1} == {'a': 1} }} {{ none == none }} {{ none == false }} {{ true == 1 }} {{ undefined_thing == none }}", "{{ 'a' < 'b' }} {{ 2 > 1 }} {{ 1 < 2 < 3 }}", "{{ not [] }} {{ not {} }} {{ not '' }} {{ not 0 }} {{ not 'a' }} {{ [] or 'x' }} {{ 'a' and 'b' }}",
    "{% for i in list %}{% set last = i %}{{ last }}{% endfor %}{{ last | default('gone') }}", "{% for i in [1, 2] %}{% if i == 1 %}{% set s = 'set' %}{% endif %}{{ s | default('unset') }} {% endfor %}", "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + 1 %}{% endfor %}{{ x }}", "{% if true %}{% set y = 2 %}{% endif %}{{ y }}",
    "{% for i in [1, 2, 3] %}a{{ i }}{% if i == 2 %}!{% continue %}{% endif %}b{% endfor %}", "{% for i in [1, 2, 3] %}a{{ i }}{% if i == 2 %}!{% break %}{% endif %}b{% endfor %}", "{% for i in [] %}x{% else %}none{% endfor %}{% for i in [1] if i > 1 %}x{% else %}filtered{% endfor %}", "{% for i in [1, 2] %}{% continue %}{% else %}none{% endfor %}",
    "{% for i in list %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}", "{% for i in list %}{{ loop.previtem | default('-') }}{{ loop.nextitem | default('-') }} {% endfor %}", "{% for i in list %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for k, v in map.items() %}{{ k }}={{ v }};{% endfor %}{% for k in map %}{{ k }},{% endfor %}{% for k, v in map | dictsort %}{{ k }}{% endfor %}{% for k, v in map | items %}{{ k }}{% endfor %}",
    "{% for c in 'a😀' %}[{{ c }}]{% endfor %}", "{% for i in range(3) %}{{ i }}{% endfor %}{{ range(2, 8, 3) | list }}{{ range(3)[-1] }}", "{% for a in [1, 2] %}{% for b in [1, 2] %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}", "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% macro m(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, b=3) }}{{ m(1, 4) }}", "{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}", "{% set o = 'outer' %}{% macro m() %}{{ o }}{% endmacro %}{% set o = 'changed' %}{{ m() }}", "{% macro m() %}{{ i | default('unseen') }}{% endmacro %}{% for i in [1] %}{{ m() }}{% endfor %}", "{% macro m() %}{{ caller('x') }}{% endmacro %}{% call(v) m() %}<{{ v }}>{% endcall %}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, a=2) }}",
    "{{ map | tojson }} {{ 'é\\u2028<>&\\'' | tojson }} {{ [1, {'a': none}] | tojson(indent=2) }} {{ 1.0 | tojson }} {{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }} {{ 'é' | tojson(ensure_ascii=true) }} {{ [1, 2] | tojson(separators=(',', ':')) }}", "{{ [] | tojson(indent=2) }} {{ {} | tojson }}",
    "{{ list | sort }} {{ words | sort }} {{ list | sort(reverse=true) }} {{ list | first }} {{ list | last }} {{ list | reverse | list }} {{ list | length }} {{ list | count }} {{ list | sum }} {{ list | max }} {{ list | min }}", "{{ messages | map(attribute='role') | join(',') }} {{ words | map('upper') | join }} {{ list | select('odd') | list }} {{ list | reject('equalto', 1) | list }} {{ messages | selectattr('content') | list | length }}",
    "{{ 'abc' is string }} {{ 1 is number }} {{ [] is iterable }} {{ {} is mapping }} {{ 'a' is sequence }} {{ none is none }} {{ 1 is odd }} {{ 2 is even }} {{ true is boolean }} {{ 1 is integer }} {{ 1.0 is float }} {{ 'a' is iterable }} {{ {} is iterable }} {{ true is true }} {{ 'x' is lower }}",
    "{{ 'a' if false }}|{{ 'a' if true else 'b' }}", "{{ 'abc'[0:2] }} {{ list[1:] }} {{ list[:-1] }} {{ list[::2] }} {{ list[-1] }} {{ list[5] | default('no') }}", "{{ map['a'] }} {{ map.b }} {{ map['k e y'] }} {{ map.get('zz') }} {{ map.get('zz', 3) }} {{ map.keys() | list }} {{ map.values() | list }}", "{{ 'x' * 3 }} {{ [1] + [2] }} {{ 'a' + 'b' }} {{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ -3 | abs }} {{ 3.7 | int }} {{ '12' | int }} {{ 'x' | int }} {{ '1.5' | float }} {{ 7 | string ~ '' }}",
    "{%- set ns = namespace(a=1) -%}{% for i in [1, 2] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }} {{ ns.b is defined }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "a {#- c -#} b", "  {% if true %}\n  x\n  {% endif %}\n", "{{ 'a' }}\n\n{% if true -%}\n  y\n{%- endif %}\n z", "{{ \"it's\" }} {{ 'q\"q' }} {{ 'tab\\t' }} {{ 'nl\\n' }} {{ 'back\\\\slash' }}",
    "{{ 'a\nb\n\nc' | indent }} {{ 'a\nb' | indent(2, true) }} {{ 'a\nb' | indent(width=1, first=true) }}", "{{ '<b>' | e }} {{ '<b>' | safe }}", "{{ dict(a=1)['a'] }}", "{{ 'ab' | list }} {{ 'abc'.isdigit() }} {{ '12'.isdigit() }} {{ 'a'.isalpha() }} {{ 'a\nb'.splitlines() }} {{ 'abc'.count('b') }} {{ 'a:b:c'.partition(':') }}",
    "{{ 5 if number > 5 and not nothing else 6 }} {{ number is not none }} {{ number is not odd }} {{ not number is odd }}", "{{ 'a' 'b' }}", "{{ messages[0].content.strip().split('\\n')[0] }}", "{{ messages[0]['content'][:4] }}|{{ messages[-1].content or 'empty' }}", "{% for i in [1] %}{% for j in [1] %}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}{% endfor %}", "{{ (messages | last).role }} {{ (messages | first)['role'] }} {{ messages | length > 2 }}", "{{ strftime_now('%Y-%m-%d %H:%M:%S %A %a %B %b %j %y %I %p %%') }}", "{{ 'ß'.upper() }} {{ 'İ'.lower() | length }} {{ 'ΑΣ' | lower }} {{ 'ǆ' | title }} {{ 'éa' | capitalize }}",
    "{{ messages[0].items is callable }}|{{ messages[0].get('role') }} {{ {'items': 1}['items'] }} {{ {'get': 2}.get('get') }}", "{{ 'a'.b is defined }} {{ [].b is defined }} {{ {}.b is defined }} {{ (1).b is defined }}", "{{ 'ab'[5] is defined }} {{ [1].0 }}", "{{ ['a', 'b'].index('b') }} {{ [1, 1].count(1) }}", "{{ 'a b'.title() }} {{ \"it's a-b\".title() }} {{ 'x'.isupper() }}",
    "{% for m in messages if m.content %}{{ loop.index }}{{ loop.last }}{% endfor %}", "{% for m in undefined_thing %}x{% else %}none{% endfor %}", "{% if undefined_thing %}a{% elif not undefined_thing %}b{% endif %}", "{{ undefined_thing ~ 'x' }} {{ undefined_thing | length }} {{ undefined_thing | trim }}|{{ undefined_thing | list }} {{ 'a' in undefined_thing }}", "{% set ns = namespace(l=[]) %}{% for i in list %}{% set ns.l = ns.l + [i * 2] %}{% endfor %}{{ ns.l }} {{ ns.l | join('/') }}",
    "{% macro outer(x) %}{% macro inner(y) %}[{{ x }}{{ y }}]{% endmacro %}{{ inner(2) }}{% endmacro %}{{ outer(1) }}", "{% macro f(n) %}{{ n }}{% if n > 0 %},{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "{% macro f(a, b='x') %}{{ a }}{{ b }}{% endmacro %}{{ f(*[1, 2]) }} {{ f(**{'a': 3}) }}", "{% for i in range(3) %}{% for j in range(3) %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% if i == 1 %}{% continue %}{% endif %}; {% endfor %}",
    "{{ 'x' | default('y') | upper }} {{ messages | map(attribute='nope', default='-') | join }}", "{{ \"a'b\" | list }} {{ ['a\"b\\'c', '\\n', '\u00e9', '\u200b'] }}", "{{ -1 % 5 }} {{ 5 % -3 }} {{ -5 // 3 }} {{ 2 ** -1 }} {{ 7.5 // 2 }} {{ 1 / 3 }}", "{{ true + 1 }} {{ true and 1 }} {{ 1 if none is none else 2 }} {{ not none }}", "{{ [1, 2] == (1, 2) }} {{ [1, [2]] == [1.0, [2.0]] }} {{ 'a' == 'a' and 1 != 2 }}", "{{ range(5)[1:3] | list }} {{ (1, 2, 3)[::-1] }} {{ 'héllo'[1:-1] }} {{ [0, 1, 2, 3][-3:-1] }} {{ 'abc'[10:] }}|{{ 'abc'[:0] }}",
    "\n{{ 'a' }}\n  {# c #}\nb\n", "{% if true %}\n\n a\n{% endif %}\n\nb\n\n", "  {{- ' x ' -}}  y", "a\n  {%- if true %}  b  {%- endif %}\n c", "x {{ '{{ y }}' }} {{ '{% z %}' }}", "\t{% set a = 1 %}\t{{ a }}\n\t{% if a %}\n{{ a }}\n\t{% endif %}\n", "{% generation %}\n a {{ 1 }}\n{% endgeneration %}\nb", "{%- generation -%} a {%- endgeneration -%} b",
]

# What is refused: the parser does not know it, or no family uses it. Each must fail and never print something else.
REFUSED = [
    "{% set block | upper %}abc{% endset %}{{ block }}", "{% raw %}{{ x }}{% endraw %}", "{%+ if true %} p {% endif %}", "{{ 'a b' | wordcount }}", "{{ '%s' % 'a' }}", "{{ '%s' | format('x') }}", "{{ '{}'.format(1) }}", "{{ cycler is defined }}", "{% filter trim | upper %} abc {% endfilter %}", "{% with a = 1 %}{{ a }}{% endwith %}",
    "{% do list.append(4) %}", "{{ 'abc' | batch(2) | list }}", "{{ 1_000 }}", "{{ 0x1f }}", "{{ 1e5 }}", "{{ 2.5 | round }}", "{{ messages | groupby('role') | length }}", "{{ 4 is divisibleby 2 }}", "{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}", "{% block a %}x{% endblock %}", "{{ list.append(1) }}", "{{ 'a'.zfill(3) }}", "{{ 'a' | nope }}", "{{ 'a' is nope }}", "{{ strftime_now('%c') }}", "{{ namespace }}", "{{ 2 ** 200 }}",
    "{{ undefined_thing.x }}", "{{ undefined_thing() }}", "{{ undefined_thing + 1 }}", "{{ 'a' + 1 }}", "{{ 1 < 'a' }}", "{{ none | length }}", "{{ 1 / 0 }}", "{% for i in 5 %}{% endfor %}", "{{ [1].x.y }}", "{{ raise_exception('no') }}", "{{ [undefined_thing] | tojson }}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{{ 'a'.split('') }}", "{% set x.y = 1 %}", "{% for a, b in [1] %}{% endfor %}", "{{ range(1, 2, 0) }}",
]


def render(source: str, messages: list, **variables) -> str | None:
    try:
        rendered, _ = chat_template_utils.render_jinja_template([messages], chat_template=source, **variables)
        return rendered[0]
    except Exception:
        return None


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    write = lambda name, value: (out / f"{name}.json").write_text(json.dumps(value, ensure_ascii=True, indent=0) + "\n")
    for name, (tokens, source) in TEMPLATES.items():
        cases = []
        for chat in CHATS:
            messages = [{"role": role, "content": content} for role, content in chat]
            for options in ({"add_generation_prompt": True}, {"add_generation_prompt": False}, {"add_generation_prompt": True, "enable_thinking": False}, {"add_generation_prompt": True, "enable_thinking": True}):
                if "enable_thinking" in options and "enable_thinking" not in source:
                    continue
                text = render(source, messages, **options, **tokens)
                cases.append({"messages": messages, **options, **({} if text is None else {"text": text})})
        write(name, {"source": source, "tokens": tokens, "cases": cases})
    snippets = []
    for source in SNIPPETS:
        scope = {**SNIPPET_SCOPE}
        text = render(source, scope.pop("messages"), **scope)
        snippets.append({"source": source, **({} if text is None else {"text": text})})
    write("snippets", {"scope": SNIPPET_SCOPE, "snippets": snippets, "refused": REFUSED})


if __name__ == "__main__":
    main()
