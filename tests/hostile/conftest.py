"""What the tests of this folder share."""

from .hostile_element import hostile

__all__ = ["hostile"]
