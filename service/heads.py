"""The head of each wearer; a new one goes live by replacing one reference between frames."""

from model_export.contract import Head, HeadError


class Heads:
    """Which head answers for which wearer; read by the inference thread, swapped by any other."""

    def __init__(self, universal: Head) -> None:
        self._universal = universal
        self._personal: dict[str, Head] = {}

    def current(self, wearer: str) -> Head:
        """The wearer's own head, or the universal one."""
        return self._personal.get(wearer, self._universal)

    def swap(self, wearer: str, head: Head) -> Head:
        """Puts another head in place for the next frame of this wearer, and gives the one it replaces.

        Raises HeadError for a head that was fitted for other backbones.
        """
        if head.backbone_digest != self._universal.backbone_digest:
            raise HeadError(
                f"The head of {wearer!r} should be fitted for backbones {self._universal.backbone_digest[:12]}. "
                f"Found {head.backbone_digest[:12]}. Calibrate again with the bundle in use."
            )
        before = self.current(wearer)
        self._personal[wearer] = head
        return before
