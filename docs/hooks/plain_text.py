"""Show ``<region 0>`` and the like as text: no page and no docstring holds HTML, so Markdown is configured not to parse any."""

from __future__ import annotations

from typing import Any

from markdown import Markdown
from markdown.extensions import Extension


class PlainText(Extension):
    """Leave out the parts of Markdown that pass HTML through."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """Remove the two rules for HTML."""
        md.preprocessors.deregister("html_block")
        md.inlinePatterns.deregister("html")


def on_config(config: Any) -> Any:
    """Add the extension to those of ``mkdocs.yml``."""
    config.markdown_extensions.append(PlainText())
    return config
