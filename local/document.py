"""A whole HTML document. The program itself makes only a fragment, which CloudWatch puts into its page."""

from html import escape


def document(title: str, body: str, head: str = "") -> str:
    """Return a whole page around a piece of HTML. `title` is escaped; `body` and `head` are not."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>body{{margin:0}}</style>{head}</head><body>{body}</body></html>"
    )
