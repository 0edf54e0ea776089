"""The report: one self-contained page of results, and its tables as CSV, Markdown and LaTeX.

`inputs` reads what other stages wrote; `driving` and `costs` turn it into tables; `figures` and `images` draw;
`sections` puts all of it on the page (`page`). `compare` sets two states side by side. Start with sections.py.
"""
