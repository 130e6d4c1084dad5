"""HTML pages as tests read them."""

import base64
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "link"}


class Page(HTMLParser):
    """Elements as (tag, attributes), their text, and whether each end tag belongs to the element that is open."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.open = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), (tag, attrs)  # none twice
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag, **wanted):
        return [a for t, a in self.elements if t == tag and all(wanted[k] in (a.get(k) or "") for k in wanted)]


def decoded(uri):
    """Bytes of a data URI."""
    return base64.b64decode(uri.partition(",")[2])
