"""Who has sent a request, and what they see."""

from dataclasses import dataclass
from typing import Literal

from ..model import Export, Key, Link
from ..postgres.reader import READER

Need = Literal["nothing", "any", "read", "export", "download", "admin"]
SCOPES = frozenset({"read", "export", "download"})


@dataclass(frozen=True)
class Asker:
    """Somebody who may do what *scopes* say; *requester* is None if nobody was asked.

    *key* is what they have shown, if it was a key; *link* the id of the link that they
    have followed.  *reader* is the role that reads for them, if that is known.
    """

    requester: str | None
    scopes: frozenset[str]
    key: Key | None = None
    reader: str | None = None
    link: str | None = None

    @classmethod
    def anybody(cls) -> "Asker":
        """Return who asks a service that asks for nothing: they may do everything."""
        return cls(None, frozenset({"admin"}), reader=READER)

    @classmethod
    def stranger(cls) -> "Asker":
        """Return who has not said who they are: nothing exists for them."""
        return cls("", frozenset())

    @classmethod
    def of_key(cls, key: Key) -> "Asker":
        return cls(key.requester, key.scopes, key, key.reader)

    @classmethod
    def of_link(cls, link: Link) -> "Asker":
        """Return who has followed a link: a stranger, for whom one file exists."""
        return cls("", frozenset(), link=link.id)

    @property
    def holds(self) -> str | None:
        """The id of the key or the link without which nothing more is answered."""
        return self.key.id if self.key else self.link

    @property
    def sees(self) -> str | None:
        """The requester whose exports exist for the asker; None: everybody's."""
        return None if "admin" in self.scopes else self.requester

    def may(self, need: Need) -> bool:
        """Return whether the asker may call routes that need this."""
        return need == "any" or not self.scopes.isdisjoint({need, "admin"})

    def may_see(self, export: Export) -> bool:
        """Return whether the export exists for the asker."""
        return self.sees in (None, export.requested_by)
