"""Markdown as it is rendered."""

from markdown_it import MarkdownIt


def rendered_tables(text: str) -> list[list[list[str]]]:
    """Return the tables of a page in GitHub's Markdown, each as rows of cell texts."""
    tables: list[list[list[str]]] = []
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    for position, token in enumerate(tokens):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type in {"td_open", "th_open"}:
            children = tokens[position + 1].children or []
            kinds = {child.type for child in children}
            assert kinds <= {"text", "code_inline", "link_open", "link_close"}, f"a name became markup: {kinds}"
            tables[-1][-1].append("".join(child.content for child in children))
    return tables
