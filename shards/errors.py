"""One tree of errors. A message says what happened, where, and what to do."""


class SimshardError(Exception):
    """Anything that simshard itself reports; `retryable` says whether asking again can help."""

    retryable = False


class InputError(SimshardError):
    """A file that was given to a build is at fault; nothing was published."""


class StoreError(SimshardError):
    """The store, or the request made of it, is at fault."""


class CorruptFile(StoreError):
    """A published file differs from what its manifest says."""


class StoreReadOnly(StoreError):
    """The store may be read, but not changed."""


class SnapshotNotFound(StoreError):
    """The store holds no snapshot of that name, or none at all."""


class InvalidQuery(SimshardError):
    """A query that no snapshot could answer; `field` is the part at fault."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field = field
        self.message = message

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class InvalidFilter(InvalidQuery):
    """A filter that does not fit the items' attributes, which are told as {name: type}."""

    def __init__(self, field: str, message: str, attributes: dict[str, str]) -> None:
        super().__init__(field, message)
        self.args = (field, message, attributes)
        self.attributes = attributes


class UnknownItem(SimshardError):
    """The active snapshot has no such item."""


class DeadlineExceeded(SimshardError):
    """No answer within the time that the caller allowed."""

    retryable = True


class ShardUnavailable(SimshardError):
    """No replica of a shard answered."""

    retryable = True


class SnapshotClosed(ShardUnavailable):
    """The shard actor no longer, or not yet, holds that snapshot."""


class SnapshotGone(SimshardError):
    """The service does not, or no longer, have that snapshot open."""


class ServiceUnreachable(SimshardError):
    """No answer came from the address that the client was given."""

    retryable = True


class NotReady(SimshardError):
    """The service has no snapshot open yet."""

    retryable = True
