"""What a request needs of the describer, for models that take text only.

Imported by type checkers, and by the describer: most services have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from translator import UndescribedImage
from translator.service.models.table import Route


class RequestImages(Protocol):
    """The descriptions of the images of one request (`describer`)."""

    @property
    def large(self) -> bool:
        """Whether the request is translated in slices."""
        ...

    def known(self, route: Route) -> Mapping[str, str] | None:
        """The descriptions that are known, by digest; None: nobody describes images for it."""
        ...

    async def describe(self, images: Sequence[UndescribedImage], route: Route) -> None:
        """Have images described, as far as possible: then they are among those that are known."""
        ...
