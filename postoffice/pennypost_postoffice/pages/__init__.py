"""Pages for people: HTML from this package, scripts and styles that were built beforehand.

    postoffice/pages/src ──make pages──▶ pages/built ──assets.py──▶ GET /assets/<name>-<hash>.<ext>, for ever the same
                                                   └──shell.py───▶ the frame of every page
    security.py    the headers of every page, its content security policy above all

Built files are committed, so neither an operator nor a wheel needs Node (decision 22).
"""
