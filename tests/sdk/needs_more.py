"""A module that needs a package of an extra that is not installed."""

import no_such_package_of_the_extra  # pyright: ignore[reportMissingImports, reportUnusedImport]  # noqa: F401
