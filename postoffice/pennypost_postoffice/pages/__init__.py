"""Pages for people: HTML from this package, scripts and styles that were built beforehand.

    postoffice/pages/src ──make pages──▶ pages/built ──assets.py──▶ GET /assets/<name>-<hash>.<ext>, for ever the same
                                                   └──shell.py───▶ the frame of every page
    markup.py      elements by functions, which escape whatever is not markup
    front.py       the front page     buy.py, shop.py   the pages that sell stamps     operator/   those of the operator
    security.py    the headers of every page, its content security policy above all

Built files are committed, so neither an operator nor a wheel needs Node (decision 22).
"""
