"""Names that mean something to somebody: to matplotlib, HTML, Markdown, a terminal; and a parser.

All of them are lines of text that a folder of pictures or a plug-in may bring.
"""

from html.parser import HTMLParser

NAMES = (
    "$x$ and $y$",
    "$",
    "_bg",
    "100%",
    "#3",
    r"back\slash \$ \frac{1}{2}",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a&amp;b",
    "**bold** [link](javascript:alert(1))",
    "猫と犬",
    "😀",
    "שלום",
    "مرحبا",
    "e\u0301te\u0301",
    "n" * 300,
    "a\u202eb",
    "{x:%s}",
)
# For a defence: a title is one line and printable.
TITLES = ("<b onclick=x>$T$</b>", "_hidden $", "防御 & co", "t" * 300)


class Structure(HTMLParser):
    """What a page is made of: elements and the names of their attributes, in order; its text."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.alternatives = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        if tag == "img":
            self.alternatives.append(dict(attrs).get("alt"))

    def handle_data(self, data):
        self.texts.append(data)
