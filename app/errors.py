"""What can go wrong in a way that a person can act on. Services raise these; one handler renders them."""


class AppError(Exception):
    """A refusal with an HTTP status and a sentence that says what was wrong, where, and what to do.

    `field` names the form field or JSON key at fault, where there is one.
    """

    status = 400

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class NotSignedIn(AppError):
    """Nobody is signed in, and the page needs somebody."""

    status = 401


class Forbidden(AppError):
    """The person is known and may not do this."""

    status = 403


class NotFound(AppError):
    """There is no such thing, or it is not this person's to see."""

    status = 404


class Conflict(AppError):
    """Someone was first, or the thing has moved on."""

    status = 409


class TooLarge(AppError):
    """The body or file is over its limit."""

    status = 413


class UnsupportedMedia(AppError):
    """The content is of a type that is not accepted here."""

    status = 415


class Invalid(AppError):
    """The content of a form or of a JSON body cannot be accepted."""

    status = 422


class TooManyRequests(AppError):
    """A rate limit was reached."""

    status = 429


class Unavailable(AppError):
    """Something that we depend on does not answer; trying again later is right."""

    status = 503
